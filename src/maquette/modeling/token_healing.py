"""Token healing: the last token of a prompt may be the beginning of a longer one, which the model would have liked.

A prompt that ends in "http:" ends in the token ":", where texts of the training have the token "://". So the last token
is taken back, and chosen again among those that begin with its letters.
"""

from typing import Any

import torch
from torch import Tensor

from maquette.errors import ConfigurationError
from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds

FAVOUR, OWN = 10.0, 1.0  # added to the scores of what continues the letters, and once more to the token that was there


def heal(model: Any, prompts: list[Tensor], tokenizer: Any) -> list[Tensor]:
    """Choose the last token of each prompt again; prompts of one token stay as they are.

    Raises:
        ConfigurationError: there is no tokenizer to say which tokens begin with the same letters.
    """
    if tokenizer is None:
        raise ConfigurationError("token_healing looks at the letters of tokens: pass tokenizer=… to generate.")
    names, special = tokenizer.get_vocab(), {*tokenizer.all_special_ids}
    chosen = [row for row, ids in enumerate(prompts) if len(ids) > 1 and int(ids[-1]) not in special]
    letters = {row: str(tokenizer.convert_ids_to_tokens(int(prompts[row][-1]))) for row in chosen}
    longer = {row: [i for name, i in names.items() if name.startswith(letters[row])] for row in chosen}
    chosen = [row for row in chosen if len(longer[row]) > 1]
    if not chosen:
        return prompts
    favoured = _Favoured([longer[row] for row in chosen], [int(prompts[row][-1]) for row in chosen])
    plain = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "return_dict_in_generate": False}
    healed = model.generate(
        [prompts[row][:-1] for row in chosen],
        logits_processor=[favoured],
        max_new_tokens=1,
        token_healing=False,
        **plain,
    )
    last = dict(zip(chosen, healed[:, -1:], strict=True))
    return [torch.cat([ids[:-1], last[row]]) if row in last else ids for row, ids in enumerate(prompts)]


class _Favoured(LogitsProcessor):
    """Adds to the scores of some tokens, others for each text."""

    def __init__(self, longer: list[list[int]], own: list[int]) -> None:
        self.longer, self.own = longer, own

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Favour what begins with the letters of the token that was there, and that token a little more."""
        scores = scores.clone()
        for row, text in enumerate(rows.texts):
            scores[row, self.longer[text]] += FAVOUR
            scores[row, self.own[text]] += OWN
        return scores
