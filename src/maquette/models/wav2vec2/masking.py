"""What is hidden from the model while it learns, and from what else it is to tell that apart."""

import torch
from torch import Tensor

from maquette.modeling.spans import compute_mask_indices as compute_mask_indices


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
