"""Models that Transformers runs, in a process of its own, with another interpreter."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import InputError, MissingFileError, MissingPackageError
from maquette.storage.paths import user_path
from maquette.workshop.diff.recording import Record, make_record, to_arrays

SCRIPT = Path(__file__).with_name("peer_side.py")
SECONDS = 3600


@dataclass(frozen=True)
class PeerRun:
    """One run in the other process.

    Attributes:
        model: a folder, or a repository.
        model_class: the name of its class in Transformers; AutoModel where there is none of the name.
        inputs: of one call, by name.
        trust: whether code that comes with it may run there.
    """

    model: str
    model_class: str
    inputs: Mapping[str, Any]
    trust: bool = False


def record_peer(python: str | os.PathLike[str], runs: Sequence[PeerRun]) -> Iterator[Record]:
    """Have Transformers run models, all in one process, and give what their modules gave, one after the other.

    Args:
        python: the interpreter of an environment that has Transformers and torch.
        runs: what to run.

    Raises:
        MissingFileError: there is no such interpreter.
        MissingPackageError: it has no Transformers, or no torch.
        InputError: a model does not load, or does not run on its inputs.
    """
    interpreter = user_path(python)
    if not interpreter.is_file():
        raise MissingFileError(f"There is no interpreter {str(python)!r}: give the path of one that has transformers.")
    with tempfile.TemporaryDirectory() as place:
        folder, jobs, inputs = Path(place), [], [to_arrays(run.inputs) for run in runs]
        for number, (run, arrays) in enumerate(zip(runs, inputs, strict=True)):
            np.savez(folder / f"{number}.in.npz", **arrays)  # type: ignore[arg-type]
            path = user_path(run.model)
            model = str(path.resolve()) if path.exists() else run.model
            file = f"{number}.in.npz"
            jobs.append({"model": model, "class": run.model_class, "inputs": file, "trust": run.trust})
        (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        _run(interpreter, folder)
        for number, (run, arrays) in enumerate(zip(runs, inputs, strict=True)):
            yield _read(folder, number, run, arrays)


def _run(interpreter: Path, folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(interpreter.absolute()), str(SCRIPT), str(folder)]  # absolute: a link into an environment stays one
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    except OSError as error:
        raise InputError(f"{str(interpreter)!r} cannot be run: {error}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"Transformers did not run the model within {SECONDS} seconds.") from None
    if (folder / "failed.json").exists():
        said = json.loads((folder / "failed.json").read_text(encoding="utf-8"))
        raise MissingPackageError(f"{str(interpreter)!r} has no Transformers to run: {said}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"{str(interpreter)!r} ended with {done.returncode}: {last}")


def _read(folder: Path, number: int, run: PeerRun, inputs: dict[str, Any]) -> Record:
    written = folder / f"{number}.json"
    if not written.exists():
        raise InputError("The interpreter ran, and wrote nothing: give a Python that has transformers.")
    told = json.loads(written.read_text(encoding="utf-8"))
    if "error" in told:
        raise InputError(f"Transformers does not run {run.model!r} on these inputs: {told['error']}")
    with np.load(folder / f"{number}.npz") as arrays:

        def fetch(names: Mapping[str, str]) -> dict[str, Any]:
            return {place: arrays[name] for place, name in names.items()}

        calls = [[*about, fetch(takes), fetch(gives)] for *about, takes, gives in told["calls"]]
        about = {"kind": told["kind"], "origin": told["origin"], "framework": "torch"}
        return make_record(calls, told["base"], fetch(told["end"]), inputs, **about)
