"""Two arrays, or all that two modules give, compared: in what they differ, and by how much.

What is of the same class in the same framework has to give the same arrays in the same places. Between frameworks, and
between models that different people wrote, three things count as equal: places of padding, which one may leave out and
the other compute along; channels that are the second axis for one and the last for the other; and further arrays that
only one of the two gives.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from maquette.workshop.diff.leaves import Array, Leaves

HUGE = 1e30  # what masks put where nothing is to be seen; as good as infinite


@dataclass(frozen=True)
class Gap:
    """How far two lie apart: `most`, of `scale` at most; or `what` else differs, in words."""

    most: float = 0.0
    scale: float = 0.0
    what: str = ""

    def __bool__(self) -> bool:
        return bool(self.what) or self.most > 0


@dataclass(frozen=True)
class Rules:
    """How strictly two are compared.

    Attributes:
        tolerance: how far numbers may lie apart, as a share of the largest.
        same: whether both are of the same class in the same framework.
        layouts: whether one may have its channels elsewhere.
        masks: which places are no padding, each of (batch, length); the first that fits is taken.
    """

    tolerance: float
    same: bool = True
    layouts: bool = False
    masks: Mapping[str, Array] = field(default_factory=dict)


def compare(mine: Leaves, theirs: Leaves, rules: Rules) -> Gap:
    """Compare all arrays; gives the first gap in their order, of which nothing is larger in words than in numbers."""
    if rules.same and [*mine] != [*theirs]:
        return Gap(what=_say_places(mine, theirs))
    largest = Gap()
    for one, other in pair(mine, theirs):
        gap = compare_arrays(one, other, rules)
        if gap.what:
            return gap
        if gap and (not largest or gap.most > largest.most):
            largest = gap
    return largest


def pair(mine: Leaves, theirs: Leaves) -> Iterator[tuple[Array, Array]]:
    """Put together what has the same name in both; where nothing has, what has the same place."""
    if both := [place for place in mine if place in theirs]:
        yield from ((mine[place], theirs[place]) for place in both)
    else:
        yield from zip(mine.values(), theirs.values(), strict=False)


def _say_places(mine: Leaves, theirs: Leaves) -> str:
    if len(mine) != len(theirs):
        return f"{len(mine)} and {len(theirs)} tensors"
    only = next((one, other) for one, other in zip(mine, theirs, strict=True) if one != other)
    return f"a tensor at {only[0]!r} and one at {only[1]!r}"


def compare_arrays(one: Array, other: Array, rules: Rules) -> Gap:
    """Compare two arrays, in the arrangement in which they lie nearest."""
    gaps = [measure(a, b, rules.tolerance) for a, b in _arrangements(one, other, rules)]
    if not gaps:
        return Gap(what=f"{one.shape} and {other.shape}")
    return min(gaps, key=lambda gap: gap.most)


def _arrangements(one: Array, other: Array, rules: Rules) -> Iterator[tuple[Array, Array]]:
    if not rules.same:
        for mask in rules.masks.values():
            a, b = _real(one, mask), _real(other, mask)
            if a is not None and b is not None and a.shape == b.shape:
                yield a, b
                return
    if one.shape == other.shape:
        yield one, other
    if rules.layouts and one.ndim == other.ndim and one.ndim >= 3:
        if np.moveaxis(other, -1, 1).shape == one.shape:
            yield one, np.moveaxis(other, -1, 1)
        if np.moveaxis(other, 1, -1).shape == one.shape:
            yield one, np.moveaxis(other, 1, -1)


def _real(array: Array, mask: Array) -> Array | None:
    """Give what is no padding as (tokens, …): of (batch, length, …), of what holds that alone, or of attention."""
    count = int(mask.sum())
    if array.shape[:2] == mask.shape:
        return array[mask]
    if array.shape[:1] == (count,):
        return array
    if array.shape[:2] == (1, count):
        return array[0]
    batch, length = mask.shape
    if array.ndim == 4 and (array.shape[0], array.shape[2]) == (batch, length):  # (batch, heads, length, …)
        seen = np.where(mask[:, None, None, :], array, 0) if array.shape[3] == length else array
        return seen.swapaxes(1, 2)[mask]
    return None


def measure(one: Array, other: Array, tolerance: float) -> Gap:
    """Say how far two arrays of one shape lie apart; nothing, where that is within the tolerance.

    Two that are no numbers are equal, and so are two infinities of one sign. Whole numbers have to be the same.
    """
    if not one.size:
        return Gap()
    if one.dtype.kind in "biu" and other.dtype.kind in "biu":
        if np.array_equal(one, other):
            return Gap()
        tolerance = 0.0
    kind = np.complex128 if "c" in one.dtype.kind + other.dtype.kind else np.float64
    a, b = one.astype(kind), other.astype(kind)
    with np.errstate(all="ignore"):
        finite = (np.abs(a) < HUGE) & (np.abs(b) < HUGE)
        apart = np.abs(np.where(finite, a, 0) - np.where(finite, b, 0))
        alike = (np.isnan(a) & np.isnan(b)) | ((np.abs(a) >= HUGE) & (np.abs(b) >= HUGE) & (np.sign(a) == np.sign(b)))
        scale = float(max(np.abs(a[finite]).max(initial=0), np.abs(b[finite]).max(initial=0)))
    most = float("inf") if np.any(~finite & ~alike) else float(apart.max())
    if tolerance == 0.0 and most == 0.0 and not np.array_equal(one, other) and one.dtype.kind in "biu":
        most = 1.0  # whole numbers so large that floating-point numbers do not tell them apart
    return Gap(most, scale) if most > tolerance * scale else Gap(0.0, scale)
