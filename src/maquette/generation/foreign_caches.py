"""Caches as code written for Transformers knows them, and what can be done with any such: take rows, forget tokens.

Such code keeps what it has read in a tuple with a pair of keys and values for every layer (2019 to 2024), or in an
object with `update` (from 2023). Tokens lie side by side, padding included, so that rows of one cache have one length.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Legacy = tuple[tuple[Tensor, Tensor], ...]
Shapes = list[torch.Size]


class Cache:
    """Base of what keeps keys and values."""

    is_compileable = False


@dataclass(eq=False)
class Layer:
    """The keys and values of one layer, as a cache keeps them."""

    cache: "DynamicCache"
    number: int

    @property
    def keys(self) -> Tensor:
        """Keys, `(batch, heads, length, width)`."""
        return self.cache.key_cache[self.number]

    @property
    def values(self) -> Tensor:
        """Values, `(batch, heads, length, width)`."""
        return self.cache.value_cache[self.number]

    def get_seq_length(self) -> int:
        """Count the tokens."""
        return self.cache.get_seq_length(self.number)


class DynamicCache(Cache):
    """Keeps the keys and values of all tokens, `(batch, heads, length, width)` for every layer, and grows with them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.key_cache: list[Tensor] = []
        self.value_cache: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens to a layer's; gives all of them. Layers may be passed over."""
        while len(self.key_cache) <= layer_idx:
            self.key_cache.append(key_states.new_empty(0))
            self.value_cache.append(value_states.new_empty(0))
        if not self.get_seq_length(layer_idx):
            self.key_cache[layer_idx], self.value_cache[layer_idx] = key_states, value_states
        else:
            self.key_cache[layer_idx] = torch.cat([self.key_cache[layer_idx], key_states], dim=-2)
            self.value_cache[layer_idx] = torch.cat([self.value_cache[layer_idx], value_states], dim=-2)
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Count the tokens that a layer has read."""
        held = self.key_cache[layer_idx] if layer_idx < len(self.key_cache) else None
        return 0 if held is None or held.ndim < 2 else held.shape[-2]

    seen_tokens = _seen_tokens = property(get_seq_length)

    def get_usable_length(self, new_seq_length: int, layer_idx: int = 0) -> int:
        """Count the tokens that count when so many new ones come: all of them."""
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        """Give how many keys there will be with so many queries, or with those at some places, and where they begin."""
        queries = len(query_length) if isinstance(query_length, Tensor) and query_length.ndim else int(query_length)
        return self.get_seq_length(layer_idx) + queries, 0

    def get_max_length(self) -> int | None:
        """Say how many tokens there may be: as many as memory holds."""

    get_max_cache_shape = get_max_length

    @property
    def layers(self) -> list[Layer]:
        """Each layer's keys and values, as releases from 4.54 have them."""
        return [Layer(self, number) for number in range(len(self.key_cache))]

    def __len__(self) -> int:
        return len(self.key_cache)

    def __getitem__(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(self.key_cache, self.value_cache, strict=True))

    def to_legacy_cache(self) -> Legacy:
        """Give a pair of keys and values for every layer."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(cls, past_key_values: Legacy | None = None) -> "DynamicCache":
        """Start with what an older cache kept."""
        cache = cls()
        for layer, (keys, values) in enumerate(past_key_values or ()):
            cache.update(keys, values, layer)
        return cache

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        self.key_cache = [change(keys) if keys.ndim > 1 else keys for keys in self.key_cache]
        self.value_cache = [change(values) if values.ndim > 1 else values for values in self.value_cache]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take rows of the batch, in another order."""
        self._map(lambda kept: kept.index_select(0, beam_idx.to(kept.device)))

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._map(lambda kept: kept.repeat_interleave(repeats, dim=0))

    def crop(self, max_length: int) -> None:
        """Keep the first tokens of every row only; a negative number takes so many off the end."""
        length = max_length if max_length >= 0 else self.get_seq_length() + max_length
        self._map(lambda kept: kept[..., :length, :])

    def reset(self) -> None:
        """Forget everything."""
        self.key_cache, self.value_cache = [], []


