"""From pixels to the numbers that a model takes: rescaled and normalised in one pass, written into place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from maquette.images.reading import Picture

LEVELS = 256


class Scale:
    """What becomes of a pixel's number: `(number * factor - mean) / std`, in float32, for each channel its own.

    Of 8 bits a channel there are 256 results, which are looked up.

    Args:
        factor: None does not rescale.
        mean, std: a number for each channel; None does not normalise.
    """

    def __init__(self, factor: float | None, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        self._factor = factor
        self._mean = None if mean is None else np.array(mean, np.float32)
        self._std = None if std is None else np.array(std, np.float32)
        channels = 1 if mean is None else len(mean)
        self._tables = [self._compute(np.arange(LEVELS), channel) for channel in range(channels)]

    def _compute(self, numbers: "np.ndarray[Any, Any]", channel: int) -> "np.ndarray[Any, Any]":
        if self._factor is not None:
            numbers = numbers.astype(np.float64) * self._factor
        numbers = numbers.astype(np.float32)
        if self._mean is None or self._std is None:
            return numbers
        return np.asarray((numbers - self._mean[channel]) / self._std[channel], np.float32)

    def write(self, picture: Picture, target: "np.ndarray[Any, Any]") -> None:
        """Write an image into `target`, (channels, height, width) of float32, or of uint8 where nothing changes."""
        for channel, plane in enumerate(planes(picture)):
            if target.dtype == np.uint8:
                target[channel] = plane
            elif plane.dtype != np.uint8:
                target[channel] = self._compute(plane, channel)
            elif (row := target[channel]).flags.c_contiguous:
                np.take(self._tables[channel % len(self._tables)], plane, out=row, mode="clip")
            else:
                target[channel] = self._tables[channel % len(self._tables)][plane]


def planes(picture: Picture) -> "Iterator[np.ndarray[Any, Any]]":
    """Give the channels of an image one by one, each (height, width)."""
    if isinstance(picture, np.ndarray):
        yield from np.moveaxis(picture, -1, 0)
    else:
        yield from map(np.asarray, picture.split())


def count_channels(picture: Picture) -> int:
    """Give the number of channels."""
    return picture.shape[2] if isinstance(picture, np.ndarray) else len(picture.getbands())
