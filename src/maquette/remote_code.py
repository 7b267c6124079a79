"""Code that came with a checkpoint: what it is, and how it is imported once the caller approved it (`trust`).

The bytes that are hashed are the bytes that are compiled. They form a private package whose name is their hash, so
two checkpoints never collide, no `.pyc` or file of the same name elsewhere is ever what runs, and nothing is written
into the interpreter's path.
"""

import builtins
import contextlib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import logging
import re
import shlex
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError, RemoteCodeError, UntrustedCodeError, did_you_mean
from maquette.files import Source, open_source
from maquette.pretrained import PretrainedMixin
from maquette.registry import PACKAGE_PREFIX
from maquette.trust import approve, approve_foreign, check_trust, only_recorded, record_save

logger = logging.getLogger(__name__)

MOST_FILES, MOST_BYTES = 2000, 64 * 2**20
_lock = threading.Lock()  # held while what all threads share is replaced, never while foreign code runs


@dataclass(frozen=True)
class CodePackage:
    """The Python files of one checkpoint and the map that says which class is which."""

    label: str
    identity: str
    commit: str | None
    auto_map: Mapping[str, Any]
    files: Mapping[str, bytes]

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
        return cls(source.label, source.identity, source.commit, auto_map, files)

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
        return (module, name) if _is_reference(reference) and self.locate(module) else None

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
        with _lock:  # of two checkpoints with this code, both maps count
            earlier = _packages.get(self.name, self)
            _packages[self.name] = replace(self, auto_map={**earlier.auto_map, **self.auto_map})
        module = self._import(found[0])
        try:
            return getattr(module, found[1])
        except AttributeError as error:
            raise RemoteCodeError(
                f"{self.label!r}: auto_map names {reference!r}, but {found[0] or '__init__'} defines no {found[1]}."
                + did_you_mean(found[1], vars(module))
            ) from error

    def _import(self, module: str) -> types.ModuleType:
        try:
            return importlib.import_module(f"{self.name}.{module}".rstrip("."))
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name:
                own = error.name.removeprefix(f"{self.name}.")
                if own == error.name:
                    raise RemoteCodeError(f"{self.label!r} needs {own!r}, which is not installed.") from error
                raise RemoteCodeError(f"{self.label!r}: {own} is imported, but not among its files.") from error
            error.add_note(f"This happened in the code of {self.label!r}, while it was imported.")
            raise


def _is_importable(name: str) -> bool:
    """Tell whether a file is a module by its name; what lies in an environment (`lib/python3.12/…`) is not."""
    return name.endswith(".py") and all(part.isidentifier() for part in name[:-3].split("/"))


def _is_reference(text: str) -> bool:
    """Tell whether a text has the form `module.Class`, with as many packages before it as there may be."""
    return "." in text and all(part.isidentifier() for part in text.split("."))


def package_of(cls: type) -> CodePackage | None:
    """Give the checkpoint code that a class came from, or None for a class of this process."""
    return _packages.get(cls.__module__.partition(".")[0])


# From a folder's auto_map to a class -----------------------------------------------------------------------------


def load_remote_class(source: Source, auto_map: Mapping[str, Any], auto_class: str, *, trust: bool | str | None) -> Any:
    """Load the class that a checkpoint's `auto_map` names for an AutoClass, if the caller approves its code.

    Args:
        source: the checkpoint.
        auto_map: what its configuration says.
        auto_class: `"AutoConfig"`, `"AutoModel"`, …
        trust: `trust_remote_code` as the caller gave it: True, or `"sha256:…"` for exactly this code.

    Raises:
        UntrustedCodeError: not approved, or not the code that was approved; nothing ran.
        RemoteCodeError: approved, but it cannot be imported, or is no class for this AutoClass.
    """
    check_trust(trust)
    reference = auto_map.get(auto_class)
    if auto_class not in auto_map:
        offered = ", ".join(map(repr, sorted(auto_map))) or "nothing"
        raise RemoteCodeError(f"{source.label!r} offers no class for {auto_class}: its auto_map has {offered}.")
    repository, _, own = reference.rpartition("--") if isinstance(reference, str) else ("", "", "")
    if not isinstance(reference, str) or not _is_reference(own):
        raise RemoteCodeError(
            f"{source.label!r}: auto_map names {reference!r} for {auto_class}, which is no 'module.Class'."
        )
    if _lies_elsewhere(source, repository, own):
        package = _read_foreign(source, repository, auto_map, trust)
    else:
        package = CodePackage.read(source, auto_map)
        approve(package, trust, source)
    found = package.load(own)
    _check_kind(found, reference, auto_class, package.label)
    return found


def _lies_elsewhere(source: Source, repository: str, own: str) -> bool:
    """Tell whether a reference means another repository; a local copy of a repository holds the code itself."""
    if repository in ("", source.label):
        return False
    return source.commit is not None or own.rpartition(".")[0].replace(".", "/") + ".py" not in source.names()


def _read_foreign(
    source: Source, repository: str, auto_map: Mapping[str, Any], trust: bool | str | None
) -> CodePackage:
    """Read code that a checkpoint names in another repository, if that has an approval of its own.

    The checkpoint itself has to be approved as well, since its map chooses; a pin speaks for the other code alone.
    """
    who = f"{source.label!r} names code of another repository, {repository!r}"
    if not trust:
        raise UntrustedCodeError(
            f"{who}; it was not looked at, and nothing of it was run. Read it: `maquette trust "
            f"{shlex.quote(repository)}` shows what it can do. If you trust it, pass trust_remote_code=True: the "
            "answer says how to approve it."
        )
    package = CodePackage.read(source.repository(repository), auto_map)
    approve_foreign(package, trust, who)
    if trust is True or only_recorded():
        approve(CodePackage.read(source, auto_map), True, source)
    return package


