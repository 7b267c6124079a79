"""Load the captioner and its tokenizer from their folder, and write what is in the held-out pictures.

Usage: python write.py [--output FOLDER] [--count 8]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from maquette import AutoModelForImageTextToText, AutoTokenizer


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Write which digits are in pictures.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    folder = options.output / "own-captioner"
    if not folder.is_dir():
        return f"There is no trained model in {folder}. Run train.py first."
    torch.set_num_threads(1)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    saved = np.load(options.output / "own-captioner.npz")
    ids = model.generate(torch.from_numpy(saved["pictures"]), max_new_tokens=6, do_sample=False)
    written = tokenizer.batch_decode(ids, skip_special_tokens=True)
    if written != saved["written"].tolist():
        return "The captions differ from those that were written after training."
    print(f"All {len(written)} captions equal those that were written after training.")
    for caption, own in zip(saved["captions"][: options.count], written, strict=False):
        print(f"{caption:30} {own if own == caption else f'{own}  (wrong)'}")
    return None


if __name__ == "__main__":
    sys.exit(main())
