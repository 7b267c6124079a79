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

    new_mask: Tensor | None = None  # True at new tokens that are real; None where all are, or nobody asks

    def __init__(
        self, positions: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], states: Sequence[Tensor]
    ) -> None:
        # what a cache remembers of its rows is not needed here, and is more than compilers understand
        self.positions, self.keys, self.values, self.states = positions, keys, values, states

    @property
    def starts(self) -> Tensor:
        """The position of each new token, `(slots, 1)`."""
        return self.positions[:, None]

    def put(self, number: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the new tokens `(slots, 1, heads, width)` of a layer; gives what it holds, and the position of each."""
        k, v = k[:, 0], v[:, 0]
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


class GivenCache(OpenCache):
    """A cache of tensors that a caller gives, and finds longer afterwards: for programs that keep nothing themselves.

    Args:
        positions: of the new tokens, `(rows, new)`.
        mask: 1 at real tokens, `(rows, held + new)`.
        keys, values: of each layer, `(rows, heads, held, width)`.
    """

    def __init__(self, positions: Tensor, mask: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        super().__init__(positions, list(keys), list(values), [])
        count = keys[0].shape[2] + positions.shape[1]
        # as many places as keys, which is known of the mask by what it is for alone
        places = torch.arange(count, device=mask.device)[None].expand(positions.shape[0], -1)
        real = mask.gather(1, places)
        self.places = torch.where(real > 0, real.cumsum(1) - 1, -1)

    @property
    def starts(self) -> Tensor:
        """The position of each new token, `(rows, new)`."""
        return self.positions

    def put(self, number: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep the new tokens `(rows, new, heads, width)` of a layer; gives what it holds, and the position of each."""
        keys = torch.cat([self.keys[number], k.transpose(1, 2)], 2)
        values = torch.cat([self.values[number], v.transpose(1, 2)], 2)
        self.keys, self.values = _with(self.keys, number, keys), _with(self.values, number, values)
        return keys.transpose(1, 2), values.transpose(1, 2), self.places

    def state(self, number: int, owner: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Refuse: a state cannot be told from padding."""
        raise ValueError(f"{owner} keeps a state, and only keys and values are given from outside.")


def _with(items: Sequence[Tensor], number: int, new: Tensor) -> list[Tensor]:
    return [*items[:number], new, *items[number + 1 :]]
