"""Run by an interpreter that has Transformers, which maquette never imports: what modules of its models give.

    python peer_side.py FOLDER

FOLDER has `jobs.json`, a list of `{"model", "class", "inputs", "trust"}`: what Transformers loads, as which class, the
file of arrays it runs on, and whether code that comes with it may run. Run n is written to `n.json`, and its arrays to
`n.npz`; where it fails, `n.json` says why.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]  # its neighbours have common names


def main(folder: Path) -> None:
    """Do all jobs of a folder."""
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        (folder / "failed.json").write_text(json.dumps(f"{error}"), encoding="utf-8")
        return
    for number, job in enumerate(json.loads((folder / "jobs.json").read_text(encoding="utf-8"))):
        try:
            told = run_one(transformers, folder, number, **job)
        except Exception as error:  # whatever the model, or Transformers, says
            told = {"error": f"{type(error).__name__}: {error}"}
        (folder / f"{number}.json").write_text(json.dumps(told), encoding="utf-8")


def run_one(transformers: Any, folder: Path, number: int, **job: Any) -> dict[str, Any]:
    """Load one model, run it, and write what its modules gave."""
    import numpy as np

    model_class = getattr(transformers, job["class"], None) or transformers.AutoModel
    model = model_class.from_pretrained(job["model"], trust_remote_code=job["trust"])
    with np.load(folder / job["inputs"]) as stored:
        inputs = dict(stored)
    calls, end = load("torch_recording").run(model, inputs, load("leaves").flatten)
    arrays: dict[str, Any] = {}

    def keep(leaves: dict[str, Any]) -> dict[str, str]:
        names = {place: str(len(arrays) + count) for count, place in enumerate(leaves)}
        arrays.update({names[place]: leaf for place, leaf in leaves.items()})
        return names

    noted = [[*about, keep(takes), keep(gives)] for *about, takes, gives in calls]
    told = {"calls": noted, "end": keep(end), "base": getattr(model, "base_model_prefix", "")}
    np.savez(folder / f"{number}.npz", **arrays)
    kind = type(model)
    return {**told, "kind": kind.__name__, "origin": f"{kind.__module__}.{kind.__qualname__}"}


def load(name: str) -> Any:
    """Import a neighbour by its file, without the package that it is of."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
