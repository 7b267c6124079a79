"""The parts of a model, of whichever framework: modules, their weights, and what one forward does in them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Shapes = tuple[tuple[int, ...], ...]


@dataclass
class Tally:
    """What happened inside one module, without what happened in the modules in it."""

    flops: Counter[str] = field(default_factory=Counter)  # by kind
    moved: int = 0  # bytes read and written
    kept: int = 0  # bytes that wait for the backward pass
    calls: int = 0
    takes: tuple[tuple[int, ...], ...] = ()  # the shapes of the tensors that came in first
    gives: tuple[tuple[int, ...], ...] = ()
    takes_floats: bool = False


@dataclass(frozen=True)
class Weight:
    """A parameter, or a buffer, of one module.

    Attributes:
        count: how many numbers it has.
        tied_to: where the same parameter was met first; empty where it is here.
        active: how many of its numbers a token goes through.
        kind: "parameter", or "buffer".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    size: int
    active: int
    tied_to: str = ""
    kind: str = "parameter"
    trainable: bool = True


@dataclass(frozen=True)
class Part:
    """A module with all that is in it; `alike` neighbours that differ in their numbers only are one.

    Attributes:
        parameters: how many numbers are in it that are nowhere before it.
        tied: how many more are shared with a part before it.
        active: how many of the parameters a token goes through.
        flops: of one forward.
        moved: bytes that are read and written in one forward.
        kept: bytes that it leaves in memory for the backward pass.
        takes, gives: the shapes of tensors that come in and go out, the first time it is called.
        note: what is not as it seems.
    """

    name: str
    path: str
    kind: str
    weights: tuple[Weight, ...] = ()
    parts: tuple["Part", ...] = ()
    parameters: int = 0
    tied: int = 0
    active: int = 0
    flops: int = 0
    moved: int = 0
    kept: int = 0
    calls: int = 0
    takes: Shapes = ()
    gives: Shapes = ()
    alike: int = 1
    note: str = ""

    @property
    def build(self) -> tuple[Any, ...]:
        """What two parts have in common that are alike."""
        ties = tuple(replace(weight, tied_to=bool(weight.tied_to)) for weight in self.weights)  # type: ignore[arg-type]
        inner = tuple((part.name, part.build) for part in self.parts)
        numbers = (self.parameters, self.tied, self.active, self.flops, self.moved, self.kept, self.calls)
        return self.kind, ties, numbers, self.takes, self.gives, self.alike, self.note, inner

    def walk(self) -> Iterator["Part"]:
        """Go through it and all that is in it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def fold(parts: list[Part]) -> Iterator[Part]:
    """Tell neighbours once that are numbered one after the other and alike in all that is in them."""
    group: list[Part] = []
    for part in parts:
        if group and not (part.name.isdigit() and int(part.name) == int(group[-1].name) + 1 and _alike(part, group[0])):
            yield _joined(group)
            group = []
        if not part.name.isdigit():
            yield part
            continue
        group.append(part)
    if group:
        yield _joined(group)


def _alike(one: Part, other: Part) -> bool:
    return one.build == other.build


def _joined(group: list[Part]) -> Part:
    first, count = group[0], len(group)
    if count == 1:
        return first
    numbers = {
        name: getattr(first, name) * count for name in ("parameters", "tied", "active", "flops", "moved", "kept")
    }
    return replace(first, name=f"{first.name} – {group[-1].name}", alike=count, **numbers)
