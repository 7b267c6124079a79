"""Sounds as they come, as one-channel float32 samples: arrays, lists, tensors of any framework, files and their bytes.

A clip that cannot be used is an error that says which clip it is; nothing is guessed that changes what is heard.
"""

import functools
import io
import logging
import math
import numbers
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maquette.errors import FileFormatError, InputError, MaquetteError, MissingFileError, MissingPackageError
from maquette.tensors import framework_of, to_numpy

logger = logging.getLogger(__name__)

Samples = np.ndarray[Any, Any]
MOST_CHANNELS = 8  # an axis that is longer than this is taken for time
MOST_SAMPLES = 2**30  # what one file may decode to, 4 GB: compressed silence takes next to no space
BLOCK = 2**18  # how many samples are decoded at a time
LONGEST_PAGE = 65307  # bytes of an Ogg page
STREAMED = 0xFFFFFFFF  # the length that programs write into a WAV header before they know it


@dataclass(frozen=True, kw_only=True)
class Hearing:
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


def read_sounds(audio: Any, hearing: Hearing) -> list[Samples]:
    """Give every clip as its float32 samples, `(samples,)`; arrays of that kind are passed on, not copied.

    Args:
        audio: a clip or a batch of clips. A clip is an array, a tensor, a list of numbers, the path or the bytes of a
            file, or a mapping with `array` and `sampling_rate`. A 2-D array is a batch, one clip a row; with
            `hearing.mono` it is one clip with channels.
        hearing: what is wanted of them.

    Raises:
        InputError, FileFormatError, MissingFileError: naming the clip, and what to do.
    """
    if hearing.given is not None:
        check_rate("sampling_rate", hearing.given)
    clips, batched = split_clips(audio, mono=hearing.mono)
    return [_read_clip(clip, f"clip {index}" if batched else "the clip", hearing) for index, clip in enumerate(clips)]


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


def _read_clip(clip: Any, name: str, hearing: Hearing) -> Samples:
    rate: float | None = hearing.given
    if _is_file(clip):
        if isinstance(clip, str | os.PathLike):
            name = f"{name} ({os.fspath(clip)!r})"
        clip, rate = read_file(clip, name)
        clip = clip if clip.shape[1] > 1 else clip[:, 0]
    elif isinstance(clip, Mapping):
        if "array" not in clip:
            raise InputError(f"{_capital(name)} is a mapping without 'array'. It has: {', '.join(map(str, clip))}.")
        clip, rate = clip["array"], clip.get("sampling_rate", rate)
        if rate is not None:
            check_rate(f"sampling_rate of {name}", rate)
    samples = _as_floats(_as_array(clip, name), name, rescale=hearing.rescale)
    samples = _as_mono(samples, name, mono=hearing.mono)
    if not samples.size:
        raise InputError(f"{_capital(name)} is empty.")
    _check_finite(samples, name)
    return _at_rate(samples, rate, name, hearing)


def _as_array(clip: Any, name: str) -> Samples:
    try:
        array = to_numpy(clip)
    except (ValueError, TypeError) as error:
        raise InputError(f"{_capital(name)} cannot be read as samples: {error}.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf" or not 1 <= array.ndim <= 2:
        kind = f"{array.dtype} values of shape {array.shape}" if isinstance(array, np.ndarray) else "a list of lists"
        raise InputError(f"{_capital(name)} is {kind}, where numbers of shape (samples,) belong.")
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
            f"{_capital(name)} holds whole numbers without a known full scale ({samples.dtype}). Divide by what the "
            "loudest sample may be: samples / 32768 for sounds of 16 bits."
        )
    if not rescale:
        raise InputError(
            f"{_capital(name)} holds {samples.dtype} samples, and 1.0 is the loudest here. Pass rescale=True to divide "
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
            f"{_capital(name)} has {count}, its shape is {samples.shape}. Pass mono=True to average its channels, or "
            "choose one."
        )
    if len(short) != 1:
        raise InputError(
            f"{_capital(name)} has the shape {samples.shape}: which axis are the channels, and which is time? Average "
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
            f"{_capital(name)} is not finite: sample {wrong[0]} is {samples[wrong[0]]}, the first of {len(wrong)} that "
            "are no numbers or infinite. Cut them out, or pass np.nan_to_num(clip)."
        )


