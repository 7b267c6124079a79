"""Sounds as they come, as one-channel float32 samples: arrays, lists, tensors of any framework, files and their bytes.

A clip that cannot be used is an error that says which clip it is; nothing is guessed that changes what is heard.
"""

import functools
import logging
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.audio.files import Samples, capital, read_file
from maquette.batch.tensors import framework_of, to_numpy
from maquette.errors import InputError, MissingPackageError

logger = logging.getLogger(__name__)

MOST_CHANNELS = 8  # an axis that is longer than this is taken for time


@dataclass(frozen=True, kw_only=True)
class AudioOptions:
    """How sounds are read.

    Attributes:
        rate: how many samples a second the clips have afterwards.
        given: how many the arrays among them have, as the caller says; files say it themselves.
        resample: bring clips of another rate to `rate`, instead of refusing them.
        mono: average channels, instead of refusing clips that have several.
        rescale: divide integer samples by the full scale of their type, instead of refusing them.
    """

    rate: int
    given: float | None = None
    resample: bool = False
    mono: bool = False
    rescale: bool = False


def read_sounds(audio: Any, options: AudioOptions) -> list[Samples]:
    """Give every clip as its float32 samples, `(samples,)`; arrays of that kind are passed on, not copied.

    Args:
        audio: a clip or a batch of clips. A clip is an array, a tensor, a list of numbers, the path or the bytes of a
            file, or a mapping with `array` and `sampling_rate`. A 2-D array is a batch, one clip a row; with
            `options.mono` it is one clip with channels.
        options: how they are read.

    Raises:
        InputError, FileFormatError, MissingFileError: naming the clip, and what to do.
    """
    if options.given is not None:
        check_rate("sampling_rate", options.given)
    clips, batched = split_clips(audio, mono=options.mono)
    return [_read_clip(clip, f"clip {index}" if batched else "the clip", options) for index, clip in enumerate(clips)]


def check_rate(name: str, rate: Any) -> None:
    """Refuse what is no number of samples a second.

    Raises:
        InputError: naming the argument.
    """
    is_number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not is_number or not 0 < float(rate) < math.inf:
        raise InputError(f"{name}={rate!r}: must be a positive number, of samples a second.")


# One clip or several -----------------------------------------------------------------------------------------------


def split_clips(audio: Any, *, mono: bool) -> tuple[list[Any], bool]:
    """Tell one clip from a batch of clips; gives the clips, and whether it was a batch.

    Raises:
        InputError: it is neither, or it could be both.
    """
    if _is_file(audio) or isinstance(audio, Mapping):
        return [audio], False
    if framework_of(audio):
        return _split_array(to_numpy(audio), mono=mono)
    if not isinstance(audio, Sequence) or isinstance(audio, str):
        raise InputError(
            f"Sounds are arrays, lists, tensors, or paths and bytes of files, alone or in a list; not "
            f"{type(audio).__name__}."
        )
    if not len(audio):
        raise InputError("There are no clips: the list is empty.")
    return ([audio], False) if _is_number(audio[0]) else (list(audio), True)


def _split_array(array: Samples, *, mono: bool) -> tuple[list[Any], bool]:
    dimensions = array.ndim - mono
    if array.ndim == 1 or (mono and dimensions == 1):
        return [array], False
    if dimensions != 2:
        raise InputError(
            f"An array of shape {array.shape} is no clip and no batch of clips: give (samples,) or (clips, samples), "
            "and with mono=True (channels, samples) or (clips, channels, samples)."
        )
    if not len(array):
        raise InputError("There are no clips: the array is empty.")
    if not mono and array.shape[1] <= MOST_CHANNELS < array.shape[0]:
        raise InputError(
            f"An array of shape {array.shape} would be {array.shape[0]} clips of {array.shape[1]} samples; it looks "
            f"like one clip of {array.shape[1]} channels. Pass mono=True to average them, or the clips as a list."
        )
    return list(array), True


def _is_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(value, "read")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) or (bool(framework_of(value)) and getattr(value, "ndim", 1) == 0)


# Samples -----------------------------------------------------------------------------------------------------------


def _read_clip(clip: Any, name: str, options: AudioOptions) -> Samples:
    rate: float | None = options.given
    if _is_file(clip):
        if isinstance(clip, str | os.PathLike):
            name = f"{name} ({os.fspath(clip)!r})"
        clip, rate = read_file(clip, name)
        clip = clip if clip.shape[1] > 1 else clip[:, 0]
    elif isinstance(clip, Mapping):
        if "array" not in clip:
            raise InputError(f"{capital(name)} is a mapping without 'array'. It has: {', '.join(map(str, clip))}.")
        clip, rate = clip["array"], clip.get("sampling_rate", rate)
        if rate is not None:
            check_rate(f"sampling_rate of {name}", rate)
    samples = _as_floats(_as_array(clip, name), name, rescale=options.rescale)
    samples = _as_mono(samples, name, mono=options.mono)
    if not samples.size:
        raise InputError(f"{capital(name)} is empty.")
    _check_finite(samples, name)
    return _at_rate(samples, rate, name, options)


