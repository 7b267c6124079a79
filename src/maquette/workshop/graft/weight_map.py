"""A map of weights: from which tensors of a checkpoint each one of a model is made, and how. It reads both ways."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maquette.errors import CheckpointError, FileFormatError, MissingFileError, bullets
from maquette.storage.json_files import read_json, to_json

FORMAT = "maquette-graft"
FILE = "graft.json"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """How one tensor of the model is made, in this order.

    Attributes:
        target: its name.
        sources: the names it is made of; several are joined, one after the other, along their first axis.
        shape, source_shapes: of all of these.
        select: the place of an expert in a tensor that holds all of them.
        transpose: whether rows and columns change places: before a part is taken, after parts are joined.
        split: which part of the first axis it is, and the sizes of all parts.
        heads: the parts lie within each of so many heads, or groups of rows, not one after the other.
        rotary: rows of so many heads come in pairs that are turned together, where the model has them half by half.
        confidence: "certain", "likely" or "answered".
        reason: what speaks for it.
    """

    target: str
    sources: tuple[str, ...]
    shape: Shape
    source_shapes: tuple[Shape, ...]
    select: int | None = None
    transpose: bool = False
    split: tuple[int, tuple[int, ...]] | None = None
    heads: int | None = None
    rotary: int | None = None
    confidence: str = "certain"
    reason: str = ""

    def make(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Make the tensor of the model."""
        parts = [tensors[name] for name in self.sources]
        if self.select is not None:
            parts = [part[self.select] for part in parts]
        if len(parts) > 1:
            whole = torch.cat(parts)
            return (whole.mT if self.transpose else whole).reshape(self.shape)
        found = parts[0].mT if self.transpose else parts[0]
        if self.split is not None:
            found = self._take(found)
        if self.rotary is not None:
            found = found.unflatten(0, (self.rotary, -1, 2)).transpose(1, 2).flatten(0, 2)
        return found.reshape(self.shape).contiguous()

    def _take(self, whole: Tensor) -> Tensor:
        assert self.split is not None
        part, sizes = self.split
        if self.heads is None:
            return whole.split(list(sizes))[part]
        each = [size // self.heads for size in sizes]
        return whole.unflatten(0, (self.heads, -1)).split(each, 1)[part].flatten(0, 1)

    @property
    def how(self) -> str:
        """What is done, in a few words."""
        words = ["transposed"] * self.transpose
        if self.select is not None:
            words.append(f"expert {self.select}")
        if self.split is not None:
            words.append(f"part {self.split[0] + 1} of {len(self.split[1])}" + (" of each group" if self.heads else ""))
        if len(self.sources) > 1:
            words.append(f"{len(self.sources)} joined")
        if self.rotary is not None:
            words.append("rotary pairs parted")
        if not words and self.source_shapes[0] != self.shape:
            words.append("reshaped")
        return ", ".join(words) or "as it is"


@dataclass(frozen=True)
class Question:
    """What names and shapes do not tell.

    Attributes:
        name: under which it is answered.
        text: what is not clear, and for which tensors.
        choices: the answers there are.
        targets: the tensors of the model that wait for the answer.
    """

    name: str
    text: str
    choices: tuple[str, ...]
    targets: tuple[str, ...] = ()


@dataclass
class WeightMap:
    """A map from a checkpoint to a model.

    Attributes:
        rules: one for each tensor of the model that has a source.
        questions: what has to be answered first.
        fresh: tensors of the model without a source; they keep what the constructor gave them.
        unused: tensors of the checkpoint that no rule takes.
    """

    rules: list[Rule] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the model's tensors from the checkpoint's.

        Raises:
            CheckpointError: a source is missing, or has another shape than the map was made for.
        """
        self._check(tensors)
        return {rule.target: rule.make(tensors) for rule in self.rules}

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        wrong = []
        for rule in self.rules:
            for name, shape in zip(rule.sources, rule.source_shapes, strict=True):
                if name not in tensors:
                    wrong.append(f"{rule.target} is made of {name}, which the checkpoint does not have")
                elif tuple(tensors[name].shape) != shape:
                    wrong.append(f"{name} has the shape {tuple(tensors[name].shape)}, and the map was made for {shape}")
        if wrong:
            raise CheckpointError(f"The map does not fit the checkpoint:{bullets(dict.fromkeys(wrong))}")

    def reverse(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the checkpoint's tensors from the model's; those that only some parts of are known are left out."""
        by_source: dict[str, list[Rule]] = {}
        for rule in self.rules:
            for name in rule.sources:
                by_source.setdefault(name, []).append(rule)
        found = {}
        for name, rules in by_source.items():
            if (made := _undo(name, rules, tensors)) is not None:
                found[name] = made
        return found

    def fold(self) -> list[tuple[Rule, int]]:
        """Give one rule for all that differ by numbers only, with `{}` for these, and how many there are."""
        groups: dict[tuple[Any, ...], list[Rule]] = {}
        for rule in self.rules:
            sources = tuple(map(_pattern, rule.sources))
            groups.setdefault((_pattern(rule.target), sources, rule.how, rule.confidence), []).append(rule)
        folded = []
        for some in groups.values():
            sources = tuple(_common(names) for names in zip(*(rule.sources for rule in some), strict=True))
            folded.append((replace(some[0], target=_common([r.target for r in some]), sources=sources), len(some)))
        return folded

    # The file ---------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Write it: rules that differ by numbers only are one."""
        groups: dict[str, dict[str, Any]] = {}
        for rule in self.rules:
            plain = {key: value for key, value in asdict(rule).items() if value is not None and value is not False}
            numbers = [_numbers(rule.target), *map(_numbers, rule.sources)]
            plain |= {"target": _pattern(rule.target), "sources": [*map(_pattern, rule.sources)]}
            groups.setdefault(json.dumps(plain), {**plain, "numbers": []})["numbers"].append(numbers)
        return to_json(
            {"format": FORMAT, "version": 1, "rules": [*groups.values()], "fresh": self.fresh, "unused": self.unused}
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "WeightMap":
        """Read a file.

        Raises:
            MissingFileError, FileFormatError: there is none, or it is no map.
        """
        if not Path(path).is_file():
            raise MissingFileError(f"There is no map {str(path)!r}.")
        content = read_json(Path(path), label=str(path))
        if content.get("format") != FORMAT or content.get("version") != 1:
            raise FileFormatError(f"{path} is no map of weights: it has no format {FORMAT!r} of version 1.")
        try:
            rules = [rule for group in content["rules"] for rule in _unfold(group)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FileFormatError(f"{path}: a rule cannot be read: {type(error).__name__}: {error}") from None
        return cls(rules, [], list(content.get("fresh", [])), list(content.get("unused", [])))


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "{}", name)


def _common(names: Sequence[str]) -> str:
    """Put `{}` for the numbers in which names differ."""
    parts = zip(*(re.split(r"(\d+)", name) for name in names), strict=True)
    return "".join(some[0] if len(set(some)) == 1 else "{}" for some in parts)


def _unfold(group: Mapping[str, Any]) -> Iterator[Rule]:
    plain = {key: value for key, value in group.items() if key != "numbers"}
    split = plain.pop("split", None)
    whole = Rule(
        **{
            **plain,
            "sources": tuple(plain["sources"]),
            "shape": tuple(plain["shape"]),
            "source_shapes": tuple(map(tuple, plain["source_shapes"])),
            "split": None if split is None else (int(split[0]), tuple(split[1])),
        }
    )
    for target, *sources in group["numbers"]:
        names = tuple(name.format(*given) for name, given in zip(whole.sources, sources, strict=True))
        yield replace(whole, target=whole.target.format(*target), sources=names)


def _undo(name: str, rules: Sequence[Rule], tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Make one tensor of the checkpoint."""
    first = rules[0]
    if any(rule.target not in tensors for rule in rules):
        return None
    shape = first.source_shapes[first.sources.index(name)]
    if len(first.sources) > 1:
        whole = tensors[first.target].reshape(first.shape)
        whole = whole.mT if first.transpose else whole
        sizes = [each[0] for each in first.source_shapes]
        return whole.split(sizes)[first.sources.index(name)].reshape(shape).contiguous()
    if first.select is None:
        return _join(rules, tensors, shape)
    experts = sorted({rule.select for rule in rules if rule.select is not None})
    if experts != list(range(shape[0])):
        return None
    parts = [_join([rule for rule in rules if rule.select == expert], tensors, shape[1:]) for expert in experts]
    return None if any(part is None for part in parts) else torch.stack([part for part in parts if part is not None])


def _join(rules: Sequence[Rule], tensors: Mapping[str, Tensor], shape: Shape) -> Tensor | None:
    """Put the parts of one tensor together again."""
    first = rules[0]
    tensors = {rule.target: _pair(tensors[rule.target], rule.rotary) for rule in rules}
    if first.split is None:
        whole = tensors[first.target]
        turned = (*shape[:-2], shape[-1], shape[-2]) if first.transpose else shape
        whole = whole.reshape(turned)
        return (whole.mT if first.transpose else whole).contiguous()
    sizes = first.split[1]
    by_part = {rule.split[0]: tensors[rule.target] for rule in rules if rule.split is not None}
    if len(by_part) < len(sizes):
        return None
    tail = (shape[0],) if first.transpose else shape[1:]
    parts = [by_part[part].reshape(size, *tail) for part, size in enumerate(sizes)]
    if first.heads is None:
        whole = torch.cat(parts)
    else:
        whole = torch.cat([part.unflatten(0, (first.heads, -1)) for part in parts], 1).flatten(0, 1)
    return (whole.mT if first.transpose else whole).reshape(shape).contiguous()


def _pair(tensor: Tensor, heads: int | None) -> Tensor:
    """Bring rows that lie half by half into pairs again."""
    return tensor if heads is None else tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
