"""What the files of a checkpoint hold, read from their headers: names, shapes and types, and not one weight."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import FileFormatError
from maquette.hub.errors import explaining
from maquette.hub.sources import HubRepository, Source
from maquette.storage.safetensors_header import read_header

MOST_HEADER = 100_000_000  # bytes, as in the format's own library


@dataclass(frozen=True)
class Stored:
    """One tensor of a file."""

    name: str
    dtype: str  # as safetensors calls it, "BF16"
    shape: tuple[int, ...]
    size: int  # bytes
    file: str


@dataclass
class Weights:
    """The tensors of a checkpoint's safetensors files, by name, and the bytes of each file."""

    tensors: dict[str, Stored] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    pickled: list[str] = field(default_factory=list)  # files that only code could read

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def size(self) -> int:
        """How many bytes the tensors are."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def types(self) -> dict[str, int]:
        """How many numbers there are of each type."""
        found: dict[str, int] = {}
        for tensor in self.tensors.values():
            found[tensor.dtype] = found.get(tensor.dtype, 0) + math.prod(tensor.shape)
        return found


def read_weights(source: Source) -> Weights | None:
    """Read the headers of a source's safetensors files, on the Hub by ranges; None where it has no weights.

    Raises:
        FileFormatError: a file is damaged.
    """
    from maquette.checkpoint.reading import PICKLED

    names = source.names()
    wanted = sorted(name for name in names if name.endswith(".safetensors"))
    found = Weights(pickled=[name for name in names if PICKLED.match(name) and "/" not in name])
    for name in _chosen(wanted):
        header, size, start = _read_one(source, name)
        found.files[name] = size
        for key, entry in header.items():
            if key == "__metadata__":
                found.metadata |= entry if isinstance(entry, dict) else {}
                continue
            try:
                begin, end = entry["data_offsets"]
                shape = tuple(int(axis) for axis in entry["shape"])
                stored = Stored(key, str(entry["dtype"]), shape, end - begin, name)
            except (KeyError, TypeError, ValueError):
                raise FileFormatError(f"{source.label}/{name}: the header says nothing right of {key!r}.") from None
            if start + end > size:
                raise FileFormatError(
                    f"{source.label}/{name} is truncated: {key!r} ends at byte {start + end:,} of {size:,}."
                )
            found.tensors[key] = stored
    return found if found.files or found.pickled else None


def _chosen(names: list[str]) -> list[str]:
    """Leave out variants and weights of other folders, where there are the usual ones."""
    top = [name for name in names if "/" not in name]
    usual = [name for name in top if name == "model.safetensors" or name.startswith("model-")]
    return usual or top or names


def _read_one(source: Source, name: str) -> tuple[dict[str, Any], int, int]:
    """Give a file's header, its bytes, and where the tensors begin."""
    if isinstance(source, HubRepository):
        path = source.cached(name)
        if path is None:
            return _read_by_ranges(source, name)
    else:
        path = source.find(name)
    assert path is not None
    return _read_local(Path(path), f"{source.label}/{name}")


def _read_local(path: Path, label: str) -> tuple[dict[str, Any], int, int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MOST_HEADER, size - 8):
            file.seek(0)
            begins = file.read(30)
            pointer = " It is a Git LFS pointer: fetch it with `git lfs pull`." if begins.startswith(b"version") else ""
            raise FileFormatError(f"{label} is no safetensors file: {size:,} bytes, no header.{pointer}")
        file.seek(0)
        try:
            header, start = read_header(file)
        except ValueError as error:
            raise FileFormatError(f"{label} has a damaged header: {error}") from None
    if not isinstance(header, dict):
        raise FileFormatError(f"{label} has a damaged header: it is no dictionary.")
    return header, size, start


def _read_by_ranges(source: HubRepository, name: str) -> tuple[dict[str, Any], int, int]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    place = f"{source.subfolder}/{name}".lstrip("/")
    with explaining(source.label, str(source.commit), name):
        try:
            found = HfApi(token=source.hub.token).parse_safetensors_file_metadata(
                source.label, place, revision=source.commit
            )
        except SafetensorsParsingError as error:
            raise FileFormatError(f"{source.label}/{name} is no safetensors file: {error}") from None
    header: dict[str, Any] = {
        key: {"dtype": value.dtype, "shape": value.shape, "data_offsets": value.data_offsets}
        for key, value in found.tensors.items()
    }
    if found.metadata:
        header["__metadata__"] = dict(found.metadata)
    size = source.total_size([name])
    return header, size, size - max((tensor.data_offsets[1] for tensor in found.tensors.values()), default=0)
