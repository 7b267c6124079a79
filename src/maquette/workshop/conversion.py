"""`convert`: weights in other files to safetensors. What is pickled is read in a child process, and nowhere else."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.checkpoint.reading import INDEX_NAME, WEIGHTS_NAME, Checkpoint
from maquette.errors import (
    FileFormatError,
    MissingFileError,
    MissingPackageError,
    SaveError,
    UntrustedCodeError,
    bullets,
)
from maquette.hub.sources import Source, open_source
from maquette.storage.json_files import read_json, to_json
from maquette.storage.paths import user_path
from maquette.storage.transaction import contained
from maquette.workshop.array_files import read_flax, read_keras, write_arrays

PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle)$")
KNOWN = ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5")
WEIGHTS = re.compile(
    r".*\.(bin|pt|pth|ckpt|pkl|pickle|h5|keras|msgpack|safetensors|onnx|ot|tflite|gguf)(\.index\.json)?$"
)
HARMLESS = re.compile(
    r"(torch\._utils\._rebuild_\w+|torch\.\w+(Storage|Tensor)|torch\.(Size|float\w*|bfloat16|int\d+|uint8|bool)|"
    r"torch\.storage\.\w+|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|collections\.OrderedDict)"
)
SECONDS = 3600
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG", "LC_ALL", "OMP_NUM_THREADS")  # of the environment


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        folder: where it is.
        files: what each file of weights became.
        tensors: how many there are.
        calls: what pickles wanted to call; all of it is among what weights need.
        left_out: what was no weight, and why.
        copied: files that lie beside the weights.
        network: what kept the child process from the network; empty where there was none to keep.
    """

    folder: Path
    files: Mapping[str, str]
    tensors: int
    calls: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    copied: tuple[str, ...] = ()
    network: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return {**vars(self), "folder": str(self.folder), "calls": list(self.calls), "copied": list(self.copied)}


def convert(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], *, key: str = "", **places: Any
) -> Conversion:
    """Write the weights of a file, a folder or a repository as safetensors, and what lies beside them, into a folder.

    Pickled weights are read by a child process without network, which calls nothing but what tensors are made with.
    Weights of Flax (`.msgpack`) and of Keras (`tf_model.h5`) get torch's names and axes.

    Args:
        source: a file of weights, a folder or a repository of the Hub.
        folder: a new or an empty one.
        key: under which the weights lie, where a file holds several groups of them.
        places: `revision`, `token` and the others of `from_pretrained`.

    Raises:
        UntrustedCodeError: a pickle wants to call something else; nothing of it was called, and nothing was written.
        MissingFileError: there is nothing to convert.
        FileFormatError: a file is damaged, or holds no weights.
        SaveError: there is something in the folder.
    """
    place = user_path(folder)
    if os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        raise SaveError(f"The folder {str(place)!r} has something in it, or is none. Give an empty or a new one.")
    with open_source(source, **places) as opened, tempfile.TemporaryDirectory() as staging:
        given = user_path(source) if os.path.isfile(user_path(source)) else None  # a file that the user named
        staged = Path(staging)
        told = _convert_files(opened, given, staged, key)
        copied = _copy_beside(opened, staged) if given is None else []
        place.mkdir(parents=True, exist_ok=True)
        for path in staged.iterdir():
            shutil.move(path, place / path.name)
    with open_source(place) as written:
        count = len(Checkpoint.open(written).shapes)
    return Conversion(place, tensors=count, copied=tuple(copied), **told)


def _find_weights(source: Source) -> list[str]:
    names = source.names()
    index = next((name for name in names if name in ("pytorch_model.bin.index.json",)), None)
    if index:
        path = source.find(index)
        shards = read_json(path, label=index).get("weight_map", {}) if path else {}
        return sorted({str(name) for name in shards.values()})
    for known in KNOWN:
        if known in names:
            return [known]
    others = [name for name in names if PICKLED.match(name) or name.endswith((".msgpack", ".h5"))]
    others = [name for name in others if name not in ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")]
    if len(others) == 1:
        return others
    if any(name.endswith(".safetensors") for name in names) and not others:
        raise MissingFileError(f"{source.label!r} has safetensors already: there is nothing to convert.")
    raise MissingFileError(
        f"{source.label!r} has several files of weights; name one of them:{bullets(others)}"
        if others
        else f"{source.label!r} has no weights that are converted: {', '.join(KNOWN)}, .pt, .pth or .ckpt.{source.note}"
    )


def _convert_files(source: Source, given: Path | None, staged: Path, key: str) -> dict[str, Any]:
    names = _find_weights(source) if given is None else [given.name]
    files: dict[str, str] = {}
    calls: set[str] = set()
    left_out: dict[str, str] = {}
    network = ""
    for number, name in enumerate(names, 1):
        target = WEIGHTS_NAME if len(names) == 1 else f"model-{number:05d}-of-{len(names):05d}.safetensors"
        path = source.refer(name) if given is None else given
        if name.endswith((".msgpack", ".h5")):
            write_arrays((read_flax if name.endswith(".msgpack") else read_keras)(path), staged / target)
        else:
            told = _unpickle(path, staged / target, key)
            calls, left_out, network = calls | {*told["calls"]}, left_out | told["left_out"], told["network"]
        files[name] = target
    if len(names) > 1:
        _write_index(staged, [*files.values()])
    return {"files": files, "calls": tuple(sorted(calls)), "left_out": left_out, "network": network}


def _unpickle(path: Path, target: Path, key: str) -> dict[str, Any]:
    """Have the child process convert one file."""
    environ = {name: os.environ[name] for name in KEPT if name in os.environ}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "maquette.workshop.unpickling", str(path.resolve()), str(target.resolve()), key]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise FileFormatError(f"{path.name} was not read within {SECONDS} seconds.") from None
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        if "No module named 'torch'" in done.stderr:
            raise MissingPackageError("Pickled weights are read with torch, which is not installed.") from None
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise FileFormatError(f"{path.name} cannot be converted: {last}") from None
    if "refused" in told:
        raise _refusal(path.name, told)
    if "unfit" in told:
        raise FileFormatError(f"{path.name}: {told['unfit']}")
    return told


def _refusal(name: str, told: Mapping[str, Any]) -> Exception:
    strange = [call for call in told["calls"] if not HARMLESS.fullmatch(call)]
    if not strange:
        return FileFormatError(f"{name} is damaged, or no pickled weights: {told['refused'].splitlines()[0]}")
    return UntrustedCodeError(
        f"{name} wants to call what no weights need:{bullets(strange)}\nNothing of it was called or written. "
        "Where a model was pickled whole, save its state_dict() where its code is, and convert that."
    )


def _copy_beside(source: Source, staged: Path) -> list[str]:
    """Copy what is no weights: configuration, tokenizer, code."""
    copied = []
    for name in source.names():
        if WEIGHTS.match(name) or name.startswith("."):
            continue
        path, target = source.refer(name), contained(staged, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        copied.append(name)
    return copied


def _write_index(staged: Path, files: list[str]) -> None:
    weight_map: dict[str, str] = {}
    total = 0
    for file in files:
        shard = Checkpoint({staged / file: None}, file)
        weight_map |= dict.fromkeys(shard.shapes, file)
        total += (staged / file).stat().st_size
    content = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (staged / INDEX_NAME).write_text(to_json(content), encoding="utf-8")