class StaticCache(DynamicCache):
    """Keeps keys and values in memory for a fixed number of tokens, and gives all of it: masks leave out what is empty.

    Args:
        max_cache_len: how many tokens of a row there may be.
    """

    def __init__(self, config: Any = None, *args: Any, max_cache_len: int | None = None, **kwargs: Any) -> None:
        super().__init__()
        whole = max_cache_len or getattr(config, "max_position_embeddings", None)
        if whole is None:
            raise ValueError("StaticCache needs max_cache_len: how many tokens of a row there may be.")
        self.max_cache_len = int(whole)
        self.counts: list[int] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Put the keys and values of new tokens to their places; gives the whole memory of the layer."""
        while len(self.key_cache) <= layer_idx:
            self.counts.append(0)
            for kept, new in ((self.key_cache, key_states), (self.value_cache, value_states)):
                kept.append(new.new_zeros(*new.shape[:-2], self.max_cache_len, new.shape[-1]))
        given = (args[0] if args else kwargs.get("cache_kwargs")) or {}
        places: Tensor | None = given.get("cache_position")
        if places is None:
            places = torch.arange(key_states.shape[-2], device=key_states.device) + self.counts[layer_idx]
        self.key_cache[layer_idx] = self.key_cache[layer_idx].index_copy(-2, places, key_states)
        self.value_cache[layer_idx] = self.value_cache[layer_idx].index_copy(-2, places, value_states)
        self.counts[layer_idx] = int(places.max()) + 1
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Count the tokens that a layer has read."""
        return self.counts[layer_idx] if layer_idx < len(self.counts) else 0

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        """Give how many keys there are, and where they begin."""
        return self.max_cache_len, 0

    def get_max_length(self) -> int:
        """Say how many tokens there may be."""
        return self.max_cache_len

    get_max_cache_shape = get_max_length

    def crop(self, max_length: int) -> None:
        """Let later tokens be written over those beyond a length."""
        length = max_length if max_length >= 0 else self.get_seq_length() + max_length
        self.counts = [min(count, length) for count in self.counts]

    def reset(self) -> None:
        """Forget everything, and keep the memory."""
        self.counts = [0] * len(self.counts)


# Any such cache ---------------------------------------------------------------------------------------


def take_rows(cache: Any, rows: Sequence[int], *, of: int, model: Any, is_shared: bool) -> Any:
    """Give a cache with some rows of one, in their order, several times where they are named so.

    Args:
        of: how many rows it has.
        model: its `_reorder_cache` says where rows lie, if it has one.
        is_shared: whether the cache itself is to stay as it is.

    Returns:
        None where it cannot be told which numbers belong to which row.
    """
    is_functional = isinstance(cache, tuple | list)
    if list(rows) == list(range(of)):
        return cache if is_functional or not is_shared else copy.deepcopy(cache)
    tensors = list(list_tensors(cache)) if is_functional else []
    index = torch.tensor(list(rows), device=tensors[0].device if tensors else model.device)
    if is_functional:
        if hasattr(model, "_reorder_cache"):
            return _reorder_as_said(model, cache, index, of)
        if any(tensor.shape[:1] != (of,) for tensor in tensors):
            return None
        return map_tensors(cache, lambda tensor: tensor.index_select(0, index.to(tensor.device)))
    name = next((n for n in ("batch_select_indices", "reorder_cache") if hasattr(cache, n)), None)
    if name is None:
        return None
    cache = copy.deepcopy(cache) if is_shared else cache
    getattr(cache, name)(index)
    return cache


def _reorder_as_said(model: Any, cache: Any, index: Tensor, rows: int) -> Any:
    """Let the model's own code take rows, if that can take another number of them than there are."""
    try:
        chosen = model._reorder_cache(cache, index)
    except (RuntimeError, IndexError, ValueError):
        return None
    sizes = [sum(tensor.numel() for tensor in list_tensors(each)) for each in (cache, chosen)]
    return chosen if sizes[0] * len(index) == sizes[1] * rows else None


def forget_tokens(cache: Any, count: int, axes: Sequence[int | None]) -> Any:
    """Give a cache without the last tokens of its rows.

    Args:
        axes: along which axis of each tensor of a tuple its tokens lie; None where that is not known.

    Returns:
        None where it cannot be done.
    """
    if isinstance(cache, tuple | list):
        tensors = list(list_tensors(cache))
        if len(axes) != len(tensors) or None in axes:
            return None
        along = iter(axes)
        return map_tensors(cache, lambda t: t.narrow(axis := next(along) or 0, 0, t.shape[axis] - count))
    before = count_tokens(cache)
    if before is None or not hasattr(cache, "crop"):
        return None
    cache.crop(-count)
    return cache if count_tokens(cache) == before - count else None


