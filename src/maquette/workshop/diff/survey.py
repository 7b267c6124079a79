"""`diff`: two models compared, part by part."""

import contextlib
import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import maquette
from maquette.checkpoint import Checkpoint
from maquette.configuration import read_config_file
from maquette.errors import FileFormatError, InputError, MaquetteError, MissingFileError, UntrustedCodeError
from maquette.hub.sources import LocalFolder, Source, open_source
from maquette.storage.json_files import read_json
from maquette.storage.paths import user_path
from maquette.workshop.diff.outputs import Divergence, find_divergence
from maquette.workshop.diff.weights import WeightDifference, compare_headers, compare_values
from maquette.workshop.targets import open_target
from maquette.workshop.xray.files import Weights, read_weights

TEXTS = (
    "Hello, world!",
    "The quick brown fox jumps over 13 lazy dogs.",
    "naïve café, 東京, 🙂",
    "  two  spaces\nx = {1: 'a'}",
)
ABSENT = "(absent)"
UNSAID = ("_version", "_name_or_path")  # what says where a file comes from, and not what the model is


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
    inputs: Mapping[str, Tensor] | str | os.PathLike[str] | None = None,
    tolerance: float = 1e-5,
    trust_remote_code: bool | str | None = None,
) -> Difference:
    """Compare two models: configurations, code, weights, tokenizers, and what they compute.

    No code that comes with them runs unless it is trusted. On the Hub, weights are compared by their headers.

    Args:
        one, other: folders or repositories.
        inputs: of one call, or a file that has them (JSON, or safetensors): both models are loaded and run.
        tolerance: how far outputs may lie apart, as a share of the largest number.
        trust_remote_code: True runs the code that comes with them, for tokenizers and outputs.

    Raises:
        MissingFileError: there is no such folder or repository, or no such file of inputs.
        InputError: the inputs are none, or a model does not take them.
    """
    with open_source(one) as mine, open_source(other) as theirs:
        found = Difference(mine.label, theirs.label)
        found.configuration = _compare_configurations(mine, theirs, found.notes)
        found.code = _compare_code(mine, theirs)
        found.weights = _compare_weights(mine, theirs, found.notes)
        found.tokenizers = _compare_tokenizers(mine, theirs, trust_remote_code, found.notes)
        if inputs is not None:
            given = inputs if isinstance(inputs, Mapping) else read_inputs(inputs)
            models = [
                open_target(source.label, trust_remote_code=trust_remote_code).load() for source in (mine, theirs)
            ]
            found.outputs = find_divergence(models[0], models[1], given, tolerance=tolerance)
    return found


def read_inputs(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read inputs from a file: safetensors, or JSON with lists of numbers by name.

    Raises:
        MissingFileError, FileFormatError: there is none, or it holds something else.
    """
    place = user_path(path)
    if not place.is_file():
        raise MissingFileError(f"There is no file {str(path)!r} with inputs.")
    if place.suffix == ".safetensors":
        try:
            stored: dict[str, Tensor] = load_file(place)
            return stored
        except Exception as error:
            raise FileFormatError(f"{str(path)!r} cannot be read: {error}") from None
    content = read_json(place, label=str(path))
    try:
        return {name: torch.tensor(value) for name, value in content.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{str(path)!r}: inputs are lists of numbers by name: {error}") from None


# Configurations and code -----------------------------------------------------------------------------------------


def _compare_configurations(one: Source, other: Source, notes: list[str]) -> dict[str, tuple[Any, Any]]:
    """Compare all fields, defaults too, where both classes are known and no code has to run; else what files say."""
    try:
        contents = [read_config_file(source)[0] for source in (one, other)]
    except MissingFileError as error:
        notes.append(f"Configurations were not compared: {error}")
        return {}
    if not any(content.get("auto_map") for content in contents):
        with contextlib.suppress(MaquetteError):
            contents = [maquette.AutoConfig.from_pretrained(source.label).to_dict() for source in (one, other)]
    mine, theirs = (_flatten(content, "") for content in contents)
    return {
        name: (mine.get(name, ABSENT), theirs.get(name, ABSENT))
        for name in [*mine, *(name for name in theirs if name not in mine)]
        if _plain(mine.get(name, ABSENT)) != _plain(theirs.get(name, ABSENT)) and not name.endswith(UNSAID)
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
            found[name] = f"{less} lines are {more} others in the second"
    return found


def _read_code(source: Source) -> dict[str, str]:
    names = [name for name in source.names() if name.endswith(".py")]
    return {name: path.read_text(encoding="utf-8", errors="replace") for name in names if (path := source.find(name))}


# Weights ---------------------------------------------------------------------------------------------------------


def _compare_weights(one: Source, other: Source, notes: list[str]) -> WeightDifference | None:
    mine, theirs = read_weights(one), read_weights(other)
    for source, weights in ((one, mine), (other, theirs)):
        if weights is None or not weights.files:
            pickled = f" It has {', '.join(weights.pickled)}, which only code can read." if weights else ""
            notes.append(f"{source.label} has no weights in safetensors.{pickled}")
    if mine is None or theirs is None or not mine.files or not theirs.files:
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


# Tokenizers ------------------------------------------------------------------------------------------------------


def _compare_tokenizers(one: Source, other: Source, trust: bool | str | None, notes: list[str]) -> list[str]:
    has = [
        any(name in source.names() for name in ("tokenizer.json", "tokenizer_config.json")) for source in (one, other)
    ]
    if has == [False, False]:
        return []
    if not all(has):
        return [f"Only the {'first' if has[0] else 'second'} has a tokenizer."]
    try:
        auto: Any = maquette.AutoTokenizer
        mine, theirs = (auto.from_pretrained(source.label, trust_remote_code=trust) for source in (one, other))
    except UntrustedCodeError as error:
        notes.append(f"Tokenizers were not compared, as none of their code ran: {error}")
        return []
    except MaquetteError as error:
        notes.append(f"Tokenizers were not compared: {error}")
        return []
    return [*_compare_specials(mine, theirs), *_compare_vocabularies(mine, theirs), *_compare_ids(mine, theirs)]


def _compare_specials(mine: Any, theirs: Any) -> list[str]:
    one, other = mine.special_tokens_map, theirs.special_tokens_map
    names = [*one, *(name for name in other if name not in one)]
    return [f"{n}: {one.get(n)!r} and {other.get(n)!r}" for n in names if str(one.get(n)) != str(other.get(n))]


def _compare_vocabularies(mine: Any, theirs: Any) -> list[str]:
    one, other = mine.get_vocab(), theirs.get_vocab()
    found = []
    for name, extra in (("first", one.keys() - other.keys()), ("second", other.keys() - one.keys())):
        if extra:
            shown = ", ".join(map(repr, sorted(extra)[:5]))
            found.append(f"{len(extra):,} tokens are in the {name} only: {shown}{', …' if len(extra) > 5 else ''}")
    if moved := [token for token in one if token in other and one[token] != other[token]]:
        token = min(moved, key=lambda each: int(one[each]))
        found.append(f"{len(moved):,} tokens have other ids, {token!r} for one: {one[token]} and {other[token]}")
    return found


def _compare_ids(mine: Any, theirs: Any) -> list[str]:
    found = []
    for text in TEXTS:
        one, other = (list(tokenizer(text)["input_ids"]) for tokenizer in (mine, theirs))
        if one != other:
            pairs = enumerate(zip(one, other, strict=False))
            place = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
            ends = f"{len(one)} and {len(other)} tokens, other ones from place {place} on"
            found.append(f"{text!r} has other ids: {ends}")
    return found
