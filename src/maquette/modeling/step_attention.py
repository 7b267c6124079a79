"""Attention of one new token of each row to those in the cache, on a CPU, where nothing is learnt from it.

What a step of generating spends its time with is not numbers but calls: there are as few here as it takes, and what all
layers share is computed once.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from maquette.generation.cache import KeyValues
from maquette.modeling.layout import Layout

# From so many products of a query with its keys on, a batched product is faster than torch's fused attention, which
# takes them one by one; in float32 only. Measured with 32 to 64 rows of 6 heads.
PRODUCTS = 96


class Step(NamedTuple):
    """Where the rows of a step lie in layers of one capacity and window."""

    slots: slice
    place: int | tuple[Tensor, Tensor]  # of the new tokens: one for all rows, or slots and places in these
    longest: int  # how many places hold tokens of a row
    mask: Tensor | None  # 0 and -inf, (rows, 1, 1, longest)


def attend_in_step(
    q: Tensor, k: Tensor, v: Tensor, memory: KeyValues, layout: Layout, scale: float | None, step: Step
) -> Tensor:
    """Keep the new keys and values, and attend to all; each of `(rows, 1, heads, width)`."""
    if isinstance(step.place, int):
        memory.keys[step.slots, step.place] = k[:, 0]
        memory.values[step.slots, step.place] = v[:, 0]
    else:
        memory.keys.index_put_(step.place, k[:, 0])
        memory.values.index_put_(step.place, v[:, 0])
    rows, _, heads, width = q.shape
    shared, mask = k.shape[2], step.mask
    if rows * heads >= PRODUCTS and q.dtype == torch.float32:
        attended = _attend_at_once(q, memory, layout, scale, step)
    else:  # the queries that share keys, as if they were neighbours
        keys, values = (each[step.slots, : step.longest].transpose(1, 2) for each in (memory.keys, memory.values))
        folded = q.reshape(rows, shared, heads // shared, width)
        if mask is not None and heads != shared:
            mask = mask.expand(-1, -1, heads // shared, -1)
        attended = scaled_dot_product_attention(folded, keys, values, mask, scale=scale)
    return attended.reshape(rows, 1, heads, attended.shape[-1])


def _attend_at_once(q: Tensor, memory: KeyValues, layout: Layout, scale: float | None, step: Step) -> Tensor:
    """Give `(rows · key heads, queries that share keys, width)`."""
    rows, _, queries, width = q.shape
    heads = memory.keys.shape[2]
    held = (each.transpose(1, 2)[step.slots].flatten(0, 1)[:, : step.longest] for each in (memory.keys, memory.values))
    keys, values = held
    if step.mask is None:
        mask, weight = q.new_empty(1, 1, 1), 0
    else:
        hidden = step.mask
        expand: Callable[[], Tensor] = lambda: hidden.expand(-1, heads, -1, -1).flatten(0, 1)  # noqa: E731
        mask, weight = layout.once(("heads", heads, step.longest, id(hidden)), expand), 1
    scores = torch.baddbmm(
        mask,
        q.reshape(rows * heads, queries // heads, width),
        keys.transpose(1, 2),
        beta=weight,
        alpha=width**-0.5 if scale is None else scale,
    )
    return torch.bmm(scores.softmax(-1), values)
