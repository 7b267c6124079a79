"""Products of a few rows with large weights, as a step of generating has them, at the speed of a CPU's memory.

A step reads every weight, and does little else; MKL gives a product of few rows with such a matrix to one thread, which
cannot read as fast as the memory gives. So the first steps' products are batches of products, one for each thread's
share of the matrix: every number is the same sum as before. Whoever goes on gets a copy of the weight in the order in
which oneDNN's kernels read it, if the copies take no more than a part of the memory; its sums are in another order,
and for most sizes the same for a row alone and among others. Copies are kept for the next call, until the model trains.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from maquette.modeling.layers.linear import Conv1D
from maquette.modeling.provenance import MEMORY

# From measurements with weights of 192 x 192 to 50257 x 768 (benchmarks/README.md):
FEWEST_NUMBERS = 2**16  # of a weight; a smaller one is read before a second thread has begun
NUMBERS_PER_ROW = 2**15  # with fewer for each row, a divided product computes more than it reads
MOST_ROWS = 64  # of a divided product
MOST_SHARES = 16
STEPS = 16  # of one row, until a copy is worth its making; each of more rows counts as so many:
STEPS_OF_ROWS = 4
FEWEST_FOR_ONE = 2**19  # numbers of a weight, from which on its copy is the quickest for a single row too
MOST_COPIED = 0.25  # of the machine's memory
COPIED_ROWS = 16  # that the order of a copy is made for; it serves any number

_copies: "WeakKeyDictionary[nn.Module, dict[str, _Forms]]" = WeakKeyDictionary()  # of models' weights, by layer


class FewRowProducts:
    """Has the linear layers of a model multiply few rows quickly; used in a `with`, any number of times.

    Layers of torch's own class and `Conv1D` take part, with weights on the CPU, where nothing is learnt from them. They
    are of another class meanwhile, so that hooks, copies of them and changed weights are as ever.

    Args:
        model: whose layers these are.
        copies: whether weights may be copied.
    """

    def __init__(self, model: nn.Module, *, copies: bool = True) -> None:
        self.model, self.copies, self.layers = model, copies, dict[str, Any]()
        self.forms = dict[str, _Forms]()
        self.is_begun = False

    def __enter__(self) -> None:
        if not self.is_begun:
            self.forms, self.is_begun = _copies.get(self.model, {}), True
            for form in self.forms.values():
                form.is_sure = False
        named = () if torch.is_autocast_enabled("cpu") else self.model.named_modules()
        self.layers = {name: m for name, m in named if type(m) in _KINDS and _is_large(m.weight)}
        size = sum(layer.weight.nbytes for layer in self.layers.values())
        copies = self.copies and size <= MOST_COPIED * MEMORY
        for name, layer in self.layers.items():
            vars(layer)["_forms"] = self.forms.get(name) or _Forms(type(layer) is Conv1D, copies=copies)
            layer.__class__ = _KINDS[type(layer)]

    def __exit__(self, *error: Any) -> None:
        for layer in self.layers.values():
            layer.__class__ = next(plain for plain, quick in _KINDS.items() if quick is type(layer))
        if self.layers:
            self.forms = {name: vars(layer).pop("_forms") for name, layer in self.layers.items()}
            kept = {name: form for name, form in self.forms.items() if form.copy is not None}
            for form in kept.values():
                form.shares = None  # which would keep a weight alive
            _copies[self.model] = kept


def forget_copies(model: nn.Module) -> None:
    """Give back the memory that copies of a model's weights take."""
    _copies.pop(model, None)


def _is_large(weight: Tensor) -> bool:
    is_plain = type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.is_contiguous()
    if not is_plain or weight.numel() < FEWEST_NUMBERS:
        return False
    return _can_copy(weight.dtype) or _can_divide(weight, _count_shares())


def _count_shares() -> int:
    return min(torch.get_num_threads(), MOST_SHARES)


def _can_divide(weight: Tensor, count: int) -> bool:
    return weight.dtype in (torch.float32, torch.float64) and len(weight) >= count > 1


