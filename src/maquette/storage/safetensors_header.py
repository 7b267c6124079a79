"""The beginning of a safetensors file, read without the library of that name, which brings numpy."""

import json
from typing import Any, Protocol


class _Readable(Protocol):
    def read(self, n: int = ..., /) -> bytes: ...


def read_header(file: _Readable) -> tuple[dict[str, Any], int]:
    """Read what a file says of its tensors, by name, and where their bytes begin: 8 bytes of length, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    header: dict[str, Any] = json.loads(file.read(length))
    return header, 8 + length
