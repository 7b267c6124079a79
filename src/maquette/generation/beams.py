"""Beam search: of each prompt, the likeliest ways to go on are kept side by side; the best complete texts are given.

Prompts are searched side by side too, each with slots for its beams; one that is done makes room for a waiting one.
What a prompt gives does not depend on the others.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from maquette.generation.engine import Event, Prompt, Step
from maquette.generation.logits import LogitsProcessorList
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.reading import Reader
from maquette.generation.sampling import check_best, sample_several
from maquette.generation.step_outputs import CROSS, KEPT, NAMES, join_batches
from maquette.generation.stopping import Ends

logger = logging.getLogger(__name__)

DEAD = -1e9  # added to the score of a beam that is not to go on


@dataclass(frozen=True)
class Found:
    """A complete text: its tokens, the beams they were chosen in, and their log-probability over the length penalty."""

    score: float
    tokens: list[int]
    beams: list[int]


@dataclass(eq=False)
class _Search:
    """The search of one prompt."""

    prompt: Prompt
    beams: list[list[int]]  # for each one, in which beam its tokens were chosen
    apart: list[list[int]]  # how many of the last tokens of two beams, of those that were read, may differ
    found: list[Found] = field(default_factory=list)  # the best, the best first
    is_done: bool = False
    scores: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    outputs: list[dict[str, tuple[Tensor, ...]]] = field(default_factory=list)


@dataclass(eq=False)
class Beams:
    """Searches the best continuations of prompts.

    Args:
        reader: runs the decoder.
        prompts: in the order in which they are taken; their numbers are theirs among all.
        processors: functions on logits, which get log-probabilities here.
        stops: tells which texts are complete.
        count: beams of each prompt.
        sequences: how many texts each prompt gives.
        max_rows: how many beams are computed at the same time, of whole prompts.
        length_penalty: a text's log-probability is divided by its length to this power.
        early_stopping: True: done with `count` complete texts; False: once no running beam, taken as complete, is
            better; "never": once none can become better.
        seed: of random numbers, to draw the beams that go on; None takes the likeliest.
        wants: what is kept for each step: "scores", "logits", "hidden_states", "attentions".

    Attributes:
        searches: what became of each prompt, by its number.
    """

    reader: Reader
    prompts: Sequence[Prompt]
    processors: LogitsProcessorList
    stops: Ends
    count: int
    max_rows: int
    sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    seed: int | None = None
    wants: frozenset[str] = frozenset()
    searches: dict[int, _Search] = field(default_factory=dict)
    _running: list[_Search] = field(default_factory=list)
    _rows: RaggedIds | None = None
    _scores: Tensor | None = None  # of running beams, (prompts, count)

    def run(self) -> Iterator[Step]:
        """Search until every prompt is done; a prompt's texts come all at once, the best first."""
        waiting = deque(self.prompts)
        while waiting or self._running:
            if waiting and self.searches and self.stops.is_late:
                yield Step(self._leave_out(waiting), [], [], None)
                continue
            free = max(self.max_rows // self.count, 1) - len(self._running)
            if waiting and free > 0:
                logits = self._admit([waiting.popleft() for _ in range(min(free, len(waiting)))])
                first = len(self._running) - len(logits) // self.count
            else:
                logits, first = self._advance(), 0
            self._extend(logits, first)
            yield Step(self._let_go(), [], [], None)

    def _admit(self, prompts: list[Prompt]) -> Tensor:
        """Read new prompts, once each, and give every beam what was read; gives logits `(rows, vocabulary)`."""
        first, count = len(self._running) * self.count, self.count
        self.reader.reserve(first + len(prompts) * count)
        output = self.reader.read(first, [p.unread for p in prompts], numbers=[p.text for p in prompts])
        logits: Tensor = output["logits"][:, -1].repeat_interleave(count, dim=0)
        self.reader.reorder([*range(first), *(first + n for n in range(len(prompts)) for _ in range(count))])
        rows = RaggedIds.of_prompts(
            [p.ids for p in prompts], numbers=[p.number for p in prompts], texts=[p.text for p in prompts]
        ).select([n for n in range(len(prompts)) for _ in range(count)])
        self._rows = rows if self._rows is None or not first else self._rows.join(rows)
        new = [_Search(prompt, [[] for _ in range(count)], [[0] * count for _ in range(count)]) for prompt in prompts]
        self._running += new
        self.searches |= {search.prompt.number: search for search in new}
        self._keep_output(new, output, [n for n in range(len(prompts)) for _ in range(count)])
        scores = torch.zeros(len(prompts), count, dtype=_precise(logits).dtype, device=logits.device)
        scores[:, 1:] = DEAD  # all beams are the same: only one of them is to go on
        self._scores = scores if self._scores is None or not first else torch.cat([self._scores, scores])
        return logits

    def _advance(self) -> Tensor:
        """Read each beam's last token; gives logits `(rows, vocabulary)`."""
        rows = self._rows
        assert rows is not None
        for search in self._running:
            search.apart = [[count + (i != j) for j, count in enumerate(row)] for i, row in enumerate(search.apart)]
        output = self.reader.read(0, rows.last_tokens()[:, None], numbers=rows.texts)
        self._keep_output(self._running, output, range(len(rows)))
        logits: Tensor = output["logits"][:, -1]
        return logits

    def _extend(self, logits: Tensor, first: int) -> None:
        """Let the searches from `first` on go one token further."""
        assert self._rows is not None and self._scores is not None
        searches, count = self._running[first:], self.count
        rows = self._rows if not first else self._rows.select(range(first * count, len(self._rows)))
        logs = self.processors.process(rows, _precise(logits).log_softmax(-1))
        self._keep(searches, logits, logs)
        vocabulary = logs.shape[-1]
        totals = (logs.view(-1, count, vocabulary) + self._scores[first:, :, None]).flatten(1)
        check_best(totals.amax(-1))
        values, index = self._candidates(totals, rows)
        parents, tokens = index // vocabulary, index % vocabulary
        ended = self._ended(rows, logs, parents, tokens)
        self._note_complete(searches, rows, values, parents, tokens, ended)
        best = (values + ended * DEAD).topk(count)
        going_on, chosen = parents.gather(1, best.indices), tokens.gather(1, best.indices)
        self._scores = torch.cat(
            [self._scores[:first], values.gather(1, best.indices) + ended.gather(1, best.indices) * DEAD]
        )
        self._go_on(searches, going_on.tolist(), chosen, first)
        for search, score, all_ended in zip(
            searches, self._scores[first:, 0].tolist(), ended.all(1).tolist(), strict=True
        ):
            search.is_done = all_ended or not self._can_improve(search, score)

    def _candidates(self, totals: Tensor, rows: RaggedIds) -> tuple[Tensor, Tensor]:
        """Give the candidates of each prompt, enough for all beams to go on even if all ends are among them."""
        wanted = min(max(2, 1 + len(self.stops.ends)) * self.count, totals.shape[1])
        if self.seed is None:
            return tuple(totals.topk(wanted))  # type: ignore[return-value]
        numbers, steps = rows.numbers[:: self.count], rows.generated[:: self.count]
        index = sample_several(totals, wanted, seed=self.seed, numbers=numbers, steps=steps)
        return totals.gather(1, index), index

    def _ended(self, rows: RaggedIds, logs: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Tell which candidates are complete, `(prompts, candidates)`."""
        ended = torch.isin(tokens, torch.tensor([*self.stops.ends], device=tokens.device, dtype=tokens.dtype))
        limits = [self.stops.limits[text] for text in rows.texts[:: self.count]]
        at_limit = [new + 1 >= limit for new, limit in zip(rows.generated[:: self.count], limits, strict=True)]
        ended |= rows.column(at_limit)
        if not self.stops.criteria or bool(ended.all()):
            return ended
        offsets = torch.arange(len(parents), device=parents.device)[:, None] * self.count
        sources = (parents + offsets).flatten().tolist()
        candidates = rows.select(sources)
        candidates.append(tokens.flatten())
        done = self.stops.criteria.process(candidates, logs[sources])
        return ended | torch.tensor(done, device=tokens.device).view_as(tokens)

    def _note_complete(
        self,
        searches: Sequence[_Search],
        rows: RaggedIds,
        values: Tensor,
        parents: Tensor,
        tokens: Tensor,
        ended: Tensor,
    ) -> None:
        """Keep the best complete texts; candidates that would not have gone on are none."""
        for place, search in enumerate(searches):
            if not any(ended[place, : self.count].tolist()) or (self.early_stopping is True and self._is_full(search)):
                continue
            length = rows.generated[place * self.count] + 1
            for value, parent, token, is_end in zip(
                *(each[place, : self.count].tolist() for each in (values, parents, tokens, ended)), strict=True
            ):
                if is_end and value > DEAD / 2:
                    row = place * self.count + parent
                    ids = [*rows.row(row)[rows.prompts[row] :].tolist(), token]
                    beams = [*search.beams[parent], search.prompt.number * self.count + parent]
                    search.found.append(Found(value / length**self.length_penalty, ids, beams))
            search.found = sorted(search.found, key=lambda found: -found.score)[: self.count]

    def _go_on(self, searches: Sequence[_Search], parents: list[list[int]], tokens: Tensor, first: int) -> None:
        """Let each beam be what its parent was, and one token longer."""
        assert self._rows is not None
        start = first * self.count
        sources = [*range(start), *(start + n * self.count + p for n, row in enumerate(parents) for p in row)]
        if sources != [*range(len(sources))]:
            last = [
                search.apart[i][p] for search, row in zip(searches, parents, strict=True) for i, p in enumerate(row)
            ]
            self.reader.reorder(sources, [0] * start + last)
            self._rows = self._rows.select(sources)
        self._rows.append(tokens.flatten(), only=range(start, len(sources)))
        for search, row in zip(searches, parents, strict=True):
            number = search.prompt.number * self.count
            search.beams = [[*search.beams[parent], number + parent] for parent in row]
            search.apart = [[search.apart[one][other] for other in row] for one in row]

    def _is_full(self, search: _Search) -> bool:
        return len(search.found) == self.count

    def _can_improve(self, search: _Search, score: float) -> bool:
        """Tell whether the best running beam, of this log-probability, may end among the best texts."""
        if score < DEAD / 2:
            return False
        if not self._is_full(search):
            return True
        length = len(search.beams[0])
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.stops.limits[search.prompt.text]
        is_open = self.early_stopping is not True
        return is_open and score / length**self.length_penalty > search.found[-1].score

    # What is done -------------------------------------------------------------------------------------------------

    def _keep(self, searches: Sequence[_Search], logits: Tensor, logs: Tensor) -> None:
        for name, values in (("scores", logs), ("logits", logits)):
            if name in self.wants:
                for search, rows in zip(searches, values.view(-1, self.count, values.shape[-1]), strict=True):
                    getattr(search, name).append(rows)

    def _keep_output(self, searches: Sequence[_Search], output: Any, rows: Sequence[int]) -> None:
        wanted = [name for name in KEPT if self._wants(name) and output.get(name) is not None]
        for place, search in enumerate(searches if wanted else ()):
            chosen = list(rows[place * self.count : (place + 1) * self.count])
            search.outputs.append({name: tuple(layer[chosen] for layer in output[name]) for name in wanted})

    def _wants(self, name: str) -> bool:
        return ("attentions" if name == CROSS else name) in self.wants

    def _let_go(self) -> list[Event]:
        """Give the texts of prompts that are done, and their slots to others."""
        done = [place for place, search in enumerate(self._running) if search.is_done]
        if not done:
            return []
        assert self._rows is not None and self._scores is not None
        events = [event for place in done for event in self._texts(self._running[place])]
        order = list(range(len(self._running)))
        for place in reversed(done):
            last = len(order) - 1
            for beam in range(self.count):
                if place != last:
                    self.reader.move(last * self.count + beam, place * self.count + beam)
                self.reader.clear(last * self.count + beam)
            order[place] = order[last]
            order.pop()
        self._rows = self._rows.select([n * self.count + beam for n in order for beam in range(self.count)])
        self._scores, self._running = self._scores[order], [self._running[n] for n in order]
        return events

    def _leave_out(self, waiting: deque[Prompt]) -> list[Event]:
        """Give prompts that still wait no text."""
        self.searches |= {prompt.number: _Search(prompt, [], [], is_done=True) for prompt in waiting}
        events = [Event(p.number * self.sequences + n, [], True) for p in waiting for n in range(self.sequences)]
        waiting.clear()
        return events

    def _texts(self, search: _Search) -> Iterator[Event]:
        missing = self.sequences - len(search.found)
        if missing > 0:
            logger.warning(
                "Prompt %d can be continued in %d ways only, and %d are wanted: the others are empty.",
                search.prompt.number,
                len(search.found),
                self.sequences,
            )
        for rank in range(self.sequences):
            tokens = search.found[rank].tokens if rank < len(search.found) else []
            yield Event(search.prompt.number * self.sequences + rank, tokens, True)

    @property
    def sequences_scores(self) -> Tensor:
        """The score of each text, `(prompts · sequences,)`; `-inf` for empty ones."""
        scores = [
            [each.score for each in self._of(number).found[: self.sequences]] for number in range(len(self.prompts))
        ]
        missing = -float("inf")
        return torch.tensor([s for row in scores for s in row + [missing] * (self.sequences - len(row))])

    @property
    def beam_indices(self) -> Tensor:
        """The beam, among those of all prompts, in which each token was chosen, `(rows, length)`; -1 at padding."""
        rows = [
            torch.tensor(self._of(number).found[rank].beams if rank < len(self._of(number).found) else [])
            for number in range(len(self.prompts))
            for rank in range(self.sequences)
        ]
        return torch.nn.utils.rnn.pad_sequence([row.long() for row in rows], batch_first=True, padding_value=-1)

    def steps(self, name: str) -> tuple[Tensor, ...] | None:
        """Give "scores" or "logits" of each step, `(prompts · count, vocabulary)`; zeros once a prompt was done."""
        if name not in self.wants:
            return None
        kept: list[list[Tensor]] = [getattr(self._of(number), name) for number in range(len(self.prompts))]
        longest, like = max(map(len, kept)), next(steps[0] for steps in kept if steps)
        padded = [[*steps, *[torch.zeros_like(like)] * (longest - len(steps))] for steps in kept]
        return tuple(torch.cat([steps[n] for steps in padded]) for n in range(longest))

    def states(self, name: str) -> tuple[tuple[Tensor, ...], ...] | None:
        """Give "hidden_states" and so on of each step, layer by layer; zeros once a prompt was done."""
        kept = [self._of(number).outputs for number in range(len(self.prompts))]
        if not self._wants(name) or any(name not in step for steps in kept for step in steps[:1]):
            return None
        steps = range(max(map(len, kept)))
        return tuple(join_batches([each[n] if n < len(each) else None for each in kept], name) for n in steps)

    def _of(self, number: int) -> _Search:
        return self.searches[number]


def _precise(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def beams_for(config: Any, *, reader: Reader, prompts: Sequence[Prompt], seed: int | None, **more: Any) -> Beams:
    """Make the search that settled settings ask for."""
    wants = {name for name in ("scores", "logits", *NAMES) if getattr(config, f"output_{name}")}
    return Beams(
        reader,
        prompts,
        count=config.num_beams,
        sequences=config.num_return_sequences,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        seed=seed,
        wants=frozenset(wants),
        **more,
    )
