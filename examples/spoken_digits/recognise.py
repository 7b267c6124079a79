"""Load the trained recogniser from its folder, compare its logits with the saved ones, and write down sound files.

Usage: python recognise.py [--output FOLDER] [sound.wav …]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maquette import AutoModelForCTC, AutoProcessor

SAMPLING_RATE = 8_000  # as on the telephone; sounds of other rates are resampled


@torch.no_grad()
def score(model, processor, sounds: list) -> Tensor:
    """Give logits, `(sounds, frames, characters)`, of sound files or arrays."""
    return model.eval()(**processor(audio=sounds, padding=True, resample=True, mono=True, return_tensors="pt")).logits


def write_down(processor, logits: Tensor) -> list[str]:
    """Take the best character of every frame; the tokenizer makes words of them."""
    return processor.batch_decode(logits.argmax(-1))


def compare(model, processor, folder: Path) -> str | None:
    """Give the reason why the saved logits are not reproduced, or None."""
    saved = np.load(folder / "expected.npz")
    paths = [str(folder / path) for path in saved["paths"]]
    logits = score(model, processor, paths).numpy()
    if logits.dtype != saved["logits"].dtype or logits.tobytes() != saved["logits"].tobytes():
        return "The logits differ from the saved ones, by up to {:.1e}.".format(np.abs(logits - saved["logits"]).max())
    print(f"All {logits.size:,} logits for {len(logits)} clips of unseen voices equal the saved ones, bit for bit.")
    return None


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Load the trained recogniser and write down spoken digits with it.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("sounds", nargs="*", help="sound files to be written down")
    options = parser.parse_args()
    folder = options.output / "digit-recogniser"
    if not folder.is_dir():
        return f"There is no trained recogniser in {folder}. Run train.py first."
    torch.set_num_threads(1)  # as in training; sums in another order would have other last bits
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForCTC.from_pretrained(folder)
    if problem := compare(model, processor, options.output):
        return problem
    for sound in options.sounds:
        print(f"{sound}: {write_down(processor, score(model, processor, [sound]))[0]}")
    return None


if __name__ == "__main__":
    sys.exit(main())