def _can_copy(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN has kernels of its own for a type here."""
    if not torch._C._get_mkldnn_enabled() or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class _Forms:
    """A weight in other forms, for the products of one layer."""

    def __init__(self, is_transposed: bool, *, copies: bool) -> None:
        self.is_transposed, self.copies = is_transposed, copies
        self.of: tuple[int, int] | None = None  # which weight it was
        self.is_sure = True  # that it still is
        self.steps = 0
        self.copy: Tensor | None = None
        self.probe: Tensor | None = None  # what a copied weight makes of certain numbers
        self.shares: tuple[Tensor, Tensor | None] | None = None

    def __deepcopy__(self, memo: Any) -> "_Forms":
        return _Forms(self.is_transposed, copies=self.copies)  # the weight is copied, too

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Give `(rows, outputs)` for `(rows, inputs)`; None where torch's own product is as good."""
        weight = weight.detach()
        identity = (weight.data_ptr(), -1 if weight.is_inference() else weight._version)
        if self.of != identity or not self._is_same(weight):
            self.of, self.is_sure, self.steps, self.copy, self.shares = identity, True, 0, None, None
        rows = len(x)
        gains = rows > 1 or weight.numel() >= FEWEST_FOR_ONE
        if self.copy is None and self.copies and gains and rows <= MOST_ROWS and _can_copy(weight.dtype):
            self.steps += 1 if rows == 1 else STEPS_OF_ROWS
            if self.steps > STEPS:
                outputs_first = weight.t().contiguous() if self.is_transposed else weight
                self.copy = torch.ops.mkldnn._reorder_linear_weight(outputs_first, COPIED_ROWS)
                self.probe = self._probe(weight)
        if self.copy is not None and gains:
            return torch.ops.mkldnn._linear_pointwise(x, self.copy, bias, "none", [], "")
        count = _count_shares()
        if self.is_transposed or rows > min(MOST_ROWS, weight.numel() // NUMBERS_PER_ROW):
            return None
        if not _can_divide(weight, count):
            return None
        if self.shares is None:
            self.shares = divide(weight, count)
        y = multiply_shares(x, *self.shares)
        return y if bias is None else y + bias

    def _is_same(self, weight: Tensor) -> bool:
        """Tell, once in a call, whether a copied weight still holds its numbers, in whatever way it is written to."""
        if not self.is_sure:
            self.is_sure = self.probe is None or torch.equal(self._probe(weight), self.probe)
        return self.is_sure

    def _probe(self, weight: Tensor) -> Tensor:
        """Multiply a weight with certain numbers: any edit that a product can tell changes the result."""
        numbers = torch.arange(1, weight.shape[1] + 1, dtype=torch.float32, device="cpu").sin_()[None]
        wide, count = weight.float(), _count_shares()
        return multiply_shares(numbers, *divide(wide, count)) if _can_divide(wide, count) else numbers @ wide.t()


def divide(weight: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    """Give views of a weight: `(shares, inputs, outputs of a share)`, and `(inputs, outputs)` left over."""
    size = len(weight) // count
    shares = weight[: size * count].view(count, size, -1).transpose(1, 2)
    return shares, weight[size * count :].t() if len(weight) % count else None


def multiply_shares(x: Tensor, shares: Tensor, rest: Tensor | None) -> Tensor:
    """Give `(rows, outputs)` for `(rows, inputs)`."""
    found = torch.bmm(x[None].expand(len(shares), *x.shape), shares)  # (shares, rows, outputs of a share)
    y = found.transpose(0, 1).reshape(len(x), -1)
    return y if rest is None else torch.cat([y, torch.mm(x, rest)], -1)


class _Quick:
    """What layers do for the time of a step."""

    weight: Any
    bias: Any

    def forward(self, input: Tensor) -> Tensor:
        forms: _Forms | None = vars(self).get("_forms")
        if forms is None:  # another thread has just left
            return type(self).forward(self, input)
        width = self.weight.shape[0 if forms.is_transposed else 1]
        fits = input.shape[-1:] == (width,) and input.dtype == self.weight.dtype and input.numel() > 0
        y = None
        watched = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        if fits and not watched:
            y = forms.multiply(input.reshape(-1, width), self.weight, self.bias)
        if y is None:
            return super().forward(input)  # type: ignore[misc,no-any-return]
        return y.view(*input.shape[:-1], y.shape[-1])


class _QuickLinear(_Quick, nn.Linear):  # type: ignore[misc]
    pass


class _QuickConv1D(_Quick, Conv1D):  # type: ignore[misc]
    pass


_KINDS: dict[type, type] = {nn.Linear: _QuickLinear, Conv1D: _QuickConv1D}
