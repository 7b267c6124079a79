"""How loud each band of frequencies is from moment to moment: spectra of short frames, and mel filters over them."""

from typing import Any

import numpy as np

from maquette.audio.files import Samples
from maquette.errors import InputError

BLOCK = 128  # frames that are computed together, so that they stay in the cache
QUIET = 1e-10  # the least energy that is told from silence
RANGE = 8.0  # by how many powers of ten the quietest may lie below the loudest


def mel_filters(bins: int, bands: int, *, rate: int, highest: float) -> "np.ndarray[Any, Any]":
    """Make triangular filters on Slaney's mel scale, each of area 1 (Slaney 1998): `(bins, bands)`, float64.

    Args:
        bins: frequencies of a spectrum, from 0 to half the rate.
        bands: filters.
        rate: samples a second.
        highest: where the last filter ends, in hertz.
    """
    step, knee = np.log(6.4) / 27, 1000.0  # a mel is 200/3 Hz up to 1000 Hz, and a constant ratio above
    last = 3 * highest / 200 if highest < knee else 15 + np.log(highest / knee) / step
    mels = np.linspace(0, last, bands + 2)
    edges = np.where(mels < 15, 200 * mels / 3, knee * np.exp(step * (mels - 15)))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    at = np.linspace(0, rate // 2, bins)[:, None]
    triangles: np.ndarray[Any, Any] = np.minimum((at - low) / (centre - low), (high - at) / (high - centre)).clip(min=0)
    return triangles * (2 / (high - low))


class LogMel:
    """Turns samples into logarithms of energies in mel bands, as Whisper hears them (Radford et al. 2022, 2.2).

    Args:
        bands: filters.
        rate: samples a second.
        length: samples of a frame, an even number.
        hop: samples from one frame to the next.
    """

    def __init__(self, bands: int, *, rate: int, length: int, hop: int) -> None:
        self.length, self.hop = length, hop
        self.window = np.hanning(length + 1)[:-1].astype(np.float32)
        filters = mel_filters(length // 2 + 1, bands, rate=rate, highest=8000.0)
        self.filters = np.ascontiguousarray(filters.T, np.float32)

    def write(self, samples: Samples, size: int, out: "np.ndarray[Any, Any]") -> None:
        """Write a clip's features to `out`.

        Args:
            samples: float32, `(samples,)`.
            size: how many samples there are with the silence behind them; that of zeros is not computed.
            out: float32, `(bands, size // hop)`.
        """
        half, count = self.length // 2, out.shape[1]
        if size <= half:
            raise InputError(
                f"A clip of {size} samples is too short: its edges are mirrored, which takes {half + 1}. Pad it "
                '(padding="max_length"), or leave it out.'
            )
        heard = min(count, -(-(len(samples) + half) // self.hop))  # frames that are not all silence
        whole = np.zeros(half + max(size, len(samples)) + half, np.float32)
        whole[half : half + len(samples)] = samples
        whole[:half] = whole[2 * half : half : -1]
        whole[half + size :] = whole[half + size - 2 : size - 2 : -1]
        frames = np.lib.stride_tricks.sliding_window_view(whole, self.length)[:: self.hop]
        for start in range(0, heard, BLOCK):
            stop = min(start + BLOCK, heard)
            spectra = np.fft.rfft(frames[start:stop] * self.window).astype(np.complex64, copy=False).view(np.float32)
            np.square(spectra, out=spectra)
            out[:, start:stop] = self.filters @ (spectra[:, ::2] + spectra[:, 1::2]).T
        part = out[:, :heard]
        np.log10(np.maximum(part, np.float32(QUIET), out=part), out=part)
        out[:, heard:] = np.log10(np.float32(QUIET))
        np.maximum(out, out.max() - np.float32(RANGE), out=out)
        out += np.float32(4)
        out /= np.float32(4)
