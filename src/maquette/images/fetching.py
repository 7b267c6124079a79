"""The one way to an image on the network: when the caller asks for it by name."""

import base64
import binascii
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from maquette.errors import InputError
from maquette.images.reading import MAX_PIXELS, read, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 50_000_000
CHUNK = 1 << 16


def load_image(
    source: Any, *, timeout: float = 10.0, max_bytes: int = MAX_BYTES, max_pixels: int | None = MAX_PIXELS
) -> "Image":
    """Load an image from wherever it is: upright, as RGB, transparency laid over white.

    Args:
        source: an http or https address, a data URL, a path, the bytes of a file, or an image of Pillow's.
        timeout: seconds until an address must have been answered in full.
        max_bytes: the most that is fetched.
        max_pixels: the most pixels that are decoded; None for any number.

    Raises:
        InputError, MissingFileError: with the source, and why it cannot be loaded.
    """
    label = repr(os.fspath(source)[:80]) if isinstance(source, str | os.PathLike) else f"The {type(source).__name__}"
    if isinstance(source, str) and source.startswith("data:"):
        source = _decode_data_url(source, label)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        source = fetch(source, label, timeout, max_bytes)
    options = {"data_format": None, "is_scaled_later": False, "is_bounded": True}
    image = to_rgb(read(source, label, max_pixels=max_pixels, array_options=options), label)
    if not hasattr(image, "convert"):
        raise InputError(f"{label} holds real numbers, which no RGB image has: give it to a processor as it is.")
    loaded: Image = image
    return loaded


def _decode_data_url(url: str, label: str) -> bytes:
    head, comma, body = url.partition(",")
    try:
        text = urllib.parse.unquote_to_bytes(body)
        return base64.b64decode(text, validate=True) if head.endswith(";base64") and comma else text
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{label} is a data URL, and not base64 after its comma: {error}") from None


def fetch(url: str, label: str, timeout: float, max_bytes: int) -> bytes:
    """Fetch what an address has, over http or https alone, redirections included."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(url, timeout=timeout) as answer:
            return _read_all(answer, label, time.monotonic() + timeout, max_bytes)
    except (urllib.error.URLError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{label} cannot be fetched: {error}") from None


def _read_all(answer: Any, label: str, deadline: float, max_bytes: int) -> bytes:
    body = bytearray()
    while part := answer.read1(CHUNK):
        body += part
        if len(body) > max_bytes:
            raise InputError(f"{label} has more than max_bytes={max_bytes} bytes; where you trust it, pass more.")
        if time.monotonic() > deadline:
            raise InputError(f"{label} took longer than the timeout; {len(body)} bytes had come by then.")
    return bytes(body)
