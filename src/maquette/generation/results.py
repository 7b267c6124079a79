"""What rows have got so far, put together as `generate` gives it back."""

from typing import Any

import torch
from torch import Tensor

from maquette.generation.engine import Step
from maquette.generation.prompts import Prompts
from maquette.generation.step_outputs import KEPT


class Results:
    """Collects the tokens of each row.

    Args:
        prompts: as they came.
        pad: the id that stands at padding.
        times: how many rows continue each prompt.
    """

    def __init__(self, prompts: Prompts, *, pad: int, times: int) -> None:
        self.prompts, self.times, self.pad = prompts, times, pad
        self.tokens: list[list[int]] = [[] for _ in range(len(prompts) * times)]
        self._scores: dict[int, list[Tensor]] = {}
        self._logits: dict[int, list[Tensor]] = {}
        self._outputs: list[Any] = []

    def add(self, step: Step) -> None:
        """Take what a step brought."""
        if step.output is not None:
            self._outputs.append({name: step.output.get(name) for name in KEPT})
        for place, event in enumerate(step.events):
            self.tokens[event.number] += event.tokens
            for kept, found in ((self._scores, step.scores), (self._logits, step.logits)):
                if found:
                    kept.setdefault(event.number, []).append(found[place])

    def sequences(self) -> Tensor:
        """Give the prompts and what follows them, `(rows, length)`, padded on the right."""
        columns = self.prompts.columns.repeat_interleave(self.times, dim=0)
        new = [torch.tensor(row, dtype=torch.long) for row in self.tokens]
        padded = torch.nn.utils.rnn.pad_sequence(new, batch_first=True, padding_value=self.pad)
        return torch.cat([columns, padded.to(columns.device)], dim=1)

    @property
    def scores(self) -> tuple[Tensor, ...] | None:
        """The scores that chose each new token, `(rows, vocabulary)` each; zeros where a row had ended."""
        return self._by_step(self._scores)

    @property
    def logits(self) -> tuple[Tensor, ...] | None:
        """What the model gave for each new token, `(rows, vocabulary)` each; zeros where a row had ended."""
        return self._by_step(self._logits)

    def states(self, name: str) -> tuple[tuple[Tensor, ...], ...] | None:
        """Give "hidden_states" and so on of each step, layer by layer; zeros where a row had ended."""
        return tuple(output[name] for output in self._outputs if output[name] is not None) or None

    def _by_step(self, kept: dict[int, list[Tensor]]) -> tuple[Tensor, ...] | None:
        if not kept:
            return None
        rows = [torch.cat(kept[number]) for number in range(len(self.tokens))]
        return tuple(torch.nn.utils.rnn.pad_sequence(rows))
