"""Checkpoints of a run: folders `checkpoint-<step>` that are all there or not there, with a hash of every file.

Everything in them is JSON or safetensors. Every run has a name, so that one begun anew in the same output folder is
never resumed from the checkpoints of the one before.

A folder without its manifest is a save that was cut short; one whose files do not have the manifest's hashes is
damaged. Both are passed over with a warning, and never loaded.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maquette.errors import CheckpointError, FileFormatError, MissingFileError, SaveError, bullets
from maquette.pretrained.mixin import committing
from maquette.storage.json_files import read_json, to_json
from maquette.storage.json_values import decode_floats, encode_floats, refuse, to_plain
from maquette.storage.paths import user_path
from maquette.storage.transaction import Journal, Transaction

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
RUN = "run.json"
STATE = "trainer_state.json"
FOLDER = re.compile(r"checkpoint-(\d+)$")


@dataclass
class Snapshot:
    """What a checkpoint holds beside the model's own files.

    Attributes:
        documents: contents of JSON files, by name.
        tensors: contents of safetensors files, by name.
    """

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, names: Iterable[str], tensors: Iterable[str]) -> "Snapshot":
        """Read the JSON files `names`, and the safetensors files `tensors`, of those that are there."""
        documents = {name: decode_floats(read_json(folder / name)) for name in names if (folder / name).exists()}
        return cls(documents, {name: load_file(folder / name) for name in tensors if (folder / name).exists()})


def write_checkpoint(
    folder: Path, snapshot: Snapshot, parts: Iterable[Callable[[Transaction], None]], *, run: str
) -> None:
    """Write a checkpoint, all of it or nothing.

    Args:
        folder: `…/checkpoint-<step>`.
        snapshot: what to write.
        parts: functions that put further files, the model's and the tokenizer's, into the save under way.
        run: the name of the run.

    Raises:
        SaveError: it could not be written (the disk is full, say); what was there before still is.
    """
    try:
        with committing(folder) as transaction:
            for write in parts:
                write(transaction)
            for name, content in snapshot.documents.items():
                transaction.write(name, to_json(encode_floats(to_plain(content, name, refuse))))
            for name, tensors in snapshot.tensors.items():
                save_file(tensors, transaction.path(name), {"format": "pt"})
            hashes = {name: _hash(transaction.path(name)) for name in sorted(transaction.files)}
            transaction.write(MANIFEST, to_json({"run": run, "sha256": hashes}))
    except (OSError, SafetensorError) as error:
        raise SaveError(
            f"The checkpoint {str(folder)!r} could not be written: {error}. Training stopped here; earlier checkpoints "
            "are as they were. Make room, and resume."
        ) from None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_faults(folder: Path) -> list[str]:
    """Say what is wrong with a checkpoint; empty where every file is what the manifest says."""
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST} is not there: the save was cut short"]
    try:
        hashes = read_json(folder / MANIFEST).get("sha256")
    except FileFormatError as error:
        return [str(error)]
    if not isinstance(hashes, Mapping) or STATE not in hashes:
        return [f"{MANIFEST} does not list the files"]
    faults = []
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            faults.append(f"{name} is not there")
        elif _hash(folder / name) != expected:
            faults.append(f"{name} is damaged: its hash is not the manifest's")
    return faults


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Give the checkpoints of the run that began last, the newest first, with those that cannot say whose they are."""
    found = {path: int(match[1]) for path in output_dir.glob("checkpoint-*") if (match := FOLDER.match(path.name))}
    run = read_run(output_dir / RUN)
    return sorted(
        (path for path in found if run is None or _run_of(path) in (run, None)), key=lambda path: -found[path]
    )


def read_run(path: Path) -> str | None:
    """Give the name of the run that a file belongs to, or None where it cannot be read."""
    try:
        return read_json(path).get("run")
    except (FileFormatError, OSError):
        return None


def _run_of(folder: Path) -> str | None:
    journal = Journal.read(folder)
    manifest = journal.locate(folder, MANIFEST) if journal else folder / MANIFEST
    return read_run(manifest) if manifest else None


def get_last_checkpoint(folder: str) -> str | None:
    """Give the newest checkpoint of the last run in an output folder, or None where there is none or no such folder.

    It is for `trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) is not None)`: to go on where there is
    something, and begin where there is nothing. A save that was cut short before it came to be does not count.
    """
    whole = (path for path in list_checkpoints(user_path(folder)) if not _never_was(path))
    return next(map(str, whole), None)


def _never_was(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what a save that died before its moment left."""
    return not any(path for path in folder.iterdir() if not path.name.startswith(".maquette-staged-"))


def open_checkpoint(output_dir: Path, wanted: Any) -> Path:
    """Find the checkpoint to resume from, and finish its save where the last process died over that.

    Args:
        output_dir: where to look.
        wanted: a folder, or True for the newest one that is not damaged.

    Raises:
        CheckpointError: the one that is wanted is damaged, or all are.
        MissingFileError: there is none.
    """
    candidates = list_checkpoints(output_dir) if wanted is True else [user_path(wanted)]
    failures = []
    for folder in candidates:
        if not folder.is_dir():
            raise MissingFileError(f"There is no checkpoint {str(folder)!r} to resume from.")
        if journal := Journal.read(folder):
            journal.finish(folder)
        faults = find_faults(folder)
        if not faults:
            return folder
        failures.append(f"{folder}: {'; '.join(faults)}")
        if wanted is True:
            logger.warning("Passed over a checkpoint that is not whole: %s", failures[-1])
    if not failures:
        raise MissingFileError(
            f"There is no checkpoint of the last run in {str(output_dir)!r} to resume from. To begin anew, leave "
            "resume_from_checkpoint out."
        )
    raise CheckpointError(
        f"Nothing to resume from is whole:{bullets(failures)}\nTo begin anew, leave resume_from_checkpoint out."
    )


def remove_old(output_dir: Path, *, keep: int, best: str | None, step: int) -> None:
    """Remove the oldest checkpoints beyond the number to keep, but never the best one; the manifest goes first.

    What is newer than `step`, where the run is, does not count: a run that died there left it, and it will come again.
    """
    folders = [path for path in list_checkpoints(output_dir) if int(path.name.rpartition("-")[2]) <= step]
    kept = [path for path in folders if best and path.name == Path(best).name]
    kept += [path for path in folders if path not in kept][: max(1, keep - len(kept))]
    for folder in folders:
        if folder not in kept:
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)
