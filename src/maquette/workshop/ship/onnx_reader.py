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
        if "chunks" in job:
            found = read_on(session, inputs, job["chunks"][number], job)
        else:
            found = dict(zip(gives, session.run(gives, {name: inputs[name] for name in takes}), strict=True))
        save_file(found, file.parent / f"outputs-{number}.safetensors")


def read_on(session: Any, inputs: Any, chunks: list[int], job: dict[str, Any]) -> dict[str, Any]:
    """Read texts piece by piece, with what each piece leaves for the next; gives all logits."""
    import numpy as np

    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    past = {
        f"past_key_values.{layer}.{part}": np.zeros((len(ids), heads, 0, width), job["dtype"])
        for layer, (heads, *widths) in enumerate(job["shapes"])
        for part, width in zip(("key", "value"), widths, strict=True)
    }
    logits, start = [], 0
    gives = [each.name for each in session.get_outputs()]
    for count in chunks:
        new, start = slice(start, start + count), start + count
        given = {"input_ids": ids[:, new], "position_ids": positions[:, new], "attention_mask": mask[:, :start]}
        takes = {each.name for each in session.get_inputs()}
        given = {name: value for name, value in (given | past).items() if name in takes}
        found = dict(zip(gives, session.run(gives, given), strict=True))
        logits.append(found["logits"])
        past = {name: found[name.replace("past_key_values", "present")] for name in past}
    return {"logits": np.concatenate(logits, 1)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
