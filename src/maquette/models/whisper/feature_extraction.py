"""What Whisper hears: how loud each of 80 or 128 bands of frequencies is, a hundred times a second."""

from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from maquette import BatchFeature, SequenceFeatureExtractor
from maquette.audio.padding import PaddingPlan
from maquette.audio.spectrograms import LogMel

Count = Annotated[int, Meta(gt=0)]
DERIVED = ("n_samples", "nb_max_frames", "mel_filters")  # that files of Transformers hold

_log_mel = lru_cache(LogMel)


class WhisperFeatureExtractor(SequenceFeatureExtractor):
    """Turns sounds into `input_features`, `(clips, feature_size, frames)`: logarithms of energies, about -1 to 1.

    A clip is filled up with silence to a window, or cut to it, unless told otherwise. Its loudest moment, silence
    included, is the measure of the others, so a clip's numbers are its own.

    Settings:
        feature_size: bands of frequencies, 80 or, from large-v3 on, 128.
        hop_length: samples from one frame to the next.
        chunk_length: seconds of a window.
        n_fft: samples of a frame.
        dither: how much noise is added to the samples.
        return_attention_mask: whether a call gives `attention_mask`, `(clips, frames)`, 0 at silence that was added.
        sampling_rate, padding_value, padding_side: as in `SequenceFeatureExtractor`.
    """

    model_input_names: ClassVar[list[str]] = ["input_features", "attention_mask"]
    feature_size: Count = 80
    hop_length: Count = 160
    chunk_length: Count = 30
    n_fft: Annotated[int, Meta(gt=1, multiple_of=2)] = 400
    dither: Annotated[float, Meta(ge=0)] = 0.0
    return_attention_mask: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of a window."""
        return self.chunk_length * self.sampling_rate

    @property
    def nb_max_frames(self) -> int:
        """Frames of a window."""
        return self.n_samples // self.hop_length

    @classmethod
    def _translated(cls, content: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in content.items() if name not in DERIVED}

    def __call__(
        self,
        raw_speech: Any,
        truncation: bool = True,
        *,
        padding: bool | str = "max_length",
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: float | None = None,
        do_normalize: bool = False,
        resample: bool = False,
        mono: bool = False,
        rescale: bool = False,
        **unknown: Any,
    ) -> BatchFeature:
        """Give `input_features`, and `attention_mask` where it is asked for.

        Args:
            raw_speech: a clip or a batch of clips, as `read_clips` takes them.
            truncation: cut clips longer than `max_length`, at their end; False for recordings of any length.
            padding: "max_length" (the default), True or "longest", or False.
            max_length: in samples; a window, unless given.
            return_tensors: "np", "pt", "tf" or "jax"; a list of arrays, unless given.
            sampling_rate: how many samples a second `raw_speech` has. Without it, arrays are taken to be right.
            do_normalize: give each clip the mean 0 and the variance 1 first.
            resample, mono, rescale: as in `read_clips`.

        Raises:
            InputError: naming the clip, and what to do.
        """
        self._refuse_keywords(unknown)
        clips = self.read_clips(raw_speech, sampling_rate=sampling_rate, resample=resample, mono=mono, rescale=rescale)
        plan = PaddingPlan.plan(
            [len(clip) for clip in clips],
            padding=padding,
            max_length=self.n_samples if max_length is None else max_length,
            truncation=truncation,
            multiple=pad_to_multiple_of,
            side=self.padding_side,
        )
        rows, hop = self._make([size // self.hop_length for size in plan.sizes]), self.hop_length
        for clip, kept, size, row in zip(clips, plan.kept, plan.sizes, rows, strict=True):
            samples = clip[:kept]
            if do_normalize:
                samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))
            self._log_mel.write(self._fill(samples, size), size, row)
        data: dict[str, Any] = {"input_features": rows}
        if self._masks(return_attention_mask):
            masks = [np.zeros(row.shape[1], np.int32) for row in rows]
            for mask, kept in zip(masks, plan.kept, strict=True):
                real = min(-(-kept // hop), len(mask))
                mask[len(mask) - real if plan.side == "left" else 0 :][:real] = 1
            data["attention_mask"] = np.stack(masks) if isinstance(rows, np.ndarray) else masks
        return self._as_batch(data, return_tensors, plan)

    @property
    def _log_mel(self) -> LogMel:
        return _log_mel(self.feature_size, rate=self.sampling_rate, length=self.n_fft, hop=self.hop_length)

    def _make(self, counts: list[int]) -> Any:
        """Make room: one array where all clips get as many frames."""
        if len({*counts}) == 1:
            return np.empty((len(counts), self.feature_size, counts[0]), np.float32)
        return [np.empty((self.feature_size, count), np.float32) for count in counts]

    def _fill(self, samples: Any, size: int) -> Any:
        """Fill a clip up with what is more than silence behind it, if that is asked for."""
        if self.padding_side == "left" or self.padding_value or self.dither:
            whole = np.full(size, self.padding_value, np.float32)
            whole[size - len(samples) if self.padding_side == "left" else 0 :][: len(samples)] = samples
            samples = whole + np.float32(self.dither) * np.random.default_rng().standard_normal(size, np.float32)
        return samples