def _check_kind(found: Any, reference: str, auto_class: str, label: str) -> None:
    """Refuse what is no configuration, or no model: the name came from a file."""
    wanted = "a configuration" if auto_class == "AutoConfig" else "a model or a preprocessing class"
    is_ours = isinstance(found, type) and issubclass(found, PretrainedMixin)
    if is_ours and (found._default_auto_class == "AutoConfig") == (auto_class == "AutoConfig"):
        return
    what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    bases = [base.__module__.partition(".")[0] for base in getattr(found, "__mro__", ())]
    raise RemoteCodeError(
        f"{label!r}: auto_map names {reference!r} for {auto_class}, where {wanted} belongs, but that is {what}."
        + " It is of transformers, which is installed here: load it with transformers." * ("transformers" in bases)
    )


def record_own_save(folder: Path, written: Mapping[str, bytes], auto_map: Mapping[str, Any]) -> None:
    """After saving code of this very process, remember it, unless the folder holds more that nobody approved."""
    try:
        with open_source(folder) as source:
            package = CodePackage.read(source, auto_map)
        record_save(package, written)
    except MaquetteError as error:  # the save itself is done
        logger.warning("The code that was saved in %s was not recorded as approved: %s", folder, error)


# The private packages --------------------------------------------------------------------------------------------

_packages: dict[str, CodePackage] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules of private packages, before any folder is searched, and nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        top, _, module = fullname.partition(".")
        if not top.startswith(PACKAGE_PREFIX):
            return None
        package = _packages.get(top)
        if package is None:
            raise ModuleNotFoundError(
                f"{top} is the code of a checkpoint, which this process has not loaded. Load the checkpoint first, "
                "with trust_remote_code=True, and then what was pickled from it.",
                name=fullname,
            )
        file = package.locate(module)
        if file is None:
            return None
        is_package = not file or file.endswith("__init__.py")
        loader = _Loader(package, file, is_package)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=loader.path or None, is_package=is_package)


class _Loader(importlib.abc.InspectLoader):
    """Compiles the bytes that were hashed; a folder without `__init__.py` is an empty module."""

    def __init__(self, package: CodePackage, file: str, is_package: bool) -> None:
        self.package, self._is_package = package, is_package
        self.content = package.files.get(file, b"")
        self.path = f"{package.name}/{file}" if file else ""

    def is_package(self, fullname: str) -> bool:
        return self._is_package

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content)

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self.content, self.path or fullname, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        if self.path:
            module.__file__ = self.path
            with contextlib.suppress(SyntaxError, UnicodeDecodeError):  # compiling says it better
                source = self.get_source(module.__name__)
                lines = [f"{line}\n" for line in source.split("\n")]
                # what tracebacks show is what ran, even if a file of that path appears
                linecache.cache[self.path] = (len(source), None, lines, self.path)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(self.package)}
        exec(self.get_code(module.__name__), module.__dict__)


def _importer(package: CodePackage) -> Any:
    """Give the `import` of a private package: its own top-level files come first, as beside a script.

    In code written for the peer, `transformers` means maquette where the peer is not installed.
    """

    def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        if level == 0 and _is_own(package, name, fromlist or (), (globals or {}).get("__name__", "")):
            found = builtins.__import__(f"{package.name}.{name}", globals, locals, fromlist, 0)
            return found if fromlist else sys.modules[f"{package.name}.{top}"]
        if level == 0 and top == "transformers" and not _is_installed("transformers"):
            return _stand_in(name, fromlist or ())
        return builtins.__import__(name, globals, locals, fromlist, level)

    return import_


def _is_own(package: CodePackage, name: str, wanted: Sequence[str], importing: str) -> bool:
    """Tell whether an absolute import means a file of the package.

    It does not for the standard library; in a file of that very name (`tokenizers.py` that imports tokenizers); and
    where only a folder without `__init__.py` has the name of an installed package (`onnx/`).
    """
    top = name.partition(".")[0]
    file = package.locate(top)
    if file is None or top in sys.stdlib_module_names:
        return False
    if file:
        return file.endswith("__init__.py") or importing != f"{package.name}.{top}"
    return any(package.locate(path) for path in (name, *(f"{name}.{one}" for one in wanted))) or not _is_installed(top)


def _stand_in(name: str, wanted: Sequence[str]) -> types.ModuleType:
    """Give maquette for `transformers` or any module of it, if it has the names that are wanted."""
    maquette = importlib.import_module("maquette")
    if missing := [one for one in wanted if one != "*" and not hasattr(maquette, one)]:
        raise RemoteCodeError(
            f"The code takes {', '.join(missing)} from {name}. transformers is not installed, and maquette, which "
            f"stands in for it, has no such name.{did_you_mean(missing[0], dir(maquette))}",
            name=name,
        )
    if wanted or "." not in name:
        return maquette
    top = module = _StandIn("transformers")
    for part in name.split(".")[1:]:  # import transformers.modeling_utils
        setattr(module, part, inner := _StandIn(f"{module.__name__}.{part}"))
        module = inner
    return top


class _StandIn(types.ModuleType):
    """A module of the peer, as far as maquette has what is in it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("maquette"), name)


@functools.cache
def _is_installed(top: str) -> bool:
    """Tell whether there is such a package; a mere folder of the name, on some path, is none."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


sys.meta_path.insert(0, _Finder())
