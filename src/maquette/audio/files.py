"""Sound files, in any format that libsndfile reads: their samples and how many of them a second there are."""

import io
import os
import struct
from typing import Any, BinaryIO

import numpy as np

from maquette.errors import FileFormatError, InputError, MaquetteError, MissingFileError, MissingPackageError
from maquette.storage.paths import user_path

Samples = np.ndarray[Any, Any]
MOST_SAMPLES = 2**30  # what one file may decode to, 4 GB: compressed silence takes next to no space
BLOCK = 2**18  # how many samples are decoded at a time
LONGEST_PAGE = 65307  # bytes of an Ogg page
STREAMED = 0xFFFFFFFF  # the length that programs write into a WAV header before they know it


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
    except ImportError:
        raise MissingPackageError("Reading sound files needs soundfile. Run: pip install 'maquette[audio]'.") from None
    try:
        with _open(file, name) as opened:
            _check_header(opened, name)
            with soundfile.SoundFile(opened if isinstance(opened, Content) else opened.name) as sound:
                return _decode(sound, name), int(sound.samplerate)
    except MaquetteError:
        raise
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: raw samples, by the name of the file
        raise FileFormatError(f"{capital(name)} is no sound file that can be read: {_reason(error)}") from None


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
        return user_path(file).open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingFileError(f"{capital(name)} cannot be opened: {reason}.") from None


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
            f"{capital(name)} is cut short: its header promises {promised} bytes of sound, and {there} are there. "
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
                f"{capital(name)} decodes to more than {MOST_SAMPLES} samples. Cut it into parts, or raise "
                "maquette.audio.files.MOST_SAMPLES."
            )
    count = sum(map(len, blocks))
    if count < sound.frames:
        raise FileFormatError(
            f"{capital(name)} is cut short: its header promises {sound.frames} samples, and {count} are there."
        )
    return np.concatenate(blocks) if blocks else np.empty((0, sound.channels), np.float32)


def _next_block(sound: Any, done: int, name: str) -> Samples:
    try:
        block: Samples = sound.read(max(1, BLOCK // sound.channels), dtype="float32", always_2d=True)
    except RuntimeError as error:
        promised = f"{sound.frames} samples" if sound.frames < 2**60 else "no length"
        raise FileFormatError(
            f"{capital(name)} breaks off: its header promises {promised}, and decoding stopped after {done}: "
            f"{_reason(error)} Get the whole file, or write it anew with a length."
        ) from None
    return block


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


# Files -------------------------------------------------------------------------------------------------------------
