"""Load the trained classifier from its folder, compare its logits with the saved ones, and classify sentences of yours.

Usage: python reload.py [--output FOLDER] ["A sentence." "Uma frase." …]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maquette import AutoModelForSequenceClassification, AutoTokenizer


@torch.no_grad()
def predict(model, tokenizer, texts: list[str]) -> Tensor:
    """Give logits, `(texts, languages)`."""
    return model.eval()(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits


def classify(model, tokenizer, texts: list[str]):
    for text, probabilities in zip(texts, predict(model, tokenizer, texts).softmax(1), strict=True):
        best = int(probabilities.argmax())
        print(f"{model.config.id2label[best]} ({100 * probabilities[best]:.1f} %): {text}")


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Load the trained classifier and tell languages apart with it.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("sentences", nargs="*", help="to be classified")
    options = parser.parse_args()
    folder = options.output / "language-classifier"
    if not folder.is_dir():
        return f"There is no trained classifier in {folder}. Run train.py first."
    torch.set_num_threads(1)  # as in training; sums in another order would have other last bits
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)

    saved = np.load(options.output / "held_out.npz")
    logits = predict(model, tokenizer, saved["texts"].tolist()).numpy()
    if logits.dtype != saved["logits"].dtype or logits.tobytes() != saved["logits"].tobytes():
        return f"The logits differ from the saved ones, by up to {np.abs(logits - saved['logits']).max():.1e}."
    print(f"All {logits.size} logits for {len(logits)} held-out sentences equal the saved ones, bit for bit.")
    if options.sentences:
        classify(model, tokenizer, options.sentences)
    return None


if __name__ == "__main__":
    sys.exit(main())
