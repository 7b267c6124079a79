"""What Blueprint hears: the loudness of bands of frequencies, frame by frame."""

from typing import Annotated, Any

import msgspec
import numpy as np

from maquette import SequenceFeatureExtractor

Count = Annotated[int, msgspec.Meta(ge=1)]


class BlueprintFeatureExtractor(SequenceFeatureExtractor):
    """Turns sounds into `input_features`, `(clips, frames, bands)`, with mean 0 and variance 1 in each clip.

    Settings:
        feature_size: bands, of equal width up to half of `sampling_rate`.
        frame, step: samples that a frame has, and from one frame to the next.
        sampling_rate, padding_value, return_attention_mask: as in `SequenceFeatureExtractor`.
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012
    feature_size: Count = 32
    sampling_rate: Count = 8000
    frame: Count = 256
    step: Count = 128

    def __call__(self, audio: Any, *, sampling_rate: float | None = None, **options: Any) -> Any:
        """Give `input_features` and `attention_mask`; a clip has one frame at least. Options are those of `pad`."""
        clips = self.read_clips(audio, sampling_rate=sampling_rate)
        return self.pad({"input_features": [self._hear(clip) for clip in clips]}, **options)

    def _hear(self, clip: np.ndarray) -> np.ndarray:
        clip = np.pad(clip, (0, max(0, self.frame - len(clip))))
        frames = np.lib.stride_tricks.sliding_window_view(clip, self.frame)[:: self.step] * np.hanning(self.frame)
        power = np.abs(np.fft.rfft(frames)) ** 2  # (frames, frequencies)
        edges = np.linspace(0, power.shape[1] - 1, self.feature_size + 1).astype(int)
        loudness = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-6)  # (frames, bands)
        return ((loudness - loudness.mean()) / (loudness.std() + 1e-6)).astype(np.float32)
