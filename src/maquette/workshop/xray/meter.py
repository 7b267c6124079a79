"""Running a model on the meta device, where tensors have shapes and no memory, and measuring every operation.

What is counted: the floating-point operations of products and convolutions (two for each multiplication and addition,
as torch's own counter does; what a mask hides is counted, too), the bytes that operations read and write, and which
memory is alive at any time.
"""

import contextlib
import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from maquette.modeling.layers.experts import Experts
from maquette.modeling.model_parts import Tally
from maquette.modeling.provenance import read_kind, storage_id, tensors_in

aten = torch.ops.aten
CONVOLUTIONS = {aten.convolution, aten.convolution_backward, aten._convolution}
ALIASES = {"aten::_unsafe_view", "aten::_reshape_alias", "aten::detach", "aten::lift_fresh"}
# What computes much and has no formula here; other libraries' operators are told, too.
WITHOUT_FORMULA = (
    "aten::_fft",
    "aten::linalg_solve",
    "aten::linalg_inv",
    "aten::linalg_qr",
    "aten::_linalg_svd",
    "aten::_cdist",
)
LAYERS, EXPERTS, CONVOLUTION, ATTENTION = "layers", "experts", "convolutions", "attention"


class Meter(TorchDispatchMode):
    """Sees every operation; use as a context manager.

    Args:
        weights: the tensors that are there before: parameters, buffers, inputs.
        is_gpu: whether kernels of GPUs are meant, or those of CPUs.
        memo: what operations gave before, for several meters.
    """

    def __init__(self, weights: list[Tensor], *, is_gpu: bool, memo: dict[Any, Any]) -> None:
        super().__init__()
        self.memo = memo
        self.weights = {storage_id(tensor) for tensor in weights}
        self.is_gpu = is_gpu
        self.tallies: dict[str, Tally] = {"": Tally()}
        self.path = [""]  # of the modules under way
        self.uncounted: Counter[str] = Counter()
        self.now = self.peak = 0  # bytes, without what was there before
        self.peak_at = ""
        self._live: dict[int, tuple[Any, int, str]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: torch would otherwise import its compiler."""
        return False

    @property
    def tally(self) -> Tally:
        """The innermost module's."""
        return self.tallies[self.path[-1]]

    def count(self, flops: int, kind: str) -> None:
        """Add operations to the module under way."""
        self.tally.flops[kind] += flops

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind, name = read_kind(func), func._schema.name
        if kind.view or name in ALIASES:
            return func(*args, **kwargs)
        inputs = tensors_in((args, kwargs))
        result, flops = self.recall(func, args, kwargs, inputs, kind)
        outputs = tensors_in(result)
        if flops:
            self.count(flops, self._name_product(func, inputs))
        elif not name.startswith(("aten::", "prim::", "prims::")) or name.startswith(WITHOUT_FORMULA):
            self.uncounted[name] += 1
        if not kind.allocates:
            self.tally.moved += sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
        for tensor in outputs:
            self._follow(tensor)
        return result

    def recall(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], kind: Any) -> tuple[Any, int]:
        """Give what an operation gives, and its products; from memory where the same was asked before.

        Many of torch's operations work out their shapes in Python, which takes most of the time.
        """
        key = None
        if not kind.targets and all(tensor.is_meta for tensor in inputs):
            with contextlib.suppress(TypeError):  # what cannot be hashed
                key = func, _describe(args), _describe(kwargs)
                if (known := self.memo.get(key)) is not None:
                    return known[0](), known[1]
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=result)) if formula is not None else 0
        if key is not None and (again := _remember(result, inputs)) is not None:
            self.memo[key] = again, flops
        return result, flops

    def _name_product(self, func: Any, inputs: list[Tensor]) -> str:
        if func._overloadpacket in CONVOLUTIONS:
            return CONVOLUTION
        return LAYERS if any(storage_id(tensor) in self.weights for tensor in inputs) else ATTENTION

    # Memory ----------------------------------------------------------------------------------------------------

    def _follow(self, tensor: Tensor) -> None:
        """Count a tensor's memory as long as anything refers to it."""
        if not tensor.is_meta:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live or key in self.weights:
            return
        size = storage.nbytes()
        self._live[key] = weakref.ref(storage, lambda _: self._forget(key)), size, self.path[-1]
        self.now += size
        if self.now > self.peak:
            self.peak, self.peak_at = self.now, self.path[-1]

    def _forget(self, key: int) -> None:
        if (found := self._live.pop(key, None)) is not None:
            self.now -= found[1]

    def note_kept(self) -> int:
        """Put down for each module what it leaves in memory at the end of a forward; gives all bytes."""
        for tally in self.tallies.values():
            tally.kept = 0
        for _, size, path in self._live.values():
            self.tallies[path].kept += size
        return self.now


