"""Load the trained model in a process that has never seen its code, and compare its predictions with the saved ones.

Usage: python -P reload.py [--output FOLDER]; with -P, Python does not look for modules beside this script.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch

from maquette import AutoModelForImageClassification, UntrustedCodeError


def is_refused_untrusted(folder: Path) -> bool:
    try:
        AutoModelForImageClassification.from_pretrained(folder)
    except UntrustedCodeError:
        return not any("modeling_resnet" in module for module in sys.modules)
    return False


def main() -> str | None:
    """Give the reason why it failed, or None."""
    parser = argparse.ArgumentParser(description="Load the trained ResNet from its folder alone.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    folder = parser.parse_args().output / "digits-resnet"
    if importlib.util.find_spec("resnet_model"):
        return "This process can import resnet_model, so it would prove nothing. Run it as: python -P reload.py"
    if not folder.is_dir():
        return f"There is no trained model in {folder}. Run train.py first."
    print("This process cannot import resnet_model: all it has is the saved folder.")

    if not is_refused_untrusted(folder):
        return "The folder's code was not refused, although nobody trusted it."
    print("Without trust_remote_code=True the folder is refused, and none of its code runs.")

    start = time.perf_counter()
    model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)
    milliseconds = 1000 * (time.perf_counter() - start)
    print(f"With it, {type(model).__name__} loads in {milliseconds:.0f} ms.")

    saved = np.load(folder.parent / "predictions.npz")
    with torch.no_grad():
        logits = model(torch.from_numpy(saved["images"]))["logits"].numpy()
    if logits.dtype != saved["logits"].dtype or logits.tobytes() != saved["logits"].tobytes():
        return f"The predictions differ from the saved ones, by up to {np.abs(logits - saved['logits']).max():.1e}."
    print(f"All {logits.size:,} logits for {len(logits)} held-out digits equal the saved ones, bit for bit.")
    return None


if __name__ == "__main__":
    sys.exit(main())
