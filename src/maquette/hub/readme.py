"""The README.md of a repository on the Hub, its model card: written where there is none."""

import ast
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maquette.registry import AUTO_CLASSES, cards
from maquette.storage.safetensors_header import read_header
from maquette.storage.transaction import Transaction
from maquette.storage.version import __version__

KINDS = {
    "AutoConfig": "configuration",
    "AutoTokenizer": "tokenizer",
    "AutoImageProcessor": "image processor",
    "AutoFeatureExtractor": "feature extractor",
    "AutoProcessor": "processor",
    "GenerationConfig": "set of generation settings",
}


def write_card(subject: Any, transaction: Transaction, repo_id: str, tags: Sequence[str] = ()) -> str:
    """Say what was saved, how to load it, how large it is, and what code it carries; the rest is the author's.

    Args:
        subject: what was saved.
        transaction: its save, done.
        repo_id: where it is going.
        tags: for the header.
    """
    code = transaction.code
    auto_class = find_auto_class(subject, code[1] if code else {})
    sections = [
        _header([*(["custom_code"] if code else []), *tags]),
        f"# {repo_id.rpartition('/')[2]}",
        _summary(subject, auto_class),
        "<!-- What is it for, what was it trained on, how well does it do, and where does it fail? -->",
        "## How to load it",
        _loading(subject, auto_class, repo_id, carries_code=code is not None),
        *_parameters(subject, transaction),
        *(_code(code[0]) if code else ()),
        "## License",
        "<!-- Add `license: …` to the header of this file, and say it here. -->\nNot stated yet.",
    ]
    return "\n\n".join(sections) + "\n"


def find_auto_class(subject: Any, auto_map: Mapping[str, Any]) -> str | None:
    """Name the AutoClass that loads what was saved: by its code's map, or by a card. None: only its own class does."""
    cls = type(subject)
    for auto_class, reference in auto_map.items():
        entries = reference if isinstance(reference, list) else [reference]
        if any(str(entry).rpartition(".")[2] == cls.__name__ for entry in entries):
            return auto_class
    for card in cards():
        named = {"AutoConfig": card.config, **card.models}
        found = [auto for auto, reference in named.items() if reference.partition(":")[2] == cls.__name__]
        if found and cls.__module__.startswith(f"{card.package}."):
            return found[0]
    kind = getattr(cls, "_default_auto_class", "AutoModel")
    return kind if kind in KINDS and cls.__module__.startswith("maquette.") else None


def _header(tags: Iterable[str]) -> str:
    lines = ["---", "library_name: maquette"]
    if listed := list(dict.fromkeys(tags)):
        lines += ["tags:", *(f"- {_yaml(tag)}" for tag in listed)]
    return "\n".join([*lines, "---"])


