"""SynthID's watermark: which of the likely tokens is drawn says a little of a secret (Dathathri et al. 2024).

Each token after a context has a zero or a one in every layer of a tournament, which follow from the context, the token
and a key. In each layer, ones beat zeros: a token that has a one gets as much likelier as others have zeros.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.watermark_settings import SynthIDTextWatermarkingConfig

FACTOR = 6364136223846793005  # of the linear congruential generator that hashes, modulo 2^64


class SynthIDTextWatermarkLogitsProcessor(LogitsProcessor):
    """Turns scores into log-probabilities after the tournament.

    A context is the last `ngram_len - 1` generated tokens, zeros before the first. Nothing is remembered from step to
    step: what a row has seen follows from its tokens, so that rows may come, go and be reordered. Called with ids of
    one length, as Transformers calls it, it takes those of its first call for the prompt.

    Args:
        ngram_len, keys, sampling_table_size, sampling_table_seed, context_history_size, skip_first_ngram_calls,
            debug_mode: as `SynthIDTextWatermarkingConfig` has them.
        device: where ids are; the table is drawn there, as those who look for the mark do.
    """

    def __init__(
        self,
        ngram_len: int,
        keys: Sequence[int],
        sampling_table_size: int,
        sampling_table_seed: int,
        context_history_size: int,
        device: str | torch.device = "cpu",
        skip_first_ngram_calls: bool = False,
        debug_mode: bool = False,
    ) -> None:
        more = (context_history_size, sampling_table_seed, sampling_table_size, skip_first_ngram_calls, debug_mode)
        self.settings = SynthIDTextWatermarkingConfig(ngram_len, [*keys], *more)  # checks them
        generator = torch.Generator(device=device).manual_seed(sampling_table_seed)
        self.table = torch.randint(0, 2, (sampling_table_size,), generator=generator, device=device)
        self._prompt: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mark the scores `(rows, vocabulary)` of what could follow `input_ids`, `(rows, length)`."""
        if self._prompt is None or input_ids.shape[1] < self._prompt:
            self._prompt = input_ids.shape[1]
        return self.process(RaggedIds.of_batch(input_ids, prompt=self._prompt), scores)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Mark the scores `(rows, vocabulary)` of what could follow `rows`."""
        if self.settings.debug_mode:
            scores = torch.ones_like(scores)
        hashes, is_marked = self._look_back(rows)
        if not bool(is_marked.any()):
            return scores
        tokens = torch.arange(scores.shape[-1], device=scores.device)
        hashed = _hash(hashes[:, None], tokens)  # (rows, vocabulary)
        likely = scores.softmax(-1)
        for key in self.settings.keys:
            ones = self.table[_hash(hashed, key) % len(self.table)]
            share = (ones * likely).sum(1, keepdim=True)
            likely = likely * (1 + ones - share)
        marked = likely.log()
        marked = torch.where(marked.isfinite(), marked, torch.finfo(marked.dtype).min)
        return torch.where(is_marked, marked, scores)

    def _look_back(self, rows: RaggedIds) -> tuple[Tensor, Tensor]:
        """Give the hash of each row's context, `(rows,)`, and whether it is to be marked, `(rows, 1)`."""
        settings, new = self.settings, rows.generated
        past, first = settings.ngram_len - 1, settings.ngram_len - 1 if settings.skip_first_ngram_calls else 0
        count = min(max(new), settings.context_history_size)  # contexts before the present one
        places = rows.column(rows.lengths) + torch.arange(-past - count, 0, device=rows.ids.device)
        ids = rows.ids if rows.ids.shape[1] else rows.ids.new_zeros(len(rows), 1)
        tokens = ids.gather(1, places.clamp(min=0)) * (places >= rows.column(rows.prompts))
        hashes = torch.ones_like(tokens[:, : count + 1])
        for token in tokens.unfold(1, past, 1).unbind(-1):  # (rows, contexts), the present one last
            hashes = _hash(hashes, token)
        numbers = rows.column(new) + torch.arange(-count, 1, device=rows.ids.device)  # tokens before each context's end
        seen = (hashes[:, :-1] == hashes[:, -1:]) & (numbers[:, :-1] >= first)
        return hashes[:, -1], ~seen.any(1, keepdim=True) & (numbers[:, -1:] >= first)


def _hash(before: Tensor, value: Tensor | int) -> Tensor:
    """Take a number into a hash; what is beyond 64 bits is lost."""
    return (before + value) * FACTOR + 1
