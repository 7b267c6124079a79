"""Values as JSON has them, and copies that belong to one configuration alone."""

import copy
import enum
import math
import os
from collections.abc import Callable
from typing import Any

from maquette.errors import SaveError

SPECIAL_FLOAT = "__float__"  # JSON has neither infinity nor NaN; Transformers writes {"__float__": "Infinity"} too


def own_copy(value: Any) -> Any:
    """Copy lists, tuples, sets and dictionaries all the way down; a number of numpy's becomes Python's.

    Other objects, nested configurations among them, stay the same objects.
    """
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(own_copy(item) for item in value)
    if type(value) is dict:
        return {key: own_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | dict):
        return copy.copy(value)
    return value.item() if _is_scalar(value) else value


def to_plain(value: Any, name: str, other: Callable[[Any, str], Any]) -> Any:
    """Turn a value into what JSON can hold.

    Args:
        value: what to turn.
        name: where it stands, for the error.
        other: turns what is no plain data, given the value and its name.
    """
    if isinstance(value, enum.Enum):
        return to_plain(value.value, name, other)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if _is_writable(value) else other(value, name)
    if isinstance(value, dict):
        if not ({type(key) for key in value} == {int} or all(type(key) is str and _is_writable(key) for key in value)):
            return other(value, name)
        return {key: to_plain(item, f"{name}.{key}", other) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{name}[{index}]", other) for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((to_plain(item, name, other) for item in value), key=lambda item: (type(item).__name__, item))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "torch" and type(value).__name__ in {"dtype", "device"}:
        return str(value).removeprefix("torch.")
    return value.item() if _is_scalar(value) else other(value, name)


def refuse(value: Any, name: str) -> Any:
    """Raise the error for a value that JSON cannot hold."""
    found = f"is a {type(value).__name__}, which JSON cannot hold"
    if isinstance(value, str):
        found = f"is the text {value!r}, which has half a letter (a lone surrogate) that no file can hold"
    elif isinstance(value, dict):
        kinds = " and ".join(sorted({type(key).__name__ for key in value}))
        found = f"has keys of type {kinds}, where JSON has texts (or, where declared, whole numbers)"
    raise SaveError(f"{name!r} {found}. Store numbers, texts, lists or dictionaries.")


def encode_floats(value: Any) -> Any:
    """Write infinities and NaN, which JSON does not have, as `{"__float__": "Infinity"}`."""
    if isinstance(value, float) and not math.isfinite(value):
        return {SPECIAL_FLOAT: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: encode_floats(item) for key, item in value.items()}
    return [encode_floats(item) for item in value] if isinstance(value, list) else value


def decode_floats(value: Any) -> Any:
    """Read what `encode_floats` writes."""
    if isinstance(value, dict):
        if value.keys() == {SPECIAL_FLOAT} and value[SPECIAL_FLOAT] in ("NaN", "Infinity", "-Infinity"):
            return float(value[SPECIAL_FLOAT])
        return {key: decode_floats(item) for key, item in value.items()}
    return [decode_floats(item) for item in value] if isinstance(value, list) else value


def dtype_name(value: Any) -> Any:
    """Name a number type of any framework as torch does, such as `"bfloat16"`; anything else passes as it is."""
    if isinstance(value, str):
        return value.removeprefix("torch.")
    if isinstance(value, type):
        return value.__name__
    if "dtype" in type(value).__name__.lower():
        return str(getattr(value, "name", value)).removeprefix("torch.")
    return value


def _is_scalar(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def _is_writable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
