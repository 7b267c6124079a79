"""The program of the fresh process: it loads saves that it knows nothing else of, and writes down what it finds."""

import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from maquette.testing.report import describe
from maquette.testing.torch.subject import Observation


def look(job_file: str) -> None:
    """Do what a job file says, and leave `found.json` beside it."""
    path = Path(job_file)
    job = json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    found: dict[str, Any] = {"by code": {}, "by name": {}}
    everything = list(sys.path)
    sys.path[:] = [entry for entry in everything if str(Path(entry).resolve()) not in job.get("hide", ())]
    for name, save in job["by code"].items():
        found["by code"][name] = _observe(lambda: _load_by_code(job), save, path.with_name(f"{name}.by-code"))
    sys.path[:] = everything
    for name, save in job["by name"].items():
        found["by name"][name] = _observe(lambda: _load_by_name(job), save, path.with_name(f"{name}.by-name"))
    path.with_name("found.json").write_text(json.dumps(found), encoding="utf-8")


def _load_by_code(job: dict[str, Any]) -> Callable[[str], Any]:
    auto_class = getattr(importlib.import_module("maquette.auto"), job["auto_class"])
    return functools.partial(auto_class.from_pretrained, trust_remote_code=True)


def _load_by_name(job: dict[str, Any]) -> Callable[[str], Any]:
    found: Any = importlib.import_module(job["module"])
    for part in job["class"].split("."):
        found = getattr(found, part)
    loader: Callable[[str], Any] = found.from_pretrained
    return loader


def _observe(find: Callable[[], Callable[[str], Any]], save: dict[str, str], file: Path) -> dict[str, Any]:
    try:
        observation = Observation.of(find()(save["folder"]), load_file(save["inputs"]))
        observation.write(file)
    except Exception as error:  # told to the process that asked
        return {"error": describe(error)}
    return {"file": str(file), "ties": observation.ties, "training": observation.training}
