"""The weights of two checkpoints: names, shapes and types from headers, and values where both lie here."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maquette.checkpoint import Checkpoint
from maquette.workshop.xray.files import Weights


@dataclass(frozen=True)
class Apart:
    """How far two tensors of one name lie apart.

    Attributes:
        most: the largest difference of two numbers.
        share: the norm of the difference by the norm of the first; infinite where that is all zeros.
    """

    name: str
    most: float
    share: float


@dataclass
class WeightDifference:
    """In what the weights of two checkpoints differ; `compared` counts the tensors whose values were looked at."""

    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)
    apart: list[Apart] = field(default_factory=list)
    compared: int = 0

    @property
    def differs(self) -> bool:
        return bool(self.only_first or self.only_second or self.shapes or self.types or self.apart)


def compare_headers(one: Weights, other: Weights) -> WeightDifference:
    """Compare names, shapes and types."""
    mine, theirs = one.tensors, other.tensors
    both = [name for name in mine if name in theirs]
    return WeightDifference(
        sorted(mine.keys() - theirs.keys()),
        sorted(theirs.keys() - mine.keys()),
        {name: (mine[name].shape, theirs[name].shape) for name in both if mine[name].shape != theirs[name].shape},
        {name: (mine[name].dtype, theirs[name].dtype) for name in both if mine[name].dtype != theirs[name].dtype},
    )


def compare_values(found: WeightDifference, one: Checkpoint, other: Checkpoint) -> None:
    """Compare the values of what has the same name and shape, one tensor after the other."""
    for name in sorted(one.shapes.keys() & other.shapes.keys()):
        if one.shapes[name] != other.shapes[name]:
            continue
        mine, theirs = (side.tensors([name], framework="pt")[name] for side in (one, other))
        found.compared += 1
        if (apart := _measure(name, mine, theirs)) is not None:
            found.apart.append(apart)


def _measure(name: str, mine: Tensor, theirs: Tensor) -> Apart | None:
    """Say how far two tensors of one shape lie apart; None where all their numbers are equal, NaN in one place too."""
    if mine.dtype == theirs.dtype and torch.equal(mine, theirs):
        return None
    whole = not any(each.is_floating_point() or each.is_complex() for each in (mine, theirs))
    if whole:  # integers may be larger than floating-point numbers tell apart
        unequal = mine.long() != theirs.long()
    kind = torch.complex128 if mine.is_complex() or theirs.is_complex() else torch.float64
    a, b = mine.to(kind), theirs.to(kind)
    if not whole:
        unequal = (a != b) & ~(a.isnan() & b.isnan())
    if not bool(unequal.any()):
        return None
    difference = (a - b).abs().masked_fill(~unequal, 0.0)
    if not bool(difference.isfinite().all()):
        return Apart(name, math.inf, math.inf)
    norm = float(a[a.isfinite()].abs().norm())
    return Apart(name, max(float(difference.max()), 1.0 * whole), float(difference.norm()) / norm if norm else math.inf)
