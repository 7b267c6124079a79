"""What code for Transformers keeps where there is an encoder, and what such an encoder made of the prompts."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from maquette.generation.foreign_caches import Cache, DynamicCache

AT_ONCE = 16  # prompts that an encoder reads at the same time


class EncoderDecoderCache(Cache):
    """Two caches: of a decoder's own tokens, and of what its layers made of an encoder's states.

    Args:
        caches: the two; or what an older cache kept, for each layer keys and values of both.
    """

    def __init__(self, *caches: Any) -> None:
        if len(caches) == 1:
            layers = [tuple(layer) for layer in caches[0]]
            caches = tuple(DynamicCache.from_legacy_cache([layer[n : n + 2] for layer in layers]) for n in (0, 2))  # type: ignore[arg-type]
        self.self_attention_cache, self.cross_attention_cache = caches
        self.is_updated = {n: self.cross_attention_cache.get_seq_length(n) > 0 for n in range(len(caches[1]))}

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        pairs = zip(self.self_attention_cache, self.cross_attention_cache, strict=False)
        return ((*own[:2], *cross[:2]) for own, cross in pairs)

    def __getitem__(self, layer_idx: int) -> tuple[Tensor, ...]:
        return tuple(self)[layer_idx]

    def __len__(self) -> int:
        return len(self.self_attention_cache)

    def to_legacy_cache(self) -> tuple[tuple[Tensor, ...], ...]:
        """Give for every layer the keys and values of both."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(cls, past_key_values: Any = None) -> "EncoderDecoderCache":
        """Start with what an older cache kept."""
        return cls(past_key_values) if past_key_values else cls(DynamicCache(), DynamicCache())

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Count the decoder's tokens that a layer has read."""
        return int(self.self_attention_cache.get_seq_length(layer_idx))

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        """Give how many of the decoder's keys there will be, and where they begin."""
        found: tuple[int, int] = self.self_attention_cache.get_mask_sizes(query_length, layer_idx)
        return found

    def get_max_length(self) -> Any:
        """Say how many tokens there may be."""
        return self.self_attention_cache.get_max_length()

    get_max_cache_shape = get_max_length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take rows of the batch, in another order."""
        for cache in (self.self_attention_cache, self.cross_attention_cache):
            cache.reorder_cache(beam_idx)

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        for cache in (self.self_attention_cache, self.cross_attention_cache):
            cache.batch_repeat_interleave(repeats)

    def crop(self, max_length: int) -> None:
        """Keep the first of the decoder's tokens only."""
        self.self_attention_cache.crop(max_length)

    def reset(self) -> None:
        """Forget everything."""
        for cache in (self.self_attention_cache, self.cross_attention_cache):
            cache.reset()
        self.is_updated = dict.fromkeys(self.is_updated, False)


def encode(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Have a model's encoder read all prompts; gives what the decoder is given instead, None where there is no encoder.

    Args:
        model: has `get_encoder`.
        inputs: what belongs to each prompt, `(prompts, …)`.
    """
    find: Callable[[], Any] | None = getattr(model, "get_encoder", None)
    if "encoder_outputs" in inputs:
        return dict(inputs)
    if find is None:
        return None
    encoder: Any = find()
    names = inspect.signature(encoder.forward).parameters
    given = {name: value for name, value in inputs.items() if name in names}
    needed = [n for n, p in names.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not given or not {*needed} <= given.keys():
        return None
    count, states = len(next(iter(given.values()))), []
    for start in range(0, count, AT_ONCE):
        output = encoder(**{name: value[start : start + AT_ONCE] for name, value in given.items()})
        states.append(output["last_hidden_state"] if isinstance(output, Mapping) else output[0])
    rest = {name: value for name, value in inputs.items() if name == "attention_mask" or name not in given}
    return {**rest, "encoder_outputs": torch.cat(states)}
