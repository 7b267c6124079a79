"""What makes tokens likelier or less likely by what a row has so far: repetition, n-grams, words.

Scores are `(rows, vocabulary)`; a row is its prompt and what was generated, without padding.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.setting_rules import as_ids


class RepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Divides the scores of tokens that a row has by `penalty`; negative ones are multiplied (Keskar 2019, 1909.05858).

    Args:
        penalty: above 1 for fewer repetitions, below 1 for more.
        prompt_ignore_length: how many tokens at the start do not count.
    """

    def __init__(self, penalty: float, prompt_ignore_length: int | None = None) -> None:
        self.penalty, self.prompt_ignore_length = _positive("penalty", penalty), prompt_ignore_length

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores in which repeated tokens count less."""
        if skipped := self.prompt_ignore_length:
            lengths = [max(length - skipped, 0) for length in rows.lengths]
            rows = RaggedIds(rows.ids[:, skipped:], lengths, prompts=[0] * len(rows))
        return _scaled(scores, rows.counts(scores.shape[-1]) > 0, self.penalty)


class EncoderRepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Multiplies the scores of tokens of the encoder's input by `penalty`; negative ones are divided.

    Args:
        penalty: above 1 for texts that keep to the input.
        encoder_input_ids: `(texts, length)` without padding, or rows of different lengths.
    """

    def __init__(self, penalty: float, encoder_input_ids: Tensor | RaggedIds) -> None:
        self.penalty, self.encoder_input_ids = 1 / _positive("penalty", penalty), encoder_input_ids

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores in which tokens of the input count more."""
        inputs = _for_rows(self.encoder_input_ids, rows)
        return _scaled(scores, inputs.counts(scores.shape[-1]) > 0, self.penalty)


class FrequencyPenaltyLogitsProcessor(LogitsProcessor):
    """Subtracts `penalty` from a token's score for each time that it was generated; the prompt does not count."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give `scores - penalty * count`."""
        return scores - self.penalty * rows.counts(scores.shape[-1], only_new=True).to(scores.dtype)


class PresencePenaltyLogitsProcessor(LogitsProcessor):
    """Subtracts `penalty` from the score of each token that was generated; the prompt does not count."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give `scores - penalty` where a token was generated."""
        return scores - self.penalty * (rows.counts(scores.shape[-1], only_new=True) > 0).to(scores.dtype)


class NoRepeatNGramLogitsProcessor(LogitsProcessor):
    """Forbids every token that would complete an n-gram that the row has already (Paulus et al. 2017, 1705.04304)."""

    def __init__(self, ngram_size: int) -> None:
        self.ngram_size = _count("ngram_size", ngram_size)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with `-inf` for what would repeat an n-gram."""
        if rows.width < self.ngram_size:
            return scores
        return scores.masked_fill(_completing(rows, rows, self.ngram_size, scores.shape[-1]), -math.inf)


class EncoderNoRepeatNGramLogitsProcessor(LogitsProcessor):
    """Forbids every token that would complete an n-gram of the encoder's input.

    Args:
        encoder_ngram_size: tokens of an n-gram.
        encoder_input_ids: `(texts, length)` without padding, or rows of different lengths.
    """

    def __init__(self, encoder_ngram_size: int, encoder_input_ids: Tensor | RaggedIds) -> None:
        self.ngram_size = _count("encoder_ngram_size", encoder_ngram_size)
        is_row = isinstance(encoder_input_ids, Tensor) and encoder_input_ids.dim() == 1
        self.encoder_input_ids = encoder_input_ids[None] if is_row else encoder_input_ids  # type: ignore[index]

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with `-inf` for what would copy an n-gram."""
        inputs = _for_rows(self.encoder_input_ids, rows)
        if inputs.width < self.ngram_size:
            return scores
        return scores.masked_fill(_completing(inputs, rows, self.ngram_size, scores.shape[-1]), -math.inf)


def _completing(source: RaggedIds, rows: RaggedIds, size: int, vocabulary: int) -> Tensor:
    """Tell which tokens would complete an n-gram of `source` at the end of `rows`, `(rows, vocabulary)`."""
    windows = source.ids[:, : source.width].unfold(1, size, 1)  # (rows, places, size)
    starts = rows.column(rows.lengths) - size + 1
    places = starts + torch.arange(size - 1, device=starts.device)
    ends = rows.ids.gather(1, places.clamp(min=0))
    matches = (windows[..., :-1] == ends[:, None]).all(-1) & source.is_token[:, size - 1 :] & (starts >= 0)
    last = windows[..., -1]
    matches = matches & (last < vocabulary)
    found = matches.new_zeros(len(rows), vocabulary, dtype=torch.float32)
    return found.scatter_add_(1, last.clamp(max=vocabulary - 1), matches.float()) > 0


