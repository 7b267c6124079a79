"""Clips of sound, and a feature extractor of a user's."""

from typing import Any, ClassVar

import numpy as np

from maquette import PretrainedConfig, SequenceFeatureExtractor

RATE = 16000


def make_clip(length: int, seed: int = 0) -> np.ndarray:
    """Make something like a voice: a few moving tones, their loudness rising and falling, noise, and an offset."""
    noise = np.random.default_rng(seed)
    time = np.arange(length) / RATE
    tones = sum(np.sin(2 * np.pi * (110 * k + 8 * np.sin(5 * time)) * time) / k for k in range(1, 6))
    sound = 0.2 * tones * np.abs(np.sin(3 * time)) ** 3 + 0.01 * noise.standard_normal(length) + 0.003
    return sound.astype(np.float32)


CLIPS = [make_clip(length, seed) for seed, length in enumerate((400, 1000, 3001, 777))]


class Frames(SequenceFeatureExtractor):
    """A feature extractor of a user's: the loudness of stretches, in bands."""

    model_input_names: ClassVar[list[str]] = ["input_features", "attention_mask"]

    def __init__(self, feature_size: int = 3, stretch: int = 100, **kwargs: Any) -> None:
        super().__init__(feature_size=feature_size, **kwargs)
        self.stretch = stretch

    def __call__(self, audio: Any, *, sampling_rate: float | None = None, **options: Any) -> Any:
        clips = self.read_clips(audio, sampling_rate=sampling_rate)
        whole = [clip[: len(clip) // self.stretch * self.stretch].reshape(-1, self.stretch) for clip in clips]
        powers = [np.stack([(w**k).mean(1) for k in range(1, self.feature_size + 1)], 1) for w in whole]
        return self.pad({"input_features": powers}, **options)


class FramesConfig(PretrainedConfig):
    model_type = "frames-for-tests"
