"""The program of the fresh process: runs a SavedModel with TensorFlow, and imports neither Keras nor maquette."""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    """Do the calls that a job file names, and leave their outputs beside it."""
    job: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    sys.path[:] = job["path"] or sys.path
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np
    import tensorflow as tf
    from safetensors.numpy import load_file, save_file

    serve = tf.saved_model.load(job["model"]).signatures["serve"]
    for number in range(job["calls"]):
        inputs = load_file(file.parent / f"inputs-{number}.safetensors")
        found = serve(**{name: tf.constant(x) for name, x in inputs.items()})
        outputs = {name: np.ascontiguousarray(x.numpy()) for name, x in found.items()}
        save_file(outputs, file.parent / f"outputs-{number}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
