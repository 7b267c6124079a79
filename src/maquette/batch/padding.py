"""What tokenizers and other preprocessing classes give back, and the only padding and truncation there are.

Rows of different lengths become an array by filling one flat numpy array; Python lists are never padded for that.
"""

from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from maquette.batch.tensors import framework_of, to_numpy
from maquette.errors import InputError, did_you_mean

Rows = Sequence[Sequence[Any]]
SIDES = ("right", "left")
PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Give back a value that is one of the choices, or say which there are.

    Raises:
        InputError: with the nearest choice.
    """
    text = getattr(value, "value", value)
    if text in choices:
        return str(text)
    raise InputError(
        f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}.{did_you_mean(str(text), choices)}"
    )


# Truncation --------------------------------------------------------------------------------------------------------


def truncate(first: int, second: int | None, *, budget: int, strategy: str) -> tuple[int, int | None]:
    """Decide how many tokens of a text, and of its pair, are kept.

    Args:
        first, second: how many tokens they have.
        budget: how many may be kept together, the special tokens not counted.
        strategy: "longest_first" cuts the longer one, and both to halves where both are longer than that (the longer
            one, else the second, has the odd token); "only_first" and "only_second" cut that one and must leave some.

    Raises:
        InputError: the one text that may be cut is too short for that.
    """
    excess = first + (second or 0) - budget
    if excess <= 0 or strategy == "do_not_truncate":
        return first, second
    if strategy == "longest_first":
        if second is None:
            return budget, None
        short = min(first, second, budget // 2)
        return (budget - short, short) if first > second else (short, budget - short)
    cut = first if strategy == "only_first" else second
    if cut is None:
        raise InputError("truncation='only_second', but there is no second text. Use 'only_first' or True.")
    if cut <= excess:
        raise InputError(
            f"truncation={strategy!r} cannot bring {first} + {second or 0} tokens down to {budget}: the text that may "
            f"be cut has only {cut}. Raise max_length, or use truncation=True."
        )
    return (first - excess, second) if strategy == "only_first" else (first, cut - excess)


def windows(length: int, size: int, *, stride: int, side: str) -> list[tuple[int, int]]:
    """Give the stretches of at most `size` tokens that cover a text, each sharing `stride` tokens with the one before.

    The first is the one that truncation keeps: at the start, or with `side="left"` at the end.
    """
    if length <= size:
        return [(0, length)]
    if size <= 0:
        return [(0, 0)]
    starts = range(0, length - stride, size - stride)
    spans = [(start, min(start + size, length)) for start in starts]
    return spans if side == "right" else [(length - stop, length - start) for start, stop in spans]


# Padding -----------------------------------------------------------------------------------------------------------


def padded_length(lengths: Sequence[int], padding: str, *, max_length: int | None, multiple: int | None) -> int | None:
    """Give the length that rows are padded to, or None where they stay as they are.

    Rows that are longer than `max_length` are not cut by padding; they stay as long as they are.
    """
    if padding == "do_not_pad" or not lengths:
        return None
    width = max(lengths) if padding == "longest" else max(max_length or 0, 0)
    return -(-width // multiple) * multiple if multiple else width


def pad(
    columns: Mapping[str, Any], fills: Mapping[str, Any], *, width: int | None, side: str, arrays: bool
) -> dict[str, Any]:
    """Bring the rows of the columns that `fills` names to one length.

    Args:
        columns: by name, rows of numbers (or of tuples of numbers).
        fills: what to pad each column with; the other columns are passed on.
        width: the length of every row afterwards; None leaves the lengths, which arrays then need to be equal.
        side: "right" or "left", where the padding goes.
        arrays: give int64 arrays, `(rows, width, …)`, instead of lists.

    Raises:
        InputError: rows of different lengths cannot become one array.
    """
    return {name: _pad_column(name, rows, fills, width, side, arrays) for name, rows in columns.items()}


def _pad_column(name: str, rows: Any, fills: Mapping[str, Any], width: int | None, side: str, arrays: bool) -> Any:
    if arrays:
        return column_array(name, rows, fills.get(name), width if name in fills else None, side)
    if name not in fills or width is None:
        return rows
    return [pad_row(row, width, fills[name], side) for row in rows]


def pad_row(row: Sequence[Any], width: int, fill: Any, side: str) -> list[Any]:
    """Give one row with `fill` added until it has the length `width`."""
    filling = [fill] * (width - len(row))
    return [*row, *filling] if side == "right" else [*filling, *row]


def column_array(name: str, rows: Any, fill: Any, width: int | None, side: str) -> "np.ndarray[Any, Any]":
    if not len(rows) or not isinstance(rows[0], Sequence) or isinstance(fill, tuple):
        if isinstance(fill, tuple) and width is not None:
            rows = [pad_row(row, width, fill, side) for row in rows]
        return _as_array(name, rows)
    if len(rows) == 1 and width in (None, len(rows[0])):
        return _as_array(name, rows) if not rows[0] else np.array(rows)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    if not lengths.sum() or isinstance(next(chain.from_iterable(rows)), Sequence):
        return _as_array(name, rows if width is None else [pad_row(row, width, fill, side) for row in rows])
    if width is None:
        if (lengths != lengths[0]).any():
            raise ragged(name, lengths.tolist())
        width = int(lengths[0])
    return fill_array(rows, lengths, width, fill or 0, side)


def fill_array(rows: Rows, lengths: "np.ndarray[Any, Any]", width: int, fill: int, side: str) -> "np.ndarray[Any, Any]":
    """Write rows of numbers into one int64 array `(len(rows), width)`, the rest of which is `fill`."""
    width = max(width, int(lengths.max()))
    total = int(lengths.sum())
    flat = np.fromiter(chain.from_iterable(rows), np.int64, total)
    if total == len(rows) * width:
        return flat.reshape(len(rows), width)
    array = np.full((len(rows), width), fill, np.int64) if fill else np.zeros((len(rows), width), np.int64)
    array[_are_real(lengths, width, side)] = flat
    return array


def _are_real(lengths: "np.ndarray[Any, Any]", width: int, side: str) -> "np.ndarray[Any, Any]":
    """Tell where rows padded to `width` have their own items: `(rows, width)`."""
    real, places = lengths[:, None], np.arange(width)
    return places < real if side == "right" else places >= width - real


def attention_mask(lengths: Sequence[int], *, width: int | None, side: str, arrays: bool) -> Any:
    """Give ones where the rows' own tokens are, and zeros where they are padded to `width`."""
    if not arrays:
        return [pad_row([1] * length, width or 0, 0, side) for length in lengths]
    longest = max(lengths, default=0)
    if width is None and lengths and longest > min(lengths):
        raise ragged("attention_mask", lengths)
    width = max(width or 0, longest)
    if len(lengths) == 1 and width == longest:
        return np.ones((1, width), np.int64)
    return _are_real(np.array(lengths, np.int64), width, side).astype(np.int64)


