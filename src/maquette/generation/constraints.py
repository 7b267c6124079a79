"""Which tokens must or must not come next: forced and suppressed ones, least lengths, allowed ones, repairs.

Scores are `(rows, vocabulary)`. Lengths count the tokens of each row, without padding.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.logits import LogitsProcessor, token_mask
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.setting_rules import as_ids

Tokens = int | Sequence[int]


class MinLengthLogitsProcessor(LogitsProcessor):
    """Forbids the end as long as prompt and text together have fewer than `min_length` tokens."""

    def __init__(self, min_length: int, eos_token_id: Tokens, device: str = "cpu") -> None:
        self.min_length, self.ends = min_length, as_ids(eos_token_id)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores without an end for rows that are too short."""
        return _forbid(scores, rows.where(lambda length, _: length < self.min_length), self.ends)


class MinNewTokensLengthLogitsProcessor(LogitsProcessor):
    """Forbids the end as long as fewer than `min_new_tokens` were generated.

    Args:
        prompt_length_to_skip: the prompt's length, where rows come as a batch; ragged rows know their own.
    """

    def __init__(
        self, prompt_length_to_skip: int, min_new_tokens: int, eos_token_id: Tokens, device: str = "cpu"
    ) -> None:
        self.prompt, self.min_new_tokens, self.ends = prompt_length_to_skip, min_new_tokens, as_ids(eos_token_id)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Treat rows of one length, with the prompt that was named."""
        return self.process(RaggedIds.of_batch(input_ids, prompt=self.prompt), scores)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores without an end for rows that are too short."""
        short = rows.where(lambda length, prompt: length - prompt < self.min_new_tokens)
        return _forbid(scores, short, self.ends)


class ForcedBOSTokenLogitsProcessor(LogitsProcessor):
    """Forces the second token of a row: what a decoder says after its start token."""

    def __init__(self, bos_token_id: int) -> None:
        self.bos_token_id = bos_token_id

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores that allow nothing else."""
        return _force(scores, rows.where(lambda length, _: length == 1), (self.bos_token_id,))


class ForcedEOSTokenLogitsProcessor(LogitsProcessor):
    """Forces the end as the last token that fits.

    Args:
        max_length: the most tokens of prompt and text together; None for no such bound.
        eos_token_id: the end, one token or several.
        max_new_tokens: the most that are generated.
    """

    def __init__(
        self, max_length: int | None, eos_token_id: Tokens, device: str = "cpu", *, max_new_tokens: int | None = None
    ) -> None:
        self.max_length, self.max_new_tokens, self.ends = max_length, max_new_tokens, as_ids(eos_token_id)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores that allow nothing else for rows with room for one token."""
        return _force(scores, rows.where(self._is_last), self.ends)

    def _is_last(self, length: int, prompt: int) -> bool:
        if self.max_new_tokens is not None:
            return length - prompt == self.max_new_tokens - 1
        return self.max_length is not None and length == self.max_length - 1


