"""Load processor and model from their folder, compare their logits with the saved ones, and name what photographs show.

Usage: python reload.py [--output FOLDER] [--stride 8] [PHOTO …]; without photographs, the two that scikit-learn ships.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from tiles import STRIDE, TILE, name_whole, predict, survey

from maquette import AutoImageProcessor, AutoModelForImageClassification, MaquetteError, load_image

SIDE = 640  # pixels of a photograph's longer side; other sizes would have other textures


def load(folder: Path):
    """Give model and processor; the folder says of which classes they are."""
    torch.set_num_threads(1)  # as in training; sums in another order would have other last bits
    return AutoModelForImageClassification.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)


def compare(model, processor, saved: dict) -> str | None:
    """Give by how much the held-out tiles' logits differ from the saved ones, or None."""
    logits = predict(model, processor, saved["tiles"])
    if logits.dtype != saved["logits"].dtype or logits.tobytes() != saved["logits"].tobytes():
        return f"The logits differ from the saved ones, by up to {np.abs(logits - saved['logits']).max():.1e}."
    print(f"All {logits.size:,} logits for {len(logits)} held-out tiles equal the saved ones, bit for bit.")
    return None


def open_photo(path: str) -> np.ndarray:
    """Give the pixels, `(height, width, 3)`, of a photograph whose longer side is brought to `SIDE`."""
    image = load_image(path)
    scale = SIDE / max(image.size)
    width, height = (max(TILE, round(scale * side)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Load the trained model and name what is in photographs.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--stride", type=int, choices=range(1, TILE + 1), metavar="1…24", default=STRIDE)
    parser.add_argument("photos", nargs="*", default=load_sample_images().filenames, help="to be named")
    options = parser.parse_args()
    folder = options.output / "photo-labels"
    if not folder.is_dir():
        return f"There is no trained model in {folder}. Run train.py first."
    model, processor = load(folder)
    if fault := compare(model, processor, dict(np.load(options.output / "photo-labels.npz"))):
        return fault
    for path in options.photos:
        try:
            photo = open_photo(path)
        except MaquetteError as error:
            return str(error)
        found = name_whole(model, processor, survey(model, processor, photo, stride=options.stride))
        named = ", ".join(f"{each['label']} {100 * each['score']:.1f} %" for each in found)
        print(f"{Path(path).name}: {named}")
    return None


if __name__ == "__main__":
    sys.exit(main())
