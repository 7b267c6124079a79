"""The program of the fresh process: runs an ONNX model with ONNX Runtime, and imports neither torch nor maquette."""

import json
import sys
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    """Do the calls that a job file names, and leave their outputs beside it."""
    job: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    sys.path[:] = job["path"] or sys.path
    import onnxruntime
    from safetensors.numpy import load_file, save_file

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(job["model"], providers=["CPUExecutionProvider"])
    takes, gives = ([each.name for each in each()] for each in (session.get_inputs, session.get_outputs))
    for number in range(job["calls"]):
        inputs = load_file(file.parent / f"inputs-{number}.safetensors")
        outputs = session.run(gives, {name: inputs[name] for name in takes})
        save_file(dict(zip(gives, outputs, strict=True)), file.parent / f"outputs-{number}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
