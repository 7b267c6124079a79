"""Train a ResNet on handwritten digits, then load it in a fresh process that has only the saved folder.

Usage: python demo.py [--output FOLDER] [--epochs 12]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a ResNet on handwritten digits and load it somewhere else.")
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "demo")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    # Which code was approved is remembered beside the rest of the demo, not in the user's own record.
    environment = {"MAQUETTE_HOME": str(output / "approvals"), **os.environ}

    train = [sys.executable, HERE / "train.py", "--output", output, "--epochs", str(options.epochs)]
    reload = [sys.executable, "-P", HERE / "reload.py", "--output", output]
    for command in (train, reload):
        finished = subprocess.run(command, cwd=output, env=environment)  # noqa: S603 - our own two scripts
        if finished.returncode:
            return finished.returncode
        print()
    print(f"Picture:      {output / 'training.png'}")
    print(f"Saved model:  {output / 'digits-resnet'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