class SequenceBiasLogitsProcessor(LogitsProcessor):
    """Adds a number to the score of a token where it would complete a sequence.

    Args:
        sequence_bias: `{(3, 4): -1.0}` or `[[[3, 4], -1.0]]`: sequences of ids, and what is added.
    """

    def __init__(self, sequence_bias: Mapping[Sequence[int], float] | Sequence[Sequence[object]]) -> None:
        pairs = [*sequence_bias.items()] if isinstance(sequence_bias, Mapping) else [*sequence_bias]
        self.sequence_bias: dict[tuple[int, ...], float] = {tuple(ids): float(bias) for ids, bias in pairs}  # type: ignore[arg-type]
        if not self.sequence_bias or not all(self.sequence_bias):
            raise ConfigurationError("sequence_bias names sequences of one token or more, and what is added to each.")
        if any(token < 0 for ids in self.sequence_bias for token in ids):
            raise ConfigurationError("sequence_bias names a negative id; ids count from 0.")
        self._groups: list[tuple[Tensor, Tensor, Tensor]] = []

    def _prepared(self, scores: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Group sequences by length: what goes before, `(sequences, length - 1)`, the last tokens, and the biases."""
        if not self._groups or self._groups[0][0].device != scores.device:
            self._refuse_beyond(scores.shape[-1])
            by_length: dict[int, list[tuple[int, ...]]] = {}
            for ids in self.sequence_bias:
                by_length.setdefault(len(ids), []).append(ids)
            self._groups = []
            for length, group in sorted(by_length.items()):
                tokens = torch.tensor(group, device=scores.device).reshape(len(group), length)
                biases = torch.tensor([self.sequence_bias[each] for each in group], device=scores.device)
                self._groups.append((tokens[:, :-1], tokens[:, -1], biases))
        return self._groups

    def _refuse_beyond(self, vocabulary: int) -> None:
        if beyond := sorted({token for ids in self.sequence_bias for token in ids if token >= vocabulary}):
            raise ConfigurationError(f"{type(self).__name__}: the vocabulary has {vocabulary} tokens; found {beyond}.")

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with what is added."""
        bias = torch.zeros_like(scores)
        for before, last, biases in self._prepared(scores):
            ends = rows.ends_with(before) if before.shape[1] else torch.ones(len(rows), 1, device=scores.device) > 0
            bias.index_add_(1, last, torch.where(ends, biases, 0.0).to(bias.dtype))
        return scores + bias


class NoBadWordsLogitsProcessor(SequenceBiasLogitsProcessor):
    """Forbids sequences: their last token, where the others stand before it. End tokens alone stay allowed."""

    def __init__(self, bad_words_ids: Sequence[Sequence[int]], eos_token_id: int | Sequence[int] | None = None) -> None:
        ends = {(token,) for token in as_ids(eos_token_id)}
        words = [tuple(ids) for ids in bad_words_ids if tuple(ids) not in ends]
        if not bad_words_ids:
            raise ConfigurationError("bad_words_ids names no sequence: leave it unset.")
        super().__init__(dict.fromkeys(words, -math.inf)) if words else self._allow_all()

    def _allow_all(self) -> None:
        self.sequence_bias, self._groups = {}, []


def _scaled(scores: Tensor, chosen: Tensor, penalty: float) -> Tensor:
    return torch.where(chosen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def _for_rows(encoder_ids: Tensor | RaggedIds, rows: RaggedIds) -> RaggedIds:
    """Give each row the encoder's input that it continues."""
    inputs = RaggedIds.of_batch(encoder_ids) if isinstance(encoder_ids, Tensor) else encoder_ids
    beams = max(len(rows) // len(inputs), 1) if max(rows.texts) >= len(inputs) else 1
    return inputs.select([text // beams for text in rows.texts])


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ConfigurationError(f"{name} is a number above 0, not {value!r}.")
    return value


def _count(name: str, value: int) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ConfigurationError(f"{name} is a number of tokens, at least 1, not {value!r}.")
    return value
