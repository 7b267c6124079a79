"""The program of the fresh process: it loads saves that it knows nothing else of, and writes down what it finds."""

import functools
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maquette.testing.halves import half_of
from maquette.testing.report import describe

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax")


def serve() -> None:
    """Do the job of every file that a line of the input names, and answer each with a line."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what models print is no answer
    for line in sys.stdin:
        look(Path(line.strip()))
        print("done", file=answers, flush=True)  # to the process that asked


def look(file: Path) -> None:
    """Do what a job file says, and leave `<job>.found.json` beside it."""
    job = json.loads(file.read_text(encoding="utf-8"))
    here = [str(Path(entry).resolve()) for entry in job["hide"]]
    sys.path[:] = [entry for entry in job["path"] if str(Path(entry).resolve()) not in here]
    known = set(sys.modules)
    found = {}
    for name, save in job["saves"].items():
        found[name] = _observe(functools.partial(_loader, job), save, job, file.with_name(f"{file.stem}.{name}"))
        found[name]["brought"] = [module for module in FRAMEWORKS if module in set(sys.modules) - known]
    file.with_suffix(".found.json").write_text(json.dumps(found), encoding="utf-8")


def _loader(job: dict[str, Any]) -> Callable[[str], Any]:
    found: Any = importlib.import_module(job["module"])
    for part in job["class"].split("."):
        found = getattr(found, part)
    return functools.partial(found.from_pretrained, **job["keywords"])


def _observe(
    find: Callable[[], Callable[[str], Any]], save: dict[str, Any], job: dict[str, Any], file: Path
) -> dict[str, Any]:
    try:
        model = find()(save["folder"])
        if job["half"] is None:
            return _compute(model, save, file)
        half = importlib.import_module(job["half"])
        half.set_threads(job["threads"])
        observation = half.Observation.of(model, half.Observation.load_file(Path(save["inputs"])))
        observation.write(file)
    except Exception as error:  # told to the process that asked
        return {"error": describe(error)}
    return {"file": str(file), "ties": observation.ties, "training": observation.training}


def _compute(model: Any, save: dict[str, Any], file: Path) -> dict[str, Any]:
    """Keep what a model of whichever framework gives; inputs that it need not take are left out where it does not."""
    half = importlib.import_module(f"maquette.testing.{half_of(type(model))}.subject")
    known = inspect.signature(getattr(type(model), half.Subject.method)).parameters
    left_out = [name for name in save["optional"] if name not in known]
    given = half.Observation.load_file(Path(save["inputs"]))
    inputs = {name: tensor for name, tensor in given.items() if name not in left_out}
    half.Observation.save_file(half.Observation.of(model, inputs).outputs, file)
    return {"file": str(file), "left_out": left_out}
