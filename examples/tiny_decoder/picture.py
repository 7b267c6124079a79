"""Draw how the loss fell, with and without echoes.

Usage: python picture.py FOLDER FOLDER …          (the output folders of train.py)
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for folder in map(Path, sys.argv[1:]):
        found = json.loads((folder / "echo-log.json").read_text(encoding="utf-8"))
        echoes = json.loads((folder / "echo" / "config.json").read_text(encoding="utf-8"))["echoes"]
        label = f"{'with' if echoes else 'without'} echoes: perplexity {2 ** found['bits']:.1f} on held-out topics"
        axes.plot([entry["step"] for entry in found["log"]], [entry["loss"] for entry in found["log"]], label=label)
    axes.set(xlabel="step", ylabel="loss on the batch, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    target = Path(sys.argv[1]) / "echo.png"
    figure.savefig(target, dpi=120)
    print(target)


if __name__ == "__main__":
    main()
