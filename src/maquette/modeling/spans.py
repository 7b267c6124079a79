"""Spans of places that are hidden from a model while it learns."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def compute_mask_indices(
    shape: tuple[int, int],
    mask_prob: float,
    *,
    mask_length: int,
    attention_mask: Tensor | None = None,
    min_masks: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Choose spans to mask, for SpecAugment (Park et al. 2019) and for pre-training (Baevski et al. 2020, section 3.1).

    A row gets `mask_prob * length / mask_length` spans, rounded up or down by chance; their first places are drawn
    without replacement, so spans may overlap. The numbers come from torch's default generator.

    Args:
        shape: `(batch, length)`.
        mask_prob: the largest share of a row that is masked; overlaps make it less.
        mask_length: places of a span. A row that is shorter gets none.
        attention_mask: `(batch, length)`, not 0 at real places, which come first; unless given, all are.
        min_masks: the fewest spans of a row that is long enough for them.
        device: where the result lies, unless an attention mask says so.

    Returns:
        `(batch, length)`, True where masked.

    Raises:
        ValueError: no span has less than one place; the attention mask has another shape.
    """
    batch, length = shape
    if mask_length < 1:
        raise ValueError(f"mask_length={mask_length}: a span has at least one place.")
    if attention_mask is None:
        lengths = torch.full((batch,), length, device=device)
    elif tuple(attention_mask.shape) == (batch, length):
        lengths = attention_mask.bool().sum(1)
    else:
        raise ValueError(f"attention_mask has the shape {tuple(attention_mask.shape)}, not {(batch, length)}.")
    chance = torch.rand((), device=lengths.device)
    counts = (mask_prob * lengths / mask_length + chance).long().clamp(min=min_masks).clamp(max=length // mask_length)
    counts = torch.minimum(counts, (lengths - mask_length + 1).clamp(min=0))
    draws = torch.rand(batch, length, device=lengths.device)
    allowed = torch.arange(length, device=lengths.device) <= (lengths - mask_length)[:, None]
    ranks = draws.masked_fill(~allowed, 2.0).argsort(1).argsort(1)
    begun = pad((ranks < counts[:, None]).cumsum(1), (mask_length, 0))  # spans begun before each place
    return begun[:, mask_length:] > begun[:, :length]
