"""A model's parameters by module, with modules that are alike, such as the blocks of a stack, told once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from maquette.training.report.run_record import Parameter

Placed = tuple[list[str], Parameter]  # what is left of its name, and the parameter


@dataclass(frozen=True)
class Branch:
    """A module with what is in it, or one parameter.

    Args:
        name: its own part of the name; of several that are alike, the first and the last.
        count: how many numbers are in it, in all that are alike.
        trainable: how many of these are trained.
        branches: what is in it; of several that are alike, what is in one of them.
        parameter: where it is one.
        alike: how many modules this stands for.
    """

    name: str
    count: int
    trainable: int
    branches: tuple["Branch", ...] = ()
    parameter: Parameter | None = None
    alike: int = 1

    @property
    def build(self) -> tuple[Any, ...]:
        """What two modules have in common that are alike."""
        own = replace(self.parameter, name="") if self.parameter else None
        return own, self.alike, tuple((branch.name, branch.build) for branch in self.branches)


def grow(parameters: Iterable[Parameter]) -> Branch:
    """Sort parameters, such as `describe_parameters` lists, into the modules that their names tell."""
    return _module("", [(parameter.name.split("."), parameter) for parameter in parameters])


def _module(name: str, inside: Iterable[Placed]) -> Branch:
    groups: dict[str, list[Placed]] = {}
    for (first, *rest), parameter in inside:
        groups.setdefault(first, []).append((rest, parameter))
    branches = tuple(_join_alike([branch for first, members in groups.items() for branch in _part(first, members)]))
    count, trainable = (sum(getattr(branch, name) for branch in branches) for name in ("count", "trainable"))
    return Branch(name, count, trainable, branches)


def _part(name: str, members: Iterable[Placed]) -> Iterator[Branch]:
    """Make what has one name: a parameter, or a module; a module's only child is told with it."""
    inside = []
    for path, parameter in members:
        if path:
            inside.append((path, parameter))
        else:
            yield Branch(name, parameter.count, parameter.count * parameter.trainable, parameter=parameter)
    if inside:
        module = _module(name, inside)
        only = module.branches[0] if len(module.branches) == 1 else None
        yield replace(only, name=f"{name}.{only.name}") if only and not only.parameter else module


def _join_alike(branches: Sequence[Branch]) -> Iterator[Branch]:
    """Tell modules once that are numbered one after the other, and alike in all that is in them."""
    for _, group in groupby(enumerate(branches), key=_likeness):
        (_, first), *others = group
        if not others:
            yield first
            continue
        alike = [first, *(branch for _, branch in others)]
        start, _, tail = first.name.partition(".")
        end = alike[-1].name.partition(".")[0]
        yield replace(
            first,
            name=f"{start} – {end}{'.' * bool(tail)}{tail}",
            count=first.count * len(alike),
            trainable=first.trainable * len(alike),
            alike=len(alike),
        )


def _likeness(placed: tuple[int, Branch]) -> tuple[Any, ...]:
    place, branch = placed
    number, _, tail = branch.name.partition(".")
    if branch.parameter or branch.alike > 1 or not (number.isascii() and number.isdigit()):
        return (place,)
    return int(number) - place, tail, branch.build
