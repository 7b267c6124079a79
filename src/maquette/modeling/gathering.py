"""Rows of all processes, for losses that compare each with every other; gradients find their way back."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad


class _GatherRows(torch.autograd.Function):
    """Give the rows of all processes; backward, each process gets the sum of what all found for its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = pad(x, (0, 0, 0, max(sizes) - len(x))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.split(ctx.sizes)[dist.get_rank()], None


class Rows:
    """How many rows each process has; what `torch.distributed` is asked for is asked here.

    Args:
        x: this process's rows, `(rows, …)`.
        together: compare with the rows of other processes, where there are some.
    """

    def __init__(self, x: Tensor, *, together: bool) -> None:
        self.sizes, self.place = [len(x)], 0
        if together and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            counts = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())]
            dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
            self.sizes, self.place = [int(count) for count in counts], dist.get_rank()

    @property
    def labels(self) -> range:
        """The places of this process's rows among all."""
        first = sum(self.sizes[: self.place])
        return range(first, first + self.sizes[self.place])

    def gather(self, x: Tensor) -> Tensor:
        """Give the rows of all processes, `(all rows, width)`."""
        if len(self.sizes) == 1:
            return x
        gathered: Tensor = _GatherRows.apply(x, self.sizes)  # type: ignore[no-untyped-call]
        return gathered

    def average(self, loss: Tensor) -> Tensor:
        """Turn the mean over this process's rows into that over all.

        Its gradients are such that their mean over the processes, as `DistributedDataParallel` takes it, is the
        gradient of the mean over all rows.
        """
        if len(self.sizes) == 1:
            return loss
        loss = loss * (len(self.sizes) * self.sizes[self.place] / sum(self.sizes))
        whole = loss.detach().clone()
        dist.all_reduce(whole)
        return loss + (whole / len(self.sizes) - loss.detach())
