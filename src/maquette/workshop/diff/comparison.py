"""Two arrays, or all that two modules give, compared: in what they differ, and by how much.

What is of the same class in the same framework has to give the same arrays in the same places. Between frameworks, and
between models that different people wrote, three things count as equal: places of padding, which one may leave out and
the other compute along; channels that are the second axis for one and the last for the other; and further arrays that
only one of the two gives.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from maquette.workshop.diff.leaves import Array, Leaves

HUGE = 1e30  # what masks put where nothing is to be seen; as good as infinite


@dataclass(frozen=True)
class Gap:
    """How far two lie apart: `most`, of `scale` at most; or `what` else differs, in words.

    `unlike`: they are arranged in ways that do not compare, and nothing is said of their numbers.
    """

    most: float = 0.0
    scale: float = 0.0
    what: str = ""
    unlike: bool = False

    def __bool__(self) -> bool:
        return bool(self.what) or self.most > 0


@dataclass(frozen=True)
class Rules:
    """How strictly two are compared.

    Attributes:
        tolerance: how far numbers may lie apart, as a share of the largest.
        same: whether both are of the same class in the same framework.
        layouts: whether one may have its channels elsewhere.
        whole: whether it is what two whole models give.
        masks: which places are no padding, each of (batch, length).
    """

    tolerance: float
    same: bool = True
    layouts: bool = False
    whole: bool = False
    masks: Mapping[str, Array] = field(default_factory=dict)


def compare(mine: Leaves, theirs: Leaves, rules: Rules) -> Gap:
    """Compare all arrays; gives the first other shape, or the largest difference."""
    if rules.same and [*mine] != [*theirs]:
        return Gap(what=_say_places(mine, theirs))
    if not rules.same and min(len(mine), len(theirs)) == 1 < max(len(mine), len(theirs)):
        return _find_among(mine, theirs, rules)
    largest = Gap()
    for one, other in pair(mine, theirs, whole=rules.whole):
        gap = compare_arrays(one, other, rules)
        if gap.what and not rules.same and not rules.whole and (len(mine) > 1 or one.shape[-1:] == other.shape[-1:]):
            largest = largest or Gap(unlike=True)  # what people hand on, they arrange as they like
            continue
        if gap.what:
            return gap
        if gap and (not largest or gap.most > largest.most):
            largest = gap
    return largest


def _find_among(mine: Leaves, theirs: Leaves, rules: Rules) -> Gap:
    """Compare one array with the nearest of several, as one gives its states and another what it saw besides."""
    gaps = [compare_arrays(one, other, rules) for one in mine.values() for other in theirs.values()]
    return min((gap for gap in gaps if not gap.what), key=lambda gap: gap.most, default=Gap(unlike=True))


def pair(mine: Leaves, theirs: Leaves, *, whole: bool) -> Iterator[tuple[Array, Array]]:
    """Put together what has the same place in both; where places differ, those with names alone are sure.

    Of what whole models give something has to be compared, so there the order counts where nothing else does.
    """
    alike = mine.keys() == theirs.keys()
    if both := [place for place in mine if place in theirs and (alike or not place[:1].isdigit())]:
        yield from ((mine[place], theirs[place]) for place in both)
    elif len(mine) == len(theirs) == 1 or whole:
        yield from zip(mine.values(), theirs.values(), strict=False)


def _say_places(mine: Leaves, theirs: Leaves) -> str:
    if len(mine) != len(theirs):
        return f"{len(mine)} and {len(theirs)} tensors"
    only = next((one, other) for one, other in zip(mine, theirs, strict=True) if one != other)
    return f"a tensor at {only[0]!r} and one at {only[1]!r}"


def compare_arrays(one: Array, other: Array, rules: Rules) -> Gap:
    """Compare two arrays, in the arrangement in which they lie nearest."""
    nearest = Gap(what=f"{one.shape} and {other.shape}")
    for a, b in _arrangements(one, other, rules):
        gap = measure(a, b, rules.tolerance)
        if not gap:
            return gap
        if nearest.what or gap.most < nearest.most:
            nearest = gap
    return nearest


def _arrangements(one: Array, other: Array, rules: Rules) -> Iterator[tuple[Array, Array]]:
    if one.shape == other.shape:
        yield one, other
    if rules.same:
        return
    for mask in rules.masks.values():
        for a, b in itertools.product(_real(one, mask), _real(other, mask)):
            if a.shape == b.shape:
                yield a, b
    if one.shape != other.shape and _core(one) == _core(other):
        yield one.reshape(_core(one)), other.reshape(_core(one))
    if rules.layouts and one.ndim == other.ndim and one.ndim >= 3:
        if np.moveaxis(other, -1, 1).shape == one.shape:
            yield one, np.moveaxis(other, -1, 1)
        if np.moveaxis(other, 1, -1).shape == one.shape:
            yield one, np.moveaxis(other, 1, -1)


def _core(array: Array) -> tuple[int, ...]:
    """Give a shape without axes of one."""
    return tuple(size for size in array.shape if size != 1)


def _real(array: Array, mask: Array) -> Iterator[Array]:
    """Give what is no padding as (tokens, …), for all that the axes of an array may be."""
    count, (batch, length) = int(mask.sum()), mask.shape
    shape = array.shape
    if shape[:2] == (batch, length):
        yield array[mask]
        yield array[np.arange(batch), mask.argmax(1)]  # of each row the first, which is all that some heads need
    if shape[:1] == (count,):  # packed: rows one after the other, or the shorter ones first
        rows = mask.sum(1).argsort(kind="stable")
        ranks, places = mask[rows].nonzero()
        yield array
        yield array[(rows[ranks] * length + places).argsort()]
    if shape[:2] == (1, count):
        yield array[0]
    if shape[:2] == (1, length) and batch > 1:  # the same for every row, as of positions
        yield np.broadcast_to(array, (batch, *shape[1:]))[mask]
    if shape[:1] == (length,):
        yield np.broadcast_to(array, (batch, *shape))[mask]
    if shape[:1] == (batch,) and (array.ndim == 2 or shape[1:2] == (1,)):  # one place of each row, in either order
        firsts = array if array.ndim == 2 else array[:, 0]
        yield firsts
        yield firsts[mask.sum(1).argsort(kind="stable").argsort()]
    if len(shape) == 4 and (shape[0], shape[2]) == (batch, length):  # (batch, heads, length, …)
        seen = np.where(mask[:, None, None, :], array, 0) if shape[3] == length else array
        yield seen.swapaxes(1, 2)[mask]


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
