"""Padding-free execution: a batch of texts of different lengths costs what its real tokens cost.

    layout = lay_out(input_ids, attention_mask)     # which places are real, and whether packing pays
    x = self.embed(layout.gather(input_ids))        # (tokens, dim), or (batch, length, dim) where it does not
    for block in self.blocks:
        x = block(x, layout)                        # linear layers and norms do not care
    return layout.scatter(x)                        # (batch, length, dim), zeros at padding

Only attention has to know where one text ends and the next begins: `attention(q, k, v, layout)` is the one place that
does. Any mask works: padding on the right, on the left, holes. Everything is differentiable.

Below, *places* stands for the leading axes of a tensor in some layout: `(tokens,)` where it is packed,
`(batch, length)` where it is not. The same model code serves both.
"""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from maquette.modeling.outputs import BaseModelOutput

# Pack where at most this share of the places is real; measured in benchmarks/distilbert.py.
PACK_UP_TO = 0.9

_wanted: contextvars.ContextVar[bool | None] = contextvars.ContextVar("packing wanted", default=None)


@contextlib.contextmanager
def use_packing(wanted: bool | None) -> Iterator[None]:
    """Decide inside a `with` block whether models pack: wherever there is padding, never, or (None) where it pays."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


_TENSORS = ("mask", "places", "rows")  # of a layout


@dataclass(eq=False)
class Layout:
    """Where the tokens of a batch are. Made by `lay_out`.

    In a packed layout the texts follow each other in order of their lengths, so that texts of one length can be
    computed together; do not rely on the order, use `gather` and `scatter`.

    Attributes:
        shape: `(batch, length)` of the padded batch.
        mask: True at real tokens, of that shape; None where every token is real.
        places: packed only, each token's place in the flattened padded batch, `(tokens,)`.
        rows: packed only, the rows that have real tokens, in packed order.
        lengths: packed only, how many tokens each of these rows has.
        explicit: attention is computed in plain operations.
        weights: where attention weights are kept, those of each call of `attention` so far; never where packed.
    """

    shape: tuple[int, int]
    mask: Tensor | None = None
    places: Tensor | None = None
    rows: Tensor | None = None
    lengths: tuple[int, ...] = ()
    explicit: bool = False
    weights: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Give the layout's tensors, for those who follow tensors into modules (torchview, say)."""
        return (tensor for name in _TENSORS if (tensor := getattr(self, name)) is not None)

    def to(self, device: Any, non_blocking: bool = False) -> "Layout":
        """Give the layout with its tensors on a device, for models that are spread over several (accelerate)."""
        moved = {n: t.to(device, non_blocking=non_blocking) for n in _TENSORS if (t := getattr(self, n)) is not None}
        return replace(self, **moved) if any(moved[n] is not getattr(self, n) for n in moved) else self

    @property
    def is_packed(self) -> bool:
        """Whether padding is left out of the computation."""
        return self.places is not None

    def positions(self, device: torch.device) -> Tensor:
        """Give each token's position in its row: `(tokens,)` where packed, otherwise `(1, length)`."""
        if self.places is not None:
            return self.places % self.shape[1]
        return torch.arange(self.shape[1], device=device)[None]

    def gather(self, x: Tensor, *, fill: float | None = None) -> Tensor:
        """Bring `(batch, length, …)` into this layout: `(places, …)`.

        Args:
            x: one value or vector per place; a batch axis of 1 is shared by all rows.
            fill: what to put at padding where the layout keeps it (-100 for labels, say); unless given, nothing.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.ndim < 2 or x.shape[0] not in (1, self.shape[0]) or x.shape[1] != self.shape[1]:
            raise ValueError(f"The batch is (batch, length) = {self.shape}; a tensor of {tuple(x.shape)} does not fit.")
        x = x.expand(*self.shape, *x.shape[2:])
        if self.places is not None:
            return x.flatten(0, 1).index_select(0, self.places)
        return x if fill is None else self._fill(x, fill)

    def scatter(self, x: Tensor, *, fill: float = 0.0) -> Tensor:
        """Bring `(places, …)` back to `(batch, length, …)`; padding is `fill`, whichever layout it was."""
        if self.places is None:
            return self._fill(x, fill)
        padded = x.new_full((self.shape[0] * self.shape[1], *x.shape[1:]), fill)
        return padded.index_copy_(0, self.places, x).unflatten(0, self.shape)

    def _fill(self, x: Tensor, fill: float) -> Tensor:
        if self.mask is None:
            return x
        return x.masked_fill(~self.mask.view(*self.shape, *(1,) * (x.ndim - 2)), fill)

    def firsts(self) -> "Layout":
        """Give the layout of one token per row, its first real one: its shape is `(batch, 1)`."""
        mask = None if self.mask is None else self.mask.any(1, keepdim=True)
        ones = (1,) * len(self.lengths)
        return Layout((self.shape[0], 1), mask=mask, places=self.rows, rows=self.rows, lengths=ones)

    def take_firsts(self, x: Tensor) -> Tensor:
        """Pick from `(places, …)` each row's first real token; the result is laid out as `firsts()` says."""
        if self.is_packed:
            return x.index_select(0, self.offsets[:-1].long())
        if self.mask is None:
            return x[:, :1]
        rows = torch.arange(self.shape[0], device=x.device)
        return x[rows, self.mask.int().argmax(1)][:, None]

    @functools.cached_property
    def offsets(self) -> Tensor:
        """Packed only: where each row of `rows` begins among the tokens, and the end of the last; 32-bit."""
        assert self.rows is not None
        return torch.tensor([0, *itertools.accumulate(self.lengths)], dtype=torch.int32, device=self.rows.device)


