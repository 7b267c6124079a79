"""`diff`: two models compared, part by part."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

import maquette
from maquette.checkpoint import Checkpoint
from maquette.configuration import read_config_file
from maquette.errors import FileFormatError, InputError, MaquetteError, MissingFileError, UntrustedCodeError
from maquette.hub.sources import LocalFolder, Source, open_source
from maquette.storage.json_files import read_json
from maquette.storage.paths import user_path
from maquette.workshop.conversion import WEIGHTS
from maquette.workshop.diff.outputs import Divergence, compare_records
from maquette.workshop.diff.running import choose_frameworks, run_target
from maquette.workshop.diff.tokenizers import FILES, compare_tokenizers
from maquette.workshop.diff.weights import WeightDifference, compare_headers, compare_values
from maquette.workshop.xray.files import Weights, read_weights

ABSENT = "(absent)"
# What says where a file comes from, and not what the model is.
UNSAID = frozenset(("maquette_version", "transformers_version", "_name_or_path", "_commit_hash", "_from_model_config"))
FURTHER = ("generation_config.json", "preprocessor_config.json", "processor_config.json")  # files with settings


@dataclass
class Difference:
    """In what two models differ; what is empty is equal, what was not looked at is in `notes`.

    Attributes:
        first, second: what was compared.
        configuration: fields by name, nested ones with dots, and both values.
        code: Python files, and what they have of each other's lines.
        weights: None where one of the two has none.
        tokenizers: what differs there, in words.
        outputs: where an input was given.
        notes: what could not be seen, and why.
    """

    first: str
    second: str
    configuration: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    weights: WeightDifference | None = None
    tokenizers: list[str] = field(default_factory=list)
    outputs: Divergence | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether any difference was found."""
        outputs = self.outputs is not None and self.outputs.first is not None
        return bool(self.configuration or self.code or self.tokenizers or outputs) or (
            self.weights is not None and self.weights.differs
        )

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, as `--json` writes it."""
        return asdict(self) | {"differs": self.differs}


def diff(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    *,
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    tolerance: float = 1e-5,
    frameworks: Sequence[str] | None = None,
    peer_python: str | os.PathLike[str] | None = None,
    trust_remote_code: bool | str | None = None,
) -> Difference:
    """Compare two models: configurations, code, weights, tokenizers, and what they compute.

    No code that comes with them runs unless it is trusted. On the Hub, weights are compared by their headers.

    Args:
        one, other: folders or repositories.
        inputs: of one call, or a file that has them (JSON, or safetensors): both models are loaded and run.
        tolerance: how far outputs may lie apart, as a share of the largest number.
        frameworks: in which each of the two runs: "torch", "keras", "flax", or "transformers". Unless given, the one
            that its configuration names, and Transformers for the second where there is an interpreter for it.
        peer_python: an interpreter that has Transformers, which runs its model in a process of its own.
        trust_remote_code: True runs the code that comes with them, for configurations, tokenizers and outputs.

    Raises:
        MissingFileError: there is no such folder or repository, or no such file of inputs.
        InputError: one of the two is no model; the inputs are none, or a model does not take them.
        MissingPackageError: a framework is not installed.
    """
    given = read_inputs(inputs) if isinstance(inputs, str | os.PathLike) else inputs
    sides = choose_frameworks(frameworks, peer_python)
    if given is None and sides != (None, None):
        raise InputError("Frameworks are compared by what models compute: give inputs, --input FILE.")
    with open_source(one) as mine, open_source(other) as theirs:
        found = Difference(mine.label, theirs.label)
        for source in (mine, theirs):
            _require_model(source)
        found.configuration = _compare_configurations(mine, theirs, trust_remote_code, found.notes)
        found.code = _compare_code(mine, theirs)
        found.weights = _compare_weights(mine, theirs, found.notes)
        found.tokenizers = compare_tokenizers(mine, theirs, trust_remote_code, found.notes)
        if given is not None:
            try:
                records = [
                    run_target(name, side, given, trust_remote_code=trust_remote_code, peer_python=peer_python)
                    for name, side in zip((mine.label, theirs.label), sides, strict=True)
                ]
            except UntrustedCodeError as error:
                found.notes.append(f"Outputs were not compared, as none of the models' code ran: {error}")
            else:
                found.outputs = compare_records(*records, tolerance=tolerance)
    return found


def _require_model(source: Source) -> None:
    """Refuse what holds nothing that is compared: two such would be equal."""
    names = source.names()
    told = {"config.json", *FURTHER, *FILES, source.config_name}
    if not any(name in told or WEIGHTS.match(name) or name.endswith(".py") for name in names):
        there = f"It holds: {', '.join(map(repr, names[:8]))}." if names else "It holds no files at all."
        raise InputError(
            f"{source.label!r} is no model: no configuration, weights, tokenizer or code is in it. {there}{source.note}"
        )


def read_inputs(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read inputs from a file, as numpy arrays: safetensors, or JSON with lists of numbers by name.

    Raises:
        MissingFileError, FileFormatError: there is none, or it holds something else.
        InputError: an input is no list of numbers.
    """
    place = user_path(path)
    if not place.is_file():
        raise MissingFileError(f"There is no file {str(path)!r} with inputs.")
    if place.suffix == ".safetensors":
        try:
            stored: dict[str, Any] = load_file(place)
        except Exception as error:
            raise FileFormatError(f"{str(path)!r} cannot be read: {error}") from None
        return stored
    found = {}
    for name, value in read_json(place, label=str(path)).items():
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{str(path)!r}: {name!r} is no number, and no lists of numbers of one length.")
        found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    if not found:
        raise InputError(f"{str(path)!r} has no inputs: lists of numbers by name belong there.")
    return found


