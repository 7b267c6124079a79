"""Attention in any layout: the one place that knows where a text ends, what came before, and what a token may see."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from maquette.generation.cache import BLOCK, KeyValues
from maquette.generation.open_cache import GivenCache, OpenCache
from maquette.modeling.layout import Layout
from maquette.modeling.step_attention import Step, attend_in_step

Bias = Tensor | Callable[[Tensor, Tensor], Tensor]


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
    window: int | None = None,
    bias: Bias | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Let every token attend to the real tokens of its own row (Vaswani et al. 2017, equation 1), in any layout.

    Where the layout has a cache, causal attention keeps `k` and `v` there and sees those of earlier tokens, too.
    A row without a single key gives zeros.

    Args:
        q: `(places, heads, width)` in `layout`.
        k, v: `(places, key_heads, width)` in `keys`; neighbouring query heads share a head of keys where there are
            fewer (Ainslie et al. 2023).
        layout: of the queries.
        keys: of keys and values, where they are other tokens: `attention(q, k, v, layout.firsts(), keys=layout)`.
        dropout: the share of attention weights to drop; pass 0 unless training.
        causal: let a token attend to itself and those before it only.
        scale: of the products, `width ** -0.5` unless given.
        window: let a token attend to this many tokens at most, itself included; needs `causal`.
        bias: added to the scaled products. Either a function of the positions of queries and keys, `(rows, queries)`
            and `(rows, keys)`, where `rows` is 1 if all are alike, which gives `(rows, heads, queries, keys)` or what
            broadcasts to it; or a tensor `(batch, heads, length, length)` or what broadcasts to it, over the places of
            the padded batch (without a cache only). -inf hides a key.
        softcap: scores become `softcap * tanh(scores / softcap)` (Bello et al. 2016; Gemma 2).
        sinks: one score for each head, `(heads,)`, that takes part in the softmax and has no value (Xiao et al. 2024).

    Returns:
        `(places, heads, width)` in `layout`.

    Raises:
        ValueError: `causal` between different tokens; a window without `causal`, or below 1; a tensor as bias with a
            cache; heads that cannot be shared equally.
    """
    keys = keys or layout
    options = _Options(dropout, causal, scale, window, bias, softcap, sinks)
    if causal or q.shape[-2] != k.shape[-2] or not options.is_plain:
        options.check(q, k, is_same=keys is layout, has_cache=layout.cache is not None)
    if causal and layout.cache is not None:
        return _attend_with_cache(q, k, v, layout, options)
    return _attend_anew(q, k, v, layout, keys, options)


class _Options(NamedTuple):
    dropout: float
    causal: bool
    scale: float | None
    window: int | None
    bias: Bias | None
    softcap: float | None
    sinks: Tensor | None

    @property
    def is_plain(self) -> bool:
        """Whether each row may be computed by itself with nothing but `causal`."""
        return self.window is None and self.bias is None and self.softcap is None and self.sinks is None

    @property
    def needs_scores(self) -> bool:
        """Whether torch's fused attention lacks what is asked."""
        return self.softcap is not None or self.sinks is not None

    def check(self, q: Tensor, k: Tensor, *, is_same: bool, has_cache: bool) -> None:
        if self.causal and not is_same:
            raise ValueError(
                "attention(…, causal=True) needs queries and keys to be the same tokens: leave out `keys`."
            )
        if self.window is not None and (not self.causal or self.window < 1):
            raise ValueError(f"window={self.window}: a window has 1 token at least, and needs causal=True.")
        if q.shape[-2] % k.shape[-2]:
            raise ValueError(f"{q.shape[-2]} heads of queries cannot share {k.shape[-2]} heads of keys equally.")
        if has_cache and isinstance(self.bias, Tensor):
            raise ValueError("With a cache, the bias has to be a function of positions, not a tensor.")