def _describe(value: Any) -> Any:
    """Give what an operation's result depends on, where tensors have no values."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_describe, value))
    if isinstance(value, dict):
        return tuple((name, _describe(inner)) for name, inner in value.items())
    return type(value), value


def _remember(result: Any, inputs: list[Tensor]) -> Callable[[], Any] | None:
    """Give a function that makes such a result again; None where it is not made of new tensors."""
    if isinstance(result, Tensor):
        if not result.is_meta or storage_id(result) in {storage_id(tensor) for tensor in inputs}:
            return None
        shape, stride, dtype = tuple(result.shape), result.stride(), result.dtype
        return lambda: torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    if isinstance(result, tuple):
        makers = [None if part is None else _remember(part, inputs) for part in result]
        if any(maker is None and part is not None for maker, part in zip(makers, result, strict=True)):
            return None
        return lambda: tuple(None if maker is None else maker() for maker in makers)
    return None


# What is computed as one --------------------------------------------------------------------------------------------


class Fusing(TorchFunctionMode):
    """Has attention take the memory that the device's kernels take, instead of that of plain operations."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter = meter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention and args[0].is_meta:
            return self._attend(*args, **kwargs)
        if func is functional.dropout and self.meter.is_gpu:  # one byte for each number, where CPUs keep a factor
            return self._drop(*args, **kwargs)
        if func is torch.rand and "device" not in kwargs:  # by which layers are left out: none is
            return torch.ones(*args, device="cpu")
        return func(*args, **kwargs)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        learns_mask = attn_mask is not None and attn_mask.requires_grad
        is_grouped = query.ndim == 4 and query.shape[1] != key.shape[1]
        if self.meter.is_gpu:
            is_half = query.dtype in (torch.float16, torch.bfloat16)
            fused = not learns_mask and (not is_grouped or (is_half and attn_mask is None))
        else:
            fused = dropout_p == 0.0 and not learns_mask
        if not fused or query.ndim != 4:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, **options
            )
        result: Tensor = _FusedAttention.apply(query, key, value, attn_mask, self.meter)
        return result

    def _drop(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not 0 < p < 1:
            return functional.dropout(x, p, training, inplace)
        return torch.native_dropout(x, p, True)[0]


class _FusedAttention(torch.autograd.Function):
    """Attention as the usual kernels compute it: the scores never are in memory, and are computed again backwards."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, meter: Meter) -> Tensor:
        batch, heads, length, _ = q.shape
        output = q.new_empty(batch, length, heads, v.shape[-1]).transpose(1, 2)
        sums = q.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(q, k, v, mask, output, sums)
        ctx.meter, ctx.products = meter, 2 * batch * heads * length * k.shape[2] * (q.shape[-1] + v.shape[-1])
        meter.count(ctx.products, ATTENTION)
        meter.tally.moved += sum(x.numel() * x.element_size() for x in (q, k, v, output))
        return output

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        q, k, v, _, _, _ = ctx.saved_tensors
        ctx.meter.count(ctx.products * 5 // 2, ATTENTION)
        if ctx.meter.is_gpu:  # where the gradient of queries is summed up
            q.new_empty(q.shape, dtype=torch.float32)
        return (*(torch.empty_like(x) for x in (q, k, v)), None, None)


class _GroupedProduct(torch.autograd.Function):
    """What `grouped_linear` gives: every row goes through the layer of one expert."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, meter: Meter) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.meter, ctx.products = meter, 2 * len(x) * weight.shape[1] * weight.shape[2]
        output = x.new_empty(len(x), weight.shape[1])
        meter.count(ctx.products, EXPERTS)
        used = min(len(x), len(weight)) * weight[0].numel() * weight.element_size()
        meter.tally.moved += used + sum(t.numel() * t.element_size() for t in (x, output))
        return output

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        x, weight = ctx.saved_tensors
        ctx.meter.count(2 * ctx.products, EXPERTS)
        return torch.empty_like(x), torch.empty_like(weight), None


def run_experts(meter: Meter) -> Callable[..., Tensor]:
    """Give the forward of our experts for the meta device, where nobody knows how many tokens each one gets."""

    def grouped_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        result: Tensor = _GroupedProduct.apply(x, weight, meter)
        return result

    own = Experts.forward
    return types.FunctionType(own.__code__, {**own.__globals__, "grouped_linear": grouped_linear}, "forward")


FLEX = "torch.nn.attention.flex_attention"


@contextlib.contextmanager
def flexing(model: nn.Module, meter: Meter) -> Iterator[None]:
    """Have FlexAttention, which runs on devices only, give what fused attention gives, under every name it goes by.

    What a block mask leaves out is counted, as of other masks.
    """
    flex = sys.modules.get(FLEX)
    if flex is None:  # nobody can have called it
        yield
        return
    own = flex.flex_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, *_: Any, return_lse: bool = False, **__: Any) -> Any:
        output: Tensor = _FusedAttention.apply(query, key, value, None, meter)
        return (output, query.new_empty(query.shape[:3], dtype=torch.float32)) if return_lse else output

    homes = {id(home): home for each in model.modules() if (home := sys.modules.get(type(each).__module__))}
    found = [
        (home, name, value)
        for home in {**homes, id(flex): flex}.values()
        for name, value in vars(home).items()
        if value is own or getattr(value, "_torchdynamo_orig_callable", None) is own  # as torch.compile wraps it
    ]
    try:
        for home, name, _ in found:
            setattr(home, name, attend)
        yield
    finally:
        for home, name, value in found:
            setattr(home, name, value)


