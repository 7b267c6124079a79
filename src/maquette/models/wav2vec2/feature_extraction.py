"""What Wav2Vec2 hears: the samples themselves, each clip with mean 0 and variance 1."""

import math
from typing import Any

import numpy as np

from maquette.audio.feature_extraction import SequenceFeatureExtractor
from maquette.batch.features import BatchFeature

EPSILON = 1e-7  # added to the variance, so that silence stays silence
BLOCK = 1024  # how many squares are summed in float32 before the sums are added up in float64


class Wav2Vec2FeatureExtractor(SequenceFeatureExtractor):
    """Turns sounds into `input_values` for Wav2Vec2 and its kin.

    Each clip is normalised by itself, by its own samples alone: padding and the other clips of a batch change nothing
    in it, and padded places hold `padding_value`.

    Settings:
        do_normalize: give each clip the mean 0 and the variance 1.
        return_attention_mask: whether a call gives `attention_mask`. Models with `feat_extract_norm="layer"` were
            trained with it, those with `"group"` without.
        feature_size, sampling_rate, padding_value, padding_side: as in `SequenceFeatureExtractor`.
    """

    return_attention_mask: bool = False
    do_normalize: bool = True

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str = False,
        *,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: float | None = None,
        resample: bool = False,
        mono: bool = False,
        rescale: bool = False,
        **unknown: Any,
    ) -> BatchFeature:
        """Give `input_values`, `(clips, samples)`, and `attention_mask` where it is asked for.

        Args:
            raw_speech: a clip or a batch of clips, as `read_clips` takes them.
            padding: True or "longest", "max_length", or False, the default.
            max_length: for `padding="max_length"` and `truncation`; rounded up to the multiple.
            truncation: cut clips longer than `max_length`, at their end.
            return_tensors: "np", "pt", "tf" or "jax"; a list of arrays, unless given.
            sampling_rate: how many samples a second `raw_speech` has. Without it, arrays are taken to be right.
            resample, mono, rescale: as in `read_clips`.

        Raises:
            InputError: naming the clip, and what to do.
        """
        self._refuse_keywords(unknown)
        clips = self.read_clips(raw_speech, sampling_rate=sampling_rate, resample=resample, mono=mono, rescale=rescale)
        return self._collate(
            clips,
            normalize if self.do_normalize else np.positive,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )


def normalize(samples: "np.ndarray[Any, Any]", out: "np.ndarray[Any, Any]") -> None:
    """Write samples with mean 0 and variance 1 to `out`.

    Args:
        samples: float32, `(samples,)`.
        out: float32, `(samples,)`.
    """
    with np.errstate(over="ignore"):
        mean = np.add.reduce(samples) / np.float32(len(samples))
        np.subtract(samples, mean, out=out)
        variance = _sum_of_squares(out) / len(samples)
    if not (math.isfinite(variance) and np.isfinite(mean)):  # so loud that float32 cannot hold the squares
        exact = samples.astype(np.float64)
        out[:] = (exact - exact.mean()) / np.sqrt(exact.var() + EPSILON)
        return
    np.divide(out, np.float32(math.sqrt(variance + EPSILON)), out=out)


def _sum_of_squares(samples: "np.ndarray[Any, Any]") -> float:
    whole = len(samples) // BLOCK * BLOCK
    blocks, rest = samples[:whole].reshape(-1, BLOCK), samples[whole:]
    return float(np.einsum("ij,ij->i", blocks, blocks).sum(dtype=np.float64)) + float(np.dot(rest, rest))
