"""Sizes of files and memory, as people write them."""

import re

UNITS = (
    {"": 1, "B": 1}
    | {f"{u}B": 1000**n for n, u in enumerate("KMGT", 1)}
    | {f"{u}IB": 1024**n for n, u in enumerate("KMGT", 1)}
)


def parse_size(size: int | str, *, name: str = "max_shard_size") -> int:
    """Read a size such as `"5GB"` (10⁹) or `"5GiB"` (2³⁰); a number is bytes.

    Args:
        name: of the argument, for the error.

    Raises:
        ValueError: no size.
    """
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", size)
    if not found or found[2].upper() not in UNITS:
        raise ValueError(f"{name}={size!r} is no size; write it like '5GB', '500MiB', or as a number of bytes.")
    return int(float(found[1]) * UNITS[found[2].upper()])
