"""A cache as a compiled step sees it: tensors of fixed shapes, and a tensor that says where each row's token comes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maquette.generation.cache import Cache


class OpenCache(Cache):
    """A cache inside a compiled step: every slot has one new token, and takes it in at its position.

    Args:
        positions: of the new tokens, `(slots,)`.
        keys, values: of each layer, `(slots, capacity, heads, width)`; a ring where positions go beyond.
        states: of recurrent layers, `(slots, …)`.
    """

    def __init__(
        self, positions: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], states: Sequence[Tensor]
    ) -> None:
        # what a cache remembers of its rows is not needed here, and is more than compilers understand
        self.positions, self.keys, self.values, self.states = positions, keys, values, states

    def begin(self, counts: Sequence[int], width: int) -> list[int]:
        """Say nothing of what came before: `positions` does."""
        return []

    def put(self, number: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the new tokens `(slots, heads, width)` of a layer; gives what it holds, and the position of each."""
        keys, values = self.keys[number], self.values[number]
        slots, capacity = torch.arange(len(self.positions), device=k.device), keys.shape[1]
        place = self.positions % capacity
        keys[slots, place], values[slots, place] = k, v
        ends = self.positions[:, None]
        return keys, values, ends - (ends - torch.arange(capacity, device=k.device)) % capacity

    def state(self, number: int, owner: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Give what a recurrent layer kept."""
        return self.states[number].clone()

    def keep_state(self, number: int, value: Tensor) -> None:
        """Keep its new state."""
        self.states[number].copy_(value)
