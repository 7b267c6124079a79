"""What `size`, `crop_size`, `pad_size` and `resample` may say, and the sizes that follow from it."""

from collections.abc import Mapping
from typing import Any

from maquette.errors import did_you_mean

# Pillow's numbers of its filters.
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
EXACT = ("height", "width")
# The sets of keys that a size may have.
KEYS = (EXACT, ("shortest_edge",), ("longest_edge",), ("shortest_edge", "longest_edge"), ("max_height", "max_width"))


def read_size(value: Any, name: str = "size", *, square: bool = True) -> dict[str, int]:
    """Give a size as a dictionary with one of the sets of keys in `KEYS`.

    Args:
        value: a number, `[height, width]`, or a dictionary.
        name: the setting's name, for the error.
        square: a number is the side of a square; otherwise it is the shortest edge.

    Raises:
        ValueError: with what was found and what may stand there.
    """
    if isinstance(value, Mapping):
        sides = {key: side for key, side in value.items() if side is not None}
        if not any(sides.keys() == set(keys) for keys in KEYS):
            raise ValueError(_unknown_keys(name, value))
    elif isinstance(value, list | tuple):
        if len(value) != len(EXACT):
            raise ValueError(f"{name}={value!r} must be [height, width]")
        sides = dict(zip(EXACT, value, strict=True))
    else:
        sides = dict.fromkeys(EXACT, value) if square else {"shortest_edge": value}
    if wrong := [side for side in sides.values() if side is None or side < 1]:
        raise ValueError(f"{name}={value!r} must be at least 1 pixel each way, not {wrong[0]}")
    return sides


def _unknown_keys(name: str, value: Mapping[str, Any]) -> str:
    known = sorted({key for keys in KEYS for key in keys})
    near = "".join(did_you_mean(key, known) for key in value if key not in known)
    return f"{name} has the keys {sorted(value)}; it may have {' or '.join(' + '.join(keys) for keys in KEYS)}.{near}"


def read_exact_size(value: Any, name: str) -> tuple[int, int]:
    """Give a height and a width.

    Raises:
        ValueError: the size depends on the image, or is none.
    """
    sides = {} if value is None else read_size(value, name)
    if sides.keys() != set(EXACT):
        raise ValueError(f"{name}={value!r} must be a number, [height, width], or a dictionary of height and width")
    return sides["height"], sides["width"]


def read_filter(value: Any) -> int:
    """Give Pillow's number of a filter that is given as that number, as Pillow's enum, or by name ("PIL.Image.BOX").

    Raises:
        ValueError: with the nearest name.
    """
    if isinstance(value, str):
        name = value.rpartition(".")[2].lower()
        if name in FILTERS:
            return FILTERS[name]
        raise ValueError(f"resample={value!r} is no filter.{did_you_mean(name, FILTERS)} There are: {_filters()}")
    if not isinstance(value, bool) and value in FILTERS.values():
        return int(value)
    raise ValueError(f"resample={value!r} is no filter. There are: {_filters()}")


def _filters() -> str:
    return ", ".join(f"{number} ({name})" for name, number in FILTERS.items())


def fit(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """Give the height and width that an image is resized to.

    With both edges given, the shortest edge gets its length unless the longest would become longer than allowed.
    Fractions of a pixel are dropped, as Transformers and torchvision do.
    """
    if "height" in size:
        return size["height"], size["width"]
    if "max_height" in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return max(1, int(height * scale)), max(1, int(width * scale))
    short, long = sorted((height, width))
    if "shortest_edge" not in size:
        sides = max(1, round(short * size["longest_edge"] / long)), size["longest_edge"]
    else:
        sides = _fit_edges(short, long, size["shortest_edge"], size.get("longest_edge"))
    return sides if height <= width else sides[::-1]


def _fit_edges(short: int, long: int, shortest: int, longest: int | None) -> tuple[int, int]:
    side: float = shortest
    if longest is not None and long / short * shortest > longest:
        side = longest * short / long
    edge = max(1, round(side))
    if edge == short and longest is not None:
        return short, long
    return edge, max(1, int(side * long / short))