# Modules ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(model: nn.Module, meter: Meter) -> Iterator[None]:
    """Have the meter know which module is under way."""
    handles = []
    experts = run_experts(meter)
    replaced = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(_enter(meter, path), with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(_leave(meter, path)))
        if type(module).forward is Experts.forward and "forward" not in vars(module):
            module.forward = types.MethodType(experts, module)
            replaced.append(module)
    meter.path = [""]
    try:
        with Fusing(meter), meter, flexing(model, meter):
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module in replaced:
            del module.forward


def _enter(meter: Meter, path: str) -> Callable[..., None]:
    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        if path:
            meter.path.append(path)
        tally = meter.tallies.setdefault(path, Tally())
        tally.calls += 1
        if tally.calls == 1:
            tally.takes = shapes_in((args, kwargs))
            tally.takes_floats = any(tensor.is_floating_point() for tensor in tensors_in((args, kwargs)))

    return enter


def _leave(meter: Meter, path: str) -> Callable[..., None]:
    def leave(_: nn.Module, args: Any, output: Any) -> None:
        if path:
            meter.path.pop()
        tally = meter.tallies[path]
        if tally.calls == 1:
            tally.gives = shapes_in(output)

    return leave


def shapes_in(value: Any) -> tuple[tuple[int, ...], ...]:
    """List the shapes of the tensors inside what a module takes or gives."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(value))
