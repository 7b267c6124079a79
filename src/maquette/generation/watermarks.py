"""Watermarks: tokens of a green list, which follows from those before, are made likelier (2301.10226, 2306.04634)."""

import torch
from torch import Tensor

from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.watermark_settings import WatermarkingConfig

TABLE = 1_000_003  # numbers in the table of random numbers that "selfhash" looks up
CANDIDATES = 40  # likeliest tokens that "selfhash" tries


class WatermarkLogitsProcessor(LogitsProcessor):
    """Adds `bias` to the scores of green tokens.

    Args:
        vocab_size: of the model.
        device: where ids are; random numbers are drawn there, as those who look for the mark do.
        greenlist_ratio: the green share of the vocabulary.
        bias: what is added.
        hashing_key: the secret.
        seeding_scheme: `"lefthash"`: the list follows from the last token; `"selfhash"`: from the candidate too.
        context_width: how many tokens `"selfhash"` looks at.
    """

    def __init__(
        self,
        vocab_size: int,
        device: str | torch.device = "cpu",
        *,
        greenlist_ratio: float = 0.25,
        bias: float = 2.0,
        hashing_key: int = 15485863,
        seeding_scheme: str = "lefthash",
        context_width: int = 1,
    ) -> None:
        WatermarkingConfig(greenlist_ratio, bias, hashing_key, seeding_scheme, context_width)  # checks them
        self.vocab_size, self.greens, self.bias = vocab_size, int(vocab_size * greenlist_ratio), bias
        self.hashing_key, self.selfhash, self.context_width = hashing_key, seeding_scheme == "selfhash", context_width
        self.generator = torch.Generator(device=device).manual_seed(hashing_key)
        self.table = torch.randperm(TABLE, generator=self.generator, device=device)

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with the mark; rows of fewer than `context_width` tokens stay as they are."""
        marked = scores.clone()
        for row, length in enumerate(rows.lengths):
            if length >= self.context_width:
                greens = self._chosen(rows.row(row), scores[row]) if self.selfhash else self.list_greens(rows.row(row))
                marked[row, greens] += self.bias
        return marked

    def list_greens(self, ids: Tensor) -> Tensor:
        """List the green tokens after these ids."""
        ids = ids[-self.context_width :]
        seed = self.hashing_key * int(ids[-1])
        if self.selfhash:
            numbers = self.table[ids % TABLE] + 1
            seed = int((self.hashing_key * numbers * (self.table[ids[-1] % TABLE] + 1)).min())
        self.generator.manual_seed(seed % (2**64 - 1))
        order = torch.randperm(self.vocab_size, device=ids.device, generator=self.generator)
        return order[: self.greens]

    def _chosen(self, ids: Tensor, scores: Tensor) -> Tensor:
        """List those of the likeliest tokens that are green after themselves."""
        candidates = scores.argsort(descending=True)[:CANDIDATES]
        green = [bool((self.list_greens(torch.cat([ids, token[None]])) == token).any()) for token in candidates]
        return candidates[torch.tensor(green, device=ids.device)]
