"""Whether a loss shifts the labels by one place, as that of a causal model does: then each row's first counts nothing.

It is found by trying: a loss for which the first label of a row is as good as none leaves it out.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from maquette.modeling.problems import IGNORED


def shifts_labels(inputs: Mapping[str, Any], name: str, compute_loss: Callable[[dict[str, Any]], Any]) -> bool:
    """Tell whether the loss of a batch leaves out the first label of every row, and no others.

    Args:
        inputs: a batch; two of its rows are tried.
        name: of its labels; only whole numbers of shape `(batch, length)` can be shifted.
        compute_loss: gives the loss of a batch, each time with the same random numbers.
    """
    labels = inputs.get(name)
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 2 or labels.shape[1] < 2:
        return False
    real = labels[labels != IGNORED]
    if not real.numel():
        return False
    rows = len(labels)
    few = {n: v[:2] if isinstance(v, Tensor) and v.ndim and len(v) == rows else v for n, v in inputs.items()}
    if isinstance(mask := few.get("attention_mask"), Tensor):
        few["attention_mask"] = torch.ones_like(mask)
    none = torch.full_like(labels[:2], IGNORED)
    first, others = none.clone(), none.clone()
    first[:, 0] = real[0]
    others[:, 1:] = real[0]
    try:
        losses = [float(compute_loss({**few, name: chosen})) for chosen in (none, first, others)]
    except Exception:  # a model that needs more labels than these: nothing is known then
        return False
    return _is_same(losses[0], losses[1]) and not _is_same(losses[0], losses[2])


def _is_same(a: float, b: float) -> bool:
    return (a != a and b != b) or abs(a - b) <= 1e-5 * max(abs(a), abs(b))


def leave_out_padding(inputs: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Take out labels that a model which shifts them would have to tell from padding, as left of a row's first token.

    Returns:
        The batch without these labels, or None where there are none.
    """
    labels, mask = inputs.get(name), inputs.get("attention_mask")
    if not isinstance(labels, Tensor) or not isinstance(mask, Tensor) or mask.shape != labels.shape:
        return None
    wrong = (mask[:, :-1] == 0) & (mask[:, 1:] != 0) & (labels[:, 1:] != IGNORED)
    if not wrong.any():
        return None
    labels = labels.clone()
    labels[:, 1:][wrong] = IGNORED
    return {**inputs, name: labels}