def _as_array(name: str, rows: Any) -> "np.ndarray[Any, Any]":
    try:
        array = to_numpy(rows)
        if isinstance(array, np.ndarray) and array.dtype != object:
            return array if array.size or array.dtype.kind not in "f" else array.astype(np.int64)
    except ValueError:
        pass
    raise ragged(name, [len(row) for row in rows if isinstance(row, Sequence | np.ndarray)])


def ragged(name: str, lengths: Sequence[int]) -> InputError:
    sizes = sorted({*lengths})
    found = f"rows of {sizes[0]} to {sizes[-1]} items" if len(sizes) > 1 else "values that are no numbers"
    return InputError(
        f"{name!r} cannot become one tensor: it has {found}. Pass padding=True, and truncation=True where texts are "
        "too long, or leave return_tensors out."
    )


# The result --------------------------------------------------------------------------------------------------------


def as_columns(encoded: Any) -> dict[str, Any]:
    """Give one encoding, or a list of encodings, as rows by name.

    Raises:
        InputError: the encodings of the list have different keys; the message says which one and which keys.
    """
    if isinstance(encoded, Mapping | UserDict):
        return dict(encoded)
    if not isinstance(encoded, Iterable) or isinstance(encoded, str):
        raise InputError(f"pad() takes an encoding or a list of encodings, not {type(encoded).__name__}.")
    items = list(encoded)
    names = list(items[0]) if items else []
    for index, item in enumerate(items):
        if set(item) != set(names):
            raise InputError(
                f"The encodings to pad differ in their keys: number {index} has {sorted(item)}, "
                f"number 0 {sorted(names)}."
            )
    return {name: [item[name] for item in items] for name in names}


def plain_rows(value: Any) -> Any:
    """Give tensors and arrays, also in lists, as plain lists; plain values as they are."""
    if framework_of(value):
        return to_numpy(value).tolist()
    return [plain_rows(item) for item in value] if isinstance(value, list | tuple) and holds_tensors(value) else value


def holds_tensors(values: Iterable[Any]) -> bool:
    return any(framework_of(item) or (isinstance(item, list | tuple) and holds_tensors(item[:1])) for item in values)
