"""JSON files, read strictly and written in one form."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maquette.errors import FileFormatError


def read_json(path: Path, *, label: str | None = None) -> dict[str, Any]:
    """Read one JSON object, refusing what JSON leaves open: two values for one key, or something else than an object.

    Raises:
        FileFormatError: with the file, the place and what stands there.
    """
    name = label or str(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{name} is not JSON: {error}. Mend the file, or save it again.") from error
    except RecursionError as error:
        raise FileFormatError(f"{name} is nested too deeply to be a configuration.") from error
    except _DuplicateKeyError as error:
        raise FileFormatError(f"{name} gives the key {error.key!r} twice; leave one of them in the file.") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{name} holds a JSON {type(content).__name__}, where an object, {{…}}, belongs.")
    return content


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
