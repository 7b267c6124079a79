"""JSON files, read strictly and written in one form."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maquette.errors import FileFormatError

DEEPEST = 100  # brackets inside each other; what is made of a file goes through its parts by recursion


def read_json(path: Path, *, label: str | None = None) -> dict[str, Any]:
    """Read one JSON object, refusing what JSON leaves open: two values for one key, or something else than an object.

    Raises:
        FileFormatError: with the file, the place and what stands there.
    """
    name = label or str(path)
    content = parse_json(path.read_bytes(), name)
    if not isinstance(content, dict):
        raise FileFormatError(f"{name} holds a JSON {type(content).__name__}, where an object, {{…}}, belongs.")
    return content


def parse_json(text: str | bytes, name: str) -> Any:
    """Read a JSON text; `name` is what messages call it.

    Raises:
        FileFormatError: as `read_json`.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=_unique, parse_float=_finite)
        if text.count("[") + text.count("{") > DEEPEST:
            _check_depth(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        problem = f"is not JSON: {error}. Fix the file, or save it again"
    except RecursionError:
        problem = f"is nested too deeply: {DEEPEST} brackets inside each other are the most that is read"
    except _DuplicateKeyError as error:
        problem = f"gives the key {error.key!r} twice; leave one of them in the file"
    except OverflowError as error:
        problem = f"holds the number {error!s:.40}, which is too large for a float"
    except ValueError:  # what Python says of it names no file
        problem = f"holds a number of more than {sys.get_int_max_str_digits()} digits, which nothing here can mean"
    else:
        return content
    raise FileFormatError(f"{name} {problem}.")


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        boxes = (box.values() if isinstance(box, dict) else box for box in level)
        level = [item for box in boxes for item in box if isinstance(item, dict | list)]
    if level:
        raise RecursionError


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError(text)
    return value


def to_json(content: dict[str, Any]) -> str:
    """Write a dictionary in the form of every file of ours: sorted, indented by two, one newline at the end."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found
