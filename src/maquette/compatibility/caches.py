"""Keys and values of the tokens that a decoder has read, layer by layer."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Legacy = tuple[tuple[Tensor, Tensor], ...]


class Cache:
    """Base of what keeps keys and values."""


class DynamicCache(Cache):
    """Keeps the keys and values of all tokens, `(batch, heads, length, width)` for every layer, and grows with them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.key_cache: list[Tensor] = []
        self.value_cache: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens to a layer's; gives all of them."""
        if layer_idx == len(self.key_cache):
            self.key_cache.append(key_states)
            self.value_cache.append(value_states)
        elif layer_idx < len(self.key_cache):
            self.key_cache[layer_idx] = torch.cat([self.key_cache[layer_idx], key_states], dim=-2)
            self.value_cache[layer_idx] = torch.cat([self.value_cache[layer_idx], value_states], dim=-2)
        else:
            raise IndexError(f"Layer {layer_idx} comes before layer {len(self.key_cache)}: fill them in their order.")
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Count the tokens that a layer has read."""
        return self.key_cache[layer_idx].shape[-2] if layer_idx < len(self.key_cache) else 0

    def get_usable_length(self, new_seq_length: int, layer_idx: int = 0) -> int:
        """Count the tokens that count when so many new ones come: all of them."""
        return self.get_seq_length(layer_idx)

    def get_max_length(self) -> None:
        """Say how many tokens there may be: as many as memory holds."""

    get_max_cache_shape = get_max_length

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

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows of the batch in another order."""
        self.key_cache = [keys.index_select(0, beam_idx.to(keys.device)) for keys in self.key_cache]
        self.value_cache = [values.index_select(0, beam_idx.to(values.device)) for values in self.value_cache]
