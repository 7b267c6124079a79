"""Guesses of what comes next. The engine checks them, and keeps what it would have chosen anyway.

Several tokens are then read in the time of one (Leviathan et al. 2023; Saxena 2023 for guesses from the prompt itself).
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from maquette.generation.cache import BLOCK
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.reading import Reader

MOST = BLOCK - 1  # a windowed layer can take so many tokens back


class PromptLookup:
    """Guesses that a row goes on as it did after the same words earlier in it.

    Args:
        count: how many tokens to guess at most.
        longest: how many of a row's last tokens are looked for, at most; fewer, where these occur nowhere else.
    """

    def __init__(self, count: int, *, longest: int = 2) -> None:
        self.count, self.longest = min(count, MOST), longest

    def propose(self, rows: RaggedIds) -> list[list[int]]:
        """Guess the next tokens of each row."""
        return [self._look_up(rows.row(row).tolist()) for row in range(len(rows))]

    def _look_up(self, ids: list[int]) -> list[int]:
        for length in range(min(self.longest, len(ids) - 1), 0, -1):
            last = ids[-length:]
            for start in range(len(ids) - length - 1, -1, -1):
                if ids[start : start + length] == last:
                    return ids[start + length : start + length + self.count]
        return []

    def learn(self, rows: RaggedIds, accepted: Sequence[int]) -> None:
        """Nothing changes."""

    def leave(self, order: Sequence[int]) -> None:
        """Nothing is kept."""


class Assistant:
    """Guesses with a smaller model of the same vocabulary.

    Args:
        reader: runs the smaller model.
        count: how many tokens to guess at most.
        schedule: "constant", or "heuristic": two more where all were right, one fewer where not.
        threshold: a row's guesses end where the smaller model gives its choice less than this probability.
    """

    def __init__(self, reader: Reader, count: int, *, schedule: str = "constant", threshold: float = 0.0) -> None:
        self.reader, self.count, self.schedule, self.threshold = reader, count, schedule, threshold
        self.read: list[int] = []  # tokens of each row that the smaller model has read

    def propose(self, rows: RaggedIds) -> list[list[int]]:
        """Guess the next tokens of each row."""
        self.read += [0] * (len(rows) - len(self.read))
        unread = [rows.row(row)[read:] for row, read in enumerate(self.read)]
        guesses: list[list[int]] = [[] for _ in unread]
        live = set(range(len(unread)))
        for _ in range(min(self.count, MOST)):
            logits = self._read_on(rows, unread)
            self.read = [read + len(new) for read, new in zip(self.read, unread, strict=True)]
            best = logits.float().softmax(-1).max(-1)
            for row, (share, token) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
                if row in live and share >= self.threshold:
                    guesses[row].append(token)
                else:
                    live.discard(row)
            if not live:
                break
            ids = best.indices[:, None]
            unread = [ids[row] if row in live else ids[row, :0] for row in range(len(unread))]
        return guesses

    def _read_on(self, rows: RaggedIds, unread: Sequence[Tensor]) -> Tensor:
        """Give `(rows, vocabulary)`; rows that are new are read by themselves, with what else belongs to them."""
        found, first = [], 0
        for _, same in itertools.groupby(self.read, bool):
            end = first + len(list(same))
            found.append(self.reader.read(first, unread[first:end], numbers=rows.texts[first:end])["logits"][:, -1])
            first = end
        return torch.cat(found) if len(found) > 1 else found[0]

    def learn(self, rows: RaggedIds, accepted: Sequence[int]) -> None:
        """Take back what was wrong, and guess more or fewer tokens from now on."""
        kept = [min(read, length - 1) for read, length in zip(self.read, rows.lengths, strict=True)]
        self.reader.drop(0, [read - keep for read, keep in zip(self.read, kept, strict=True)])
        self.read = kept
        if self.schedule != "constant":
            self.count = self.count + 2 if min(accepted) >= self.count else max(self.count - 1, 1)

    def leave(self, order: Sequence[int]) -> None:
        """Follow the rows to their new slots."""
        known = len(self.read)  # rows that ended at once, or came since, have not been read here
        for target, source in enumerate(order):
            if source < known and source != target:
                self.reader.move(source, target)
            elif source >= known > target:
                self.reader.clear(target)
        for slot in range(len(order), known):
            self.reader.clear(slot)
        self.read = [self.read[source] if source < known else 0 for source in order]
