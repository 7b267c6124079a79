"""Vocabularies in files: one token a line, or a JSON object of tokens and their ids."""

import json
import os
from collections.abc import Mapping
from typing import Any

from maquette.errors import FileFormatError, MissingFileError
from maquette.storage.json_files import read_json
from maquette.storage.paths import user_path

LARGEST_ID = 2**31 - 1  # that the Rust library takes
ANY_ID = 2**63 - 1  # that numpy takes


def read_lines(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a vocabulary with one token a line; the first has the id 0.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is not UTF-8, or has a line twice (which).
    """
    return _number(_read(path), str(path))


def read_json_or_lines(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a vocabulary that is a JSON object, or has one token a line; what is in the object is not checked.

    A file whose name ends in `.json` must be JSON; any other is taken for it where it is a whole JSON object.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is not UTF-8, not JSON, or has a token twice (on which line).
    """
    text = _read(path)
    if user_path(path).suffix == ".json" or _is_object(text):
        return read_json(user_path(path))
    return _number(text, str(path))


def check_ids(vocabulary: Mapping[str, Any], place: str, *, largest: int = ANY_ID) -> dict[str, int]:
    """Give a vocabulary whose tokens all have a whole number of their own.

    Raises:
        FileFormatError: there is no token, one is no text, an id is something else, or two have the same one (which).
    """
    if not vocabulary:
        raise FileFormatError(f"{place} has no tokens; give one token a line, or a JSON object of tokens and ids.")
    ids = vocabulary.values()
    if (
        ({*map(type, vocabulary)}, {*map(type, ids)}) == ({str}, {int})
        and len({*ids}) == len(ids)
        and 0 <= min(ids) <= max(ids) <= largest
    ):
        return dict(vocabulary)
    tokens: dict[int, str] = {}
    for token, index in vocabulary.items():
        if not isinstance(token, str):
            raise FileFormatError(f"{place}: {token!r:.40} ({type(token).__name__}) is no token, which is a text.")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= largest:
            raise FileFormatError(
                f"{place}: the token {token!r} has the id {index!r:.40}, where a whole number from 0 to {largest} "
                "belongs."
            )
        if index in tokens:
            raise FileFormatError(
                f"{place}: the tokens {tokens[index]!r} and {token!r} both have the id {index}; each needs its own."
            )
        tokens[index] = token
    return dict(vocabulary)


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return user_path(path).read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not text in UTF-8: {error}.") from None
    except OSError as error:
        raise MissingFileError(f"The vocabulary {str(path)!r} cannot be read: {error.strerror}.") from None


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _number(text: str, place: str) -> dict[str, int]:
    lines = text.split("\n")
    vocabulary: dict[str, int] = {}
    for index, line in enumerate(lines[:-1] if not lines[-1] else lines):
        token = line.rstrip("\r")
        if token in vocabulary:
            raise FileFormatError(
                f"{place}, line {index + 1}: the token {token!r} is on line {vocabulary[token] + 1} too, and each "
                "needs an id of its own. Remove one of the two."
            )
        vocabulary[token] = index
    return vocabulary