class LaidOutOutput(BaseModelOutput):
    """What a base model gives its heads: states as `(places, dim)`, in the layout that is given with them."""

    layout: Layout | None = None


def lay_out(
    inputs: Tensor,
    attention_mask: Tensor | None = None,
    *,
    packed: bool | None = None,
    explicit: bool = False,
    keep_weights: bool = False,
) -> Layout:
    """Decide how to run a batch: packed where enough of it is padding, otherwise as it is.

    Export, `torch.compile` and `vmap` get the padded layout: how many tokens are real is not known there.

    Args:
        inputs: `(batch, length, …)`; only the shape counts.
        attention_mask: `(batch, length)`, or `(1, length)` for all rows alike, not 0 at real tokens; unless given, all
            are. A row may have none.
        packed: True to pack whenever there is padding, False never to; unless given, `use_packing` or, without that,
            the share of padding decides.
        explicit: compute attention in plain operations, padding and all.
        keep_weights: have every call of `attention` add its weights to the layout's `weights`; implies `explicit`.

    Raises:
        ValueError: the mask has another shape.
    """
    shape = (inputs.shape[0], inputs.shape[1])
    weights: list[Tensor] | None = [] if keep_weights else None
    explicit = explicit or keep_weights
    if attention_mask is None:
        return Layout(shape, explicit=explicit, weights=weights)
    if attention_mask.ndim == 2 and attention_mask.shape[0] == 1:
        attention_mask = attention_mask.expand(shape[0], -1)
    if tuple(attention_mask.shape) != shape:
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}, but the inputs are (batch, length) = "
            f"{shape}. Give one number per token: 1 where it is real, 0 where it is padding."
        )
    mask = attention_mask.to(torch.bool)
    if explicit or packed is False or is_traced(mask):
        return Layout(shape, mask, explicit=explicit, weights=weights)
    wanted = _wanted.get() if packed is None else packed
    if wanted is False:
        return Layout(shape, mask)
    return _pack(mask, share=PACK_UP_TO if wanted is None else 1.0)


def is_traced(mask: Tensor) -> bool:
    """Tell whether a tensor's values cannot be looked at: in a compiler or tracer, under vmap, or without storage."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    if type(mask) is not Tensor or mask.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(mask):
        return True
    return mask.is_cuda and torch.cuda.is_current_stream_capturing()


def _pack(mask: Tensor, *, share: float) -> Layout:
    """Pack unless more than this share of the places is real."""
    shape = (mask.shape[0], mask.shape[1])
    counts = mask.sum(1)
    lengths = counts.tolist()
    tokens = sum(lengths)
    if tokens == mask.numel():
        return Layout(shape)
    if tokens > share * mask.numel():
        return Layout(shape, mask=mask)
    rows = counts.argsort(stable=True)[lengths.count(0) :]
    ranks, positions = mask[rows].nonzero(as_tuple=True)
    places = rows[ranks] * shape[1] + positions
    return Layout(shape, mask, places, rows, tuple(sorted(lengths)[lengths.count(0) :]))


# Attention -------------------------------------------------------------------------------------------------------


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    *,
    keys: Layout | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Let every token attend to the real tokens of its own row (Vaswani et al. 2017, equation 1), in any layout.

    A row without a single key gives zeros.

    Args:
        q: `(places, heads, width)` in `layout`.
        k, v: `(places, heads, width)` in `keys`.
        layout: of the queries.
        keys: of keys and values, where they are other tokens: `attention(q, k, v, layout.firsts(), keys=layout)`.
        dropout: the share of attention weights to drop; pass 0 unless training.
        causal: let a token attend to itself and those before it only.
        scale: of the products, `width ** -0.5` unless given.

    Returns:
        `(places, heads, width)` in `layout`.

    Raises:
        ValueError: `causal` between different tokens.
    """
    keys = keys or layout
    if causal and keys is not layout:
        raise ValueError("attention(…, causal=True) needs queries and keys to be the same tokens: leave out `keys`.")
    options = _Options(dropout, causal, scale)
    if layout.rows is not None and layout.rows is keys.rows:
        if fits_varlen(q, v, dropout=dropout) and not causal:
            return _attend_varlen(q, k, v, layout, keys, options)
        if q.device.type == "cpu":
            return _attend_by_length(q, k, v, layout, keys, options)
    return layout.gather(_attend_padded(_pad(q, layout), _pad(k, keys), _pad(v, keys), layout, keys, options))


