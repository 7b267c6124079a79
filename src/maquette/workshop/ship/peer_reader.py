"""The program of the fresh process: loads a folder with Transformers alone, runs it, and lets it generate."""

import json
import sys
from pathlib import Path
from typing import Any


def main(file: Path) -> None:
    """Do the calls that a job file names, and leave their outputs beside it."""
    job: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        sys.exit("Transformers is not installed there. Name an interpreter that has it with --python.")
    sys.modules["maquette"] = None  # type: ignore[assignment] # whatever the folder needs, it brings along
    import torch
    import transformers  # type: ignore[import-not-found]
    from safetensors.torch import load_file, save_file

    transformers.logging.set_verbosity_error()
    loader = getattr(transformers, job["auto_class"])
    model = loader.from_pretrained(job["model"], trust_remote_code=True, dtype="auto").eval()
    for number in range(job["calls"]):
        inputs = load_file(file.parent / f"inputs-{number}.safetensors")
        with torch.no_grad():
            steps = job["steps"][number]
            if steps:
                settings = {"do_sample": False, "max_new_tokens": steps, "eos_token_id": None, "pad_token_id": 0}
                found = {"ids": model.generate(**inputs, **settings, num_beams=job["beams"][number])}
            else:
                found = flatten(model(**inputs))
        contiguous = {name: tensor.contiguous() for name, tensor in found.items()}
        save_file(contiguous, file.parent / f"outputs-{number}.safetensors")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    (file.parent / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Name every tensor in what a model returns: `logits`, `hidden_states.0`."""
    if hasattr(value, "is_floating_point"):
        return {name or "output": value}
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list | tuple) else ()
    start = f"{name}." if name else ""
    return {key: tensor for part, item in items for key, tensor in flatten(item, f"{start}{part}").items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
