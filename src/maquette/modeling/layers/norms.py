"""Norms that leave the mean alone."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from maquette.modeling.packing import is_traced


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
            return _norm(x, weight + 1 if self.plus_one else weight, self.eps)
        normed = _norm(x.float(), None, self.eps)
        if self.plus_one:
            return (normed * (1 + weight.float())).type_as(x)
        return weight * normed.type_as(x)


def _norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Do what torch's `rms_norm` does; on a CPU, where nothing is learnt from it, in half as many operations."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or is_traced(x):
        return rms_norm(x, x.shape[-1:], weight, eps)
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(_root(1 / x.shape[-1], x.dtype))
    normed = x / size.hypot_(_root(eps, x.dtype))
    return normed if weight is None else normed.mul_(weight)


@functools.cache
def _root(eps: float, dtype: torch.dtype) -> Tensor:
    """Give a root as a tensor, which an operation takes as it is where it would make one of a number."""
    return torch.tensor(eps**0.5, dtype=dtype, device="cpu")