def _attend_anew(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    """Attend among the tokens at hand."""
    if layout.rows is not None and layout.rows is keys.rows and not isinstance(options.bias, Tensor):
        if fits_varlen(q, v, dropout=options.dropout) and options.bias is None and not options.needs_scores:
            return _attend_varlen(q, k, v, layout, keys, options)
        if q.device.type == "cpu":
            return _attend_by_length(q, k, v, layout, keys, options)
    return layout.gather(_attend_padded(_pad(q, layout), _pad(k, keys), _pad(v, keys), layout, keys, options))


def _pad(x: Tensor, layout: Layout) -> Tensor:
    return layout.scatter(x) if layout.is_packed else x


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    """Attend in `(batch, length, heads, width)`: right for every layout, device and option."""
    allowed = _allowed_keys(keys, options, device=q.device)
    bias = options.bias
    if bias is not None and not isinstance(bias, Tensor):
        bias = bias(_padded_positions(layout, q.device), _padded_positions(keys, q.device))
    if keys.explicit or options.needs_scores:
        attended, weights = _attend_explicitly(q, k, v, options, allowed, bias)
        if keys.weights is not None:
            keys.weights.append(weights)
    else:
        attended = _attend(q, k, v, options, allowed, bias)
    if keys is layout or keys.mask is None:
        return attended
    return attended.masked_fill(~keys.mask.any(1)[:, None, None, None], 0.0)


def _padded_positions(layout: Layout, device: torch.device) -> Tensor:
    """Give `(batch or 1, length)`."""
    positions = layout.positions(device)
    return layout.scatter(positions) if layout.is_packed else positions


def _allowed_keys(keys: Layout, options: _Options, *, device: torch.device) -> Tensor | None:
    """Give which keys a query may see, to be broadcast to `(batch, heads, queries, keys)`; None where torch knows.

    A query that might see none sees all: its result is never used, and must not be a division by zero.
    """
    allowed = None if keys.mask is None else keys.mask[:, None, None]
    length, window = keys.shape[1], options.window
    by_torch = allowed is None and not keys.explicit and not options.needs_scores and options.bias is None
    if options.causal and not (by_torch and (window is None or window >= length)):
        earlier = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        if window is not None and window < length:
            earlier = earlier & _within(keys, window, device)
        allowed = earlier if allowed is None else allowed & earlier
    return None if allowed is None else allowed | ~allowed.any(-1, keepdim=True)


def _within(keys: Layout, window: int, device: torch.device) -> Tensor:
    """Tell which keys lie within a query's window, counted in real tokens; `(length, length)`, or for each row."""
    if keys.mask is None:
        ranks = torch.arange(keys.shape[1], device=device)
        return ranks[:, None] - ranks < window
    ranks = keys.mask.cumsum(1)
    return (ranks[:, :, None] - ranks[:, None] < window)[:, None]


def _attend_by_length(q: Tensor, k: Tensor, v: Tensor, layout: Layout, keys: Layout, options: _Options) -> Tensor:
    """Attend row by row, rows of the same length together; where packed, they lie next to each other."""
    pairs = itertools.groupby(zip(layout.lengths, keys.lengths, strict=True))
    groups = [(pair, len(list(same))) for pair, same in pairs]
    own, others = ([pair[side] * count for pair, count in groups] for side in (0, 1))
    outputs = []
    positions = _grouped_positions(layout, keys, own, others, groups, q.device) if options.bias is not None else None
    for (pair, count), *parts in zip(groups, q.split(own), k.split(others), v.split(others), strict=True):
        some_q, some_k, some_v = (part.unflatten(0, (count, -1)) for part in parts)  # (count, length, heads, width)
        if options.is_plain:
            output = _attend(some_q, some_k, some_v, options)
        else:
            bias = options.bias(*next(positions)) if positions is not None else None  # type: ignore[operator,misc]
            output = _attend_band(some_q, some_k, some_v, pair[1], layout, options, bias)
        outputs.append(output.flatten(0, 1))
    return torch.cat(outputs) if outputs else v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


def _grouped_positions(
    layout: Layout, keys: Layout, own: list[int], others: list[int], groups: list[Any], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give for each group of rows the positions of queries and keys, `(count, length)` each."""
    pairs = zip(groups, layout.positions(device).split(own), keys.positions(device).split(others), strict=True)
    for (_, count), *positions in pairs:
        yield positions[0].unflatten(0, (count, -1)), positions[1].unflatten(0, (count, -1))


def _attend_band(
    q: Tensor, k: Tensor, v: Tensor, length: int, layout: Layout, options: _Options, bias: Tensor | None
) -> Tensor:
    """Attend within rows of one length, all of whose tokens are real, with options that torch has no word for."""
    window = options.window
    allowed = None
    if options.causal and not (bias is None and not options.needs_scores and (window is None or window >= length)):

        def compute() -> Tensor:
            band = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
            return band if window is None else band.triu(1 - window)

        allowed = layout.once(("band", length, window), compute)
    if options.needs_scores:
        return _attend_explicitly(q, k, v, options, allowed, bias)[0]
    return _attend(q, k, v, options, allowed, bias)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, options: _Options, allowed: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Call torch with its order of axes, `(batch, heads, length, width)`."""
    is_grouped = bool(q.shape[2] != k.shape[2])  # traced, the sizes are tensors
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    causal = False
    if options.causal and allowed is None and q.shape[2] > 1:  # an `if`, for a size may be a symbol
        causal = True
    if bias is not None:
        bias = bias.to(q.dtype)
        allowed = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
    output = scaled_dot_product_attention(
        q, k, v, allowed, dropout_p=options.dropout, is_causal=causal, scale=options.scale, enable_gqa=is_grouped
    )
    return output.transpose(1, 2)


def _attend_explicitly(
    q: Tensor, k: Tensor, v: Tensor, options: _Options, allowed: Tensor | None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend in plain operations; gives the weights too, `(batch, heads, queries, keys)`."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if (shared := q.shape[1] // k.shape[1]) > 1:
        k, v = (x[:, :, None].expand(-1, -1, shared, -1, -1).flatten(1, 2) for x in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if options.scale is None else options.scale)
    if options.softcap is not None:
        scores = options.softcap * (scores / options.softcap).tanh()
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    if options.sinks is not None:
        sinks = options.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    weights = drop(weights, options.dropout, training=options.dropout > 0)
    return (weights @ v).transpose(1, 2), weights


# With earlier tokens ---------------------------------------------------------------------------------------------


def _attend_with_cache(q: Tensor, k: Tensor, v: Tensor, layout: Layout, options: _Options) -> Tensor:
    """Attend to the tokens at hand and to those in the cache, and keep the new ones there."""
    assert layout.cache is not None
    number, layout.calls = layout.calls, layout.calls + 1
    if isinstance(layout.cache, OpenCache):
        keys, values, places = layout.cache.put(number, k, v)
        return _attend_to_held(q, (keys, values), layout, options, places)
    if layout.is_step and q.device.type == "cpu" and not torch.is_grad_enabled() and _is_simple(layout, options):
        memory = layout.cache.layer(number, k[:, 0], v[:, 0], window=options.window)
        key = ("step", memory.capacity, options.window, q.dtype)
        step = layout.once(key, lambda: _prepare_step(q, memory, layout, options))
        return attend_in_step(q, k, v, memory, layout, options.scale, step)
    new_k, new_v = _real_tokens(k, layout), _real_tokens(v, layout)
    memory = layout.cache.layer(number, new_k, new_v, window=options.window)
    if not layout.has_past:
        _keep(new_k, new_v, layout, memory)
        return _attend_anew(q, k, v, layout, layout, options)
    if memory.window is None or max(layout.counts) <= BLOCK:
        _keep(new_k, new_v, layout, memory)
        held, late = _held(memory, layout)
    else:  # new tokens would overwrite what the first of them still have to see
        earlier, late = _held(memory, layout, is_before=True)
        rows = layout.to_rows(k), layout.to_rows(v)
        held = torch.cat([earlier[0], rows[0]], dim=1), torch.cat([earlier[1], rows[1]], dim=1)
        _keep(new_k, new_v, layout, memory)
    return layout.from_rows(_attend_to_held(layout.to_rows(q), held, layout, options, late))


def _is_simple(layout: Layout, options: _Options) -> bool:
    return options.bias is None and not (layout.explicit or options.needs_scores or options.dropout)


def _prepare_step(q: Tensor, memory: KeyValues, layout: Layout, options: _Options) -> Step:
    """Find where one new token of each row comes, and what it sees."""
    slots, longest, late = _locate_held(layout, memory.capacity, q.device, is_before=False)
    is_even = len(set(layout.before)) == 1
    places = layout.before[0] % memory.capacity if is_even else _find_places(layout, memory.capacity, q.device)[0]
    if late is None and (options.window is None or longest <= options.window):
        return Step(slots, places, longest, None)
    allowed = _allowed_held(_positions_of_rows(layout, 1, q.device), late, longest, options.window)[1]
    return Step(slots, places, longest, _as_bias(allowed, q.dtype))


def _real_tokens(x: Tensor, layout: Layout) -> Tensor:
    """Give `(tokens, heads, width)`."""
    if layout.is_packed:
        return x
    flat = x.flatten(0, 1)
    if layout.mask is None:
        return flat
    return flat.index_select(0, layout.once("real", lambda: layout.mask.flatten().nonzero()[:, 0]))  # type: ignore[union-attr]


def _keep(k: Tensor, v: Tensor, layout: Layout, memory: KeyValues) -> None:
    """Put new keys and values into the cache; of a row longer than a ring, the last ones."""
    places, kept = layout.once(("kept", memory.capacity), lambda: _find_places(layout, memory.capacity, k.device))
    if kept is not None:
        k, v = k.index_select(0, kept), v.index_select(0, kept)
    memory.write(k, v, places)


def _find_places(layout: Layout, capacity: int, device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Give for each real token its slot and its place there, and which tokens to keep if not all."""
    assert layout.cache is not None
    first, counts = layout.cache.first_slot, layout.counts
    positions = layout.real_positions(device)
    if layout.places is not None:
        rows = layout.places // layout.shape[1]
    else:
        rows = torch.arange(layout.shape[0], device=device)[:, None].expand(layout.shape).flatten()
        positions = positions.expand(layout.shape).flatten()
        if layout.mask is not None:
            real = layout.mask.flatten()
            rows, positions = rows[real], positions[real]
    slots, places = rows + first, positions % capacity
    if max(counts, default=0) <= capacity:
        return (slots, places), None
    ends = torch.tensor([b + c for b, c in zip(layout.before, counts, strict=True)], device=device)
    kept = (positions >= ends[rows] - capacity).nonzero()[:, 0]
    return (slots[kept], places[kept]), kept


def _held(memory: KeyValues, layout: Layout, *, is_before: bool = False) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Give keys and values, `(rows, held, heads, width)`, and the position of each, `(rows, held)`.

    The positions are None where every row has just these tokens in their order. Where a place holds nothing, the
    position is negative, or beyond the row's end.

    Args:
        is_before: as it was before the new tokens.
    """
    capacity = memory.capacity
    slots, longest, late = layout.once(
        ("held", capacity, is_before), lambda: _locate_held(layout, capacity, memory.keys.device, is_before=is_before)
    )
    return (memory.keys[slots, :longest], memory.values[slots, :longest]), late


def _locate_held(
    layout: Layout, capacity: int, device: torch.device, *, is_before: bool
) -> tuple[slice, int, Tensor | None]:
    """Give the slots of the rows, how many places of each count, and the position of what lies there."""
    assert layout.cache is not None
    counts = [0] * layout.shape[0] if is_before else layout.counts
    lengths = [before + new for before, new in zip(layout.before, counts, strict=True)]
    longest = min(max(lengths), capacity)
    slots = slice(layout.cache.first_slot, layout.cache.first_slot + layout.shape[0])
    if max(lengths) <= capacity and not is_before and len(set(lengths)) == 1:
        return slots, longest, None
    places = torch.arange(longest, device=device)
    if max(lengths) <= capacity:
        return slots, longest, places[None]
    ends = torch.tensor(lengths, device=device)[:, None] - 1
    return slots, longest, ends - (ends - places) % capacity  # the latest token that lies at each place


def _attend_to_held(
    q: Tensor, held: tuple[Tensor, Tensor], layout: Layout, options: _Options, late: Tensor | None
) -> Tensor:
    """Attend from `(batch, longest, heads, width)` to what the cache holds, and to further keys after it."""
    k, v = held
    window, longest = options.window, q.shape[1]
    if late is None and longest == 1 and (window is None or k.shape[1] <= window) and options.bias is None:
        allowed, bias = None, None
    else:
        sizes = (longest, k.shape[1], late if late is None else late.shape)
        if isinstance(layout.cache, GivenCache):  # sizes may be symbols, and are the same for all layers
            sizes = (0, 0, None)
        ours = layout.once(("ours", sizes[0]), lambda: _positions_of_rows(layout, longest, q.device))
        key = ("allowed", *sizes[1:], window)
        theirs, allowed = layout.once(key, lambda: _allowed_held(ours, late, k.shape[1], window))
        bias = options.bias(ours, theirs) if callable(options.bias) else None
        if bias is None and not layout.explicit and not options.needs_scores:
            hidden: Tensor = allowed
            allowed = layout.once((*key, q.dtype), lambda: _as_bias(hidden, q.dtype))
    cached = options._replace(causal=False, window=None, bias=None)
    if layout.explicit or options.needs_scores:
        attended, weights = _attend_explicitly(q, k, v, cached, allowed, bias)
        if layout.weights is not None:
            layout.weights.append(weights)
        return attended
    return _attend(q, k, v, cached, allowed, bias)


def _as_bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Give what torch would make of the mask in every layer anew: 0 and -inf."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -torch.inf)


def _positions_of_rows(layout: Layout, longest: int, device: torch.device) -> Tensor:
    """Give the positions of new tokens in rows as `to_rows` has them, `(batch, longest)`; padding counts on."""
    if layout.starts is not None:
        return layout.starts
    before = torch.tensor(layout.before, device=device)
    return before[:, None] + torch.arange(longest, device=device)


def _allowed_held(ours: Tensor, late: Tensor | None, count: int, window: int | None) -> tuple[Tensor, Tensor]:
    """Give the positions of what is held, `(rows, count)`, and what a query sees, `(rows, 1, queries, count)`."""
    theirs = torch.arange(count, device=ours.device)[None] if late is None else late
    real = theirs >= 0
    if theirs.shape[1] < count:  # new tokens follow those that are held
        real = real & (theirs < ours[:, :1])
        new = count - theirs.shape[1]
        theirs = torch.cat([theirs.expand(ours.shape[0], -1), ours], dim=1)
        real = torch.cat([real.expand(ours.shape[0], -1), real.new_ones(ours.shape[0], new)], dim=1)
    allowed = (theirs[:, None] <= ours[:, :, None]) & real[:, None]
    if window is not None:
        allowed &= theirs[:, None] > ours[:, :, None] - window
    return theirs, allowed[:, None]


# Variable-length attention on CUDA -------------------------------------------------------------------------------


@functools.cache
def _varlen() -> Callable[..., Any] | None:
    """Find the variable-length attention that torch has since 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


@functools.cache
def _takes_windows() -> bool:
    """Tell whether it takes windows and shared heads, as since 2.11."""
    return {"window_size", "enable_gqa", "scale"} <= set(inspect.signature(_varlen() or len).parameters)


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
    more: dict[str, Any] = {}
    if options.scale is not None:  # its first version has no argument for it
        q = q * (options.scale * q.shape[-1] ** 0.5)
    if _takes_windows():
        if options.causal:
            more["window_size"] = (-1 if options.window is None else options.window - 1, 0)
        more["enable_gqa"] = q.shape[1] != k.shape[1]
    elif options.causal or q.shape[1] != k.shape[1]:
        return layout.gather(_attend_padded(_pad(q, layout), _pad(k, keys), _pad(v, keys), layout, keys, options))
    longest = max(layout.lengths, default=0), max(keys.lengths, default=0)
    contiguous = (q.contiguous(), k.contiguous(), v.contiguous())
    output: Tensor = attend(*contiguous, layout.offsets, keys.offsets, *longest, **more)
    return output
