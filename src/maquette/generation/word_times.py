"""When each token was said: attention to what was heard, aligned with it (Radford et al. 2022; Giorgino 2009)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def align_tokens(weights: Tensor, *, width: int) -> list[int]:
    """Give the place at which each token begins.

    Args:
        weights: of some heads, `(heads, tokens, places)`.
        width: over how many places attention is smoothed, an odd number.
    """
    spread = weights.std(-2, keepdim=True, unbiased=False)
    centred = weights - weights.mean(-2, keepdim=True)
    smooth = median_filter(torch.where(spread > 0, centred / spread, 0.0), width).mean(0)
    tokens, places = warp(-smooth.double().cpu().numpy())
    starts = np.flatnonzero(np.diff(tokens, prepend=-1))
    found: list[int] = places[starts].tolist()
    return found


def median_filter(x: Tensor, width: int) -> Tensor:
    """Put for each value of the last axis the median of those around it; edges are mirrored."""
    half = width // 2
    if x.shape[-1] <= half:
        return x
    return torch.nn.functional.pad(x, (half, half), mode="reflect").unfold(-1, width, 1).median(-1).values


def warp(cost: Any) -> tuple[Any, Any]:
    """Find the cheapest way through a table, from its first corner to its last, by steps down, right, or both.

    Args:
        cost: `(rows, columns)`.

    Returns:
        The rows and the columns of the way.
    """
    rows, columns = cost.shape
    steps = np.full((rows + 1, columns + 1), 2, np.int8)  # 0: from both, 1: from the row above, 2: from the left
    before, last = np.full(rows + 1, np.inf, np.float32), np.full(rows + 1, np.inf, np.float32)
    before[0] = 0  # the sums of two diagonals, by row; row and column 0 are outside
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column, both, above, left = diagonal - row, before[row - 1], last[row - 1], last[row]
        kind = np.where((both < above) & (both < left), 0, np.where((above < both) & (above < left), 1, 2))
        now = np.full(rows + 1, np.inf, np.float32)
        now[row] = cost[row - 1, column - 1] + np.choose(kind, [both, above, left]).astype(np.float64)
        steps[row, column] = kind
        before, last = last, now
    way = []
    while rows or columns:
        way.append((rows - 1, columns - 1))
        step = steps[rows, columns]
        rows, columns = rows - (step != 2), columns - (step != 1)
    found = np.array(way[::-1])
    return found[:, 0], found[:, 1]