class SuppressTokensLogitsProcessor(LogitsProcessor):
    """Forbids some tokens everywhere."""

    def __init__(self, suppress_tokens: Tokens, device: str = "cpu") -> None:
        self.suppressed = as_ids(suppress_tokens)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores without them."""
        return scores.masked_fill(token_mask(self.suppressed, scores), -math.inf)


class SuppressTokensAtBeginLogitsProcessor(LogitsProcessor):
    """Forbids some tokens as the first that is generated.

    Args:
        begin_suppress_tokens: the tokens.
        begin_index: the length at which generation begins, where rows come as a batch; ragged rows know their own.
        forces_begin: whether a decoder's first token is forced, so that the one after it counts.
    """

    def __init__(
        self, begin_suppress_tokens: Tokens, begin_index: int, device: str = "cpu", *, forces_begin: bool = False
    ) -> None:
        self.suppressed, self.begin_index, self.forces_begin = as_ids(begin_suppress_tokens), begin_index, forces_begin

    def set_begin_index(self, begin_index: int) -> None:
        """Say anew where generation begins."""
        self.begin_index = begin_index

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Treat rows of one length."""
        if input_ids.shape[-1] != self.begin_index:
            return scores
        return scores.masked_fill(token_mask(self.suppressed, scores), -math.inf)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores without them for rows that have just begun."""
        return _forbid(scores, rows.where(self._begins), self.suppressed)

    def _begins(self, length: int, prompt: int) -> bool:
        return length == prompt + (self.forces_begin and prompt <= 1)


class ExponentialDecayLengthPenalty(LogitsProcessor):
    """Raises the end's score `s` by `|s| · (factor^n - 1)`, `n` tokens after a text has `start` of them.

    Args:
        exponential_decay_length_penalty: `(start, factor)`.
        eos_token_id: the end, one token or several.
        input_ids_seq_length: the prompt's length, where rows come as a batch; ragged rows know their own.
    """

    def __init__(
        self, exponential_decay_length_penalty: tuple[int, float], eos_token_id: Tokens, input_ids_seq_length: int
    ) -> None:
        (self.start, self.factor), self.ends = exponential_decay_length_penalty, as_ids(eos_token_id)
        self.prompt = input_ids_seq_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Treat rows of one length, with the prompt that was named."""
        return self.process(RaggedIds.of_batch(input_ids, prompt=self.prompt), scores)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores in which the end counts more."""
        over = [max(new - self.start, 0) for new in rows.generated]
        if not any(over):
            return scores
        index = torch.tensor([token for token in self.ends if token < scores.shape[-1]], device=scores.device)
        found = scores[:, index]
        factors = torch.tensor([self.factor**count - 1 for count in over], device=scores.device, dtype=scores.dtype)
        raised = found + torch.where(found.isfinite(), found.abs() * factors[:, None], 0.0)
        return scores.index_copy(1, index, raised)


class PrefixConstrainedLogitsProcessor(LogitsProcessor):
    """Allows only what a function names: `f(number of the prompt, ids of the row) -> ids` (Cao 2020, 2010.00904).

    Args:
        prefix_allowed_tokens_fn: the function; it gets the row's ids, `(length,)`.
        num_beams: of each prompt, where rows come as a batch.
    """

    def __init__(self, prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]], num_beams: int) -> None:
        self.allowed, self.num_beams = prefix_allowed_tokens_fn, num_beams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Treat rows of one length, the beams of each prompt side by side."""
        rows = RaggedIds.of_batch(input_ids)
        rows.texts = [number // self.num_beams for number in rows.numbers]
        return self.process(rows, scores)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with `-inf` for all else.

        Where everything that is allowed was forbidden before, for all rows of a prompt, it is allowed again.
        """
        mask = torch.full_like(scores, -math.inf)
        for row, text in enumerate(rows.texts):
            tokens = self.allowed(text, rows.row(row))
            if len(tokens) == 0:
                raise ConfigurationError(
                    f"prefix_allowed_tokens_fn allows no token to follow row {row}, prompt {text}."
                )
            mask[row, torch.as_tensor(tokens, device=scores.device, dtype=torch.long)] = 0
        found = scores + mask
        none_left = found.amax(-1).isneginf().tolist()
        stuck = {*rows.texts} - {t for t, gone in zip(rows.texts, none_left, strict=True) if not gone}
        return torch.where(rows.column([text in stuck for text in rows.texts]), mask, found) if stuck else found


class InfNanRemoveLogitsProcessor(LogitsProcessor):
    """Turns NaN to 0, and infinities to the largest and smallest numbers of the type."""

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give finite scores."""
        return torch.nan_to_num(scores, nan=0.0)


class LogitNormalization(LogitsProcessor):
    """Makes scores logarithms of probabilities that add up to 1."""

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give `log_softmax(scores)`."""
        return scores.log_softmax(-1)


def _forbid(scores: Tensor, rows: Tensor | None, tokens: tuple[int, ...]) -> Tensor:
    """Forbid tokens in the rows that are marked, `(rows, 1)`."""
    return scores if rows is None else scores.masked_fill(rows & token_mask(tokens, scores), -math.inf)


def _force(scores: Tensor, rows: Tensor | None, tokens: tuple[int, ...]) -> Tensor:
    """Allow nothing but some tokens in the rows that are marked, all alike."""
    if rows is None:
        return scores
    forced = torch.where(token_mask(tokens, scores), 0.0, -math.inf).to(scores.dtype)
    return torch.where(rows, forced, scores)
