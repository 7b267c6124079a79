"""The ids of rows that differ in length, as functions on logits and stopping criteria see them: without padding."""

import functools
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor


class RaggedIds:
    """The tokens of each row so far: its prompt, then what was generated.

    Args:
        ids: `(rows, width)`, int64; row `r` is `ids[r, : lengths[r]]`, and what stands behind it is of no meaning.
        lengths: how many tokens each row has.
        prompts: how many of them are its prompt.
        numbers: the row's own number, which its random numbers follow from; 0, 1, … unless given.
        texts: which of the caller's prompts each row continues; the row's own number unless given.
    """

    def __init__(
        self,
        ids: Tensor,
        lengths: Sequence[int],
        *,
        prompts: Sequence[int],
        numbers: Sequence[int] | None = None,
        texts: Sequence[int] | None = None,
    ) -> None:
        self.ids, self.lengths, self.prompts = ids, [*lengths], [*prompts]
        self.numbers = [*(range(len(ids)) if numbers is None else numbers)]
        self.texts = [*(self.numbers if texts is None else texts)]
        self.latest: Tensor | None = None  # the last token of each row, `(rows,)`, where all were given one at once

    @classmethod
    def of_batch(cls, input_ids: Tensor, *, prompt: int = 0) -> Self:
        """Take a batch in which all rows are of one length, none of it padding."""
        rows, width = input_ids.shape
        return cls(input_ids, [width] * rows, prompts=[min(prompt, width)] * rows)

    @classmethod
    def of_prompts(
        cls, prompts: Sequence[Tensor], *, numbers: Sequence[int] | None = None, texts: Sequence[int] | None = None
    ) -> Self:
        """Take prompts, each `(length,)`."""
        lengths = [len(prompt) for prompt in prompts]
        ids = torch.nn.utils.rnn.pad_sequence([*prompts], batch_first=True)
        return cls(ids, lengths, prompts=lengths, numbers=numbers, texts=texts)

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, row: int) -> Tensor:
        """Give one row's ids, `(length,)`."""
        return self.ids[row, : self.lengths[row]]

    @property
    def generated(self) -> list[int]:
        """How many tokens of each row are new."""
        return [length - prompt for length, prompt in zip(self.lengths, self.prompts, strict=True)]

    # Other rows ------------------------------------------------------------------------------------------------

    def append(self, tokens: Tensor, *, only: Sequence[int] | None = None) -> None:
        """Add one token to each row, or to some rows only; the room grows in doubles, so that little is copied.

        Args:
            tokens: `(rows,)`.
            only: the rows' indices; all unless given.
        """
        if self.ids.shape[1] <= max(self.lengths, default=0):
            self.ids = torch.nn.functional.pad(self.ids, (0, max(16, self.ids.shape[1])))
        rows = range(len(self.lengths)) if only is None else only
        tokens = tokens.to(self.ids)
        self.latest = tokens if only is None else None
        if only is None and len({*self.lengths}) == 1:
            self.ids[:, self.lengths[0]] = tokens
        else:
            places = torch.tensor([[*rows], [self.lengths[row] for row in rows]], device=self.ids.device)
            self.ids[places[0], places[1]] = tokens
        for row in rows:
            self.lengths[row] += 1
        self._forget()

    def last_tokens(self) -> Tensor:
        """Give the last token of each row, `(rows,)`."""
        if self.latest is not None:
            return self.latest
        return self.ids.gather(1, self.column([length - 1 for length in self.lengths]))[:, 0]

    def select(self, rows: Sequence[int]) -> "RaggedIds":
        """Give the rows of these indices, in this order; one may come several times."""
        lists = ([values[row] for row in rows] for values in (self.lengths, self.prompts, self.numbers, self.texts))
        lengths, prompts, numbers, texts = lists
        ids = self.ids[torch.tensor(rows, dtype=torch.long, device=self.ids.device)]
        return RaggedIds(ids, lengths, prompts=prompts, numbers=numbers, texts=texts)

    def join(self, other: "RaggedIds") -> "RaggedIds":
        """Give these rows and those of another."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        padded = (torch.nn.functional.pad(each.ids, (0, width - each.ids.shape[1])) for each in (self, other))
        return RaggedIds(
            torch.cat([*padded]),
            self.lengths + other.lengths,
            prompts=self.prompts + other.prompts,
            numbers=self.numbers + other.numbers,
            texts=self.texts + other.texts,
        )

    def _forget(self) -> None:
        for name in ("width", "positions", "is_token", "is_new"):
            self.__dict__.pop(name, None)

    # What is asked of them -------------------------------------------------------------------------------------

    @functools.cached_property
    def width(self) -> int:
        """The length of the longest row."""
        return max(self.lengths, default=0)

    @functools.cached_property
    def positions(self) -> Tensor:
        """`(1, width)`."""
        return torch.arange(self.width, device=self.ids.device)[None]

    @functools.cached_property
    def is_token(self) -> Tensor:
        """Which places of the first `width` hold a token, `(rows, width)`."""
        return self.positions < self.column(self.lengths)

    @functools.cached_property
    def is_new(self) -> Tensor:
        """Which of them were generated, `(rows, width)`."""
        return self.is_token & (self.positions >= self.column(self.prompts))

    def column(self, values: Sequence[float]) -> Tensor:
        """Give one number for each row, `(rows, 1)`."""
        return torch.tensor(values, device=self.ids.device)[:, None]

    def where(self, holds: Callable[[int, int], bool]) -> Tensor | None:
        """Tell for which rows something holds of `(length, prompt)`, `(rows, 1)`; None where for none."""
        found = [holds(length, prompt) for length, prompt in zip(self.lengths, self.prompts, strict=True)]
        return self.column(found) if any(found) else None

    def counts(self, vocabulary: int, *, only_new: bool = False) -> Tensor:
        """Count how often each row has each token, `(rows, vocabulary)`, float32; ids beyond are passed over."""
        ids, counted = self.ids[:, : self.width], self.is_new if only_new else self.is_token
        counted = (counted & (ids < vocabulary)).float()
        return counted.new_zeros(len(self), vocabulary).scatter_add_(1, ids.clamp(max=vocabulary - 1), counted)

    def ends_with(self, tokens: Tensor) -> Tensor:
        """Tell which rows end with which sequences: `(sequences, length)` to `(rows, sequences)`."""
        length = tokens.shape[1]
        if length > self.width:
            return torch.zeros(len(self), len(tokens), dtype=torch.bool, device=self.ids.device)
        lengths = self.column(self.lengths)
        places = lengths - length + torch.arange(length, device=self.ids.device)
        ends = self.ids.gather(1, places.clamp(min=0))
        return (ends[:, None] == tokens).all(-1) & (lengths >= length)

    def by_length(self) -> list[list[int]]:
        """Group the rows that are of one length, so that their ids form a tensor."""
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(self.lengths):
            groups.setdefault(length, []).append(row)
        return [*groups.values()]
