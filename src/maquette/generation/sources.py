"""What rows look at beside their own text: keys and values that each layer made of an encoder's states.

They are computed once for a prompt, and rows that continue the same prompt (beams, several samples) share them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 16  # tokens by which room for longer texts grows


class Shared(NamedTuple):
    """Which of the kept texts some neighbouring rows look at.

    Attributes:
        places: of the texts, in the rows' order.
        times: how many neighbouring rows share each of them.
        lengths: tokens of each.
    """

    places: slice | Tensor
    times: int
    lengths: list[int]


@dataclass(eq=False)
class Sources:
    """The texts that rows look at, each with keys and values for every layer.

    Attributes:
        texts: for each slot, which text it looks at; -1 for none.
        lengths: of each text, in tokens.
        layers: keys and values of each layer, `(texts, capacity, heads, width)`; zeros behind each text's end.
    """

    texts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lengths)

    def tensors(self) -> Iterator[Tensor]:
        """Give all that is kept."""
        return (tensor for pair in self.layers for tensor in pair)

    def known(self, first: int, count: int) -> bool:
        """Tell whether these slots all have a text."""
        texts = self.texts[first : first + count]
        return len(texts) == count and -1 not in texts

    def find(self, first: int, count: int) -> Shared:
        """Say what these slots look at."""
        texts = self.texts[first : first + count]
        low, high = min(texts), max(texts)
        times = max(count // (high - low + 1), 1)
        if texts == [low + row // times for row in range(count)]:
            return Shared(slice(low, high + 1), times, self.lengths[low : high + 1])
        return Shared(torch.tensor(texts), 1, [self.lengths[text] for text in texts])

    # New texts --------------------------------------------------------------------------------------------------

    def begin(self, first: int, lengths: Sequence[int]) -> None:
        """Let each slot from `first` on look at a new text, of so many tokens."""
        self._cover(first + len(lengths))
        self.texts[first : first + len(lengths)] = [-1] * len(lengths)
        self._settle()
        start = len(self.lengths)
        self.texts[first : first + len(lengths)] = range(start, start + len(lengths))
        self.lengths += lengths

    def keep(self, number: int, first: int, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Keep what a layer made of the texts that `begin` named, `(length, heads, width)` each."""
        start = self.texts[first]
        if number == len(self.layers):
            self.layers.append((_allocate(keys[0], start, 0), _allocate(values[0], start, 0)))
        kept = []
        for old, new in zip(self.layers[number], (keys, values), strict=True):
            room = _enlarge(old, start + len(new), max(map(len, new)))
            for place, text in enumerate(new, start):
                room[place, : len(text)] = text
                room[place, len(text) :] = 0
            kept.append(room)
        self.layers[number] = (kept[0], kept[1])

    def _settle(self) -> None:
        """Forget texts that no slot looks at, and keep the others in the order of the slots."""
        used = list(dict.fromkeys(text for text in self.texts if text >= 0))
        if used == list(range(len(self.lengths))):
            return
        moved = [(place, text) for place, text in enumerate(used) if place != text]
        for tensor in self.tensors() if moved else ():
            places, texts = (torch.tensor(each, device=tensor.device) for each in zip(*moved, strict=True))
            tensor[places] = tensor[texts]
        place_of = {text: place for place, text in enumerate(used)} | {-1: -1}
        self.lengths = [self.lengths[text] for text in used]
        self.texts = [place_of[text] for text in self.texts]

    # Rows that come, go, and change places ------------------------------------------------------------------------

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Let slots look at what others look at."""
        if not self:
            return
        self._cover(1 + max(*sources, *targets))
        texts = [self.texts[source] for source in sources]
        for target, text in zip(targets, texts, strict=True):
            self.texts[target] = text

    def clear(self, slot: int) -> None:
        """Let a slot look at nothing."""
        if slot < len(self.texts):
            self.texts[slot] = -1

    def select(self, slots: Sequence[int]) -> None:
        """Keep these slots only, in this order."""
        if self:
            self._cover(1 + max(slots, default=0))
            self.texts = [self.texts[slot] for slot in slots]
            self._settle()

    def clone(self) -> "Sources":
        """Give a copy that shares nothing."""
        layers = [(keys.clone(), values.clone()) for keys, values in self.layers]
        return Sources(self.texts[:], self.lengths[:], layers)

    def _cover(self, slots: int) -> None:
        self.texts += [-1] * (slots - len(self.texts))


def _allocate(like: Tensor, texts: int, capacity: int) -> Tensor:
    """Give `(texts, capacity, heads, width)`; in memory, the tokens of a head follow each other."""
    heads, width = like.shape[-2:]
    return like.new_empty(texts, heads, capacity, width).transpose(1, 2)


def _enlarge(old: Tensor, texts: int, capacity: int) -> Tensor:
    """Make room for so many texts of so many tokens: zeros behind texts that were there, anything in new places."""
    if old.shape[0] >= texts and old.shape[1] >= capacity:
        return old
    new = _allocate(old, max(texts, old.shape[0]), -(-max(capacity, old.shape[1]) // BLOCK) * BLOCK)
    new[: old.shape[0], : old.shape[1]] = old
    new[: old.shape[0], old.shape[1] :] = 0
    return new
