"""When a row is done: end tokens, lengths, time, texts, and criteria of one's own."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette.errors import ConfigurationError, InputError
from maquette.generation.configuration import GenerationConfig
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.setting_rules import as_ids

SLACK = 4  # tokens before a stop string that are decoded with it, as the first of a text may lose its space


class StoppingCriteria:
    """A criterion of one's own: override `__call__`, or `process`.

    `__call__(input_ids, scores)` gets rows of one length, `(rows, length)`, without padding, and `scores`, a tuple
    whose last is `(rows, vocabulary)`; it says which rows are done, `(rows,)`, or with one bool, whether all are.
    `process(rows, scores)` gets rows of any lengths.
    """

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Any:
        """Tell which rows are done."""
        if type(self).process is StoppingCriteria.process:
            raise NotImplementedError(f"{type(self).__name__} has neither __call__ nor process: write one of them.")
        done = self.process(RaggedIds.of_batch(input_ids), scores[-1] if scores else None)
        return torch.tensor(done, device=input_ids.device)

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell which rows are done."""
        return ask_by_length(self, rows, scores)


class StoppingCriteriaList(list[Any]):
    """Several criteria: a row is done when one of them says so."""

    def __call__(self, input_ids: Tensor, scores: Any = None, **kwargs: Any) -> Tensor:
        """Tell which rows of one length are done, `(rows,)`."""
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for criterion in self:
            done = done | torch.as_tensor(criterion(input_ids, scores, **kwargs), device=done.device)
        return done

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell which ragged rows are done."""
        done = [False] * len(rows)
        for each in self:
            is_ragged = isinstance(each, StoppingCriteria | StoppingCriteriaList)
            found = each.process(rows, scores) if is_ragged else ask_by_length(each, rows, scores)
            done = [one or other for one, other in zip(done, found, strict=True)]
        return done

    @property
    def max_length(self) -> int | None:
        """The length at which one of them ends rows."""
        return next((each.max_length for each in self if isinstance(each, MaxLengthCriteria)), None)


def ask_by_length(criterion: Any, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
    """Ask a criterion that knows batches only, once for each length that rows have.

    Raises:
        InputError: it answers something else than one bool, or one for each row.
    """
    done = [False] * len(rows)
    for group in rows.by_length():
        index = torch.tensor(group, device=rows.ids.device)
        found = criterion(rows.ids[index, : rows.lengths[group[0]]], None if scores is None else (scores[index],))
        answers = torch.as_tensor(found).flatten().tolist()
        if len(answers) not in (1, len(group)):
            name = getattr(criterion, "__name__", type(criterion).__name__)
            raise InputError(f"The stopping criterion {name} gave {len(answers)} answers for {len(group)} rows.")
        for place, row in enumerate(group):
            done[row] = bool(answers[place if len(answers) > 1 else 0])
    return done


class MaxLengthCriteria(StoppingCriteria):
    """Ends rows at `max_length` tokens, the prompt included."""

    def __init__(self, max_length: int, max_position_embeddings: int | None = None) -> None:
        self.max_length, self.max_position_embeddings = max_length, max_position_embeddings

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell which rows are that long."""
        return [length >= self.max_length for length in rows.lengths]


class MaxTimeCriteria(StoppingCriteria):
    """Ends all rows after `max_time` seconds, counted from `initial_timestamp` (of `time.time()`) or from now."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        passed = 0.0 if initial_timestamp is None else time.time() - initial_timestamp
        self.max_time, self.deadline = max_time, time.monotonic() - passed + max_time

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell whether time is up."""
        return [time.monotonic() > self.deadline] * len(rows)


