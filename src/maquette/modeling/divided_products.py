"""Products of a few rows with large weights, divided over the threads of a CPU.

A step of generating reads every weight, and does little else. MKL gives a product of few rows with such a matrix to one
thread, which cannot read as fast as the memory gives; as a batch of products, one for each share of the matrix, all
threads read. Every number is the same sum as before.
"""

from typing import Any

import torch
from torch import Tensor, nn

# From measurements with weights of 192 x 192 to 50257 x 768, in float32 (benchmarks/README.md):
FEWEST_NUMBERS = 2**16  # of a weight; a smaller one is read before a second thread has begun
NUMBERS_PER_ROW = 2**15  # with fewer for each row, a product computes more than it reads
MOST_ROWS = 64
MOST_SHARES = 16


class DividedProducts:
    """Has the linear layers of a model divide their products; used in a `with`, any number of times.

    Layers of torch's own class take part, with weights on the CPU in float32 or float64, where torch may use several
    threads. They are of another class meanwhile, so that hooks, copies and changed weights are as ever.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.layers = model, list[nn.Linear]()
        self.kept: dict[nn.Linear, Any] = {}  # the views of weights, from one time to the next

    def __enter__(self) -> None:
        count = min(torch.get_num_threads(), MOST_SHARES)
        divides = count > 1 and not torch.is_autocast_enabled("cpu")
        plain = [layer for layer in self.model.modules() if type(layer) is nn.Linear] if divides else []
        self.layers = [layer for layer in plain if _is_large(layer.weight, count)]
        for layer in self.layers:
            layer.__class__ = _DividedLinear
            vars(layer)["_share_count"] = count
            if layer in self.kept:
                vars(layer)["_shares"] = self.kept[layer]

    def __exit__(self, *error: Any) -> None:
        for layer in self.layers:
            layer.__class__ = nn.Linear
            vars(layer).pop("_share_count", None)
            if (views := vars(layer).pop("_shares", None)) is not None:
                self.kept[layer] = views


def _is_large(weight: Tensor, count: int) -> bool:
    is_plain = type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.is_contiguous()
    is_known = is_plain and weight.dtype in (torch.float32, torch.float64)
    return is_known and len(weight) >= count and weight.numel() >= FEWEST_NUMBERS


class _DividedLinear(nn.Linear):
    """A linear layer for the time of a step."""

    _share_count = 1

    def forward(self, input: Tensor) -> Tensor:
        weight, width = self.weight, self.in_features
        rows = input.numel() // width
        most = min(MOST_ROWS, weight.numel() // NUMBERS_PER_ROW)
        if not 0 < rows <= most or input.shape[-1:] != (width,) or input.dtype != weight.dtype:
            return super().forward(input)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            shares, rest = self._divide(weight)
        else:
            kept = vars(self).get("_shares")
            if kept is None or kept[0] != weight.data_ptr():
                kept = vars(self)["_shares"] = (weight.data_ptr(), *self._divide(weight))
            shares, rest = kept[1:]
        x = input.reshape(1, rows, width)
        found = torch.bmm(x.expand(len(shares), rows, width), shares)  # (shares, rows, outputs of a share)
        y = found.transpose(0, 1).reshape(rows, -1)
        if rest is not None:
            y = torch.cat([y, torch.mm(x[0], rest)], -1)
        if self.bias is not None:
            y = y + self.bias
        return y.view(*input.shape[:-1], y.shape[-1])

    def _divide(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give views of the weight: `(shares, inputs, outputs of a share)`, and `(inputs, outputs)` left over."""
        count, size = self._share_count, len(weight) // self._share_count
        shares = weight[: size * count].view(count, size, -1).transpose(1, 2)
        return shares, weight[size * count :].t() if len(weight) % count else None
