"""Checks in a process that knows nothing but the folder: one is started, and looks at every save there is."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from maquette.remote_code import package_of
from maquette.testing.report import Fault, NotApplicableError
from maquette.testing.torch.subject import UNFIT, Observation, Subject

LIMIT = 600  # seconds
PROGRAM = "import sys; from maquette.testing.torch.fresh import look; look(sys.argv[1])"


def check_fresh_process(subject: Subject) -> Iterator[Fault]:
    """What a fresh process loads is what was saved here, in every save of the other checks too."""
    if reason := _not_importable(subject.model_class):
        raise NotApplicableError(reason)
    if not subject.survives_saving:
        raise NotApplicableError(UNFIT)
    found = look_afresh(subject)["by name"]
    for name, seen in found.items():
        if name != "plain" and "error" in found["plain"]:
            return  # the others can only say the same
        yield from _faults(subject, name, seen, f"saving, and loading in a fresh process ({name})")


def check_travel(subject: Subject) -> Iterator[Fault]:
    """What a fresh process loads with the code in the folder alone, through the AutoClass, is what was saved here."""
    if auto_class_of(subject.model_class) is None:
        raise NotApplicableError(f"{subject.name} is not registered with register_for_auto_class")
    if not subject.survives_saving:
        raise NotApplicableError(UNFIT)
    for name, seen in look_afresh(subject)["by code"].items():
        yield from _faults(subject, name, seen, "saving, and loading in a fresh process with the code in the folder")


def _faults(subject: Subject, name: str, seen: dict[str, Any], how: str) -> Iterator[Fault]:
    if error := seen.get("error"):
        yield Fault(
            f"after {how}, there is no model: {error}",
            "keep what the model needs in modules that can be imported anywhere, and import it where it is used",
        )
        return
    observation = Observation.read(Path(seen["file"]), seen["ties"], seen["training"])
    yield from subject.saves[name].expected.faults(observation, how)


def _not_importable(model_class: type) -> str:
    name = model_class.__name__
    if package_of(model_class):
        return f"the code of {name} came with a checkpoint; `travel` looks at it"
    if model_class.__module__ == "__main__":
        return f"{name} is defined in the script that is running, which no other process can import; move it to a file"
    if "<locals>" in model_class.__qualname__:
        return f"{name} is defined inside a function, where no other process can import it; move it to the top level"
    return ""


def auto_class_of(model_class: Any) -> str | None:
    """Name the AutoClass through which a model's own code is loaded; None where none travels."""
    if package := package_of(model_class):
        ending = f".{model_class.__name__}"
        return next(
            (auto for auto, ref in package.auto_map.items() if isinstance(ref, str) and ref.endswith(ending)), None
        )
    found: str | None = model_class._auto_class
    return found


# The process -----------------------------------------------------------------------------------------------------


def look_afresh(subject: Subject) -> dict[str, dict[str, Any]]:
    """Have one fresh process load every save: `by name` of the class, and the plain one `by code`; once a subject."""
    if subject.afresh is None:
        _ = subject.reloaded
        job = _describe_job(subject)
        file = subject.folder / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        subject.afresh = _run_process(file, subject.folder)
    return subject.afresh


def _describe_job(subject: Subject) -> dict[str, Any]:
    cls = subject.model_class
    job: dict[str, Any] = {"threads": torch.get_num_threads(), "by name": {}, "by code": {}}
    if not _not_importable(cls):
        job |= {"module": cls.__module__, "class": cls.__qualname__}
        job["by name"] = {name: _hand_over(subject, name) for name, save in subject.saves.items() if save.reloads}
    if auto_class := auto_class_of(cls):
        job |= {"auto_class": auto_class, "hide": [place for c in (cls, type(subject.config)) if (place := _origin(c))]}
        job["by code"] = {"plain": _hand_over(subject, "plain")}
    return job


def _hand_over(subject: Subject, name: str) -> dict[str, str]:
    inputs = subject.folder / f"{name}.inputs.safetensors"
    save_file(subject.saves[name].inputs, inputs)
    return {"folder": str(subject.saves[name].folder), "inputs": str(inputs)}


def _origin(cls: type) -> str | None:
    """Find the folder that a class's own code is imported from; None for code that is installed, and our own."""
    if package_of(cls):
        return None
    path = Path(inspect.getfile(cls)).resolve()
    root = path.parents[cls.__module__.count(".") + (path.name == "__init__.py")]
    return None if root.name in ("site-packages", "dist-packages") or (root / "maquette").is_dir() else str(root)


def _run_process(job: Path, folder: Path) -> dict[str, dict[str, Any]]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(  # noqa: S603 - this interpreter, and a program that is spelt out above
        [sys.executable, "-c", PROGRAM, str(job)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    if done.returncode:
        raise RuntimeError(f"the fresh process ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    found: dict[str, dict[str, Any]] = json.loads(job.with_name("found.json").read_text(encoding="utf-8"))
    return found
