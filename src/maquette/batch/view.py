"""Arrays of every framework, by name, as a notebook shows them: shapes, types, and what numbers they hold."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from maquette.batch.tensors import framework_of
from maquette.storage.html_view import Markup, escape, folded, frame, gauge, never_raising, table

MOST_NUMBERS = 1 << 18  # of one array that are looked at
MOST_ARRAYS = 200  # of one picture
HEAD = ("name", "shape", "dtype", "least", "mean", "greatest")
NUMBERS = (3, 4, 5)
MASKS = ("attention_mask", "decoder_attention_mask", "padding_mask", "pixel_mask")


@never_raising
def show_output(output: Any) -> str:
    """Give the HTML of what a model returned."""
    return frame(type(output).__name__, f"{len(output)} values", draw_arrays(dict(output.items())))


@never_raising
def show_batch(batch: Any) -> str:
    """Give the HTML of what a preprocessing class returned, with how much of it is padding."""
    filled = "".join(
        draw_filling(name, *found) for name in MASKS if name in batch.data and (found := count_real(batch.data[name]))
    )
    return frame(type(batch).__name__, f"{len(batch.data)} values", filled, draw_arrays(batch.data))


def draw_filling(name: str, real: int, places: int) -> str:
    """Write how many of all places hold something."""
    share = real / places if places else 1.0
    said = f"{real:,} of {places:,} places are real, {share:.0%} <span class='quiet'>({escape(name)})</span>"
    return f"<div>{gauge(share)}{said}</div>"


def count_real(mask: Any) -> tuple[int, int] | None:
    """Count the places of a mask that are not 0, and all of them; None where its values cannot be looked at."""
    try:
        if framework_of(mask) is None:
            rows = [row if isinstance(row, list) else [row] for row in mask]
            return sum(bool(one) for row in rows for one in row), sum(map(len, rows))
        if not has_values(mask):
            return None
        if framework_of(mask) == "pt":
            return int((mask.detach() != 0).sum()), mask.numel()
        array = np.asarray(mask)
        return int(np.count_nonzero(array)), array.size
    except Exception:  # of a mask that is none
        return None


def draw_arrays(values: Mapping[str, Any]) -> str:
    """Write a table of arrays; tuples of them are folded."""
    left = [MOST_ARRAYS]
    plain, nested = [], []
    for name, value in values.items():
        if isinstance(value, tuple | list) and _holds_arrays(value):
            nested.append(_nested(str(name), value, left))
        elif isinstance(value, Mapping) and _holds_arrays([*value.values()]):
            nested.append(folded(f"{name}: {len(value)} values", draw_arrays(value)))
        else:
            plain.append(_row(str(name), value))
    return (table(HEAD, plain, numbers=NUMBERS) if plain else "") + "".join(nested)


def _holds_arrays(values: Sequence[Any]) -> bool:
    return any(
        framework_of(value) is not None or (isinstance(value, tuple) and _holds_arrays(value)) for value in values
    )


def _nested(name: str, values: Sequence[Any], left: list[int]) -> str:
    flat = list(_flatten("", values))
    shown = flat[: max(left[0], 0)]
    left[0] -= len(shown)
    shapes = list(dict.fromkeys(_shape(value) for _, value in flat))
    about = f"{len(values)} values, {', '.join(shapes[:3])}{' …' if len(shapes) > 3 else ''}"
    more = "" if len(shown) == len(flat) else f"<div class='quiet'>and {len(flat) - len(shown):,} more</div>"
    rows = (_row(place, value) for place, value in shown)
    label = Markup(f"{escape(name)} <span class='quiet'>{escape(about)}</span>")
    return folded(label, table(HEAD, rows, numbers=NUMBERS) + more)


def _flatten(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for number, each in enumerate(value):
            yield from _flatten(f"{place}[{number}]", each)
    else:
        yield place, value


def _row(name: str, value: Any) -> list[Any]:
    try:
        if framework_of(value) is not None:
            return [name, _shape(value), str(value.dtype).rpartition(".")[2], *_statistics(value)]
        if isinstance(value, list | tuple) and value and all(isinstance(row, list) for row in value):
            lengths = [len(row) for row in value]
            wide = f"{min(lengths)} – {max(lengths)}" if min(lengths) != max(lengths) else str(lengths[0])
            return [name, f"{len(value)} rows of {wide}", "list", "", "", ""]
        if isinstance(value, list):
            return [name, str(len(value)), "list", "", "", ""]
    except Exception as error:
        return [name, type(error).__name__, type(value).__name__, "", "", ""]
    return [name, reprlib.repr(value) if _is_plain(value) else "", type(value).__name__, "", "", ""]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | dict | set | tuple)


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "" if shape is None else " × ".join(map(str, shape)) or "one number"


def has_values(value: Any) -> bool:
    """Tell whether the numbers of an array are here to be looked at."""
    absent = getattr(value, "is_meta", False) or hasattr(value, "full_tensor") or hasattr(value, "fake_mode")
    return not absent and not getattr(value, "is_quantized", False) and type(value).__name__ != "BatchedTensor"


def _statistics(value: Any) -> tuple[Any, Any, Any]:
    """Give the least, the mean and the greatest of an array's first numbers, and mark those that are none."""
    try:
        if not has_values(value):
            return "no values", "", ""
        part, is_whole = _first(value)
        numbers = _as_numbers(part)
        if not numbers.size or numbers.dtype.kind not in "biuf":
            return "", "", ""
        finite = numbers[np.isfinite(numbers)]
        wrong = _wrong(numbers)
        found = [f"{number:.4g}" for number in (finite.min(), finite.mean(), finite.max())] if finite.size else [""] * 3
    except Exception:  # of values that cannot be looked at
        return "", "", ""
    more = "" if is_whole else f" <span class='quiet'>of the first {numbers.size:,}</span>"
    return found[0], found[1], Markup(escape(found[2]) + wrong + more)


def _as_numbers(part: Any) -> "np.ndarray[Any, Any]":
    if framework_of(part) == "pt":
        part = part.detach().cpu()
        return np.asarray((part if part.is_complex() else part.double()).numpy())
    array = np.asarray(part)
    return array if array.dtype.kind in "biufcOSU" else array.astype(np.float64)  # bfloat16, which numpy does not know


def _wrong(numbers: "np.ndarray[Any, Any]") -> str:
    counts: Iterable[tuple[int, str]] = (
        (int(np.isnan(numbers).sum()), "NaN"),
        (int(np.isinf(numbers).sum()), "infinite"),
    )
    return "".join(f" <span class='mark'>{count:,} {what}</span>" for count, what in counts if count)


def _first(value: Any) -> tuple[Any, bool]:
    """Give a view of the first numbers of an array, few enough to be looked at, and whether these are all."""
    size = _count(value.shape)
    whole = size <= MOST_NUMBERS
    while (size := _count(value.shape)) > MOST_NUMBERS:
        rows = max(1, int(value.shape[0]) * MOST_NUMBERS // size)
        value = value[:rows] if rows > 1 or len(value.shape) == 1 else value[0]
    return value, whole


def _count(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= int(size)
    return count
