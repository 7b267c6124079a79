"""A linear layer whose weight is kept the other way round."""

import torch
from torch import Tensor, nn


class Conv1D(nn.Module):
    """A linear layer whose weight is `(inputs, outputs)`, as GPT-2 (Radford et al. 2019) keeps it."""

    def __init__(self, nf: int, nx: int) -> None:
        """Make a layer with `nf` outputs and `nx` inputs."""
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)

    def extra_repr(self) -> str:
        return f"nf={self.nf}, nx={self.nx}"

    def forward(self, x: Tensor) -> Tensor:
        """Map `(…, nx)` to `(…, nf)`."""
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