def _yaml(text: str) -> str:
    """Write a text as YAML reads it; JSON's quotes are YAML's."""
    plain = text.replace("-", "").replace("_", "").replace(" ", "")
    is_plain = plain.isalnum() and plain.isascii() and text[0].isalpha() and text == text.strip()
    reserved = text.lower() in {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
    return text if is_plain and not reserved else json.dumps(text, ensure_ascii=False)


def _summary(subject: Any, auto_class: str | None) -> str:
    cls = type(subject)
    config = getattr(subject, "config", None if auto_class != "AutoConfig" else subject)
    model_type = getattr(config, "model_type", "")
    architecture = f" of the architecture `{model_type}`" if model_type else ""
    default = getattr(cls, "_default_auto_class", "AutoModel")
    kind = KINDS.get(default, "model")
    return f"`{cls.__name__}`, a {kind}{architecture}, saved with maquette {__version__}."


def _loading(subject: Any, auto_class: str | None, repo_id: str, *, carries_code: bool) -> str:
    cls = type(subject)
    name = auto_class or cls.__name__
    module = "maquette" if auto_class and auto_class in (*AUTO_CLASSES, "AutoTokenizer") else cls.__module__
    variable = KINDS.get(getattr(cls, "_default_auto_class", ""), "model").replace(" ", "_")
    trust = ", trust_remote_code=True" if carries_code else ""
    lines = [f"from {module} import {name}", "", f"{variable} = {name}.from_pretrained({json.dumps(repo_id)}{trust})"]
    text = "\n".join(["```python", *lines, "```"])
    if auto_class is None:
        text += f"\n\nThe code of `{cls.__name__}` is not in this repository; it has to be there to be imported."
    return text


def _parameters(subject: Any, transaction: Transaction) -> Iterator[str]:
    """Say how many numbers there are, of what type, and how many bytes they take."""
    weights = [name for name in transaction.files if name.endswith(".safetensors")]
    if not weights:
        return
    tensors = [tensor for name in weights for tensor in _list_tensors(transaction.folder / name)]
    count = sum(math.prod(tensor["shape"]) for tensor in tensors)
    if callable(count_own := getattr(subject, "num_parameters", None)):
        count = count_own()
    types = ", ".join(sorted({_type_name(tensor["dtype"]) for tensor in tensors}))
    size = sum((transaction.folder / name).stat().st_size for name in weights)
    files = f"{len(weights)} safetensors files" if len(weights) > 1 else "one safetensors file"
    yield "## Parameters"
    yield f"{count:,} parameters ({types}), {size:,} bytes in {files}."


def _type_name(short: str) -> str:
    """Spell a type as people do, for safetensors' `F32`, `BF16` or `I64`."""
    for start, name in {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}.items():
        if short.startswith(start) and short[len(start) :].isdigit():
            return name + short[len(start) :]
    return short.lower()


def _list_tensors(path: Path) -> list[dict[str, Any]]:
    """List what a safetensors file says of its tensors."""
    with path.open("rb") as stream:
        header, _ = read_header(stream)
    return [value for name, value in header.items() if name != "__metadata__"]


def _code(files: Mapping[str, bytes]) -> Iterator[str]:
    """List the files of code that came along, and what they import."""
    yield "## Code"
    listed = "\n".join(f"- `{name}`, {content.count(10):,} lines" for name, content in sorted(files.items()))
    imports = sorted(_imports(files))
    needs = f"\n\nThey import {', '.join(f'`{name}`' for name in imports)}." if imports else ""
    yield (
        "This repository carries code. Nothing of it runs unless `trust_remote_code` is passed; read it first.\n\n"
        f"{listed}{needs}"
    )


def _imports(files: Mapping[str, bytes]) -> set[str]:
    """Name the packages that files of code import, other than each other and the standard library."""
    own = {name.partition("/")[0].removesuffix(".py") for name in files}
    found: set[str] = set()
    for name, content in files.items():
        for node in ast.walk(ast.parse(content)) if name.endswith(".py") else ():
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    return found - own - set(sys.stdlib_module_names)


# A card that is there ----------------------------------------------------------------------------------------------


def add_tags(card: bytes, tags: Sequence[str]) -> bytes:
    """Add tags to the header of somebody's card, and leave every other byte of it as it is.

    Where the header is in no form that this can be done to, the card comes back unchanged.
    """
    try:
        text = card.decode("utf-8")
    except UnicodeDecodeError:
        return card
    lines = text.splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if n and line.rstrip() == "---"), None)
    if not lines or lines[0].rstrip() != "---" or end is None:
        return f"{_header(tags)}\n\n{text}".replace("library_name: maquette\n", "").encode()
    place = next((n for n, line in enumerate(lines[:end]) if line.rstrip() == "tags:"), None)
    if place is None:
        if any(line.startswith("tags:") for line in lines[:end]):  # written in one line
            return card
        lines.insert(end, "tags:\n")
        place, end = end, end + 1
    last = place + 1
    while last < end and lines[last].lstrip().startswith("- "):
        last += 1
    there = {line.strip().removeprefix("- ").strip().strip("\"'") for line in lines[place + 1 : last]}
    indent = lines[place + 1][: -len(lines[place + 1].lstrip())] if last > place + 1 else ""
    lines[last:last] = [f"{indent}- {_yaml(tag)}\n" for tag in dict.fromkeys(tags) if tag not in there]
    return "".join(lines).encode()
