"""Looks for the watermark of green lists: texts that have it have more green tokens than chance gives."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.watermark_settings import WatermarkingConfig
from maquette.generation.watermarks import WatermarkLogitsProcessor

Numbers = npt.NDArray[np.float64]


class WatermarkDetectorOutput(NamedTuple):
    """What a detector found, for each text.

    Attributes:
        num_tokens_scored, num_green_tokens, green_fraction: tokens that were looked at, the green ones, their share.
        z_score: by how many standard deviations there are more of them than chance gives.
        p_value: how likely chance gives as many, by the normal distribution.
        prediction: whether the text has the mark.
        confidence: `1 - p_value`.
    """

    num_tokens_scored: Numbers
    num_green_tokens: Numbers
    green_fraction: Numbers
    z_score: Numbers
    p_value: Numbers
    prediction: npt.NDArray[np.bool_]
    confidence: Numbers


class WatermarkDetector:
    """Tells which texts `WatermarkLogitsProcessor` has marked (Kirchenbauer et al. 2023, 2301.10226, section 4).

    Args:
        model_config: of the model that wrote them: its vocabulary and its first token.
        device: on which they were written; random numbers are drawn there.
        watermarking_config: with which they were written.
        ignore_repeated_ngrams: count a token after the same context once.
        max_cache_size: how many contexts to remember; accepted, as one call remembers its own.
    """

    def __init__(
        self,
        model_config: Any,
        device: str | torch.device,
        watermarking_config: WatermarkingConfig | Mapping[str, Any],
        ignore_repeated_ngrams: bool = False,
        max_cache_size: int = 128,
    ) -> None:
        given = watermarking_config
        settings = given if isinstance(given, WatermarkingConfig) else WatermarkingConfig(**given)
        has_encoder = getattr(model_config, "is_encoder_decoder", False)
        self.bos_token_id = getattr(model_config, "decoder_start_token_id" if has_encoder else "bos_token_id", None)
        self.settings, self.once = settings, ignore_repeated_ngrams
        self.processor = WatermarkLogitsProcessor(model_config.vocab_size, device, **settings.to_dict())

    def __call__(
        self, input_ids: Tensor | Sequence[Sequence[int]], z_threshold: float = 3.0, return_dict: bool = False
    ) -> WatermarkDetectorOutput | npt.NDArray[np.bool_]:
        """Look at texts, without their prompts and without padding.

        Args:
            input_ids: `(texts, length)`, or rows of any lengths; a begin token at the start is left out.
            z_threshold: from which score on a text counts as marked.
            return_dict: give all that was found, rather than `prediction`.

        Raises:
            InputError: a text is too short to be looked at.
        """
        rows = input_ids.tolist() if isinstance(input_ids, Tensor) else [list(row) for row in input_ids]
        counted = np.array(
            [self._count(row[bool(row) and row[0] == self.bos_token_id :], n) for n, row in enumerate(rows)]
        )
        scored, greens = counted.T.astype(np.float64)
        share = self.settings.greenlist_ratio
        z = (greens - share * scored) / np.sqrt(scored * share * (1 - share))
        found: npt.NDArray[np.bool_] = z > z_threshold
        if not return_dict:
            return found
        p = np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in z])
        return WatermarkDetectorOutput(scored, greens, greens / scored, z, p, found, 1 - p)

    def _count(self, row: list[int], number: int) -> tuple[int, int]:
        """Count the tokens of a text that are looked at, and the green ones."""
        width = self.settings.context_width
        if len(row) <= width:
            raise InputError(
                f"Text {number} has {len(row)} tokens, and what follows {width} others is looked at: give longer texts."
            )
        is_self = self.settings.seeding_scheme == "selfhash"
        size = width if is_self else width + 1
        found = collections.Counter(tuple(row[start : start + size]) for start in range(len(row) - size + 1))
        green = {ngram: self._is_green(ngram[: None if is_self else -1], ngram[-1]) for ngram in found}
        if self.once:
            return len(found), sum(green.values())
        return sum(found.values()), sum(times * green[ngram] for ngram, times in found.items())

    def _is_green(self, context: tuple[int, ...], token: int) -> bool:
        greens = self.processor.list_greens(torch.tensor(context, device=self.processor.table.device))
        return bool((greens == token).any())
