"""Weights on disk, read: opening safetensors, one file or shards; their names, shapes, types and values.

There is no reader for pickled weights here, on purpose: unpickling runs code.
"""

import contextlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from maquette.errors import CheckpointError, FileFormatError, MissingFileError, bullets
from maquette.hub.sources import Source
from maquette.storage.json_files import read_json

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|h5|msgpack|pkl)(\.index\.json)?$")
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
Shape = tuple[int, ...]


def with_variant(name: str, variant: str | None) -> str:
    """Put a variant into a file name, as the field does: `model.fp16.safetensors`, `model.safetensors.index.fp16.json`.

    Raises:
        ValueError: the variant is no part of a file name.
    """
    if variant is None:
        return name
    if not re.fullmatch(r"\w[\w.+-]*", variant):
        raise ValueError(f"variant={variant!r} goes into file names: letters, digits, '_', '-', '+' and dots.")
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{variant}.{ending}"


class Checkpoint:
    """The tensors of a folder or repository: their names, shapes and types at once, their values when asked for."""

    def __init__(self, files: Mapping[Path, Iterable[str] | None], label: str) -> None:
        self.label = label
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, str] = {}  # as safetensors calls them, "F32"
        self.metadata: dict[str, str] = {}
        self._files: dict[str, tuple[Path, str]] = {}  # where a tensor lies, and its name there
        self._starts: dict[tuple[Path, str], int] = {}  # and at which byte
        self._seen: dict[Path, tuple[int, ...]] = {}  # which file it was
        for path, expected in files.items():
            self._read_header(path, expected)

    @classmethod
    def open(cls, source: Source, *, variant: str | None = None) -> "Checkpoint":
        """Find the weights of a source.

        Raises:
            MissingFileError: there are none, or shards of them are missing; lists which.
            FileFormatError: a file is damaged, or the index does not fit its shards.
        """
        single = with_variant(WEIGHTS_NAME, variant)
        if path := source.find(single):
            return cls({path: None}, source.label)
        names = [with_variant(INDEX_NAME, variant), *([f"{single}.index.json"] if variant else [])]  # and our older one
        index, path = next(((name, path) for name in names if (path := source.find(name))), (names[0], None))
        if path is None:
            raise _no_weights(source, single, names[0])
        weight_map = read_json(path, label=f"{source.label}/{index}").get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
            raise FileFormatError(f"{source.label}/{index} has no weight_map from tensor names to file names.")
        shards: dict[str, list[str]] = {}
        for name, shard in weight_map.items():
            shards.setdefault(shard, []).append(name)
        return cls({path: shards[shard] for shard, path in _find_shards(source, index, shards)}, source.label)

    def _read_header(self, path: Path, expected: Iterable[str] | None) -> None:
        with _opened(path, "np", self.label) as handle:
            names = set(handle.keys())
            if wrong := sorted(set(expected or ()) - names):
                raise FileFormatError(
                    f"The index of {self.label!r} puts tensors into {path.name} that it lacks:{bullets(wrong[:20])}\n"
                    "Save the checkpoint again, or fix the index."
                )
            self.metadata |= handle.metadata() or {}
            for name in names:
                part = handle.get_slice(name)
                self.shapes[name], self.types[name] = tuple(part.get_shape()), part.get_dtype()
                self._files[name] = (path, name)
            self._find_starts(path, getattr(handle, "offset_keys", list)())  # new in safetensors 0.6

    def _find_starts(self, path: Path, ordered: list[str]) -> None:
        """Count where tensors begin: one after the other, without gaps, up to the end, as safetensors makes sure."""
        if any(self.types[name] not in BYTES for name in ordered):
            return
        self._seen[path] = _identify(path)
        start = path.stat().st_size
        for name in reversed(ordered):
            start -= math.prod(self.shapes[name]) * BYTES[self.types[name]]
            self._starts[path, name] = start

    def find_spans(self) -> dict[str, tuple[Path, int]]:
        """Tell where in a file tensors begin, those of which that is known."""
        same = {path for path, seen in self._seen.items() if _identify(path) == seen}
        return {
            name: (path, self._starts[path, stored])
            for name, (path, stored) in self._files.items()
            if path in same and (path, stored) in self._starts
        }

    def find_files(self) -> dict[str, tuple[Path, str]]:
        """Tell in which file each tensor lies, and its name there."""
        return dict(self._files)

    def rename(self, mapping: Mapping[str, str]) -> None:
        """Give tensors other names: patterns (regular expressions) in turn, the first match of each replaced.

        Raises:
            CheckpointError: two tensors come to have one name.
        """
        new = {name: name for name in self.shapes}
        for pattern, replacement in mapping.items():
            new = {old: re.sub(pattern, replacement, name, count=1) for old, name in new.items()}
        first: dict[str, str] = {}
        if twice := [
            f"{first[name]} and {old}: {name}" for old, name in new.items() if first.setdefault(name, old) != old
        ]:
            raise CheckpointError(f"key_mapping gives two weights of {self.label!r} one name:{bullets(twice)}")
        self.shapes = {new[name]: shape for name, shape in self.shapes.items()}
        self.types = {new[name]: kind for name, kind in self.types.items()}
        self._files = {new[name]: place for name, place in self._files.items()}

    def floating_type(self) -> str | None:
        """Give the floating-point type that most of the numbers have, as numpy calls it; None where there is none."""
        counts: dict[str, int] = {}
        for name, kind in self.types.items():
            if kind in FLOATS:
                counts[FLOATS[kind]] = counts.get(FLOATS[kind], 0) + math.prod(self.shapes[name])
        return max(counts, key=lambda kind: counts[kind], default=None)

    def tensors(self, names: Iterable[str], *, framework: str) -> dict[str, Any]:
        """Read tensors by name, for `framework` "pt" or "np"; torch tensors are views of the mapped file."""
        by_file: dict[Path, list[tuple[str, str]]] = {}
        for name in names:
            path, stored = self._files[name]
            by_file.setdefault(path, []).append((name, stored))
        found: dict[str, Any] = {}
        for path, wanted in by_file.items():
            with _opened(path, framework, self.label) as handle:
                found |= {name: handle.get_tensor(stored) for name, stored in wanted}
        return found