class EosTokenCriteria(StoppingCriteria):
    """Ends rows at an end token, one or several."""

    def __init__(self, eos_token_id: int | Sequence[int]) -> None:
        self.ends = frozenset(as_ids(eos_token_id))

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell whose last token is one."""
        return [token in self.ends for token in last_tokens(rows)]


class StopStringCriteria(StoppingCriteria):
    """Ends a row as soon as one of some texts stands at its end, wherever tokens begin and end.

    A text may begin in the prompt, and what else the last token brings may stand behind it; both stay in the ids.
    Special tokens count with their names.
    """

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop_strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        if not self.stop_strings or not all(self.stop_strings):
            raise ConfigurationError(f"stop_strings are texts of a letter or more, not {self.stop_strings!r}.")
        self.reach = max(len(each.encode()) for each in self.stop_strings) + SLACK  # a token has a byte or more

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell which rows have such a text, ending in their last token."""
        return [self.ends_with_one(rows.row(row)[-self.reach :].tolist()) for row in range(len(rows))]

    def ends_with_one(self, ids: list[int]) -> bool:
        """Tell whether one of the texts ends in the last of these tokens."""
        before, after = self._text(ids[:-1]), self._text(ids)
        known = count_common(before.rstrip("\ufffd"), after)  # half a character is not there yet
        return any(after.find(each, max(known - len(each) + 1, 0)) >= 0 for each in self.stop_strings)

    def _text(self, ids: list[int]) -> str:
        if not ids:
            return ""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


class ConfidenceCriteria(StoppingCriteria):
    """Ends a draft where the last token had less than this probability."""

    def __init__(self, assistant_confidence_threshold: float) -> None:
        self.assistant_confidence_threshold = assistant_confidence_threshold

    def process(self, rows: RaggedIds, scores: Tensor | None) -> list[bool]:
        """Tell which rows are unsure; without scores, none."""
        if scores is None:
            return [False] * len(rows)
        tokens = torch.tensor(last_tokens(rows), device=scores.device)
        found = scores.softmax(-1).gather(1, tokens[:, None])[:, 0] < self.assistant_confidence_threshold
        return list(found.tolist())


class Ends:
    """Tells which rows are done: at an end token, at their length, or where one of the criteria says so.

    Args:
        ends: the end tokens.
        limits: how many new tokens each of the caller's prompts gets.
        criteria: further ones.
    """

    def __init__(self, ends: Iterable[int], limits: Sequence[int], criteria: Sequence[Any] = ()) -> None:
        self.ends, self.limits, self.criteria = frozenset(ends), limits, StoppingCriteriaList(criteria)

    @property
    def is_late(self) -> bool:
        """Whether time is up, so that prompts which still wait are left as they are."""
        return any(isinstance(each, MaxTimeCriteria) and time.monotonic() > each.deadline for each in self.criteria)

    def __call__(self, rows: RaggedIds, scores: Tensor | None = None) -> list[bool]:
        """Tell which rows are done, of rows whose last token is new."""
        done = [
            token in self.ends or new >= self.limits[text]
            for token, new, text in zip(last_tokens(rows), rows.generated, rows.texts, strict=True)
        ]
        if not self.criteria:
            return done
        return [one or other for one, other in zip(done, self.criteria.process(rows, scores), strict=True)]


def criteria_for(config: GenerationConfig, *, tokenizer: Any = None, custom: Sequence[Any] = ()) -> list[Any]:
    """Give the criteria that settings ask for beside end tokens and lengths, then the caller's own; time begins now.

    Raises:
        ConfigurationError: `stop_strings` without a tokenizer.
    """
    found: list[Any] = []
    if config.max_time is not None:
        found.append(MaxTimeCriteria(config.max_time))
    if config.stop_strings:
        if tokenizer is None:
            raise ConfigurationError(
                f"stop_strings={config.stop_strings!r} are looked for in decoded text: pass tokenizer=… to generate."
            )
        found.append(StopStringCriteria(tokenizer, config.stop_strings))
    return [*found, *custom]


def count_common(one: str, other: str) -> int:
    """Count the letters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def last_tokens(rows: RaggedIds) -> list[int]:
    """Give the last token of each row."""
    return list(rows.last_tokens().tolist())
