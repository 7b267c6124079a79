"""Continues many prompts at once: finished rows leave, waiting prompts take their place, drafts are checked.

    engine = Engine(reader, prompts, choose=Chooser(processors), stops=stops, max_rows=16)
    for step in engine.run(): ...            # which row got which tokens, and which rows are done

A row's result follows from its own tokens and its own number. Which rows are its neighbours, and when it came, only
decides how the numbers inside a matrix product are summed.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.logits import LogitsProcessorList
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.reading import Reader
from maquette.generation.sampling import choose_likeliest, sample


@dataclass(eq=False)
class Prompt:
    """What is to be continued.

    Attributes:
        number: of the row, among all that are wanted; its random numbers follow from it.
        text: which of the caller's prompts it is.
        ids: all of its tokens, `(length,)`.
        unread: what the decoder has still to read: ids, or vectors `(length, dim)`.
    """

    number: int
    text: int
    ids: Tensor
    unread: Tensor


class Event(NamedTuple):
    """What one step gave a row."""

    number: int
    tokens: list[int]
    is_done: bool


class Step(NamedTuple):
    """What one step gave: events, one for each row, and what was asked to be kept of the outputs."""

    events: list[Event]
    scores: list[Tensor]  # for each row, `(tokens, vocabulary)`
    logits: list[Tensor]
    output: Any


class Chooser:
    """Chooses the next token of each row.

    Args:
        processors: functions on logits, in their order.
        seed: of random numbers; None takes the likeliest token.
    """

    def __init__(self, processors: LogitsProcessorList, *, seed: int | None = None) -> None:
        self.processors, self.seed = processors, seed

    def __call__(self, rows: RaggedIds, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Give tokens `(rows,)`, and the scores `(rows, vocabulary)` they were chosen by."""
        scores = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        if self.processors:
            scores = self.processors.process(rows, scores)
        if self.seed is None:
            return choose_likeliest(scores), scores
        return sample(scores, seed=self.seed, numbers=rows.numbers, steps=rows.generated), scores


class Drafter(Protocol):
    """Guesses what comes next, so that several tokens can be checked at once."""

    def propose(self, rows: RaggedIds) -> list[list[int]]:
        """Guess the next tokens of each row; none where there is no good guess."""

    def learn(self, rows: RaggedIds, accepted: Sequence[int]) -> None:
        """Take note of how many of them were right."""

    def leave(self, order: Sequence[int]) -> None:
        """Take note that the rows are now those of these indices, in this order."""


Stops = Callable[[RaggedIds, Tensor], list[bool]]


