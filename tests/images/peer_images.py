"""Runs in the peer's environment: what its Pillow image processor makes of the images and options of a folder."""

import json
import sys
from pathlib import Path

import numpy as np
import transformers
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil


def main(folder: Path) -> None:
    transformers.logging.set_verbosity_error()
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    results = {str(n): process(folder, n, case) for n, case in enumerate(cases)}
    np.savez(folder / "expected.npz", **results)
    exchange_settings(folder)


def process(folder, number, case):
    image = Image.open(folder / f"{number}.tiff")
    if case["given"] != "pillow":
        image = np.asarray(image)
    if case["given"] == "channels_first":
        image = np.moveaxis(image, -1, 0)
    return ViTImageProcessorPil(**case["options"])(image, return_tensors="np")["pixel_values"]


def exchange_settings(folder):
    """Read our file, say what came of it, and write one."""
    image = Image.open(folder / "0.tiff")
    read = {}
    for path in sorted(folder.glob("ours-*")):
        processor = ViTImageProcessorPil.from_pretrained(path)
        read[path.name] = processor(image, return_tensors="np")["pixel_values"]
        written = folder / path.name.replace("ours", "theirs")
        processor.save_pretrained(written)
    np.savez(folder / "exchanged.npz", **read)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
