"""How far apart two ways of computing the same numbers may be, on any processor: the one rule of all numeric tests.

A processor chooses the order in which the terms of a sum are added (the width of its vectors, fused multiply-adds, the
library that torch was built with), and every addition rounds by a step of the type. So what may differ is a number of
steps *at the size of what was summed*, not at the size of the result: a gradient that cancels to nothing is as
uncertain as its terms are. Where the rule would allow so much that a mistake could hide, compare in float64: its steps
are 2**29 times finer.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

# A value passes some ten layers, each a sum of up to some thousands of terms; a gradient passes all of them twice.
# A slip in a formula shows in the second or third digit, thousands of steps further up.
STEPS, STEPS_OF_GRADIENTS = 300, 1000


def bound(summed: Iterable[Any], *, steps: float = STEPS, least: float = 1.0) -> float:
    """Give how far apart two computations may be, in whose sums the largest number is one of these.

    Args:
        summed: tensors of torch, or arrays.
        steps: how many steps of the type to allow.
        least: the size of what was summed at least: states are normalised to about one, gradients are not (zero).
    """
    arrays = [as_array(each) for each in summed]
    size = max([least, *(np.abs(each[np.abs(each) < 1e30]).max(initial=0.0) for each in arrays)])
    return float(steps * max(np.finfo(each.dtype).eps for each in arrays) * size)


def assert_near(
    found: Any, expected: Any, what: str = "", *, among: Iterable[Any] = (), steps: float = STEPS, least: float = 1.0
) -> None:
    """Require the same shape and type, and values no further apart than rounding can bring them.

    Args:
        found: a tensor of torch, or an array.
        expected: another.
        what: what they are, for the message.
        among: what else was summed: all gradients of the loss, for one of them.
        steps: as `bound` takes them.
        least: as `bound` takes it.
    """
    one, other = as_array(found), as_array(expected)
    assert one.shape == other.shape and one.dtype == other.dtype, (what, one.shape, other.shape, one.dtype, other.dtype)
    if one.dtype.kind not in "fc":
        np.testing.assert_array_equal(one, other, err_msg=what)
        return
    limit = bound([other, *among], steps=steps, least=least)
    np.testing.assert_allclose(one, other, rtol=0, atol=limit, err_msg=what, equal_nan=False)


def as_array(value: Any) -> "np.ndarray[Any, Any]":
    """Read a tensor of torch, or an array."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)
