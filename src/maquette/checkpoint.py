"""Weights on disk: opening safetensors, one file or shards, matching their names to a model's, and writing them.

There is no reader for pickled weights here, on purpose: unpickling runs code.
"""

import contextlib
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from maquette.errors import CheckpointError, FileFormatError, MissingFileError, bullets
from maquette.files import Source
from maquette.pretrained import read_json, to_json
from maquette.transaction import Transaction

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|h5|msgpack|pkl)(\.index\.json)?$")
STALE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$")
# Spellings of one parameter: old checkpoints' layer norms, and weight norm before and after parametrizations.
SYNONYMS = (
    ("gamma", "weight"),
    ("beta", "bias"),
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
Shape = tuple[int, ...]


def with_variant(name: str, variant: str | None) -> str:
    """Put a variant into a file name: `model.safetensors` → `model.fp16.safetensors`."""
    stem, _, rest = name.partition(".")
    return f"{stem}.{variant}.{rest}" if variant else name


class Checkpoint:
    """The tensors of a folder or repository: their names, shapes and types at once, their values when asked for."""

    def __init__(self, files: Mapping[Path, Iterable[str] | None], label: str) -> None:
        self.label = label
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, str] = {}  # as safetensors calls them, "F32"
        self.metadata: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        for path, expected in files.items():
            self._read_header(path, expected)

    @classmethod
    def open(cls, source: Source, *, variant: str | None = None) -> "Checkpoint":
        """Find the weights of a source.

        Raises:
            MissingFileError: there are none, or shards of them are missing; lists which.
            FileFormatError: a file is damaged, or the index does not fit its shards.
        """
        single, index = with_variant(WEIGHTS_NAME, variant), with_variant(INDEX_NAME, variant)
        if path := source.find(single):
            return cls({path: None}, source.label)
        if (path := source.find(index)) is None:
            raise _no_weights(source, single)
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
                    "Save the checkpoint again, or mend the index."
                )
            self.metadata |= handle.metadata() or {}
            for name in names:
                part = handle.get_slice(name)
                self.shapes[name], self.types[name] = tuple(part.get_shape()), part.get_dtype()
                self._files[name] = path

    def floating_type(self) -> str | None:
        """Give the floating-point type that most of the numbers have, as numpy calls it; None where there is none."""
        counts: dict[str, int] = {}
        for name, kind in self.types.items():
            if kind in FLOATS:
                counts[FLOATS[kind]] = counts.get(FLOATS[kind], 0) + math.prod(self.shapes[name])
        return max(counts, key=lambda kind: counts[kind], default=None)

    def tensors(self, names: Iterable[str], *, framework: str) -> dict[str, Any]:
        """Read tensors by name, for `framework` "pt" or "np"; torch tensors are views of the mapped file."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._files[name], []).append(name)
        found: dict[str, Any] = {}
        for path, wanted in by_file.items():
            with _opened(path, framework, self.label) as handle:
                found |= {name: handle.get_tensor(name) for name in wanted}
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
            ) from error
        raise FileFormatError(
            f"{path.name} of {label!r} is truncated or damaged ({error}; {path.stat().st_size} bytes). Fetch or save "
            "it again."
        ) from error


def _no_weights(source: Source, single: str) -> MissingFileError:
    names = source.names()
    if pickled := [name for name in names if PICKLED.match(name)]:
        return MissingFileError(
            f"{source.label!r} has no {single}, only {', '.join(pickled)}. maquette does not unpickle weights: that "
            "runs whatever code is in the file. If you trust it, convert it once with torch and safetensors:\n"
            "    from safetensors.torch import save_file\n"
            f"    save_file(torch.load({pickled[0]!r}, weights_only=True), {single!r}, {{'format': 'pt'}})"
        )
    variants = [name for name in names if name.endswith((".safetensors", ".safetensors.index.json"))]
    found = f" It has {', '.join(variants)}: pass variant=… for one of them." if variants else ""
    return MissingFileError(f"{source.label!r} has no weights, {single} or {INDEX_NAME}.{found}{source.note}")


# Matching names --------------------------------------------------------------------------------------------------


@dataclass
class Slots:
    """What a model wants filled: the shape behind every name, and which further names mean the same tensor."""

    shapes: dict[str, Shape | None]  # None: any shape will do (a parameter that is not materialised yet)
    aliases: dict[str, str] = field(default_factory=dict)
    lazy: Callable[[str], bool] = lambda name: False


@dataclass
class LoadReport:
    """What a load did with every name; `as_dict` is what `output_loading_info=True` gives."""

    assigned: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "missing_keys": self.missing,
            "unexpected_keys": self.unexpected,
            "mismatched_keys": self.mismatched,
            "error_msgs": [],
        }


def match(checkpoint: Mapping[str, Shape], slots: Slots, *, prefix: str, ignored: Iterable[str] = ()) -> LoadReport:
    """Find for every tensor of a checkpoint its place in a model.

    Names fit as they are, or under another spelling of the same parameter, or with the base model's name put before
    them or taken away (a base model's checkpoint in a model with a head, and the other way round).

    Args:
        checkpoint: the shapes in the file.
        slots: what the model wants.
        prefix: the attribute under which a model with a head keeps its base model, `base_model_prefix`.
        ignored: patterns (regular expressions) of tensors that may be in the file without being wanted.
    """
    report = LoadReport()
    wanted = {*slots.shapes, *slots.aliases}
    rename = _prefix_rule(checkpoint, wanted, prefix)
    for key in sorted(checkpoint):
        name = _spelling(rename(key), wanted)
        slot = slots.aliases.get(name, name)
        if slot not in slots.shapes and not slots.lazy(name):
            if not any(re.search(pattern, key) for pattern in ignored):
                report.unexpected.append(key)
        elif slots.shapes.get(slot) is not None and slots.shapes[slot] != checkpoint[key]:
            report.mismatched.append((key, checkpoint[key], slots.shapes[slot] or ()))
        elif slot in report.assigned:
            report.conflicts.append((report.assigned[slot], key))
        else:
            report.assigned[slot] = key
    failed = {
        slots.aliases.get(name, name) for name in (_spelling(rename(key), wanted) for key, _, _ in report.mismatched)
    }
    report.missing = [name for name in slots.shapes if name not in report.assigned and name not in failed]
    return report


def _prefix_rule(checkpoint: Iterable[str], wanted: set[str], prefix: str) -> Callable[[str], str]:
    """Decide between a file and a model with and without a head, by what their names begin with."""
    start = f"{prefix}."
    if not prefix:
        return lambda key: key
    model_has, file_has = (any(name.startswith(start) for name in names) for names in (wanted, checkpoint))
    if model_has and not file_has:
        return lambda key: start + key if _spelling(start + key, wanted) in wanted else key
    if file_has and not model_has:
        return lambda key: key.removeprefix(start)
    return lambda key: key


def _spelling(name: str, wanted: set[str]) -> str:
    """Respell the last part of a name where the model knows it only under the other spelling."""
    if name in wanted:
        return name
    for old, new in SYNONYMS:
        if name == old or name.endswith(f".{old}"):
            respelled = name[: len(name) - len(old)] + new
            if respelled in wanted:
                return respelled
    return name


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How much a caller lets differ between a checkpoint and a model."""

    strict: bool | None = None
    allow_missing: tuple[str, ...] = ()
    ignore_mismatched_sizes: bool = False
    expected_missing: tuple[str, ...] = ()

    def also_allowing(self, patterns: Iterable[str]) -> "Tolerance":
        """Add the regular expressions in which a model class names weights that need not be saved."""
        return replace(self, expected_missing=(*self.expected_missing, *patterns))

    def judge(self, report: LoadReport, *, model: str, label: str, prefix: str, file_keys: Iterable[str]) -> None:
        """Let the report pass, saying what is new; or raise one error that lists everything.

        Raises:
            CheckpointError: shapes differ, or tensors are missing that no new head explains.
        """
        faults = [f"{name}: {found} in the file, {wanted} in the model" for name, found, wanted in report.mismatched]
        hints = ["pass ignore_mismatched_sizes=True to have these initialised anew"] if faults else []
        if self.ignore_mismatched_sizes:
            faults, hints = [], []
        missing = [] if self.strict is False else self._unexplained(report, prefix, file_keys)
        if missing:
            faults += [f"{name}: not in the file" for name in missing]
            tops = dict.fromkeys(f'"{name.partition(".")[0]}.*"' for name in missing)
            hints.append(f"pass allow_missing=[{', '.join(tops)}] to have these initialised anew")
        if self.strict and report.unexpected:
            faults += [f"{name}: not in the model" for name in report.unexpected]
        if faults:
            raise CheckpointError(
                f"The weights of {label!r} do not fit {model}:{bullets(faults)}"
                + (f"\nIf that is meant, {', and '.join(hints)}." if hints else "")
                + (_list_unused(report) if not self.strict else "")
            )

    def _unexplained(self, report: LoadReport, prefix: str, file_keys: Iterable[str]) -> list[str]:
        """Leave out what the caller allows, and heads that the file never had a tensor of."""
        missing = [n for n in report.missing if not any(fnmatchcase(n, pattern) for pattern in self.allow_missing)]
        if not self.strict:
            missing = [n for n in missing if not any(re.search(pattern, n) for pattern in self.expected_missing)]
        if self.strict or not prefix or not any(name.startswith(f"{prefix}.") for name in report.assigned):
            return missing
        known = {key.partition(".")[0] for key in file_keys}
        return [n for n in missing if n.startswith(f"{prefix}.") or n.partition(".")[0] in known]


def _list_unused(report: LoadReport) -> str:
    return f"\nIn the file, but not in the model:{bullets(report.unexpected[:40])}" if report.unexpected else ""


def announce(report: LoadReport, *, model: str, label: str, shapes: Mapping[str, Any]) -> None:
    """Say in one table what a load initialised anew and what it left unused; silent where everything fits."""
    new = [*report.missing, *(name for name, _, _ in report.mismatched)]
    rows = [f"new     {name}  {tuple(shapes.get(name) or ())}" for name in new]
    rows += [f"unused  {name}" for name in report.unexpected]
    if rows:
        advice = " What is new is not trained yet." if new else ""
        logger.warning("%s does not take all its weights from %r.%s%s", model, label, advice, bullets(rows))


# Writing ---------------------------------------------------------------------------------------------------------


def parse_size(size: int | str) -> int:
    """Read a size such as `"5GB"` (10⁹) or `"5GiB"` (2³⁰); a number is bytes."""
    if isinstance(size, int):
        return size
    units = (
        {"": 1, "B": 1}
        | {f"{u}B": 1000**n for n, u in enumerate("KMGT", 1)}
        | {f"{u}IB": 1024**n for n, u in enumerate("KMGT", 1)}
    )
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", size)
    if not found or found[2].upper() not in units:
        raise ValueError(f"max_shard_size={size!r} is no size; write it like '5GB', '500MiB', or as a number of bytes.")
    return int(float(found[1]) * units[found[2].upper()])


def plan_shards(sizes: Mapping[str, int], limit: int, *, variant: str | None = None) -> dict[str, list[str]]:
    """Divide tensors among files of at most `limit` bytes, in order; a larger tensor gets a file of its own."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    if len(groups) == 1:
        return {with_variant(WEIGHTS_NAME, variant): groups[0]}
    stem = f"model-{{:05d}}-of-{len(groups):05d}.safetensors"
    return {with_variant(stem.format(number), variant): group for number, group in enumerate(groups, 1)}


def write_weights(
    transaction: Transaction,
    sizes: Mapping[str, int],
    write_file: Callable[[list[str], Path], None],
    *,
    limit: int,
    variant: str | None = None,
) -> None:
    """Stage a model's weights, with an index where they need more than one file, and drop the files of an earlier save.

    Args:
        transaction: the save under way.
        sizes: bytes of every tensor, in the order to write them.
        write_file: writes the tensors of the given names into one safetensors file.
        limit: the most bytes of one file.
        variant: goes into the file names.
    """
    shards = plan_shards(sizes, limit, variant=variant)
    for file, names in shards.items():
        write_file(names, transaction.path(file))
        _share(transaction.path(file))
    if len(shards) > 1:
        weight_map = {name: file for file, names in shards.items() for name in names}
        content = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        transaction.write(with_variant(INDEX_NAME, variant), to_json(content))
    if variant is None:
        transaction.supersede(STALE)


def _share(path: Path) -> None:
    """Give a file the permissions that new files have here; safetensors makes its files for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def read_names(metadata: Mapping[str, str], key: str) -> list[str]:
    """Read a list of names that a save noted in its safetensors metadata; absent means none."""
    with contextlib.suppress(ValueError):
        names = json.loads(metadata.get(key, "[]"))
        if isinstance(names, list):
            return [name for name in names if isinstance(name, str)]
    return []
