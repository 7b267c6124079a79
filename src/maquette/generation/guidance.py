"""Classifier-free guidance: away from what a model would say without the prompt (Sanchez et al. 2023, 2306.17806)."""

from collections.abc import Callable

from torch import Tensor

from maquette.errors import ConfigurationError, InputError
from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds


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
