"""One picture of a clip: its waveform, the words and letters heard in it, and what the model says of every frame.

Usage: python picture.py sound.wav [--output FOLDER]; the picture is FOLDER/recognised.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from recognise import score

from maquette import AutoModelForCTC, AutoProcessor

BLUE, ORANGE, INK, GREY = "#0072B2", "#D55E00", "#222222", "#767676"  # as Okabe and Ito (2008) chose them
SURE = LinearSegmentedColormap.from_list("sure", ["#FFFFFF", "#CFE3F0", BLUE, "#00304D"])
UNSAID = LinearSegmentedColormap.from_list("unsaid", ["#FFFFFF", "#B8B8B8"])  # for the blank


def draw_clip(path: Path, model, processor, sound: Path) -> None:
    """Write a PNG of 2,000 by 1,000 pixels, to be shown at half that size."""
    samples = processor(audio=[sound], resample=True, mono=True)["input_values"][0]
    logits = score(model, processor, [sound])[0]  # (frames, characters)
    heard = processor.decode(logits.argmax(-1), output_char_offsets=True, output_word_offsets=True)
    rate = processor.feature_extractor.sampling_rate
    frame = model.config.inputs_to_logits_ratio / rate  # seconds
    middle = model.config.receptive_field / rate / 2  # of what a frame hears, after its start

    figure = Figure(figsize=(10, 5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    wave, scores = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.25])
    draw_wave(wave, samples, rate)
    draw_text(wave, heard, frame, middle)
    draw_scores(scores, logits.softmax(-1).numpy(), list_rows(processor.tokenizer, heard.text), frame, middle)
    wave.set_title(f"Heard: {heard.text or 'nothing'}", loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
    wave.set_xlim(0, len(samples) / rate)
    scores.set_xlabel("seconds", color=INK)
    figure.savefig(path, dpi=200)


def draw_wave(axes: Axes, samples: np.ndarray, rate: int) -> None:
    """Fill what lies between the lowest and the highest of every few samples."""
    few = max(1, len(samples) // 1500)
    columns = samples[: len(samples) // few * few].reshape(-1, few) / max(np.abs(samples).max(), 1e-6)
    times = (np.arange(len(columns)) + 0.5) * few / rate
    axes.fill_between(times, columns.min(1), columns.max(1), color=BLUE, linewidth=0.4, zorder=2)
    axes.set_ylim(-1.1, 1.95)
    axes.tick_params(left=False, labelleft=False, length=0)
    axes.spines[:].set_visible(False)


def draw_text(axes: Axes, heard, frame: float, middle: float) -> None:
    """Put every word over its stretch of the sound, and every letter over the frames that it was heard in."""
    for word in heard.word_offsets:
        start, end = (word[name] * frame + middle - frame / 2 for name in ("start_offset", "end_offset"))
        box = {"boxstyle": "round,pad=0,rounding_size=0.012", "facecolor": "#F1F5F8", "edgecolor": "none", "zorder": 0}
        axes.add_patch(FancyBboxPatch((start, -1.1), end - start, 3.05, mutation_aspect=8, **box))
        style = {"ha": "center", "va": "center", "color": INK, "fontsize": 12.5, "fontweight": "bold"}
        axes.text((start + end) / 2, 1.65, word["word"], **style)
    for letter in heard.char_offsets:
        if letter["char"] == " ":
            continue
        place = (letter["start_offset"] + letter["end_offset"] - 1) / 2 * frame + middle
        axes.plot([place, place], [-1.0, 1.05], color=ORANGE, linewidth=0.8, alpha=0.45, zorder=1)
        axes.text(place, 1.24, letter["char"], ha="center", va="center", color=ORANGE, fontsize=11.5)


def list_rows(tokenizer, text: str) -> dict[str, int]:
    """Name the ids to show: the letters as they come, the space between words, the blank."""
    letters = {letter: tokenizer.convert_tokens_to_ids(letter) for letter in text if letter != " "}
    return {**letters, "space": tokenizer.word_delimiter_token_id, "blank": tokenizer.pad_token_id}


def draw_scores(axes: Axes, probabilities: np.ndarray, rows: dict[str, int], frame: float, middle: float) -> None:
    """Show how likely the model finds each character, frame by frame."""
    start = middle - frame / 2
    extent = (start, start + len(probabilities) * frame, len(rows) - 0.5, -0.5)
    image = probabilities[:, [*rows.values()]].T
    colors = np.concatenate([SURE(image[:-1]), UNSAID(image[-1:])])
    axes.imshow(colors, aspect="auto", extent=extent, interpolation="nearest")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
    axes.grid(which="minor", axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_title("How likely each character is, frame by frame", loc="left", fontsize=10.5, color=GREY)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=9.5)
    axes.spines[:].set_visible(False)


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Draw what the trained recogniser hears in a sound file.")
    parser.add_argument("sound", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    options = parser.parse_args()
    folder = options.output / "digit-recogniser"
    if not folder.is_dir():
        return f"There is no trained recogniser in {folder}. Run train.py first."
    torch.set_num_threads(1)
    model, processor = AutoModelForCTC.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    draw_clip(options.output / "recognised.png", model, processor, options.sound)
    print(f"Picture: {options.output / 'recognised.png'}")
    return None


if __name__ == "__main__":
    sys.exit(main())
