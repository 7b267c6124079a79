"""The Python files that came with a checkpoint, as the private package that they form.

The bytes that are hashed are the bytes that are compiled. The package's name is their hash, so two checkpoints never
collide, no `.pyc` or file of the same name elsewhere is ever what runs, and a name that another process pickled means
the same code here.
"""

import ast
import contextlib
import functools
import hashlib
import importlib
import json
import re
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from maquette.errors import RemoteCodeError, did_you_mean
from maquette.hub.sources import Source
from maquette.remote_code.import_statements import find_imports
from maquette.remote_code.names import PACKAGE_PREFIX
from maquette.remote_code.requirements import explain_failure, is_installed, read_requirements, report_differences

MOST_FILES, MOST_BYTES = 2000, 64 * 2**20
lock = threading.Lock()  # held while what all threads share is replaced, never while foreign code runs


@dataclass(frozen=True)
class CodePackage:
    """The Python files of one checkpoint and the map that says which class is which."""

    label: str
    identity: str
    commit: str | None
    auto_map: Mapping[str, Any]
    files: Mapping[str, bytes]
    requirements: Mapping[str, str] = field(default_factory=dict)
    maps: tuple[Mapping[str, Any], ...] = ()
    """All maps that were read for these files: of several checkpoints, and of the parts of one."""

    @classmethod
    def read(cls, source: Source, auto_map: Mapping[str, Any]) -> "CodePackage":
        """Read every file of the source that could be imported.

        Raises:
            RemoteCodeError: there are too many of them, or too much.
            UnsafePathError: one of them is a link that leads out of the source.
        """
        names = [name for name in source.names() if _is_importable(name)]
        if len(names) > MOST_FILES:
            raise RemoteCodeError(
                f"{source.label!r} holds {len(names)} Python files; a checkpoint with code has at most {MOST_FILES}. "
                "Keep the checkpoint in a folder of its own."
            )
        if (size := source.total_size(names)) > MOST_BYTES:
            raise RemoteCodeError(
                f"The Python files of {source.label!r} are {size >> 20} MB; code has at most {MOST_BYTES >> 20} MB."
            )
        files = {name: source.refer(name).read_bytes() for name in names}
        requirements = read_requirements(source, auto_map)
        return cls(source.label, source.identity, source.commit, auto_map, files, requirements)

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of every file."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}

    @functools.cached_property
    def digest(self) -> str:
        """One sha256 over all of them: what `trust_remote_code="sha256:…"` pins."""
        return hashlib.sha256(json.dumps(self.hashes, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """The name of the private package that these files form."""
        return PACKAGE_PREFIX + self.digest[:32]

    @functools.cached_property
    def _folders(self) -> frozenset[str]:
        parents = (name.split("/")[:-1] for name in self.files)
        return frozenset("/".join(parts[:depth]) for parts in parents for depth in range(len(parts) + 1))

    def locate(self, module: str) -> str | None:
        """Find the file of a dotted module name; the empty string stands for a folder without `__init__.py`."""
        stem = module.replace(".", "/")
        for name in (f"{stem}/__init__.py".lstrip("/"), f"{stem}.py"):
            if name in self.files:
                return name
        return "" if stem in self._folders else None

    def resolve(self, reference: str) -> tuple[str, str] | None:
        """Take `"module.Class"` apart into a module of these files and a name, or give None where it is no such thing.

        A class in `__init__.py` is referred to as `"__init__.Class"`.
        """
        module, _, name = reference.rpartition(".")
        module = "" if module == "__init__" else module.removesuffix(".__init__")
        return (module, name) if is_reference(reference) and self.locate(module) else None

    def load(self, reference: str) -> Any:
        """Import `"module.Class"` from the private package; only for code that was approved.

        Raises:
            RemoteCodeError: no such module or class in the files, or it needs what is not there; says which.
        """
        found = self.resolve(reference)
        if found is None:
            known = [re.sub(r"\.__init__$", "", name[:-3].replace("/", ".")) for name in self.files]
            raise RemoteCodeError(
                f"{self.label!r}: auto_map names {reference!r}, which is no 'module.Class' of its Python files."
                + did_you_mean(reference.rpartition(".")[0], known)
            )
        self.announce()
        module = self._import(found[0])
        try:
            return getattr(module, found[1])
        except AttributeError:
            raise RemoteCodeError(
                f"{self.label!r}: auto_map names {reference!r}, but {found[0] or '__init__'} defines no {found[1]}."
                + did_you_mean(found[1], vars(module))
            ) from None

    def announce(self) -> None:
        """Have `import` find this package by its name; of two checkpoints with this code, both maps count."""
        with lock:
            earlier = _packages.get(self.name, self)
            own = self.maps or (dict(self.auto_map),)  # one that was announced says what several maps say
            maps = (*earlier.maps, *(one for one in own if one not in earlier.maps))
            _packages[self.name] = replace(self, auto_map={**earlier.auto_map, **self.auto_map}, maps=maps)

    def map_of(self, config_class: type) -> Mapping[str, Any]:
        """Give what is said beside a configuration's class; of one that no map names, what all maps say."""
        own = [one for one in self.maps if self._names(one.get("AutoConfig"), config_class)]
        return {auto: reference for one in own for auto, reference in one.items()} if own else self.auto_map

    def _names(self, reference: Any, cls: type) -> bool:
        found = self.resolve(reference.rpartition("--")[2]) if isinstance(reference, str) else None
        module = sys.modules.get(f"{self.name}.{found[0]}".rstrip(".")) if found else None
        return found is not None and getattr(module, found[1], None) is cls

    def _import(self, module: str) -> types.ModuleType:
        try:
            found = importlib.import_module(f"{self.name}.{module}".rstrip("."))
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name:
                own = error.name.removeprefix(f"{self.name}.")
                if own == error.name:
                    raise RemoteCodeError(explain_missing(self, module, error.name)) from None
                raise RemoteCodeError(f"{self.label!r}: {own} is imported, but not among its files.") from error
            error.add_note(f"This happened in the code of {self.label!r}, while it was imported.")
            if isinstance(error, ImportError) and (reason := explain_failure(self.requirements)):
                error.add_note(reason)
            raise
        report_differences(self.label, self.requirements)
        return found


def _is_importable(name: str) -> bool:
    """Tell whether a file is a module by its name; what lies in an environment (`lib/python3.12/…`) is not."""
    return name.endswith(".py") and all(part.isidentifier() for part in name[:-3].split("/"))


def is_reference(text: str) -> bool:
    """Tell whether a text has the form `module.Class`, with as many packages before it as there may be."""
    return "." in text and all(part.isidentifier() for part in text.split("."))


def package_of(cls: type) -> CodePackage | None:
    """Give the checkpoint code that a class came from, or None for a class of this process."""
    return _packages.get(cls.__module__.partition(".")[0])


_packages: dict[str, CodePackage] = {}


def known_package(name: str) -> CodePackage | None:
    """Give the package of that name, if this process has loaded it."""
    return _packages.get(name)


def explain_missing(package: CodePackage, module: str, found: str) -> str:
    """Say everything that a module of a checkpoint's code needs and that is not installed, `found` among it."""
    missing = sorted({top for top in _needed(package, module) if not is_installed(top)}) or [found]
    known = {top: package.requirements[top] for top in missing if top in package.requirements}
    listed = (f"{top!r}" + (f" ({known[top].replace('==', ' ')})" if top in known else "") for top in missing)
    verb = "is" if len(missing) == 1 else "are"
    advice = f" Install what it was saved with: pip install {' '.join(known.values())}" if known else ""
    return f"{package.label!r} needs {', '.join(listed)}, which {verb} not installed.{advice}"


def _needed(package: CodePackage, module: str) -> Iterator[str]:
    """List the top-level modules from elsewhere that importing a module cannot do without."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        file = package.locate(waiting.pop())
        if not file or file in seen:
            continue
        seen.add(file)
        parts = file.removesuffix(".py").removesuffix("__init__").rstrip("/").split("/")
        base = [part for part in (parts if file.endswith("__init__.py") else parts[:-1]) if part]
        with contextlib.suppress(SyntaxError, ValueError):
            for statement, guarded in find_imports(ast.parse(package.files[file])):
                for name in () if guarded else _names(statement, base):
                    waiting.append(name.lstrip("."))
                    top = name.partition(".")[0]
                    if top and package.locate(top) is None and top not in (*sys.stdlib_module_names, "transformers"):
                        yield top


def _names(statement: ast.Import | ast.ImportFrom, base: list[str]) -> Iterator[str]:
    """Name the modules that a statement may import, those of the package itself with a dot before them."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    start = base[: len(base) - statement.level + 1] if statement.level else []
    path = ".".join([*start, *([statement.module] if statement.module else [])])
    yield f".{path}" if statement.level else path
    yield from (f".{path}.{alias.name}".replace("..", ".") for alias in statement.names if statement.level)
