"""Draw what the model was told of both photographs, what it says of them, and what each shows as a whole.

Usage: python picture.py [--output FOLDER] [--stride 8]; the picture is `photo-labels.png` in that folder.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageFilter
from regions import LABELS, LEARNT, UNKNOWN, draw_map, load_photos
from reload import load
from tiles import STRIDE, TILE, name_whole, survey

# From Paul Tol's schemes for every kind of colour vision (2021); names are written beside them all the same.
COLOURS = dict(zip(LABELS, ["#88CCEE", "#332288", "#117733", "#EE7733", "#AA4499", "#DDCC77", "#44AA99"], strict=True))
INK, GREY = "#222222", "#767676"
NAMED = 0.02  # of a photograph, from which on a label's name is written there


def draw(path: Path, output: Path, stride: int) -> None:
    """Write a PNG of 1,320 by 720 pixels and, since photographs fill it, of 256 colours."""
    model, processor = load(output / "photo-labels")
    saved = np.load(output / "photo-labels.npz")
    wrong = saved["logits"].argmax(1) != saved["labels"]
    figure = Figure(figsize=(13.2, 7.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.02)
    rows = figure.subplots(2, 3, width_ratios=[2, 2, 1.1])
    write_titles(rows[0])
    for (told, said, whole), (name, photo) in zip(rows, load_photos().items(), strict=True):
        labels, probabilities = draw_map(name, photo.shape[:2]), survey(model, processor, photo, stride=stride)
        draw_told(told, name, photo, labels)
        draw_said(said, photo, probabilities, saved["corners"][wrong & (saved["photos"] == name)])
        draw_whole(whole, name_whole(model, processor, probabilities), labels)
    figure.savefig(path, dpi=100)
    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def write_titles(row: np.ndarray) -> None:
    titles = ["What it was told", "What it says (framed: held-out tiles named wrongly)", "The whole photograph"]
    for axes, title in zip(row, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)


def draw_told(axes: Axes, name: str, photo: np.ndarray, labels: np.ndarray) -> None:
    """Lay the labels by hand over the columns that are learnt from; the rest is the photograph as it is."""
    start, stop = LEARNT[name]
    labels = labels.copy()
    labels[:, :start] = labels[:, stop:] = UNKNOWN
    axes.imshow(tint(photo / 255, labels))
    for column in {start, stop} - {0, photo.shape[1]}:
        axes.axvline(column - 0.5, color="white", linewidth=1.5)
    left, right = start / 2, (stop + photo.shape[1]) / 2
    for column in [left] + [right] * (stop < photo.shape[1]):
        write(axes, column, photo.shape[0] - 18, "never seen", style="italic")
    axes.set_axis_off()


def draw_said(axes: Axes, photo: np.ndarray, probabilities: np.ndarray, mistakes: np.ndarray) -> None:
    """Lay every pixel's likeliest label over the photograph in grey, and frame the mistakes."""
    best = probabilities.argmax(2)
    grey = 0.2 + 0.8 * (photo @ [0.299, 0.587, 0.114]) / 255
    axes.imshow(tint(np.stack([grey] * 3, axis=2), best))
    for top, left in mistakes:
        for colour, width in [("white", 2.2), ("black", 0.9)]:
            frame = {"facecolor": "none", "edgecolor": colour, "linewidth": width}
            axes.add_patch(Rectangle((left - 0.5, top - 0.5), TILE, TILE, **frame))
    for number, label in enumerate(LABELS):
        if (best == number).mean() > NAMED:
            write(axes, *find_middle(best == number), label)
    axes.set_axis_off()


def draw_whole(axes: Axes, found: list[dict], labels: np.ndarray) -> None:
    """A bar for each of the likeliest labels, with a line where the outlines by hand would have it end."""
    for row, each in enumerate(found):
        label, score = each["label"], each["score"]
        by_hand = (labels == LABELS.index(label)).mean()
        axes.barh(row, score, height=0.34, color=COLOURS[label])
        axes.plot([by_hand] * 2, [row - 0.25, row + 0.25], color=INK, linewidth=1.5)
        axes.text(0, row - 0.3, f"{label}  {100 * score:.1f} %", va="bottom", fontsize=12, color=INK)
    axes.text(0, len(found) - 0.55, "line: share by hand", va="top", fontsize=10, color=GREY)
    axes.set_xlim(-0.02, 0.8)
    axes.set_ylim(len(found) - 0.2, -0.8)
    axes.set_axis_off()


def tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give an image `(height, width, 3)`, from 0 to 1, with its labels as translucent colours."""
    colours = np.array([to_rgb(COLOURS[label]) for label in LABELS])
    known = (labels != UNKNOWN)[..., None]
    return np.where(known, 0.45 * image + 0.55 * colours[np.where(labels == UNKNOWN, 0, labels)], image)


def find_middle(mask: np.ndarray) -> tuple[int, int]:
    """Give the pixel (x, y) around which most is in the mask, far enough from the edges for a name to stand there."""
    padded = np.pad(255 * mask.astype(np.uint8), 80)
    blurred = np.asarray(Image.fromarray(padded).filter(ImageFilter.GaussianBlur(30)))[80:-80, 80:-80]
    inner = blurred[12:-12, 36:-36]
    y, x = np.unravel_index(inner.argmax(), inner.shape)
    return int(x) + 36, int(y) + 12


def write(axes: Axes, x: float, y: float, text: str, **options) -> None:
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.text(x, y, text, ha="center", va="center", fontsize=11, color=INK, path_effects=outline, **options)


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Draw what the trained model sees in both photographs.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--stride", type=int, choices=range(1, TILE + 1), metavar="1…24", default=STRIDE)
    options = parser.parse_args()
    output = options.output
    if not (output / "photo-labels").is_dir():
        return f"There is no trained model in {output / 'photo-labels'}. Run train.py first."
    draw(output / "photo-labels.png", output, options.stride)
    print(f"The picture is {output / 'photo-labels.png'}.")
    return None


if __name__ == "__main__":
    sys.exit(main())
