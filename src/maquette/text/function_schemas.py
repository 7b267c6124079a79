"""What a Python function is called and takes, as the JSON schema that chat templates show to a model.

Types come from the hints, descriptions from the docstring in Google's style.
"""

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from maquette.errors import InputError, bullets

SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
PLAIN: dict[Any, dict[str, Any]] = {
    **{kind: {"type": name} for kind, name in SCALARS.items()},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
}
FOREIGN = {("PIL.Image", "Image"): "image", ("torch", "Tensor"): "audio"}  # by name, so that neither is imported
SECTIONS = ("Args", "Arguments", "Returns", "Raises", "Yields", "Example", "Examples", "Note", "Notes")
CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


def get_json_schema(func: Callable[..., Any]) -> dict[str, Any]:
    """Describe a function for a model that may call it: its name, what it does, and its arguments.

    The docstring must describe every argument under `Args:`; a description that ends in `(choices: ["tea", "coffee"])`
    gives the argument's values. `self` and `cls` are left out.

    Raises:
        InputError: no docstring, an argument without a type hint or a description, a hint that JSON has no word for;
            every fault of the function at once.
    """
    name = getattr(func, "__name__", "operation")
    faults: list[str] = []
    if not (text := (inspect.getdoc(func) or "").strip()):
        raise InputError(f"{name} has no docstring: it is where a model reads what the function does.")
    described = read_docstring(text)
    hints = get_type_hints(func)
    properties, required = {}, []
    for argument in _arguments(func):
        try:
            properties[argument.name] = _describe(argument, hints, described["Args"])
        except InputError as fault:
            faults.append(str(fault))
        if argument.default is argument.empty:
            required.append(argument.name)
    if faults:
        raise InputError(f"{name} cannot be described to a model:{bullets(faults)}")
    schema = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    function: dict[str, Any] = {"name": name, "description": described["description"], "parameters": schema}
    if "return" in hints and (returned := _return_schema(hints["return"])) is not None:
        about = described["Returns"]
        function["return"] = returned | ({"description": about} if about is not None else {})
    return {"type": "function", "function": function}


def _return_schema(hint: Any) -> dict[str, Any] | None:
    """A model never writes what a function returns, so that a type without a schema is left out."""
    try:
        return hint_schema(hint)
    except InputError:
        return None


def _arguments(func: Callable[..., Any]) -> list[inspect.Parameter]:
    found = list(inspect.signature(func).parameters.values())
    is_receiver = found and found[0].name in ("self", "cls") and found[0].annotation is inspect.Parameter.empty
    return found[1:] if is_receiver else found


