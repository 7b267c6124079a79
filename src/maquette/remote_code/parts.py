"""Parts whose code is not that of the whole: the configurations inside of one, and where their code goes in a save."""

import ast
import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """A configuration inside of another, by the name of its field (`"tower.decoder"` for one further in)."""

    name: str
    config: Any


def find_parts(config: Any) -> Iterator[Part]:
    """Go through the configurations inside of one, also in lists and dictionaries, outer ones first."""
    for name, value in vars(config).items() if _is_configuration(config) else ():
        if not name.startswith("_"):
            yield from _look_into(value, name)


def _is_configuration(value: Any) -> bool:
    return getattr(type(value), "_default_auto_class", "") == "AutoConfig"


def _look_into(value: Any, name: str) -> Iterator[Part]:
    if _is_configuration(value):
        yield Part(name, value)
        yield from (Part(f"{name}.{inner.name}", inner.config) for inner in find_parts(value))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _look_into(item, f"{name}.{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _look_into(item, f"{name}.{key}")


def find_maps(content: Any) -> Iterator[tuple[Any, Any]]:
    """Go through what a file holds, and give each `auto_map` with the dictionary that it stands in."""
    if isinstance(content, dict):
        if "auto_map" in content:
            yield content["auto_map"], content
        for name, value in content.items():
            if name != "auto_map":
                yield from find_maps(value)
    elif isinstance(content, list):
        for value in content:
            yield from find_maps(value)


def folder_for(name: str, taken: Mapping[str, bytes]) -> str:
    """Give a part's code a folder of its own that no other code lies in."""
    start = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
    tops = {file.partition("/")[0].removesuffix(".py") for file in taken}
    found = start = f"part_{start}"
    number = 2
    while found in tops:
        found, number = f"{start}_{number}", number + 1
    return found


def can_move(files: Mapping[str, bytes]) -> bool:
    """Tell whether files work in a folder below: not where one spells another's place from the top."""
    from maquette.remote_code.import_statements import find_imports

    tops = {name.partition("/")[0].removesuffix(".py") for name in files} - sys.stdlib_module_names
    for name, content in files.items():
        own = name.partition("/")[0].removesuffix(".py")
        with contextlib.suppress(SyntaxError, ValueError):
            for statement, _ in find_imports(ast.parse(content)):
                if isinstance(statement, ast.Import):
                    named = {alias.name.partition(".")[0] for alias in statement.names}
                else:
                    named = {(statement.module or "").partition(".")[0]} if not statement.level else set()
                if named & (tops - {own}):
                    return False
    return True


def moved(reference: Any, folder: str) -> Any:
    """Name a class that now lies in a folder below."""
    if isinstance(reference, list):
        return [moved(one, folder) for one in reference]
    return f"{folder}.{reference}" if isinstance(reference, str) else reference