def cut_front(cache: Any, count: int, axes: Sequence[int | None]) -> Any:
    """Give a joined cache without the first places of its rows; None where it is not known how they lie."""
    if type(cache) is DynamicCache:
        cache._map(lambda kept: kept[..., count:, :])
        return cache
    if not isinstance(cache, tuple | list) or len(axes) != len([*list_tensors(cache)]) or None in axes:
        return None
    along = iter(axes)
    return map_tensors(cache, lambda t: t.narrow(axis := next(along) or 0, count, t.shape[axis] - count))


def join_caches(
    caches: Sequence[Any], rows: Sequence[int], lengths: Sequence[int], axes: Sequence[Sequence[int | None]]
) -> Any:
    """Put caches of rows of several lengths together, with zeros before what is shorter.

    Args:
        rows, lengths: how many rows each has, and of how many tokens.
        axes: along which axis of each tensor of a tuple its tokens lie.

    Returns:
        None where it is not known how they lie.
    """
    if all(type(cache) is DynamicCache for cache in caches):
        pairs = [[*cache.key_cache, *cache.value_cache] for cache in caches]
        found = _join_tensors(pairs, rows, lengths, [[2] * len(tensors) for tensors in pairs])
        if found is None:
            return None
        joined = DynamicCache()
        joined.key_cache, joined.value_cache = found[: len(found) // 2], found[len(found) // 2 :]
        return joined
    if not all(isinstance(cache, tuple | list) for cache in caches):
        return None
    found = _join_tensors([[*list_tensors(cache)] for cache in caches], rows, lengths, axes)
    if found is None:
        return None
    tensors = iter(found)
    return map_tensors(caches[0], lambda _: next(tensors))


def _join_tensors(
    caches: Sequence[Sequence[Tensor]],
    rows: Sequence[int],
    lengths: Sequence[int],
    axes: Sequence[Sequence[int | None]],
) -> list[Tensor] | None:
    width, joined = max(lengths), []
    if len({len(tensors) for tensors in caches}) > 1:
        return None
    for number in range(len(caches[0])):
        parts = []
        for tensors, count, length, along in zip(caches, rows, lengths, axes, strict=True):
            tensor, axis = tensors[number], along[number] if number < len(along) else None
            if not axis or axis >= tensor.ndim or tensor.shape[0] != count or tensor.shape[axis] != length:
                return None
            missing = [width - length if place == axis else size for place, size in enumerate(tensor.shape)]
            parts.append(torch.cat([tensor.new_zeros(missing), tensor], dim=axis) if length < width else tensor)
        joined.append(torch.cat(parts))
    return joined


def find_axes(before: Shapes, after: Shapes, count: int) -> list[int | None]:
    """Find along which axis each tensor has grown by so many tokens."""
    axes: list[int | None] = []
    for old, new in zip(before, after, strict=False):
        grown = [axis for axis, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
        is_clear = len(old) == len(new) and len(grown) == 1 and new[grown[0]] - old[grown[0]] == count
        axes.append(grown[0] if is_clear else None)
    return axes


def count_tokens(cache: Any) -> int | None:
    """Count the tokens that an object says it has read; None where it does not."""
    if isinstance(cache, tuple | list) or not hasattr(cache, "get_seq_length"):
        return None
    return int(cache.get_seq_length())


def is_filled(cache: Any, tokens: int) -> bool:
    """Tell whether something was kept, and where a number is said, of so many tokens."""
    if cache is None:
        return False
    if isinstance(cache, tuple | list):
        return any(True for _ in list_tensors(cache))
    return count_tokens(cache) in (None, tokens)


def list_tensors(cache: Any) -> Iterator[Tensor]:
    """Give the tensors of nested tuples, in their order."""
    if isinstance(cache, Tensor):
        yield cache
    elif isinstance(cache, tuple | list):
        for each in cache:
            yield from list_tensors(each)


def map_tensors(cache: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Replace the tensors of nested tuples, in their order."""
    if isinstance(cache, Tensor):
        return change(cache)
    if isinstance(cache, tuple | list):
        return type(cache)(map_tensors(each, change) for each in cache)
    return cache