def _describe(argument: inspect.Parameter, hints: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    name = argument.name
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        raise InputError(f"{argument}: a schema names every argument; write them out.")
    if name not in hints:
        raise InputError(f"{name} has no type hint.")
    try:
        schema = hint_schema(hints[name])
    except InputError as fault:
        raise InputError(f"{name}: {fault}") from None
    if name not in texts:
        raise InputError(f"{name} has no description in the docstring. Under 'Args:', write '{name}: what it is.'")
    text = texts[name]
    if choices := CHOICES.search(text):
        try:
            values = json.loads(choices[1])
        except ValueError:
            raise InputError(f"{name}: its choices are not JSON: {choices[1]}. Write them as a list.") from None
        schema = schema | {"enum": [value.strip() if isinstance(value, str) else value for value in values]}
        text = text[: choices.start()].strip()
    return schema | {"description": text}


# Types ------------------------------------------------------------------------------------------------------------


def hint_schema(hint: Any) -> dict[str, Any]:
    """Give the JSON schema of a type hint.

    Raises:
        InputError: JSON has no word for it.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Union or origin is types.UnionType:
        return _union(parts)
    if origin is Literal:
        return _choice(list(parts), "A Literal")
    if isinstance(hint, type) and origin is None and issubclass(hint, Enum):
        return _choice([member.value for member in hint], f"The Enum {hint.__name__}")
    if origin is list:
        return {"type": "array"} | ({"items": hint_schema(parts[0])} if parts else {})
    if origin is tuple:
        return {"type": "array"} | ({"prefixItems": _items(hint, parts)} if parts else {})
    if origin is dict:
        return {"type": "object"} | ({"additionalProperties": hint_schema(parts[1])} if len(parts) == 2 else {})
    if origin is None and (plain := _plain_schema(hint)) is not None:
        return plain
    raise InputError(
        f"the type {getattr(hint, '__name__', hint)!s} has no JSON schema. Known are int, float, str, bool, Enum "
        "classes, Literal, and list, tuple, dict and unions of these. For another, pass the schema itself."
    )


def _plain_schema(hint: Any) -> dict[str, Any] | None:
    try:
        known = PLAIN.get(hint)
    except TypeError:  # not hashable
        return None
    foreign = FOREIGN.get((getattr(hint, "__module__", ""), getattr(hint, "__name__", "")))
    return dict(known) if known is not None else {"type": foreign} if foreign else None


def _union(parts: tuple[Any, ...]) -> dict[str, Any]:
    schemas = [hint_schema(part) for part in parts if part is not type(None)]
    if len(schemas) == 1:
        whole = schemas[0]
    elif all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        whole = {"type": _one_or_all(sorted({schema["type"] for schema in schemas}))}
    else:
        whole = {"anyOf": schemas}
    return whole | ({"nullable": True} if type(None) in parts else {})


def _choice(values: list[Any], what: str) -> dict[str, Any]:
    if not values:
        raise InputError(f"{what} has no members, so that no value would do.")
    if wrong := [value for value in values if type(value) not in SCALARS]:
        raise InputError(f"{what} has values that JSON has no scalar for: {wrong}.")
    return {"type": _one_or_all(list(dict.fromkeys(SCALARS[type(value)] for value in values))), "enum": values}


def _one_or_all(names: list[str]) -> Any:
    return names[0] if len(names) == 1 else names


def _items(hint: Any, parts: tuple[Any, ...]) -> list[dict[str, Any]]:
    if len(parts) == 1 or ... in parts:
        raise InputError(f"{hint} is a tuple of one item or of any length: use list[…], or the item's own type.")
    return [hint_schema(part) for part in parts]


# Docstrings -------------------------------------------------------------------------------------------------------


def read_docstring(text: str) -> dict[str, Any]:
    """Give the `description` of a docstring, its `Args` by name, and the text of its `Returns`, or None."""
    sections: dict[str, list[str]] = {"description": []}
    current = "description"
    for line in text.split("\n"):
        title = line.strip().removesuffix(":")
        if line.strip().endswith(":") and title in SECTIONS and len(line) - len(line.lstrip()) == 0:
            current = "Args" if title == "Arguments" else title
            sections[current] = []
        elif line.strip() and not line[0].isspace() and current not in ("description", "Returns"):
            current = "rest"  # text at the margin is of no section
            sections.setdefault(current, [])
        else:
            sections[current].append(line)
    returned = "\n".join(sections["Returns"]).strip() if "Returns" in sections else None
    return {
        "description": "\n".join(sections["description"]).strip(),
        "Args": _read_arguments(sections.get("Args", [])),
        "Returns": returned,
    }


def _read_arguments(lines: list[str]) -> dict[str, str]:
    """Read `name: text` and `name (type): text`; lines that are indented deeper go on with the one before."""
    found: dict[str, list[str]] = {}
    depth, name = None, ""
    for line in filter(str.strip, lines):
        indent = len(line) - len(line.lstrip())
        depth = indent if depth is None else depth
        match = re.match(r"\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line) if indent <= depth else None
        if match:
            name = match[1]
            found[name] = [match[2].strip()]
        elif name:
            found[name].append(line.strip())
    return {name: " ".join(filter(None, parts)) for name, parts in found.items()}
