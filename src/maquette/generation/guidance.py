"""Classifier-free guidance: away from what a model would say without the prompt (Sanchez et al. 2023, 2306.17806)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maquette.errors import ConfigurationError, InputError
from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.reading import Reader


class GuidanceLogitsProcessor(LogitsProcessor):
    """Gives `u + scale · (c - u)`, log-probabilities with the prompt, `c`, and without it, `u`.

    Args:
        scale: 1 changes nothing; above 1 the prompt counts more.
        unconditional: gives the scores of the same rows without the prompt, `(rows, vocabulary)`: a second forward.
    """

    def __init__(self, scale: float, unconditional: Callable[[RaggedIds], Tensor]) -> None:
        self.scale, self.unconditional = scale, unconditional

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give log-probabilities in which the prompt counts `scale` times."""
        with_prompt = scores.log_softmax(-1)
        if self.scale == 1:
            return with_prompt
        without = self.unconditional(rows).to(scores.dtype).log_softmax(-1)
        return self.scale * (with_prompt - without) + without


class Unprompted:
    """Gives the scores of rows with another prompt in place of theirs, reading each token once.

    Rows are known by what they say, so that it does not matter which come, leave, or change places.

    Args:
        reader: runs the model; nothing else has its slots.
        negatives: the other prompt of each text, or one for all; None takes the last token of its prompt.
    """

    def __init__(self, reader: Reader, negatives: Sequence[Tensor] | None = None) -> None:
        self.reader, self.negatives = reader, negatives
        self.slots: list[tuple[int, ...] | None] = []  # what each has read

    def __call__(self, rows: RaggedIds) -> Tensor:
        """Give scores, `(rows, vocabulary)`."""
        wanted = [self._wanted(rows, row) for row in range(len(rows))]
        read = {held: slot for slot, held in enumerate(self.slots) if held is not None}
        known = [read.get(tokens[:-1]) for tokens in wanted]
        if any(slot is not None for slot in known):  # others are of rows that have left
            self.slots = [held if slot in known else None for slot, held in enumerate(self.slots)]
        slots: list[int] = []
        unread: dict[int, tuple[int, ...]] = {}
        for tokens, source in zip(wanted, known, strict=True):
            slot = self._choose_slot(source, slots)
            slots.append(slot)
            unread[slot] = tokens if source is None else tokens[-1:]
        for slot, tokens in zip(slots, wanted, strict=True):
            self.slots[slot] = tokens
        numbers = [0] * len(self.slots)
        for slot, text in zip(slots, rows.texts, strict=True):
            numbers[slot] = text
        new = [torch.tensor(unread.get(slot, ()), dtype=torch.long) for slot in range(len(self.slots))]
        scores: Tensor = self.reader.read(0, [each.to(rows.ids.device) for each in new], numbers=numbers)["logits"]
        return scores[slots, -1]

    def _choose_slot(self, source: int | None, taken: Sequence[int]) -> int:
        """Choose the slot of a row: that which has read it, a copy of it, or an empty one."""
        if source is not None and source not in taken:
            return source
        free = (n for n, held in enumerate(self.slots) if held is None and n not in taken)
        slot = next(free, len(self.slots))
        if slot == len(self.slots):
            self.slots.append(None)
            self.reader.reserve(len(self.slots))
        elif source is None:
            self.reader.clear(slot)
        if source is not None:
            self.reader.move(source, slot)
        return slot

    def _wanted(self, rows: RaggedIds, row: int) -> tuple[int, ...]:
        ids, prompt = rows.row(row), rows.prompts[row]
        if self.negatives is None:
            return tuple(ids[max(prompt - 1, 0) :].tolist())
        negative = self.negatives[rows.texts[row] if len(self.negatives) > 1 else 0]
        return (*negative.tolist(), *ids[prompt:].tolist())


class ClassifierFreeGuidanceLogitsProcessor(LogitsProcessor):
    """Guides a batch whose second half are the same rows without the prompt: `u + scale · (c - u)` of the scores."""

    def __init__(self, guidance_scale: float) -> None:
        if not guidance_scale > 1:
            raise ConfigurationError(f"guidance_scale is above 1, not {guidance_scale!r}.")
        self.guidance_scale = guidance_scale

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Give `(rows, vocabulary)` for scores of `(2 * rows, vocabulary)`."""
        if len(scores) != 2 * len(input_ids):
            raise InputError(
                f"Guidance needs two rows of scores for each of ids; found {len(scores)}, {len(input_ids)}."
            )
        with_prompt, without = scores.chunk(2)
        return without + (with_prompt - without) * self.guidance_scale