class StateDict(Checkpoint):
    """Weights that a caller holds already, in place of a file's; a model gets copies of them."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        super().__init__({}, "state_dict")
        if wrong := [
            f"{name}: a {type(value).__name__}" for name, value in state.items() if not hasattr(value, "shape")
        ]:
            raise TypeError(f"state_dict= takes names and tensors:{bullets(wrong[:20])}")
        kinds = {kind: name for name, kind in FLOATS.items()}
        for name, value in state.items():
            self.shapes[name] = tuple(value.shape)
            kind = str(value.dtype).rpartition(".")[2]
            self.types[name] = kinds.get(kind, kind)
            self._files[name] = (Path(), name)
        self._state = state

    def find_files(self) -> dict[str, tuple[Path, str]]:
        """Tell that no file holds these."""
        return {}

    def tensors(self, names: Iterable[str], *, framework: str) -> dict[str, Any]:
        """Copy tensors; arrays of numpy stay what they are."""
        found = {}
        for name in names:
            value = self._state[self._files[name][1]]
            if hasattr(value, "detach"):
                value = value.detach().cpu().numpy() if framework == "np" else value.detach()
            found[name] = value.clone() if hasattr(value, "clone") else np.array(value)
        return found


def _find_shards(source: Source, index: str, shards: Mapping[str, list[str]]) -> Iterator[tuple[str, Path]]:
    missing = []
    for shard in sorted(shards):
        try:
            yield shard, source.refer(shard)
        except MissingFileError:
            missing.append(f"{shard} ({len(shards[shard])} tensors)")
    if missing:
        raise MissingFileError(f"{source.label}/{index} names files that are not there:{bullets(missing)}")


def _identify(path: Path) -> tuple[int, ...]:
    """Tell a file from one that comes to lie in its place."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _opened(path: Path, framework: str, label: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework=framework) as handle:
            yield handle
    except SafetensorError as error:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise FileFormatError(
                f"{path.name} of {label!r} is a Git LFS pointer, not the weights. Fetch them with `git lfs pull`."
            ) from None
        raise FileFormatError(
            f"{path.name} of {label!r} is truncated or damaged ({error}; {path.stat().st_size} bytes). Fetch or save "
            "it again."
        ) from None


def _no_weights(source: Source, single: str, index: str) -> MissingFileError:
    names = source.names()
    if pickled := [name for name in names if PICKLED.match(name)]:
        return MissingFileError(
            f"{source.label!r} has no {single}, only {', '.join(pickled)}. maquette does not unpickle weights: that "
            "runs whatever code is in the file. Convert it once, in a child process that lets nothing of it run:\n"
            f"    maquette convert {shlex.quote(source.label)} NEW-FOLDER"
        )
    variants = [name for name in names if re.search(r"\.safetensors(\.index(\.[\w.+-]+)?\.json)?$", name)]
    found = f" It has {', '.join(variants)}: pass variant=… for one of them." if variants else ""
    return MissingFileError(f"{source.label!r} has no weights, {single} or {index}.{found}{source.note}")


def read_names(metadata: Mapping[str, str], key: str) -> list[str]:
    """Read a list of names that a save noted in its safetensors metadata; absent means none."""
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(metadata.get(key, "[]"))
        if isinstance(names, list):
            return [name for name in names if isinstance(name, str)]
    return []