@dataclass(eq=False)
class Engine:
    """Continues prompts.

    Args:
        reader: runs the decoder.
        prompts: in the order in which they are taken.
        choose: gives the next token of each row.
        stops: tells which rows are done, of rows whose last token is new.
        max_rows: how many rows are continued at the same time.
        drafter: guesses tokens.
        keeps_rows: rows that are done keep their slots, and read nothing more.
        wants: what is kept for each step: "scores", "logits", "output".
    """

    reader: Reader
    prompts: Sequence[Prompt]
    choose: Chooser
    stops: Stops
    max_rows: int
    drafter: Drafter | None = None
    keeps_rows: bool = False
    wants: frozenset[str] = frozenset()
    _rows: RaggedIds | None = None
    _done: list[bool] = field(default_factory=list)

    def run(self) -> Iterator[Step]:
        """Continue until every row is done; gives what each step brought."""
        waiting = deque(self.prompts)
        while waiting or (self._rows and not all(self._done)):
            if waiting and self._rows is not None and getattr(self.stops, "is_late", False):
                waiting.clear()
                continue
            free = self.max_rows - len(self._done)
            if waiting and free and (free * 8 >= self.max_rows or free >= len(waiting)):
                yield self._admit([waiting.popleft() for _ in range(min(free, len(waiting)))])
            else:
                yield self._advance()
            if not self.keeps_rows:
                self._let_go()

    def _admit(self, prompts: list[Prompt]) -> Step:
        """Read new prompts, and give each its first token."""
        rows = RaggedIds.of_prompts(
            [p.ids for p in prompts], numbers=[p.number for p in prompts], texts=[p.text for p in prompts]
        )
        first = len(self._done)
        output = self.reader.read(first, [p.unread for p in prompts], numbers=rows.texts)
        step, done = self._extend(rows, output, [[] for _ in prompts])
        self._rows = rows if self._rows is None or not first else self._rows.join(rows)
        self._done += done
        if self.drafter is not None and not self.reader.can_rewind:
            raise ConfigurationError(
                "The model carries a state that cannot be taken back, so that drafts cannot be checked: generate "
                "without assistant_model and prompt_lookup_num_tokens."
            )
        return step

    def _advance(self) -> Step:
        """Give every row that is not done its next tokens."""
        rows = self._rows
        assert rows is not None
        drafts: list[list[int]] = [[] for _ in rows.lengths]
        if self.drafter is not None:
            guesses = self.drafter.propose(rows)
            drafts = [[] if done else guess for guess, done in zip(guesses, self._done, strict=True)]
        output = self._read(rows, drafts)
        before = rows.lengths[:]
        step, self._done = self._extend(rows, output, drafts)
        if any(drafts):
            assert self.drafter is not None
            right = [max(now - then - 1, 0) for now, then in zip(rows.lengths, before, strict=True)]
            self.reader.drop(0, [len(draft) - count for draft, count in zip(drafts, right, strict=True)])
            self.drafter.learn(rows, right)
        return step

    def _read(self, rows: RaggedIds, drafts: list[list[int]]) -> Any:
        if not any(drafts) and not any(self._done):
            return self.reader.read(0, rows.last_tokens()[:, None], numbers=rows.texts)
        unread = [
            torch.cat([rows.row(row)[-1:], torch.tensor(draft, dtype=torch.long, device=rows.ids.device)])[
                : 0 if self._done[row] else None
            ]
            for row, draft in enumerate(drafts)
        ]
        return self.reader.read(0, unread, numbers=rows.texts, last=1 + max(map(len, drafts)))

    def _extend(self, rows: RaggedIds, output: Any, drafts: list[list[int]]) -> tuple[Step, list[bool]]:
        """Choose tokens, one after the other where drafts turn out right; gives the step, and which rows are done.

        What was drafted counts only where it is what would have been chosen anyway.
        """
        logits = output["logits"]
        count = len(rows)
        done = self._done[:] if len(self._done) == count and self._rows is rows else [False] * count
        live = [row for row in range(count) if not done[row]]
        tokens: list[list[int]] = [[] for _ in range(count)]
        scores: list[list[Tensor]] = [[] for _ in range(count)]
        raw: list[list[Tensor]] = [[] for _ in range(count)]
        is_new = list(live)
        for place in range(1 + max(map(len, drafts))):
            if not live:
                break
            is_all = len(live) == count
            part = rows if is_all else rows.select(live)
            at = [logits.shape[1] - 1 - len(drafts[row]) + place for row in live]
            here = logits[:, at[0]] if is_all and min(at) == max(at) else logits[live, at]
            chosen, by = self.choose(part, here)
            rows.append(chosen, only=None if is_all else live)
            new = chosen.tolist()
            ended = self.stops(rows if is_all else rows.select(live), by)
            for i, row in enumerate(live):
                tokens[row].append(new[i])
                done[row] = ended[i]
                if "scores" in self.wants:
                    scores[row].append(by[i])
                if "logits" in self.wants:
                    raw[row].append(here[i])
            live = [
                row
                for i, row in enumerate(live)
                if not ended[i] and place < len(drafts[row]) and drafts[row][place] == new[i]
            ]
        events = [Event(rows.numbers[row], tokens[row], done[row]) for row in is_new]
        by_row = [[torch.stack(each[row]) for row in is_new if each[row]] for each in (scores, raw)]
        return Step(events, by_row[0], by_row[1], output if "output" in self.wants else None), done

    def _let_go(self) -> None:
        """Give the slots of rows that are done to others, so that those in use come first."""
        if not any(self._done):
            return
        assert self._rows is not None
        order = list(range(len(self._done)))
        for slot in reversed([slot for slot, done in enumerate(self._done) if done]):
            last = len(order) - 1
            if slot != last:
                self.reader.move(last, slot)
                order[slot] = order[last]
            order.pop()
            self.reader.clear(last)
        self._rows = self._rows.select(order)
        self._done = [False] * len(order)
        if self.drafter is not None:
            self.drafter.leave(order)
