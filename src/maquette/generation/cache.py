"""What a decoder has read: keys and values of earlier tokens, and the states of recurrent layers.

    cache = Cache()
    output = model(prompts, attention_mask=mask, past_key_values=cache)    # fills it
    output = model(next_ids, past_key_values=cache)                        # reads it, and adds to it

A model never looks inside. `lay_out(…, cache=cache)` gives the new tokens their positions, `attention` keeps keys and
values by the order of its calls, and `layout.state` keeps what a recurrent layer carries along.

Each row of a batch has a slot. Only real tokens are stored, one after the other, so it does not matter on which side a
batch was padded.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette.generation.sources import Sources

Places = tuple[Tensor, Tensor]  # slots, and places in these

# Memory grows by whole blocks of so many tokens. A windowed layer keeps one block more than its window, so that drafts
# can be taken back.
BLOCK = 64


class KeyValues:
    """The keys and values of one layer, `(slots, capacity, heads, width)` each.

    A windowed layer is a ring: the token at position p lies at p modulo the capacity. Memory is asked for at once, and
    first written to (with zeros, block by block) when rows get that long: until then, it costs nothing on a CPU.
    """

    def __init__(self, keys: Tensor, values: Tensor, *, slots: int, capacity: int, window: int | None) -> None:
        self.window = window
        self.used = 0  # tokens of each slot that have been written to
        self.keys = _allocate(keys, slots, capacity)
        self.values = _allocate(values, slots, capacity)

    @property
    def capacity(self) -> int:
        """How many tokens of a row fit."""
        return self.keys.shape[1]

    def write(self, keys: Tensor, values: Tensor, places: tuple[Tensor, Tensor]) -> None:
        """Put `(tokens, heads, width)` to their places: slots and places in these, `(tokens,)` each."""
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad or self.keys.requires_grad):
            self.keys, self.values = self.keys.index_put(places, keys), self.values.index_put(places, values)
            return
        self.keys.index_put_(places, keys)
        self.values.index_put_(places, values)

    def fit(self, slots: int, capacity: int, needed: int) -> None:
        """Make room; what is stored stays where it is.

        Args:
            slots, capacity: how much there has to be, at least.
            needed: how many tokens the longest row will have.
        """
        if self.keys.shape[0] < slots or self.capacity < capacity:
            self.map(lambda old: self._enlarged(old, max(slots, old.shape[0]), max(capacity, old.shape[1])))
        if (wanted := min(in_blocks(needed), self.capacity)) > self.used:
            self.keys[:, self.used : wanted] = 0
            self.values[:, self.used : wanted] = 0
            self.used = wanted

    def _enlarged(self, old: Tensor, slots: int, capacity: int) -> Tensor:
        new = _allocate(old[0], slots, capacity)
        new[: old.shape[0], : self.used] = old[:, : self.used]
        new[old.shape[0] :, : self.used] = 0
        return new

    def map(self, change: Any) -> None:
        """Replace both tensors by what a function makes of them."""
        self.keys, self.values = change(self.keys), change(self.values)


@dataclass(eq=False)
class _Memory:
    """What all views of a cache share."""

    lengths: list[int] = field(default_factory=list)  # of each slot, in real tokens
    highest: list[int] = field(default_factory=list)  # the most that each slot's length has been
    layers: list[KeyValues] = field(default_factory=list)
    states: list[tuple[str, Tensor]] = field(default_factory=list)  # whose, and (slots, …)
    sources: Sources = field(default_factory=Sources)  # what rows look at beside their own text
    forwards: int = 0  # begun
    longest: int = 0  # the length of the longest row, or more than any layer has room for where slots are new
    is_fresh: bool = True  # no row had read anything before the last forward
    written: list[int] = field(default_factory=list)  # the last forward that reached each layer


class Cache:
    """What a decoder has read so far, for each row of a batch; made empty, and filled by the model.

    Args:
        reserve: how many tokens a row will have at most, where it is known: memory is then asked for once. Unless
            given, it grows as it has to.

    Attributes:
        width: the places read so far, padding included. Other people's loops call it the sequence length.
    """

    def __init__(self, *, reserve: int = 0) -> None:
        self._memory = _Memory()
        self._first = 0
        self._count: int | None = None  # all
        self.reserve = reserve
        self.width = 0

    # What it holds ------------------------------------------------------------------------------------------------

    @property
    def lengths(self) -> list[int]:
        """How many real tokens each row has read."""
        return self._memory.lengths[self._slots]

    @property
    def rows(self) -> int:
        """How many rows there are; 0 before the first forward."""
        return len(self._memory.lengths) if self._count is None else self._count

    @property
    def is_begun(self) -> bool:
        """Whether a forward has used it."""
        return self._memory.forwards > 0

    @property
    def first_slot(self) -> int:
        """Which slot of the memory the first row has."""
        return self._first

    @property
    def sources(self) -> Sources:
        """What an encoder made for the slots of the memory."""
        return self._memory.sources

    @property
    def _slots(self) -> slice:
        return slice(self._first, None if self._count is None else self._first + self._count)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Count the places read so far, padding included."""
        return self.width if layer_idx <= len(self._memory.layers) else 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """Say how many tokens there may be: -1, as many as memory holds."""
        return -1

    @property
    def can_rewind(self) -> bool:
        """Whether tokens can be taken back: not where a recurrent layer has read them."""
        return not self._memory.states

    def memory_footprint(self) -> int:
        """Count the bytes of everything that is kept."""
        tensors = [t for layer in self._memory.layers for t in (layer.keys, layer.values)]
        tensors += self._memory.sources.tensors()
        return sum(t.nbytes for t in [*tensors, *(state for _, state in self._memory.states)])

    def __len__(self) -> int:
        """Count the layers that keep keys."""
        return len(self._memory.layers)

    def __bool__(self) -> bool:
        return True  # an empty one is a cache, too

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        """Give a layer's keys and values, `(rows, heads, length, width)`; rows that are shorter end in anything."""
        found, length = self._memory.layers[layer], max(self.lengths, default=0)
        if length > found.capacity:
            raise ValueError(f"Layer {layer} kept its window only, the last {found.window} of {length} tokens.")
        return tuple(t[self._slots, :length].transpose(1, 2) for t in (found.keys, found.values))  # type: ignore[return-value]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[layer] for layer in range(len(self)))

    def to_legacy_cache(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Give a pair of keys and values for every layer, `(rows, heads, length, width)`."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(cls, past_key_values: Iterable[Any]) -> "Cache":
        """Start with keys and values that something else has computed: for each layer `(rows, heads, length, width)`.

        All rows have all of the tokens.
        """
        cache = cls()
        for pair in past_key_values:
            keys, values = (t.transpose(1, 2) for t in pair[:2])
            rows, length = keys.shape[:2]
            cache._memory.lengths = [length] * rows
            cache._memory.highest = [length] * rows
            cache.width = length
            layer = KeyValues(keys[0], values[0], slots=rows, capacity=length, window=None)
            layer.keys, layer.values, layer.used = keys, values, length
            cache._memory.layers.append(layer)
            cache._memory.written.append(0)
        return cache

    # What a forward does with it --------------------------------------------------------------------------------

    def begin(self, counts: Sequence[int], width: int) -> list[int]:
        """Note that so many tokens of each row come; gives how many came before.

        Raises:
            ValueError: another number of rows; or an earlier forward did not reach every layer.
        """
        memory = self._memory
        if not memory.lengths and self._count is None:
            memory.lengths, memory.highest = [0] * len(counts), [0] * len(counts)
        if self.rows != len(counts):
            raise ValueError(
                f"The cache holds {self.rows} rows, and the batch has {len(counts)}. Take a new one for another batch; "
                "one row for several: cache.batch_repeat_interleave(n)."
            )
        if any(written != memory.forwards for written in memory.written):
            raise ValueError(
                "The last forward with this cache did not reach every layer that the one before did: it failed half "
                "way, or calls `attention` another number of times. Start with a new cache."
            )
        memory.forwards += 1
        memory.is_fresh = not any(memory.lengths)
        before = self.lengths
        after = [old + new for old, new in zip(before, counts, strict=True)]
        memory.lengths[self._slots] = after
        memory.highest[self._slots] = map(max, after, memory.highest[self._slots])
        memory.longest = max(memory.lengths, default=0)
        if any(layer.keys.shape[0] < len(memory.lengths) for layer in memory.layers[:1]):
            memory.longest = sys.maxsize
        self.width += width
        return before

    def layer(self, number: int, keys: Tensor, values: Tensor, *, window: int | None) -> KeyValues:
        """Give the memory of the call of `attention` with this number, with room for the new tokens.

        Args:
            number: counted from 0 in every forward.
            keys, values: new ones, `(tokens, heads, width)`, for their types and sizes.
            window: how many tokens a token sees, itself included; None for all.
        """
        memory = self._memory
        if number < len(memory.layers):
            found = memory.layers[number]
            if memory.longest <= found.used and found.window == window and found.keys.shape[2:] == keys.shape[1:]:
                memory.written[number] = memory.forwards
                return found
        if number == len(memory.layers):
            if not memory.is_fresh:
                raise ValueError(
                    f"Call {number} of attention is the first of its kind, but the cache has read tokens already: "
                    "call `attention` equally often in every forward."
                )
            capacity = self._capacity(window)
            memory.layers.append(KeyValues(keys, values, slots=len(memory.lengths), capacity=capacity, window=window))
            memory.written.append(0)
        found = memory.layers[number]
        memory.written[number] = memory.forwards
        if found.keys.shape[2:] != keys.shape[1:] or found.window not in (None, window):
            raise ValueError(
                f"Call {number} of attention keeps {tuple(found.keys.shape[2:])} numbers for a token, window "
                f"{found.window}; now it was asked for {tuple(keys.shape[1:])}, window {window}. Is the cache another "
                "model's?"
            )
        capacity = self._capacity(found.window)
        if found.window is None and found.capacity < capacity and not self.reserve:
            capacity = max(capacity, in_blocks(found.capacity * 3 // 2))
        found.fit(len(memory.lengths), capacity, max(memory.lengths))
        return found

    def _capacity(self, window: int | None) -> int:
        """Say for how many tokens of a row a layer needs room, at least."""
        needed = in_blocks(max(*self._memory.lengths, self.reserve))
        return needed if window is None else min(needed, in_blocks(window) + BLOCK)

    def open(self, rows: int) -> tuple[int, list[KeyValues], list[Tensor]]:
        """Take one more token for each of the first rows, whose keys the caller puts into the memory by itself.

        Gives the number of slots, and of them all the memory of every layer, none of it unwritten, and the states.
        """
        memory = self._memory
        self.narrow(0, rows).begin([1] * rows, 1)
        memory.written = [memory.forwards] * len(memory.layers)
        for layer in memory.layers:
            capacity = max(layer.capacity, self._capacity(layer.window))
            layer.fit(len(memory.lengths), capacity, capacity)
        return len(memory.lengths), memory.layers, [state for _, state in memory.states]

    def state(self, number: int, owner: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Give what a recurrent layer kept, `(rows, *shape)`: zeros for rows that have read nothing."""
        states, slots = self._memory.states, len(self._memory.lengths)
        if number == len(states):
            states.append((owner, like.new_zeros(slots, *shape)))
        name, kept = states[number]
        if (name, tuple(kept.shape[1:])) != (owner, tuple(shape)):
            raise ValueError(
                f"State {number} is {name}'s, of shape {tuple(kept.shape[1:])}; {owner} asked for {tuple(shape)}. "
                "States are told apart by the order in which layers ask for them: ask in every forward."
            )
        if kept.shape[0] < slots:
            kept = torch.cat([kept, kept.new_zeros(slots - kept.shape[0], *shape)])
            states[number] = (owner, kept)
        return kept[self._slots]

    def keep_state(self, number: int, value: Tensor) -> None:
        """Keep a recurrent layer's new state, `(rows, *shape)`."""
        owner, kept = self._memory.states[number]
        if torch.is_grad_enabled() and (value.requires_grad or kept.requires_grad):
            kept = kept.clone()
            self._memory.states[number] = (owner, kept)
        kept[self._slots] = value.to(kept.dtype)

    # Rows that come, go, and change places ------------------------------------------------------------------------

    def narrow(self, first: int, count: int) -> "Cache":
        """Give some neighbouring slots as a cache of their own over the same memory; slots are made where needed."""
        memory = self._memory
        missing = first + count - len(memory.lengths)
        if missing > 0:
            memory.lengths += [0] * missing
            memory.highest += [0] * missing
        view = Cache(reserve=self.reserve)
        view._memory, view._first, view._count = memory, first, count
        view.width = max(memory.lengths[first : first + count], default=0)
        return view

    def clear(self, slot: int) -> None:
        """Forget what a row has read."""
        self._memory.lengths[slot] = self._memory.highest[slot] = 0
        self._memory.sources.clear(slot)
        for _, state in self._memory.states:
            state[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Give a row another slot, over what was there."""
        self._copy([source], [target])

    def reorder(self, sources: Sequence[int], last: Sequence[int] | None = None) -> None:
        """Let row i be what row `sources[i]` was, for the rows of this view; beams do so.

        Args:
            sources: as many as there are rows.
            last: how many of its last tokens each row may have other than its source, where that is known: the two are
                of one length, and no more is copied.
        """
        if len(sources) != self.rows:
            raise ValueError(f"The cache has {self.rows} rows, and {len(sources)} were named.")
        rows = [row for row, source in enumerate(sources) if source != row]
        if rows:
            pairs = [self._first + sources[row] for row in rows], [self._first + row for row in rows]
            self._copy(*pairs, last=None if last is None else [last[row] for row in rows])

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows in another order, as other people's beam searches ask."""
        self.reorder(beam_idx.tolist())

    def _copy(self, sources: list[int], targets: list[int], *, last: list[int] | None = None) -> None:
        memory = self._memory
        memory.sources.copy(sources, targets)
        lengths, highest = memory.lengths[:], memory.highest[:]
        longest = max((lengths[source] for source in sources), default=0)
        for source, target in zip(sources, targets, strict=True):
            memory.lengths[target], memory.highest[target] = lengths[source], highest[source]
        places: dict[int, tuple[Places, Places]] = {}
        for layer in memory.layers:
            if last is None:
                kept = min(longest, layer.capacity)
                for tensor in (layer.keys, layer.values):
                    tensor[targets, :kept] = tensor[sources, :kept]
                continue
            if layer.capacity not in places:
                ends = [lengths[source] for source in sources]
                places[layer.capacity] = _find_last(sources, targets, ends, last, layer)
            old, new = places[layer.capacity]
            for tensor in (layer.keys, layer.values):
                tensor[new] = tensor[old]
        for _, state in memory.states:
            state[targets] = state[sources]

    def select(self, rows: Sequence[int] | Tensor) -> None:
        """Keep these rows only, in this order; a row may come several times."""
        chosen = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        if self._count is not None:
            raise ValueError("Select rows of the whole cache, not of a view.")
        memory = self._memory
        index = torch.tensor(chosen, dtype=torch.long)
        for layer in memory.layers:
            layer.map(lambda t: t.transpose(1, 2).index_select(0, index.to(t.device)).transpose(1, 2))
        memory.states = [(owner, s.index_select(0, index.to(s.device))) for owner, s in memory.states]
        memory.sources.select(chosen)
        memory.lengths = [memory.lengths[row] for row in chosen]
        memory.highest = [memory.highest[row] for row in chosen]

    batch_select_indices = select

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row, to go on in several ways from what was read once."""
        self.select([row for row in range(self.rows) for _ in range(repeats)])

    # Taking back ---------------------------------------------------------------------------------------------------

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget the last tokens of each row, so that these lengths are left.

        Raises:
            ValueError: more tokens than were read; a recurrent layer has read them; or a windowed layer no longer has
                what came before. Nothing is changed then.
        """
        memory = self._memory
        for now, wanted in zip(self.lengths, lengths, strict=True):
            if not 0 <= wanted <= now:
                raise ValueError(f"A row has read {now} tokens, and cannot go back to {wanted}.")
        if list(lengths) == self.lengths:
            return
        if not self.can_rewind:
            raise ValueError(
                f"{memory.states[0][0]} carries a state that cannot be taken back, so that this cache can be neither "
                "cropped nor used with drafts. Keep a copy (copy.deepcopy) of the cache as it was."
            )
        for layer in memory.layers:
            for highest, wanted in zip(memory.highest[self._slots], lengths, strict=True):
                lost = highest - layer.capacity  # tokens before this one are overwritten
                if layer.window is not None and lost > 0 and wanted and wanted - layer.window + 1 < lost:
                    raise ValueError(
                        f"A layer with a window of {layer.window} tokens has read {highest}, and no longer has what "
                        f"came before token {wanted}. Keep a copy (copy.deepcopy) of the cache as it was."
                    )
        memory.lengths[self._slots] = list(lengths)
        self.width = max(lengths, default=0)

    def crop(self, max_length: int) -> None:
        """Keep the first tokens of every row only; a negative number takes so many off the end."""
        self.rewind([min(n, max_length) if max_length >= 0 else max(n + max_length, 0) for n in self.lengths])

    def reset(self) -> None:
        """Forget everything, and keep the memory."""
        for slot in range(len(self._memory.lengths)):
            self.clear(slot)
        self.width = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cache":
        if self._count is not None:
            raise ValueError("Copy the whole cache, not a view of some of its rows.")
        new = Cache(reserve=self.reserve)
        old = self._memory
        new._memory = _Memory(old.lengths[:], old.highest[:], forwards=old.forwards, written=old.written[:])
        for layer in old.layers:
            copied = KeyValues.__new__(KeyValues)
            copied.window, copied.used = layer.window, layer.used
            copied.keys, copied.values = layer.keys.clone(), layer.values.clone()
            new._memory.layers.append(copied)
        new._memory.states = [(owner, state.clone()) for owner, state in old.states]
        new._memory.sources = old.sources.clone()
        new.width = self.width
        return new


def _find_last(
    sources: Sequence[int], targets: Sequence[int], ends: Sequence[int], counts: Sequence[int], layer: KeyValues
) -> tuple[Places, Places]:
    """Say from which places of a layer's memory to which the last tokens of rows are copied."""
    triples = [
        (source, target, place % layer.capacity)
        for source, target, end, count in zip(sources, targets, ends, counts, strict=True)
        for place in range(end - min(count, layer.capacity), end)
    ]
    old, new, places = torch.tensor(triples, dtype=torch.long, device=layer.keys.device).reshape(-1, 3).unbind(1)
    return (old, places), (new, places)


def as_cache(given: Any) -> Cache | None:
    """Take a cache, or keys and values that something else computed."""
    if given is None or isinstance(given, Cache):
        return given
    if isinstance(given, tuple | list) or hasattr(given, "to_legacy_cache") or hasattr(given, "layers"):
        pairs = given.to_legacy_cache() if hasattr(given, "to_legacy_cache") else getattr(given, "layers", given)
        return Cache.from_legacy_cache((p.keys, p.values) if hasattr(p, "keys") else p for p in pairs)
    raise TypeError(
        f"past_key_values is a {type(given).__name__}; it has to be a maquette.Cache, or a pair (keys, values) for "
        "each layer, of shape (batch, heads, length, width)."
    )


def _allocate(like: Tensor, slots: int, capacity: int) -> Tensor:
    """Give `(slots, capacity, heads, width)`; in memory, the tokens of a head follow each other, as kernels like it."""
    heads, width = like.shape[1:]
    return like.new_empty(slots, heads, capacity, width).transpose(1, 2)


def in_blocks(tokens: int) -> int:
    """Round up to whole blocks."""
    return -(-max(tokens, 1) // BLOCK) * BLOCK
