"""What several models of images are made of: positions for images of any size, and branches left out now and then."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def stretch_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Draw the positions of one grid from those of another, bicubically, in float32.

    Args:
        table: `(tokens, width)`; what stands before the grid's own stays as it is.
        old, new: rows and columns of the grids.
    """
    if old == new:
        return table
    before = len(table) - old[0] * old[1]
    grid = table[before:].float().unflatten(0, old).permute(2, 0, 1)[None]  # (1, width, rows, columns)
    grid = interpolate(grid, size=new, mode="bicubic", align_corners=False)[0].flatten(1).T
    return torch.cat([table[:before], grid.to(table.dtype)])


class DropPath(nn.Module):
    """Leaves a branch out for some examples of a batch while training (Huang et al. 2016), and makes up for it.

    Args:
        rate: the share of examples.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        kept = branch.new_empty(len(branch), *(1,) * (branch.ndim - 1)).bernoulli_(1 - self.rate)
        return branch * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
