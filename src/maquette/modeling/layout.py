"""Where the tokens of a batch are, and what came before them: the half of `modeling/packing.py` that counts places.

*Places* stands for the leading axes of a tensor in some layout: `(tokens,)` where it is packed, `(batch, length)` where
it is not.
"""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from maquette.batch.view import draw_filling
from maquette.generation.cache import Cache, as_cache
from maquette.generation.open_cache import OpenCache
from maquette.modeling.outputs import BaseModelOutput
from maquette.storage.html_view import frame, never_raising

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
    """Where the tokens of a batch are, and what came before them. Made by `lay_out`.

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
        counts_padding: positions count places, padding too; otherwise real tokens only.
        cache: of earlier tokens; None where nothing is kept.
        before: with a cache, how many tokens each row has read before these.
        starts: in a compiled step, the same as a tensor, `(batch, 1)`, and `before` is empty; where a caller gives the
            keys, the position of each token, `(batch, length)`.
    """

    shape: tuple[int, int]
    mask: Tensor | None = None
    places: Tensor | None = None
    rows: Tensor | None = None
    lengths: tuple[int, ...] = ()
    explicit: bool = False
    weights: list[Tensor] | None = None
    counts_padding: bool = True
    cache: Cache | None = None
    before: tuple[int, ...] = ()
    starts: Tensor | None = None
    calls: int = 0  # of `attention` that kept their keys, so far
    states: int = 0  # that were asked for, so far
    known: dict[Any, Any] = field(default_factory=dict)  # what was computed once for all layers

    def __iter__(self) -> Iterator[Tensor]:
        """Give the layout's tensors, for those who follow tensors into modules (torchview, say)."""
        return (tensor for name in _TENSORS if (tensor := getattr(self, name)) is not None)

    def to(self, device: Any, non_blocking: bool = False) -> "Layout":
        """Give the layout with its tensors on a device, for models that are spread over several (accelerate)."""
        moved = {n: t.to(device, non_blocking=non_blocking) for n in _TENSORS if (t := getattr(self, n)) is not None}
        if all(moved[name] is getattr(self, name) for name in moved):
            return self
        return replace(self, **moved, known={})

    @property
    def is_packed(self) -> bool:
        """Whether padding is left out of the computation."""
        return self.places is not None

    # Positions ----------------------------------------------------------------------------------------------------

    def positions(self, device: torch.device) -> Tensor:
        """Give each token's position in its row: `(tokens,)` where packed, else `(1, length)` or `(batch, length)`.

        For a decoder (`lay_out(…, count_padding=False)`) a position is the number of real tokens before it, those in
        the cache included; otherwise places are counted.
        """
        if self.counts_padding:
            if self.places is not None:
                return self.places % self.shape[1]
            return torch.arange(self.shape[1], device=device)[None]
        return self.real_positions(device)

    def real_positions(self, device: torch.device) -> Tensor:
        """Give the number of real tokens before each one in its row, whatever `positions` counts; shaped as that is."""
        if self.starts is not None:
            return self.starts
        return self.once("positions", lambda: self._count_positions(device))

    def _count_positions(self, device: torch.device) -> Tensor:
        if not self.has_past:
            return self._ranks(device)
        if len(set(self.before)) == 1:
            return self._ranks(device) + self.before[0]
        before = torch.tensor(self.before, device=device)
        if self.places is not None:
            before = before[self.places // self.shape[1]]
        return self._ranks(device) + (before if self.is_packed else before[:, None])

    def _ranks(self, device: torch.device) -> Tensor:
        """Give for each token how many new ones come before it in its row."""
        if self.rows is not None:
            lengths = torch.tensor(self.lengths, dtype=torch.long, device=device)  # of no rows, too
            starts = self.offsets[:-1].repeat_interleave(lengths)
            return torch.arange(len(starts), device=device) - starts
        if self.mask is not None:
            return (self.mask.cumsum(1) - 1).clamp(min=0)
        return torch.arange(self.shape[1], device=device)[None]

    @property
    def has_past(self) -> bool:
        """Whether a row has read tokens before these."""
        found: bool = self.once("has past", lambda: self.starts is not None or any(self.before))
        return found

    @property
    def is_step(self) -> bool:
        """Whether each row has one new token, after others."""
        return self.shape[1] == 1 and self.mask is None and self.has_past

    @property
    def counts(self) -> list[int]:
        """How many real tokens each row of the batch has here."""
        found: list[int] = self.once("counts", self._count)
        return found

    def count_tokens(self, device: torch.device) -> Tensor:
        """Give the same as a tensor, `(batch,)`, for code that is to be compiled or exported."""
        if self.mask is not None and self.places is None:
            return self.mask.sum(1)
        if self.places is None:
            return torch.arange(1, device=device).expand(self.shape[0]) + self.shape[1]
        return torch.tensor(self.counts, device=device)

    def _count(self) -> list[int]:
        if self.rows is not None:
            found = dict(zip(self.rows.tolist(), self.lengths, strict=True))
            return [found.get(row, 0) for row in range(self.shape[0])]
        if self.mask is not None:
            counts: list[int] = self.mask.sum(1).tolist()
            return counts
        return [self.shape[1]] * self.shape[0]

    @never_raising
    def _repr_html_(self) -> str:
        places = f"{self.shape[0]:,} × {self.shape[1]:,} places"
        end = "" if self.cache is None else ", with a cache"
        about = f"{'packed' if self.is_packed else 'padded'}, {places}{end}"
        return frame("Layout", about, draw_filling("lengths", sum(self.counts), self.shape[0] * self.shape[1]))

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Compute something for the first layer, and give the others the same."""
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    # Between layouts ----------------------------------------------------------------------------------------------

    def gather(self, x: Tensor, *, fill: float | None = None) -> Tensor:
        """Bring `(batch, length, …)` into this layout: `(places, …)`.

        Args:
            x: one value or vector per place; a batch axis of 1 is shared by all rows.
            fill: what to put at padding where the layout keeps it (-100 for labels, say); unless given, nothing.

        Raises:
            ValueError: `x` has another shape.
        """
        rows, length = self.shape
        if x.ndim < 2 or (x.shape[0] != 1 and x.shape[0] != rows) or x.shape[1] != length:
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
        real = self.mask.view(*self.shape, *(1,) * (x.ndim - 2))
        if x.dtype == torch.bool and not fill:  # which exporters know for truth values, too
            return x & real
        return x.masked_fill(~real, fill)

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

    def take_lasts(self, x: Tensor, count: int = 1) -> Tensor:
        """Pick from `(places, …)` each row's last real tokens, `(batch, count, …)`; zeros where a row has fewer."""
        if self.places is None and self.mask is None:
            return x[:, -count:]
        rows = self.to_rows(x)
        ends = torch.tensor(self.counts, device=x.device)
        index = ends[:, None] + torch.arange(-count, 0, device=x.device)  # (batch, count)
        here = torch.arange(self.shape[0], device=x.device)[:, None]
        taken = rows[here, index.clamp(0, max(rows.shape[1] - 1, 0))] if rows.shape[1] else x.new_zeros(())
        shape = (*index.shape, *x.shape[1 if self.is_packed else 2 :])
        return taken.expand(shape).masked_fill((index < 0).view(*index.shape, *(1,) * (len(shape) - 2)), 0.0)

    # Rows for layers that read one token after the other ------------------------------------------------------------

    def to_rows(self, x: Tensor) -> Tensor:
        """Bring `(places, …)` into rows that begin with their first real token, `(batch, longest, …)`; zeros after.

        For layers that read a row in order: convolutions, recurrences, state spaces. `from_rows` is the way back.
        """
        if self.places is None and self.mask is None:
            return x
        if self.places is None and self.mask is not None and is_traced(self.mask):
            hidden = ~self.mask  # no size may depend on values: rows stay as long as they are
            order = self.once("order", lambda: hidden.long().argsort(dim=1, stable=True))
            real = torch.arange(self.shape[1], device=x.device) < self.count_tokens(x.device)[:, None]
            return _take_along(x, order).masked_fill(~_widen(real, x), 0)
        source, target, longest = self.once("rows", lambda: self._places_in_rows(x.device))
        tokens = x if self.is_packed else x.flatten(0, 1).index_select(0, source)
        rows = x.new_zeros(self.shape[0] * longest, *tokens.shape[1:])
        return _put(rows, target, tokens).unflatten(0, (self.shape[0], longest))

    def unbind(self, x: Tensor) -> list[Tensor]:
        """Give the tokens of each row, `(length, …)`; where padding is kept, rows may end in zeros."""
        if self.rows is None:
            return list(self.to_rows(x).unbind())
        found = [x[:0]] * self.shape[0]
        for row, tokens in zip(self.rows.tolist(), x.split(self.lengths), strict=True):
            found[row] = tokens
        return found

    def from_rows(self, rows: Tensor) -> Tensor:
        """Bring `(batch, longest, …)` as `to_rows` gives it back to `(places, …)`; padding that is kept gets zeros."""
        if self.places is None and self.mask is None:
            return rows
        if self.places is None and self.mask is not None and is_traced(self.mask):
            return _take_along(rows, self._ranks(rows.device)).masked_fill(~_widen(self.mask, rows), 0)
        source, target, _ = self.once("rows", lambda: self._places_in_rows(rows.device))
        tokens = rows.flatten(0, 1).index_select(0, target)
        if self.is_packed:
            return tokens
        padded = rows.new_zeros(self.shape[0] * self.shape[1], *rows.shape[2:])
        return _put(padded, source, tokens).unflatten(0, self.shape)

    def _places_in_rows(self, device: torch.device) -> tuple[Tensor, Tensor, int]:
        """Give where the real tokens are in the padded batch, where in rows from their first token on, and how long."""
        ranks, longest = self._ranks(device), max(self.counts, default=0)
        if self.places is not None:
            return self.places, self.places // self.shape[1] * longest + ranks, longest
        assert self.mask is not None
        source = self.mask.flatten().nonzero()[:, 0]
        return source, source // self.shape[1] * longest + ranks.flatten()[source], longest

    def state(self, owner: Any, shape: tuple[int, ...], like: Tensor) -> "State":
        """Give what a recurrent layer kept of the tokens before these; zeros where there were none.

        Args:
            owner: the layer, `self`.
            shape: of one row's state.
            like: a tensor of the state's type and device.

        Returns:
            An object with `value`, `(batch, *shape)`, and `keep(new_value)`, to be called once in every forward.
        """
        number, self.states = self.states, self.states + 1
        name = type(owner).__name__
        if self.cache is None:
            return State(like.new_zeros(self.shape[0], *shape), None, number)
        return State(self.cache.state(number, name, tuple(shape), like), self.cache, number)

    @functools.cached_property
    def offsets(self) -> Tensor:
        """Packed only: where each row of `rows` begins among the tokens, and the end of the last; 32-bit."""
        assert self.rows is not None
        return torch.tensor([0, *itertools.accumulate(self.lengths)], dtype=torch.int32, device=self.rows.device)


@dataclass(frozen=True, eq=False)
class State:
    """What a recurrent layer carries from one token to the next, for each row of a batch."""

    value: Tensor
    cache: Cache | None
    number: int

    def keep(self, value: Tensor) -> None:
        """Leave `(batch, *shape)` for the tokens to come; rows without a real token should keep what they had."""
        if value.shape != self.value.shape:
            raise ValueError(f"The state is {tuple(self.value.shape)}, and {tuple(value.shape)} was to be kept.")
        if self.cache is not None:
            self.cache.keep_state(self.number, value)


class LaidOutOutput(BaseModelOutput):
    """What a base model gives its heads: states as `(places, dim)`, in the layout that is given with them."""

    layout: Layout | None = None


def lay_out(
    inputs: Tensor,
    attention_mask: Tensor | None = None,
    *,
    cache: Any = None,
    count_padding: bool | None = None,
    packed: bool | None = None,
    explicit: bool = False,
    keep_weights: bool = False,
) -> Layout:
    """Decide how to run a batch: packed where enough of it is padding, otherwise as it is.

    Export, `torch.compile` and `vmap` get the padded layout: how many tokens are real is not known there.

    Args:
        inputs: `(batch, length, …)`; only the shape counts.
        attention_mask: `(batch, length)`, or `(1, length)` for all rows alike, not 0 at real tokens; unless given, all
            are. A row may have none. With a cache, the earlier places may come before: `(batch, cache.width + length)`.
        cache: a `Cache` with the tokens before these, which takes these in; or, in place of one, keys and values for
            each layer, `((keys, values), …)`, each `(batch, heads, length, width)`.
        count_padding: whether positions count padding, as BERT's do; False in a decoder, where the position of a token
            is the number of real ones before it. Unless given, True without a cache and False with one.
        packed: True to pack whenever there is padding, False never to; unless given, `use_packing` or, without that,
            the share of padding decides. With a cache, padding is never kept.
        explicit: compute attention in plain operations, padding and all.
        keep_weights: have every call of `attention` add its weights to the layout's `weights`; implies `explicit`.

    Raises:
        ValueError: the mask has another shape, or says something else of earlier tokens than the cache.
    """
    shape = (inputs.shape[0], inputs.shape[1])
    weights: list[Tensor] | None = [] if keep_weights else None
    explicit = explicit or keep_weights
    cache = as_cache(cache)
    counts_padding = cache is None if count_padding is None else count_padding
    more: dict[str, Any] = {"explicit": explicit, "weights": weights, "counts_padding": counts_padding}
    if attention_mask is not None:
        attention_mask = _fit_mask(attention_mask, shape, cache)
    if attention_mask is None:
        layout = Layout(shape, **more)
    else:
        mask = attention_mask.to(torch.bool)
        layout = Layout(shape, mask, **more)
        if not (explicit or packed is False or is_traced(mask)):
            wanted = _wanted.get() if packed is None else packed
            if wanted is not False or cache is not None:
                share = PACK_UP_TO if wanted is None and cache is None else 1.0
                layout = replace(_pack(mask, share=share), **more)
    if isinstance(cache, OpenCache):
        layout.cache, layout.starts, layout.mask = cache, cache.starts, cache.new_mask
    elif cache is not None:
        layout.cache, layout.before = cache, tuple(cache.begin(layout.counts, shape[1]))
    return layout


def _fit_mask(mask: Tensor, shape: tuple[int, int], cache: Cache | None) -> Tensor:
    """Give the mask of the new tokens, `shape`."""
    if mask.ndim == 2 and mask.shape[0] == 1:
        mask = mask.expand(shape[0], -1)
    earlier = 0 if cache is None else cache.width
    if cache is not None and earlier and tuple(mask.shape) == (shape[0], earlier + shape[1]):
        real = mask[:, :earlier].to(torch.bool).sum(1).tolist()
        if real != cache.lengths:
            raise ValueError(
                f"attention_mask has {real} real tokens at the {earlier} places before these, and the cache holds "
                f"{cache.lengths}. Give the mask with which these were read, or that of the new tokens only."
            )
        mask = mask[:, earlier:]
    if tuple(mask.shape) != shape:
        also = f", or {(shape[0], earlier + shape[1])} with the tokens in the cache" if earlier else ""
        raise ValueError(
            f"attention_mask has the shape {tuple(mask.shape)}, but the inputs are (batch, length) = {shape}{also}. "
            "Give one number per token: 1 where it is real, 0 where it is padding."
        )
    return mask


def is_traced(mask: Tensor) -> bool:
    """Tell whether a tensor's values cannot be looked at: in a compiler or tracer, under vmap, or without storage."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    if type(mask) is not Tensor or mask.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(mask):
        return True
    return mask.is_cuda and torch.cuda.is_current_stream_capturing()


def _take_along(x: Tensor, order: Tensor) -> Tensor:
    """Pick for each row of `(batch, length, …)` the places `(batch, length)`."""
    return x.gather(1, _widen(order, x).expand(*order.shape, *x.shape[2:]))


def _widen(x: Tensor, like: Tensor) -> Tensor:
    return x.view(*x.shape, *(1,) * (like.ndim - 2))


def _put(zeros: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    """Put tokens to their places among zeros; without a second tensor where nobody follows what happens."""
    if torch.is_grad_enabled() or is_traced(tokens):
        return zeros.index_copy(0, places, tokens)
    return zeros.index_copy_(0, places, tokens)


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
