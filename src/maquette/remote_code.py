"""Code that came with a checkpoint: what it is, whether the caller approved it, and how it is imported.

The bytes that are hashed are the bytes that are compiled. They form a private package whose name is their hash, so
two checkpoints never collide, no `.pyc` or file of the same name elsewhere is ever what runs, and nothing is written
into the interpreter's path. Approvals are remembered in `trust.json` (see `trust_file`), by folder or repository.
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
import logging
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import RemoteCodeError, UntrustedCodeError, bullets, did_you_mean
from maquette.files import Source, open_source
from maquette.transaction import locked

logger = logging.getLogger(__name__)

PACKAGE_PREFIX = "maquette_remote_"
MOST_FILES, MOST_BYTES = 2000, 64 * 2**20


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
        """Read every file of the source that could be imported."""
        names = [name for name in source.names() if name.endswith(".py") and _is_importable(name)]
        if len(names) > MOST_FILES:
            raise RemoteCodeError(
                f"{source.label!r} holds {len(names)} Python files; a checkpoint with code has at most {MOST_FILES}. "
                "Keep the checkpoint in a folder of its own."
            )
        files = {name: source.refer(name).read_bytes() for name in names}
        if sum(map(len, files.values())) > MOST_BYTES:
            raise RemoteCodeError(f"The Python files of {source.label!r} are larger than {MOST_BYTES >> 20} MB.")
        return cls(source.label, source.identity, source.commit, auto_map, files)

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of every file, and of the map under the name `auto_map`."""
        mapped = json.dumps(dict(self.auto_map), sort_keys=True).encode()
        return {
            name: hashlib.sha256(content).hexdigest() for name, content in [*self.files.items(), ("auto_map", mapped)]
        }

    @functools.cached_property
    def digest(self) -> str:
        """One sha256 over all of them: what `trust_remote_code="sha256:…"` pins."""
        return hashlib.sha256(json.dumps(self.hashes, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """The name of the private package that these files form."""
        return PACKAGE_PREFIX + self.digest[:24]

    def load(self, reference: str) -> Any:
        """Import `"module.Class"` from the private package.

        Raises:
            RemoteCodeError: no such module or class in the files, or the import itself fails; says which.
        """
        module, _, name = reference.rpartition(".")
        _packages[self.name] = self
        if self.locate(module) is None:
            known = [file[:-3].replace("/", ".") for file in self.files]
            raise RemoteCodeError(
                f"{self.label!r}: auto_map names {reference!r}, but there is no such file.{did_you_mean(module, known)}"
            )
        try:
            found = importlib.import_module(f"{self.name}.{module}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(PACKAGE_PREFIX):
                raise RemoteCodeError(f"{self.label!r}: {error}. The file is missing from the checkpoint.") from error
            raise RemoteCodeError(
                f"{self.label!r} needs the package {error.name!r}, which is not installed."
            ) from error
        if not hasattr(found, name):
            raise RemoteCodeError(
                f"{self.label!r}: auto_map names {reference!r}, but {module} defines no {name}."
                + did_you_mean(name, vars(found))
            )
        return getattr(found, name)

    def locate(self, module: str) -> str | None:
        """Find the file of a dotted module name; the empty string stands for a folder without `__init__.py`."""
        stem = module.replace(".", "/")
        for name in (f"{stem}.py", f"{stem}/__init__.py") if stem else ("__init__.py",):
            if name in self.files:
                return name
        return "" if not stem or any(name.startswith(stem + "/") for name in self.files) else None


def _is_importable(name: str) -> bool:
    """Pass over hidden folders and environments: `name` must spell importable modules all the way down."""
    return all(part.isidentifier() for part in name.removesuffix(".py").split("/")) and "site-packages" not in name


def package_of(cls: type) -> CodePackage | None:
    """Give the checkpoint code that a class came from, or None for a class of this process."""
    return _packages.get(cls.__module__.split(".")[0])


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
        RemoteCodeError: approved, but it cannot be imported.
    """
    reference = auto_map.get(auto_class)
    if not isinstance(reference, str) or "." not in reference:
        offered = ", ".join(sorted(auto_map)) or "nothing"
        raise RemoteCodeError(
            f"The code of {source.label!r} offers no class for {auto_class}: its auto_map has {offered}."
        )
    repository, separator, own = reference.rpartition("--")
    if separator and repository != source.label:
        with open_source(repository) as other:
            return _approved(CodePackage.read(other, auto_map), trust).load(own)
    return _approved(CodePackage.read(source, auto_map), trust).load(own)


def _approved(package: CodePackage, trust: bool | str | None) -> CodePackage:
    """Let pass what the caller approved, and record it; refuse anything else."""
    if not trust:
        raise UntrustedCodeError(
            f"{package.label!r} brings its own code, and nothing of it was run: {', '.join(sorted(package.files))}. "
            f"If you have read it and trust it, pass trust_remote_code=True, or "
            f'trust_remote_code="sha256:{package.digest}" for exactly this code.'
        )
    recorded = read_trust().get(package.identity)
    if isinstance(trust, str):
        if trust.removeprefix("sha256:") != package.digest:
            raise UntrustedCodeError(
                f"The code of {package.label!r} is not the one you pinned: it is sha256:{package.digest}, not {trust}. "
                "Nothing of it was run."
            )
    elif recorded and recorded["digest"] != package.digest:
        raise UntrustedCodeError(
            f"The code of {package.label!r} is not the code that was approved:{bullets(_changes(recorded, package))}\n"
            f"Nothing of it was run. If you have read the changes and trust them, pass "
            f'trust_remote_code="sha256:{package.digest}" once.'
        )
    record_trust(package)
    return package


def _changes(recorded: Mapping[str, Any], package: CodePackage) -> Iterator[str]:
    """Say file by file what differs from the record."""
    before, now = recorded["files"], package.hashes
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{name} was removed"
        elif name not in before:
            yield f"{name} was added"
        elif before[name] != now[name]:
            yield f"{name} was changed"


# The record of approvals -----------------------------------------------------------------------------------------


def trust_file() -> Path:
    """Where approvals are kept: `$MAQUETTE_HOME/trust.json`, or `maquette/trust.json` in the user's configuration."""
    home = os.environ.get("MAQUETTE_HOME")
    default = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "maquette"
    return (Path(home) if home else default) / "trust.json"


def read_trust() -> dict[str, Any]:
    """Read the approvals: for each folder or repository its digest, commit and file hashes."""
    try:
        content = json.loads(trust_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UntrustedCodeError(f"The record of approvals {str(trust_file())!r} cannot be read: {error}.") from error
    return content if isinstance(content, dict) else {}


def record_trust(package: CodePackage) -> None:
    """Remember that this code was approved."""
    entry = {"digest": package.digest, "commit": package.commit, "files": package.hashes}
    file = trust_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.parent, shared=False):
            approvals = read_trust()
            if approvals.get(package.identity) == entry:
                return
            staged = file.with_name(f"trust.{os.getpid()}.tmp")
            staged.write_text(
                json.dumps({**approvals, package.identity: entry}, indent=2, sort_keys=True), encoding="utf-8"
            )
            os.replace(staged, file)
    except OSError as error:
        logger.warning(
            "The approval of %s could not be recorded (%s); changes to it will go unnoticed.", package.label, error
        )


def record_own_save(folder: Path, written: Mapping[str, bytes], auto_map: Mapping[str, Any]) -> None:
    """After saving code of this very process, remember it, unless the folder holds further code from elsewhere."""
    with open_source(folder) as source:
        package = CodePackage.read(source, auto_map)
    if dict(package.files) == dict(written):
        record_trust(package)


# The private packages --------------------------------------------------------------------------------------------

_packages: dict[str, CodePackage] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules of private packages, and nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        top, _, module = fullname.partition(".")
        package = _packages.get(top)
        file = package.locate(module) if package else None
        if package is None or file is None:
            return None
        loader = _Loader(package, module, file)
        return importlib.machinery.ModuleSpec(
            fullname, loader, origin=f"{package.name}/{file}", is_package=not file or file.endswith("__init__.py")
        )


class _Loader(importlib.abc.InspectLoader):
    """Compiles the bytes that were hashed."""

    def __init__(self, package: CodePackage, module: str, file: str) -> None:
        self.package, self.module, self.file = package, module, file

    def is_package(self, fullname: str) -> bool:
        return not self.file or self.file.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.package.files.get(self.file, b""))

    def get_code(self, fullname: str) -> types.CodeType:
        source = self.package.files.get(self.file, b"")
        return compile(source, f"{self.package.name}/{self.file}", "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__file__ = f"{self.package.name}/{self.file}"
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(self.package)}
        exec(self.get_code(module.__name__), module.__dict__)


def _importer(package: CodePackage) -> Any:
    """Give the `import` of a private package: its own top-level files come first, as beside a script.

    In code written for the peer, `transformers` means maquette where the peer is not installed.
    """

    def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        if level == 0 and package.locate(top) is not None and top not in sys.stdlib_module_names:
            found = importlib.import_module(f"{package.name}.{name}")
            if fromlist:
                _import_submodules(found, fromlist)
                return found
            return sys.modules[f"{package.name}.{top}"]
        if level == 0 and top == "transformers" and not _peer_installed():
            return importlib.import_module("maquette")
        return builtins.__import__(name, globals, locals, fromlist, level)

    return import_


def _import_submodules(module: types.ModuleType, names: Sequence[str]) -> None:
    """`from package import name` may name a module that nobody has imported yet."""
    for name in names:
        if name != "*" and not hasattr(module, name) and hasattr(module, "__path__"):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"{module.__name__}.{name}")


@functools.cache
def _peer_installed() -> bool:
    return importlib.util.find_spec("transformers") is not None


sys.meta_path.append(_Finder())
