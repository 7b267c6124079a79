"""What is hidden from the model while it learns, and from what else it is to tell that apart."""

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


def sample_negative_indices(
    features_shape: tuple[int, int], num_negatives: int, *, mask_time_indices: Tensor | None = None
) -> Tensor:
    """Choose for every masked frame others of its clip, also masked, from which it is to be told apart.

    The numbers come from torch's default generator.

    Args:
        features_shape: `(batch, frames)`.
        num_negatives: how many for each.
        mask_time_indices: `(batch, frames)`, True where masked; unless given, all are.

    Returns:
        `(batch, frames, num_negatives)`, places in the flattened batch; of no meaning where nothing is masked.

    Raises:
        ValueError: a clip has a single masked frame, which leaves no other; the mask has another shape.
    """
    batch, frames = features_shape
    mask = torch.ones(batch, frames) if mask_time_indices is None else torch.as_tensor(mask_time_indices)
    if tuple(mask.shape) != (batch, frames):
        raise ValueError(f"mask_time_indices has the shape {tuple(mask.shape)}, not {(batch, frames)}.")
    mask = mask.bool()
    counts = mask.sum(1)
    if alone := (counts == 1).nonzero()[:, 0].tolist():
        raise ValueError(f"Only one frame of row {alone[0]} is masked; a negative has to be another one. Mask more.")
    others = (counts - 1).clamp(min=0)[:, None, None]
    draws = (torch.rand(batch, frames, num_negatives, device=mask.device, dtype=torch.float64) * others).long()
    draws += draws >= (mask.cumsum(1) - 1)[..., None]  # pass over the frame itself
    masked = (~mask).int().argsort(dim=1, stable=True)  # the places of the masked frames come first
    places = masked.gather(1, draws.flatten(1).clamp(0, frames - 1)).view_as(draws)
    rows = torch.arange(batch, device=mask.device)[:, None, None] * frames
    return places * mask[..., None] + rows