class _Options(NamedTuple):
    dropout: float
    causal: bool
    scale: float | None


def _pad(x: Tensor, layout: Layout) -> Tensor:
    return layout.scatter(x) if layout.is_packed else x


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    """Attend in `(batch, length, heads, width)`: right for every layout, device and option."""
    allowed = _allowed_keys(keys, options, device=q.device)
    if keys.explicit:
        attended, weights = _attend_explicitly(q, k, v, options, allowed)
        if keys.weights is not None:
            keys.weights.append(weights)
    else:
        attended = _attend(q, k, v, options, allowed)
    if keys is layout or keys.mask is None:
        return attended
    return attended.masked_fill(~keys.mask.any(1)[:, None, None, None], 0.0)


def _allowed_keys(keys: Layout, options: _Options, *, device: torch.device) -> Tensor | None:
    """Give which keys a query may see, to be broadcast to `(batch, heads, queries, keys)`; None where torch knows.

    A query that might see none sees all: its result is never used, and must not be a division by zero.
    """
    allowed = None if keys.mask is None else keys.mask[:, None, None]
    if options.causal and (keys.explicit or allowed is not None):
        earlier = torch.ones(keys.shape[1], keys.shape[1], dtype=torch.bool, device=device).tril()
        allowed = earlier if allowed is None else allowed & earlier
    return None if allowed is None else allowed | ~allowed.any(-1, keepdim=True)


def _attend_by_length(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    """Attend row by row, rows of the same length together; where packed, they lie next to each other."""
    pairs = itertools.groupby(zip(layout.lengths, keys.lengths, strict=True))
    groups = [(pair, len(list(same))) for pair, same in pairs]
    own, others = ([pair[side] * count for pair, count in groups] for side in (0, 1))
    outputs = []
    for (_, count), *parts in zip(groups, q.split(own), k.split(others), v.split(others), strict=True):
        some_q, some_k, some_v = (part.unflatten(0, (count, -1)) for part in parts)  # (count, length, heads, width)
        outputs.append(_attend(some_q, some_k, some_v, options).flatten(0, 1))
    return torch.cat(outputs) if outputs else v


def _attend(q: Tensor, k: Tensor, v: Tensor, options: _Options, allowed: Tensor | None = None) -> Tensor:
    """Call torch with its order of axes, `(batch, heads, length, width)`."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    causal = options.causal and allowed is None
    output = scaled_dot_product_attention(
        q, k, v, allowed, dropout_p=options.dropout, is_causal=causal, scale=options.scale
    )
    return output.transpose(1, 2)


def _attend_explicitly(
    q: Tensor, k: Tensor, v: Tensor, options: _Options, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attend in plain operations; gives the weights too, `(batch, heads, queries, keys)`."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if options.scale is None else options.scale)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = drop(scores.softmax(-1), options.dropout, training=options.dropout > 0)
    return (weights @ v).transpose(1, 2), weights


# Variable-length attention on CUDA -------------------------------------------------------------------------------


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """Find the variable-length attention that torch has since 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def fits_varlen(q: Tensor, v: Tensor, *, dropout: float = 0.0) -> bool:
    """Tell whether torch's variable-length attention takes these: half precision, Ampere GPUs and newer, no dropout."""
    return (
        q.is_cuda
        and dropout == 0.0
        and q.dtype in (torch.float16, torch.bfloat16)
        and q.shape[-1] == v.shape[-1] <= 256
        and q.shape[-1] % 8 == 0
        and _varlen() is not None
        and torch.version.hip is None
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
        and torch.backends.cuda.is_flash_attention_available()
    )


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    attend = _varlen()
    assert attend is not None
    if options.scale is not None:  # its first version has no argument for it
        q = q * (options.scale * q.shape[-1] ** 0.5)
    longest = max(layout.lengths, default=0), max(keys.lengths, default=0)
    output: Tensor = attend(q.contiguous(), k.contiguous(), v.contiguous(), layout.offsets, keys.offsets, *longest)
    return output