def _at_rate(samples: Samples, rate: float | None, name: str, hearing: Hearing) -> Samples:
    if rate is None:
        _warn_of_unknown_rate(hearing.rate)
        return samples
    if rate == hearing.rate:
        return samples
    if hearing.resample:
        return resample(samples, rate, hearing.rate)
    raise InputError(
        f"{_capital(name)} has {rate:g} samples a second, and {hearing.rate} are needed. Pass resample=True, or "
        f"resample it before: soxr.resample(clip, {rate:g}, {hearing.rate})."
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
    except ImportError as error:
        raise MissingPackageError("Resampling needs soxr. Run: pip install 'maquette[audio]'.") from error
    return np.asarray(soxr.resample(np.ascontiguousarray(samples), rate, wanted, quality="HQ"), np.float32)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# Files -------------------------------------------------------------------------------------------------------------


def read_file(file: Any, name: str = "the file") -> tuple[Samples, int]:
    """Read a WAV, FLAC or OGG file, or another that soundfile knows; gives `(samples, channels)` and the rate.

    A header is not believed: memory is taken for what was decoded, never for what was promised.

    Args:
        file: a path, the bytes, or a file opened for reading bytes.
        name: what to call it in errors.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is no sound file, or it holds less than its header says.
        MissingPackageError: soundfile is not installed.
    """
    try:
        import soundfile  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingPackageError("Reading sound files needs soundfile. Run: pip install 'maquette[audio]'.") from error
    try:
        with _open(file, name) as opened:
            _check_header(opened, name)
            with soundfile.SoundFile(opened if isinstance(opened, Content) else opened.name) as sound:
                return _decode(sound, name), int(sound.samplerate)
    except MaquetteError:
        raise
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: raw samples, by the name of the file
        raise FileFormatError(f"{_capital(name)} is no sound file that can be read: {_reason(error)}") from error


class Content(io.BytesIO):
    """The bytes of a file for libsndfile, which may seek to nowhere where a header is wrong."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a place; one before the beginning is passed over."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _open(file: Any, name: str) -> BinaryIO:
    if isinstance(file, bytes | bytearray | memoryview):
        return Content(file)
    if hasattr(file, "read"):
        return Content(file.read())
    try:
        return Path(file).expanduser().open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingFileError(f"{_capital(name)} cannot be opened: {reason}.") from error


def _reason(error: Exception) -> str:
    """Give what soundfile says, without the object that it read from."""
    return str(getattr(error, "error_string", error))


def _check_header(file: BinaryIO, name: str) -> None:
    """Refuse a file that lacks its end, of a kind that libsndfile would read as a shorter sound."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        promised, there = _wav_sizes(file, size)
    elif head[:4] == b"OggS":
        promised, there = _ogg_sizes(file, size)
    else:
        promised = there = 0
    if there < promised:
        raise FileFormatError(
            f"{_capital(name)} is cut short: its header promises {promised} bytes of sound, and {there} are there. "
            "Get the whole file."
        )
    file.seek(0)


def _wav_sizes(file: BinaryIO, size: int) -> tuple[int, int]:
    """Give the bytes that the chunk of samples promises, and those that there are."""
    place = 12
    for _ in range(1000):  # more chunks than that before the samples are no sound file's
        file.seek(place)
        if len(chunk := file.read(8)) < 8:
            break
        kind, length = struct.unpack("<4sI", chunk)
        if kind == b"data":
            return (0 if length == STREAMED else length), size - place - 8
        place += 8 + length + length % 2
    return 0, 0


def _ogg_sizes(file: BinaryIO, size: int) -> tuple[int, int]:
    """Give the bytes that the last page promises, and those that there are (RFC 3533, section 6)."""
    file.seek(max(0, size - 2 * LONGEST_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    complete = len(page) > 26 and len(lengths) == page[26]
    return (27 + len(lengths) + sum(lengths) if complete else len(page) + 1), len(page)


def _decode(sound: Any, name: str) -> Samples:
    """Decode block by block, so that memory follows what is there."""
    blocks: list[Samples] = []
    while len(block := _next_block(sound, sum(map(len, blocks)), name)):
        blocks.append(block)
        if sum(block.size for block in blocks) > MOST_SAMPLES:
            raise InputError(
                f"{_capital(name)} decodes to more than {MOST_SAMPLES} samples. Cut it into parts, or raise "
                "maquette.audio.MOST_SAMPLES."
            )
    count = sum(map(len, blocks))
    if count < sound.frames:
        raise FileFormatError(
            f"{_capital(name)} is cut short: its header promises {sound.frames} samples, and {count} are there."
        )
    return np.concatenate(blocks) if blocks else np.empty((0, sound.channels), np.float32)


def _next_block(sound: Any, done: int, name: str) -> Samples:
    try:
        block: Samples = sound.read(max(1, BLOCK // sound.channels), dtype="float32", always_2d=True)
    except RuntimeError as error:
        promised = f"{sound.frames} samples" if sound.frames < 2**60 else "no length"
        raise FileFormatError(
            f"{_capital(name)} breaks off: its header promises {promised}, and decoding stopped after {done}: "
            f"{_reason(error)} Get the whole file, or write it anew with a length."
        ) from error
    return block