# Configurations and code -----------------------------------------------------------------------------------------


def _compare_configurations(
    one: Source, other: Source, trust: bool | str | None, notes: list[str]
) -> dict[str, tuple[Any, Any]]:
    """Compare all fields, defaults too, where both classes are known and their code may run; else what files say."""
    has = [source.find(source.config_name) is not None for source in (one, other)]
    found: dict[str, tuple[Any, Any]] = {}
    if has == [True, True]:
        contents = [read_config_file(source)[0] for source in (one, other)]
        auto: Any = maquette.AutoConfig
        try:
            whole = [auto.from_pretrained(source.label, trust_remote_code=trust) for source in (one, other)]
            contents = [config.to_dict() for config in whole]
        except UntrustedCodeError:
            notes.append("Fields that configurations leave at their defaults were not compared: code tells them.")
        except MaquetteError as error:
            notes.append(f"Fields that configurations leave at their defaults were not compared: {error}")
        found = _compare_fields(*contents)
    elif any(has):
        found = {one.config_name: tuple("(there)" if each else ABSENT for each in has)}  # type: ignore[dict-item]
    for name in FURTHER:
        paths = [source.find(name) for source in (one, other)]
        if any(paths):
            mine, theirs = ({} if path is None else read_json(path, label=name) for path in paths)
            start = name.removesuffix(".json")
            found |= {f"{start}.{key}": values for key, values in _compare_fields(mine, theirs).items()}
    return found


def _compare_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    mine, theirs = _flatten(one, ""), _flatten(other, "")
    return {
        name: (mine.get(name, ABSENT), theirs.get(name, ABSENT))
        for name in [*mine, *(name for name in theirs if name not in mine)]
        if _plain(mine.get(name, ABSENT)) != _plain(theirs.get(name, ABSENT)) and name.rpartition(".")[2] not in UNSAID
    }


def _flatten(value: Mapping[str, Any], start: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= _flatten(inner, f"{start}{name}.")
        else:
            found[start + str(name)] = inner
    return found


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _compare_code(one: Source, other: Source) -> dict[str, str]:
    mine, theirs = (_read_code(source) for source in (one, other))
    found = {}
    for name in sorted({*mine, *theirs}):
        a, b = mine.get(name), theirs.get(name)
        if a is None or b is None:
            found[name] = "only in the second" if a is None else "only in the first"
        elif a != b:
            lines = list(difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm="", n=0))[2:]
            more, less = (sum(line.startswith(sign) for line in lines) for sign in "+-")
            found[name] = f"{less} lines are {more} others in the second" if lines else "other ends of lines"
    return found


def _read_code(source: Source) -> dict[str, str]:
    names = [name for name in source.names() if name.endswith(".py")]
    return {name: path.read_text(encoding="utf-8", errors="replace") for name in names if (path := source.find(name))}


# Weights ---------------------------------------------------------------------------------------------------------


def _compare_weights(one: Source, other: Source, notes: list[str]) -> WeightDifference | None:
    sides = []
    for source in (one, other):
        weights = read_weights(source)
        sides.append(weights)
        if weights is None and (unread := [name for name in source.names() if WEIGHTS.match(name)]):
            notes.append(f"{source.label} has no weights in safetensors, but {', '.join(unread)}: maquette convert.")
        elif weights is not None and not weights.files:
            pickled = ", ".join(weights.pickled)
            notes.append(f"{source.label} has no weights in safetensors. It has {pickled}, which only code can read.")
        elif weights is None:
            notes.append(f"{source.label} has no weights.")
            sides[-1] = Weights()
    mine, theirs = sides
    if mine is None or theirs is None or any(each.pickled and not each.files for each in (mine, theirs)):
        return None
    if not mine.files and not theirs.files:
        return None
    found = compare_headers(mine, theirs)
    if isinstance(one, LocalFolder) and isinstance(other, LocalFolder):
        compare_values(found, _open(one, mine), _open(other, theirs))
    else:
        notes.append("The values of weights were not compared, as they would have to be fetched: headers only.")
    return found


def _open(source: LocalFolder, weights: Weights) -> Checkpoint:
    paths: dict[Path, None] = {path: None for name in weights.files if (path := source.find(name))}
    return Checkpoint(paths, source.label)
