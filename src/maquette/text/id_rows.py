"""Ids to decode, as people hold them: numbers, lists, arrays and tensors, one row or many, read into one flat array."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from maquette.batch.tensors import framework_of, to_numpy
from maquette.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class IdRows:
    """Rows of ids behind one another.

    Attributes:
        ids: int64, `(total,)`.
        lengths: int64, `(rows,)`, how many of them each row has.
        batched: whether the caller gave rows, and not one row.
    """

    ids: Array
    lengths: Array
    batched: bool

    def split(self) -> list[list[int]]:
        """Give the rows as lists."""
        ids, ends = self.ids.tolist(), self.lengths.cumsum().tolist()
        return [ids[start:end] for start, end in pairwise([0, *ends])]


def read_id_rows(values: Any, *, batched: bool | None = None) -> IdRows:
    """Read ids that a caller wants decoded.

    Args:
        values: an id, a row or rows of ids: lists or tuples, numpy arrays, tensors of any framework, or lists of these.
        batched: take what is given as rows, so that each id of a plain row is a row of its own; told by the shape,
            unless given.

    Raises:
        InputError: what is given are no whole numbers, or has too many axes; the message says which row.
    """
    if isinstance(values, IdRows):
        return values
    if framework_of(values) and getattr(getattr(values, "dtype", None), "kind", "") != "O":
        return _from_array(_check(np.asarray(to_numpy(values)), "the array given", most=2), batched)
    if not isinstance(values, list | tuple):
        values = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else values
    if not isinstance(values, list | tuple):
        return _from_array(np.array(_collect([values], "the id given")[0]), batched)
    if len(values) and _is_row(values[0]):
        return _from_rows(values)
    ids = _collect(values, "the row given")
    return _from_array(np.frombuffer(ids, dtype=np.int64) if ids else np.zeros(0, dtype=np.int64), batched)


def _is_row(value: Any) -> bool:
    """Tell a row from an id; a tensor without axes is an id."""
    shape = getattr(value, "shape", None)
    return isinstance(value, list | tuple) if shape is None else len(shape) > 0


def _from_array(ids: Array, batched: bool | None) -> IdRows:
    rows = ids.ndim == 2 or bool(batched)
    width = ids.shape[1] if ids.ndim == 2 else 1 if rows else ids.size
    count = ids.shape[0] if ids.ndim == 2 else ids.size if rows else 1
    return IdRows(ids.reshape(-1).astype(np.int64, copy=False), np.full(count, width, dtype=np.int64), rows)


def _from_rows(rows: Any) -> IdRows:
    lengths = np.empty(len(rows), dtype=np.int64)
    ids = array("q")
    for index, row in enumerate(rows):
        before = len(ids)
        if type(row) is list:
            _append(ids, row, f"row {index}")
        elif framework_of(row):
            values = _check(np.asarray(to_numpy(row)), f"row {index}", most=1)
            ids.frombytes(np.ascontiguousarray(values, dtype=np.int64).tobytes())
        else:
            _append(ids, list(row) if isinstance(row, tuple) else [row], f"row {index}")
        lengths[index] = len(ids) - before
    return IdRows(np.frombuffer(ids, dtype=np.int64) if ids else np.zeros(0, dtype=np.int64), lengths, True)


def _collect(row: Any, place: str) -> "array[int]":
    ids = array("q")
    _append(ids, list(row), place)
    return ids


def _append(ids: "array[int]", row: list[Any], place: str) -> None:
    before = len(ids)
    try:
        ids.fromlist(row)
    except (TypeError, OverflowError, ValueError, RuntimeError):
        del ids[before:]
        raise _no_ids(row, place) from None


def _no_ids(row: list[Any], place: str) -> InputError:
    for index, value in enumerate(row):
        try:
            array("q", [value])
        except (TypeError, OverflowError, ValueError, RuntimeError):
            return InputError(
                f"Ids to decode are whole numbers, and {place} has {value!r:.60} ({type(value).__name__}) at place "
                f"{index}.{_hint(value)}"
            )
    return InputError(f"Ids to decode are whole numbers in rows; {place} is something else.")


def _hint(value: Any) -> str:
    scores = isinstance(value, float | np.floating) or "float" in str(getattr(value, "dtype", ""))
    return " If these are a model's scores, decode their highest: logits.argmax(-1)." if scores else ""


def _check(values: Array, place: str, *, most: int) -> Array:
    if values.size and values.dtype.kind not in "iu":
        raise InputError(
            f"Ids to decode are whole numbers, and {place} has {values.dtype} of the shape {values.shape}."
            f"{_hint(values)}"
        )
    if values.ndim > most:
        raise InputError(
            f"Ids to decode are a row, (ids,), or rows, (rows, ids); {place} has the shape {values.shape}."
        )
    return values
