"""Weights between 0 and 1 as a small PNG of one colour, whose paper shows through."""

import base64
import struct
import zlib

import numpy as np

INK = (0x2F, 0x86, 0xC9)  # between light and dark: readable on both
_PALETTE = bytes(INK) * 256
_ALPHAS = bytes(range(256))


def png_uri(weights: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    """Give `(height, width)` as a `data:` address: 0 is empty, 1 is full ink (PNG: a palette with tRNS)."""
    levels = np.clip(np.nan_to_num(weights) * 255, 0, 255).round().astype(np.uint8)
    height, width = levels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each line begins with its filter, none
    lines[:, 1:] = levels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", _PALETTE), (b"tRNS", _ALPHAS), (b"IDAT", zlib.compress(lines.tobytes(), 9)))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in (*parts, (b"IEND", b"")))
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
