"""States and attention of each step, as `generate` gives them on request: rows end with their newest token.

So a step's states are `(rows, new tokens, dim)` and its attention is `(rows, heads, new tokens, tokens so far)`, with
zeros on the left where a row has fewer of either.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NAMES = ("hidden_states", "attentions")
CROSS = "cross_attentions"  # to what an encoder read, given with "attentions"
KEPT = (*NAMES, CROSS)


def name_states(output: Any, prefix: str) -> None:
    """Give a decoder's states, where there is an encoder too, the names that decoders alone have for them."""
    if prefix:
        for name in NAMES:
            output[name] = output.get(prefix + name)


def align_attentions(weights: Tensor, lengths: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Let the keys of each row end with its newest token.

    Args:
        weights: `(rows, heads, queries, places)`. In a batch of new rows, queries and places are padded on the left;
            otherwise places are as a cache holds them, the token at position p at p modulo their number.
        lengths: how many tokens each row has, the new ones included.
        counts: how many are new.
    """
    queries, places = weights.shape[-2:]
    new = torch.tensor(counts, device=weights.device)[:, None]
    weights = weights * (torch.arange(queries, device=weights.device) >= queries - new)[:, None, :, None]
    if list(lengths) == list(counts):
        return weights
    width = max(lengths)
    ends = torch.tensor(lengths, device=weights.device)[:, None]
    positions = torch.arange(width, device=weights.device) - width + ends  # (rows, width)
    is_held = (positions >= 0) & (positions >= ends - places)
    index = (positions % places)[:, None, None].expand(*weights.shape[:-1], width)
    return weights.gather(-1, index) * is_held[:, None, None]


def align_cross(weights: Tensor, counts: Sequence[int], mask: Tensor | None) -> Tensor:
    """Let the keys be the places of the encoder's input, `(rows, heads, queries, places)`; zeros at padding.

    Args:
        weights: `(rows, heads, queries, keys)`, queries padded on the left.
        counts: how many of the queries are a row's.
        mask: `(rows, places)`, where keys are the real tokens of each row; None where they are places already.
    """
    queries = weights.shape[-2]
    new = torch.tensor(counts, device=weights.device)[:, None]
    weights = weights * (torch.arange(queries, device=weights.device) >= queries - new)[:, None, :, None]
    if mask is None:
        return weights
    real = mask.to(weights.device, torch.bool)
    index = (real.cumsum(1) - 1).clamp(min=0)[:, None, None].expand(*weights.shape[:-1], real.shape[1])
    return weights.gather(-1, index) * real[:, None, None]


def pick_row(output: Any, row: int, count: int) -> dict[str, list[Tensor]]:
    """Give what belongs to the last tokens of a row of a batch."""
    return {
        name: [layer[row][..., -count:, :] if count else layer[row][..., :0, :] for layer in output[name]]
        for name in KEPT
        if output.get(name) is not None
    }


def join_rows(rows: Sequence[dict[str, list[Tensor]] | None]) -> dict[str, tuple[Tensor, ...]]:
    """Put rows side by side; None for those that have read nothing."""
    some = next(row for row in rows if row is not None)
    return {
        name: tuple(
            _stack([None if row is None else row[name][layer] for row in rows]) for layer in range(len(some[name]))
        )
        for name in some
    }


def join_batches(batches: Sequence[dict[str, tuple[Tensor, ...]] | None], name: str) -> tuple[Tensor, ...]:
    """Put batches of equally many rows side by side; zeros for None."""
    some = next(batch for batch in batches if batch is not None)
    return tuple(
        _stack([None if batch is None else batch[name][layer] for batch in batches]).flatten(0, 1)
        for layer in range(len(some[name]))
    )


def _stack(found: Sequence[Tensor | None]) -> Tensor:
    """Stack tensors whose last two axes end together; zeros for None, and on the left."""
    some = [each for each in found if each is not None]
    height, width = (max(each.shape[axis] for each in some) for axis in (-2, -1))
    stacked = some[0].new_zeros(len(found), *some[0].shape[:-2], height, width)
    for row, each in enumerate(found):
        if each is not None:
            stacked[row, ..., height - each.shape[-2] :, width - each.shape[-1] :] = each
    return stacked
