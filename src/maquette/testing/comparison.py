"""How two sets of named tensors are compared, whichever framework they are of: numpy reads them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.batch.tensors import framework_of, to_numpy

Tensors = Mapping[str, Any]
# The gap between 1 and the next number, by the ends of the types' names; numpy does not know them all.
STEPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


@dataclass(frozen=True)
class Value:
    """A tensor as it is compared: what its framework calls its type, and its numbers in a type that numpy knows."""

    kind: str
    array: "np.ndarray[Any, Any]"

    @classmethod
    def of(cls, tensor: Any) -> "Value":
        """Read a tensor of any framework."""
        if isinstance(tensor, Value):
            return tensor
        if framework_of(tensor) == "pt" and tensor.is_floating_point() and tensor.element_size() < 4:
            return cls(str(tensor.dtype), to_numpy(tensor.detach().float()))
        array = to_numpy(tensor)
        kind = str(tensor.dtype) if framework_of(tensor) == "pt" else str(array.dtype)
        return cls(kind, array.astype(np.float32) if array.dtype.kind == "V" else array)

    @property
    def inexact(self) -> bool:
        """Tell whether the numbers are ones that computing rounds."""
        return self.array.dtype.kind in "fc"


def same(one: Any, other: Any) -> bool:
    """Tell whether two tensors have the same type, shape and values to the last bit; NaN equals NaN."""
    one, other = Value.of(one), Value.of(other)
    return one.kind == other.kind and np.array_equal(one.array, other.array, equal_nan=one.inexact)


def close(one: Any, other: Any, tolerance: float) -> bool:
    """Tell whether two tensors differ by at most `tolerance` times the largest value of the first."""
    one, other = Value.of(one), Value.of(other)
    if one.array.shape != other.array.shape or not one.inexact:
        return same(one, other)
    finite = np.isfinite(one.array)
    if not np.array_equal(one.array[~finite], other.array[~finite], equal_nan=True):
        return False
    mine, theirs = (value.array[finite].astype(_widest(one)) for value in (one, other))
    return bool((np.abs(mine - theirs) <= tolerance * max(np.abs(mine).max(initial=0.0), 1e-30)).all())


def _widest(value: Value) -> type:
    return np.complex128 if value.array.dtype.kind == "c" else np.float64


def rounding(tensor: Any) -> float:
    """Give the difference that alignment in memory alone can make: the order of a sum's terms depends on it."""
    kind = Value.of(tensor).kind
    step = next((STEPS[name] for name in STEPS if kind.rpartition(".")[2] == name), 0.0)
    return step * (16 if step < STEPS["float16"] else 2)


def contrast(one: Any, other: Any) -> str:
    """Put into words how two tensors differ."""
    one, other = Value.of(one), Value.of(other)
    if one.kind != other.kind:
        return f"{other.kind} instead of {one.kind}"
    if one.array.shape != other.array.shape:
        return f"of shape {other.array.shape} instead of {one.array.shape}"
    gap = np.abs(one.array.astype(_widest(one)) - other.array.astype(_widest(one)))
    return f"different by up to {float(gap.max(initial=0.0)):.3g}"


def compare(expected: Tensors, found: Tensors, tolerance: float | None = None) -> dict[str, str]:
    """Say, name by name, how tensors differ: in nothing, or up to the tolerance (None: up to rounding)."""
    wrong = dict.fromkeys(expected.keys() - found.keys(), "missing")
    wrong |= dict.fromkeys(found.keys() - expected.keys(), "new")
    for name in expected.keys() & found.keys():
        one, other = Value.of(expected[name]), Value.of(found[name])
        allowed = rounding(one) if tolerance is None else tolerance
        if not (close(one, other, allowed) and one.kind == other.kind):
            wrong[name] = contrast(one, other)
    return dict(sorted(wrong.items()))


def example_of(batch: Any, index: int, alone: Any) -> Any:
    """Give one example's part of what a batch gives, along further axes too where it is alone: scores of all pairs."""
    sizes = list(zip(batch.shape, alone.shape, strict=False))
    pairs = [size == len(batch) and single == 1 for size, single in sizes]
    return batch[tuple(slice(index, index + 1) if own else slice(None) for own in [True, *pairs[1:]])]


def in_words(wrong: Mapping[str, str]) -> str:
    """List differences of outputs in one line."""
    return ", ".join(f"{f'`{name}`' if name else 'the output'} is {how}" for name, how in wrong.items())


def list_names(names: Iterable[str]) -> str:
    """Put several names into one line."""
    return " and ".join(f"`{name}`" for name in names)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor of numpy or of any framework."""
    return framework_of(value) is not None


def flatten(value: Any, name: str = "", *, leaf: Callable[[Any], bool] = is_tensor) -> dict[str, Any]:
    """Name every tensor in what a model returns: `logits`, `hidden_states.0`; the empty name for a tensor alone."""
    if leaf(value):
        return {name: value}
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = vars(value).items()
    else:
        return {}
    start = f"{name}." if name else ""
    return {key: tensor for part, item in items for key, tensor in flatten(item, f"{start}{part}", leaf=leaf).items()}