def _as_array(clip: Any, name: str) -> Samples:
    try:
        array = to_numpy(clip)
    except (ValueError, TypeError) as error:
        raise InputError(f"{capital(name)} cannot be read as samples: {error}.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf" or not 1 <= array.ndim <= 2:
        kind = f"{array.dtype} values of shape {array.shape}" if isinstance(array, np.ndarray) else "a list of lists"
        raise InputError(f"{capital(name)} is {kind}, where numbers of shape (samples,) belong.")
    if array.dtype.kind != "f" and not framework_of(clip) and array.size and np.abs(array).max() <= 1:
        return array.astype(np.float32)  # a list of whole numbers within -1 and 1 is on the scale of floats
    return array


def _as_floats(samples: Samples, name: str, *, rescale: bool) -> Samples:
    """Give samples as float32; integers on a scale where 1 is the loudest."""
    if samples.dtype == np.float32:
        return samples
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what leaves float32's range is infinite then, and refused as that
            return samples.astype(np.float32)
    bits = 8 * samples.dtype.itemsize
    if bits == 64:
        raise InputError(
            f"{capital(name)} holds whole numbers without a known full scale ({samples.dtype}). Divide by what the "
            "loudest sample may be: samples / 32768 for sounds of 16 bits."
        )
    if not rescale:
        raise InputError(
            f"{capital(name)} holds {samples.dtype} samples, and 1.0 is the loudest here. Pass rescale=True to divide "
            f"by {2 ** (bits - 1)}, or give floats."
        )
    half = np.float32(2 ** (bits - 1))
    signed = samples.astype(np.float32) - (half if samples.dtype.kind == "u" else np.float32(0))
    return np.asarray(signed / half)


def _as_mono(samples: Samples, name: str, *, mono: bool) -> Samples:
    if samples.ndim == 1:
        return samples
    if 1 in samples.shape:
        return samples.reshape(-1)
    short = [axis for axis in (0, 1) if samples.shape[axis] <= MOST_CHANNELS]
    if not mono:
        count = f"{samples.shape[short[0]]} channels" if len(short) == 1 else "two axes"
        raise InputError(
            f"{capital(name)} has {count}, its shape is {samples.shape}. Pass mono=True to average its channels, or "
            "choose one."
        )
    if len(short) != 1:
        raise InputError(
            f"{capital(name)} has the shape {samples.shape}: which axis are the channels, and which is time? Average "
            "the channels yourself: clip.mean(axis=0), or axis=1."
        )
    return np.asarray(samples.mean(axis=short[0], dtype=np.float32))


def _check_finite(samples: Samples, name: str) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(np.add.reduce(samples))
    if math.isfinite(total):
        return
    wrong = np.flatnonzero(~np.isfinite(samples))
    if len(wrong):
        raise InputError(
            f"{capital(name)} is not finite: sample {wrong[0]} is {samples[wrong[0]]}, the first of {len(wrong)} that "
            "are no numbers or infinite. Cut them out, or pass np.nan_to_num(clip)."
        )


def _at_rate(samples: Samples, rate: float | None, name: str, options: AudioOptions) -> Samples:
    if rate is None:
        _warn_of_unknown_rate(options.rate)
        return samples
    if rate == options.rate:
        return samples
    if options.resample:
        return resample(samples, rate, options.rate)
    raise InputError(
        f"{capital(name)} has {rate:g} samples a second, and {options.rate} are needed. Pass resample=True, or "
        f"resample it before: soxr.resample(clip, {rate:g}, {options.rate})."
    )


@functools.cache
def _warn_of_unknown_rate(rate: int) -> None:
    logger.warning(
        "sampling_rate was not given, so the sounds are taken to have %d samples a second. Pass sampling_rate=%d if "
        "they do; others are then refused, or with resample=True resampled.",
        rate,
        rate,
    )


def resample(samples: Samples, rate: float, wanted: float) -> Samples:
    """Give the sound with another number of samples a second, by soxr at its high quality.

    Args:
        samples: float32, `(samples,)`.
        rate, wanted: samples a second, before and after.

    Raises:
        MissingPackageError: soxr is not installed.
    """
    try:
        import soxr  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise MissingPackageError("Resampling needs soxr. Run: pip install 'maquette[audio]'.") from None
    return np.asarray(soxr.resample(np.ascontiguousarray(samples), rate, wanted, quality="HQ"), np.float32)
