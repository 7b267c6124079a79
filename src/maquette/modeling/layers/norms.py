"""Norms that leave the mean alone."""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm


class RMSNorm(nn.Module):
    """Divides each vector by its root mean square, and scales it (Zhang and Sennrich 2019, equation 4).

    The mean of squares is taken in float32, or in float64 where that comes in.
    """

    def __init__(self, width: int, *, eps: float = 1e-6, plus_one: bool = False) -> None:
        """Make a norm that leaves a vector of unit mean square as it is.

        Args:
            width: of the last axis.
            eps: what is added to the mean of squares.
            plus_one: scale by `1 + weight`, in float32, and have weights start at 0, as Gemma does.
        """
        super().__init__()
        self.eps, self.plus_one = eps, plus_one
        self.weight = nn.Parameter(torch.zeros(width) if plus_one else torch.ones(width))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}{', plus_one=True' if self.plus_one else ''}"

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis of `(…, width)`."""
        weight = self.weight
        if x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64):
            return rms_norm(x, weight.shape, weight + 1 if self.plus_one else weight, self.eps)
        normed = rms_norm(x.float(), weight.shape, None, self.eps)
        if self.plus_one:
            return (normed * (1 + weight.float())).type_as(x)
        return weight * normed.type_as(x)
