"""Code that goes along with a save: every file that the registered classes import, found by reading, tree kept."""

import ast
import functools
import importlib.util
import inspect
import logging
import os
import site
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from maquette.errors import RemoteCodeError, SaveError
from maquette.registry import bundled_classes, bundled_tokenizers
from maquette.remote_code.earlier_saves import keep_other_frameworks, spare_other_files
from maquette.remote_code.import_statements import find_imports
from maquette.remote_code.package import CodePackage, package_of
from maquette.remote_code.parts import can_move, find_parts, folder_for, moved
from maquette.remote_code.requirements import KEY as REQUIREMENTS
from maquette.remote_code.requirements import checked_requirements, find_requirements
from maquette.storage.transaction import Transaction

logger = logging.getLogger(__name__)

OURS = frozenset({"maquette", "transformers"})
Parts = tuple[str, ...]


def pack_code(cls: type, config: Any, transaction: Transaction) -> None:
    """Stage the code that `cls` needs and note in the configuration's `auto_map` which class is which.

    A class goes along when it was registered with `register_for_auto_class`, or came from such a save itself. So does
    the code of each part, whose configuration inside of this one gets a map of its own.

    Raises:
        RemoteCodeError: the code cannot travel; the message says how to fix it.
        SaveError: it would overwrite a file that is from no save.
    """
    config_class = _config_class(cls, config)
    packages = [package for part in (cls, config_class) if (package := package_of(part))]
    classes = _registered(cls, config_class)
    parts = [(part, _registered_part(type(part.config))) for part in find_parts(config)]
    if packages and (package_of(cls) or cls not in classes.values()):
        _carry_on(packages, config, transaction)
    elif packages:
        raise RemoteCodeError(
            f"The code of {cls.__name__} cannot be saved with it: its configuration, {type(config).__name__}, is code "
            f"of {packages[0].label!r}, and the two have no folder in common. Copy both into files of your own."
        )
    elif classes:
        parts = _copy(cls, classes, config, transaction, parts)
    elif config.auto_map:
        _drop_what_stays_behind(config, transaction)
    _pack_parts(parts, transaction)


def _registered_part(config_class: Any) -> dict[str, type]:
    """Give the classes that go along with a part, by AutoClass; with a built-in configuration, none do."""
    known = [] if _is_built_in(config_class) or package_of(config_class) else bundled_classes(config_class)
    found = {str(getattr(one, "_auto_class", "")): one for one in known}
    return {**found, "AutoConfig": config_class} if found else {}


def _pack_parts(parts: list[Any], transaction: Transaction) -> None:
    """Stage the code of parts; those from one folder of the user's are copied together."""
    while parts:
        (part, classes), *parts = parts
        if package := package_of(type(part.config)):
            auto_map = {auto: _without_repository(ref) for auto, ref in _map_of_part(package, part.config).items()}
            needs = _requirements(part.config) or dict(package.requirements)
            _stage(package.files, [(part.config, auto_map)], needs, transaction, part.name)
        elif classes:
            parts = _copy(classes["AutoConfig"], classes, part.config, transaction, parts, part.name)
        elif part.config.auto_map:
            _drop_what_stays_behind(part.config, transaction)


def _map_of_part(package: CodePackage, config: Any) -> Mapping[str, Any]:
    found = {**package.map_of(type(config)), **config.auto_map}
    return {auto: ref for auto, ref in found.items() if package.resolve(str(_without_repository(ref)))}


def _config_class(cls: Any, config: Any) -> type:
    """Give the configuration's class; of two that transformers makes of one file, the one that the model knows."""
    own, found = getattr(cls, "config_class", None) or cls, type(config)
    twins = own.__qualname__ == found.__qualname__ and found.__module__.startswith("transformers_modules.")
    return own if twins else found


def _copy(
    cls: type, classes: Mapping[str, type], config: Any, transaction: Transaction, parts: list[Any], name: str = ""
) -> list[Any]:
    """Save the files that the classes need; the configuration has to be among them, other models may stay behind.

    Args:
        cls, classes, config: what is saved, the classes that go along by AutoClass, and where the map goes.
        transaction: the save.
        parts: which of them lie in the same folder or package is copied with it.
        name: of the part that this is itself.

    Returns:
        The parts that are left.
    """
    bundled = [one for one in (cls, *classes.values()) if one in classes.values() and not _is_built_in(one)]
    if not bundled:
        return parts
    inner = [one for _, own in parts for one in own.values()]
    closure = Closure(bundled[0], [*bundled, *inner])
    beside = [(part, own) for part, own in parts if own and not closure.why_not(own["AutoConfig"])]
    closure.take(bundled[0], needed=True)
    taken = [closure.take_all(each) for each in (classes, *(own for _, own in beside))]
    whole, *others = [{auto: closure.refer(*place) for auto, place in each.items()} for each in taken]
    auto_map: dict[str, Any] = {**whole}
    if cls._default_auto_class == "AutoTokenizer":  # type: ignore[attr-defined]
        pair = [closure.take(one, needed=False) if one else None for one in _tokenizer_pair(cls)]
        auto_map = {"AutoTokenizer": [closure.refer(*place) if place else None for place in pair]}
    maps = [(config, auto_map), *((part.config, each) for (part, _), each in zip(beside, others, strict=True))]
    _stage(closure.files(), maps, find_requirements(closure.external), transaction, name)
    return [one for one in parts if one not in beside]


def _tokenizer_pair(cls: Any) -> tuple[Any, Any]:
    """Give the Python and the Rust class of a tokenizer: this one, and the other one where it goes along too."""
    if cls.is_fast:
        named = [one for one in bundled_tokenizers() if f"{one.__name__}Fast" == cls.__name__]
        return getattr(cls, "slow_tokenizer_class", None) or next(iter(named), None), cls
    others = (one for one in bundled_tokenizers() if one.is_fast)
    names = f"{cls.__name__}Fast"
    return cls, next(
        (o for o in others if getattr(o, "slow_tokenizer_class", None) is cls or o.__name__ == names), None
    )


def _carry_on(packages: list[CodePackage], config: Any, transaction: Transaction) -> None:
    """Save code that came from a save as it came; its classes now lie in the same folder as their configuration."""
    first, last = packages[0], packages[-1]
    if clash := sorted(name for name in first.files.keys() & last.files if first.files[name] != last.files[name]):
        raise RemoteCodeError(
            f"The code of {first.label!r} and of {last.label!r} cannot be saved into one folder: both have a file "
            f"{clash[0]!r}, and they differ."
        )
    whole = replace(first, files={**last.files, **first.files})
    known = {**last.map_of(type(config)), **first.map_of(type(config)), **config.auto_map}
    own = {auto: _without_repository(ref) for auto, ref in known.items()}
    auto_map = {auto: ref for auto, ref in own.items() if isinstance(ref, list) or whole.resolve(str(ref))}
    needs = _requirements(config) or {**last.requirements, **first.requirements}
    _stage(dict(whole.files), [(config, auto_map)], needs, transaction)


def _requirements(config: Any) -> dict[str, str]:
    """Give what a configuration's file said that its code needs; of several in one folder, each says its own."""
    return checked_requirements(config._kept.get(REQUIREMENTS))


def _without_repository(reference: Any) -> Any:
    if isinstance(reference, list):
        return [_without_repository(one) for one in reference]
    return reference.rpartition("--")[2] if isinstance(reference, str) else reference


def _registered(cls: type, config_class: Any) -> dict[str, type]:
    """Give the classes that go along, by AutoClass: none, where neither this class nor its configuration does."""
    known: dict[tuple[str, str], Any] = {_name(one): one for one in bundled_classes(config_class)}
    if _name(cls) not in known and _name(config_class) not in known:
        return {}
    found = {one._auto_class: one for one in known.values()}
    if _name(cls) in known:
        found[known[_name(cls)]._auto_class] = cls
    is_config = config_class._default_auto_class == "AutoConfig"  # a preprocessing class stands for itself
    return {**found, "AutoConfig": config_class} if is_config else found


def _name(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _drop_what_stays_behind(config: Any, transaction: Transaction) -> None:
    """Forget entries of a map for code that this save does not carry and its folder does not hold."""

    def is_there(reference: Any) -> bool:
        if isinstance(reference, list):
            return any(reference) and all(is_there(one) for one in reference if one)
        module = str(reference).rpartition(".")[0].replace(".", "/")
        return "--" in module or (transaction.home.folder / f"{module}.py").is_file()

    kept = {auto: ref for auto, ref in config.auto_map.items() if is_there(ref)}
    if kept:
        config.auto_map = kept
    else:
        config._kept.pop("auto_map", None)
        config._kept.pop(REQUIREMENTS, None)


def _stage(
    files: Mapping[str, bytes],
    maps: list[tuple[Any, dict[str, Any]]],
    requirements: dict[str, str],
    transaction: Transaction,
    part: str = "",
) -> None:
    """Put code and what it needs into the save, beside the code of other parts of it.

    Args:
        files: the code.
        maps: for each configuration that it is of, which class is which; the first is that of the whole, or `part`.
        requirements: what the code needs.
        transaction: the save.
        part: of a configuration; its code lies in a folder of its own where files of the same names are there already.
    """
    home = transaction.home
    staged, names = home.code or ({}, {})
    if part and any(files[name] != staged[name] for name in files.keys() & staged.keys()) and can_move(files):
        folder = folder_for(part, {**staged, **files})
        files = {f"{folder}/{name}": content for name, content in files.items()}
        maps = [(config, {auto: moved(ref, folder) for auto, ref in one.items()}) for config, one in maps]
    spare_other_files(files, home.folder)
    if clash := sorted(name for name in files.keys() & staged.keys() if files[name] != staged[name]):
        raise SaveError(f"Two parts bring code in a file {clash[0]!r}, and the files differ. Rename one of them.")
    for name, content in files.items():
        home.write(name, content)
    config, auto_map = maps[0]
    if "AutoConfig" in auto_map and not part:
        auto_map = {**keep_other_frameworks(home.folder, config, {*files, *staged}), **auto_map}
        maps[0] = config, auto_map
    for config, one in maps:
        config.auto_map = one
        config._kept[REQUIREMENTS] = requirements
    home.code = ({**staged, **files}, names if part else {**names, **auto_map})
    home.part_maps += [one for _, one in maps]


@dataclass(frozen=True)
class Module:
    """One file of the user's, by its dotted name under the root that it is imported from."""

    parts: Parts
    path: Path
    content: bytes

    @property
    def package(self) -> Parts:
        return self.parts if self.path.name == "__init__.py" else self.parts[:-1]

    def place(self, skip: int) -> str:
        """Name its file in the save, without the first `skip` packages."""
        name = self.path.name if self.path.name == "__init__.py" else f"{self.parts[-1]}.py"
        return "/".join((*self.package[skip:], name))


class Closure:
    """All modules that a set of classes needs, from their own files on.

    They are imported from one folder: the one of the class that is saved. From an installed package only that package
    is taken; of a folder that is somebody's project, whatever the code imports from it.
    """

    def __init__(self, cls: type, classes: Iterable[type]) -> None:
        self.cls = cls
        self.root = root_of(cls)
        self.is_installed = _is_installed(self.root, cls)
        self.tops = {_top(one) for one in classes if not self.why_not(one)}
        self.modules: dict[Parts, Module] = {}
        self.unread: list[Module] = []
        self.external: set[str] = set()
        self.absolute = False

    def take(self, cls: type, *, needed: bool) -> tuple[Parts, str] | None:
        """Take in a class with all that it imports; give its module and name, or None where it does not travel."""
        if _is_built_in(cls):
            return None
        if cls is not self.cls and (reason := self.why_not(cls)):
            return self._take_from_elsewhere(cls, reason, needed=needed)
        parts = tuple(cls.__module__.split("."))
        found = self.add(parts)
        while self.unread:
            self._read(self.unread.pop())
        if not found or not os.path.samefile(self.modules[parts].path, inspect.getfile(cls)):
            raise RemoteCodeError(
                f"The code of {cls.__name__} cannot be saved with it: its module is called {cls.__module__!r}, but its "
                f"file is {inspect.getfile(cls)!r}. Import it under the name of its file."
            )
        return parts, cls.__name__

    def take_all(self, classes: Mapping[str, type]) -> dict[str, tuple[Parts, str]]:
        """Take in the classes of one configuration, which is needed; others may stay behind."""
        taken = {auto: self.take(one, needed=auto == "AutoConfig") for auto, one in classes.items()}
        return {auto: place for auto, place in taken.items() if place}

    def why_not(self, cls: type) -> str:
        try:
            root = root_of(cls)
        except RemoteCodeError as error:
            return str(error)
        if root != self.root:
            return f"it lies in {str(root)!r}, {self.cls.__name__} in {str(self.root)!r}"
        if self.is_installed and _top(cls) != _top(self.cls):
            return f"it belongs to the installed package {_top(cls)!r}, {self.cls.__name__} to {_top(self.cls)!r}"
        return ""

    def _take_from_elsewhere(self, cls: type, reason: str, *, needed: bool) -> tuple[Parts, str] | None:
        """Refer to a class of another place through the module that imports it; what is not needed stays behind."""
        held = getattr(sys.modules.get(self.cls.__module__), cls.__name__, None)
        if held is cls and _top(cls) in self.external:
            return tuple(self.cls.__module__.split(".")), cls.__name__
        if needed:
            raise RemoteCodeError(
                f"The classes of one save must come from one folder or package: {cls.__name__} cannot go along with "
                f"{self.cls.__name__}: {reason}."
            )
        logger.warning("The save of %s does not carry the code of %s: %s", self.cls.__name__, cls.__name__, reason)
        return None

    def add(self, parts: Parts) -> bool:
        """Take in the module of that name, to be read later; tells whether there is such a file."""
        if parts in self.modules:
            return True
        files = (
            path for stem in self._stems(parts) for path in (stem / "__init__.py", stem.parent / f"{stem.name}.py")
        )
        path = next((path for path in files if path.is_file()), None)
        if path is None:
            return False
        self.modules[parts] = Module(parts, path, path.read_bytes())
        self.unread.append(self.modules[parts])
        return True

    def _read(self, module: Module) -> None:
        """Take in all that a module imports."""
        for statement, guarded in find_imports(ast.parse(module.content, filename=str(module.path))):
            missing = self._follow(module, statement)
            if missing and not guarded:
                raise RemoteCodeError(
                    f"{module.path}, line {statement.lineno}: {ast.unparse(statement)!r} finds no Python file for "
                    f"{missing!r}, so the code would not load again. Put the module there, or import it from an "
                    "installed package."
                )

    def _stems(self, parts: Parts) -> list[Path]:
        """List where a module may lie: below its top-level package, whose folder may have another name, or the root."""
        loaded = getattr(sys.modules.get(parts[0]), "__path__", None) if parts else None
        return [*(Path(folder).joinpath(*parts[1:]) for folder in loaded or ()), self.root.joinpath(*parts)]

    def _follow(self, module: Module, statement: ast.Import | ast.ImportFrom) -> str | None:
        """Take in what one statement imports; give a name that it finds nowhere, or None."""
        if isinstance(statement, ast.Import):
            paths = [tuple(alias.name.split(".")) for alias in statement.names]
            own = [path[:depth] for path in paths if self._is_own(path[0], module) for depth in range(1, len(path) + 1)]
            return next((".".join(path) for path in own if not self._add_any(path)), None)
        base: Parts = tuple(statement.module.split(".")) if statement.module else ()
        if statement.level:
            base = module.package[: max(0, len(module.package) - statement.level + 1)] + base
        elif not self._is_own(base[0], module):
            return None
        for depth in range(1, len(base) + 1):
            if base[:depth] != module.package[:depth]:  # a package that this import enters: its __init__ runs
                self._add_any(base[:depth])
        return next((name for name in self._names(base, statement) if not self._add_name(base, name)), None)

    def _names(self, base: Parts, statement: ast.ImportFrom) -> list[str]:
        """List what is imported from `base`; of `*`, the modules, which `__all__` may name."""
        if statement.names[0].name != "*":
            return [alias.name for alias in statement.names]
        package = sys.modules.get(".".join(base))
        return [name for name in getattr(package, "__all__", ()) if isinstance(getattr(package, name, 0), ModuleType)]

    def _add_name(self, base: Parts, name: str) -> bool:
        """Take in a module of `base`, or the file of `base` where the name stands in that."""
        is_module = self._add_any((*base, name))
        held = getattr(sys.modules.get(".".join(base)), name, None)
        if is_module and (held is None or isinstance(held, ModuleType)):
            return True
        return self.add(base) or is_module

    def _add_any(self, parts: Parts) -> bool:
        return self.add(parts) or any(stem.is_dir() for stem in self._stems(parts))

    def _is_own(self, top: str, module: Module) -> bool:
        """Tell the user's own modules from installed ones, by what the import takes in this process."""
        if not self._takes_from_root(top):
            if top in OURS or _places_of(top):
                self.external.add(top)
            return False
        if top in sys.stdlib_module_names:
            raise RemoteCodeError(
                f"{module.path} imports {top!r} from beside it, which is also the name of a module of the standard "
                "library, so the code would not load again. Rename the file."
            )
        self.absolute = True
        return True

    @functools.cache  # noqa: B019 - a closure lives for one save
    def _takes_from_root(self, top: str) -> bool:
        if top in self.tops:
            return True
        candidates = [path for path in (self.root / f"{top}.py", self.root / top) if path.exists()]
        if top in OURS or self.is_installed or not candidates:
            return False
        places = _places_of(top)
        if not places:  # the root is not on the path: the modules were imported by other means
            return top not in sys.stdlib_module_names
        return any(os.path.samefile(path, place) for path in candidates for place in places if os.path.exists(place))

    @functools.cached_property
    def prefix(self) -> int:
        """How many leading packages all modules share and the save leaves out.

        None where an import spells them; and no more than keeps every file apart from an installed package of its name.
        """
        packages = [module.package for module in self.modules.values()]
        first, last = min(packages), max(packages)
        same = [one == other for one, other in zip(first, last, strict=False)]
        shared = 0 if self.absolute else [*same, False].index(False)
        while shared and self.external & self._top_names(shared) - sys.stdlib_module_names:
            shared -= 1
        return shared

    def _top_names(self, skip: int) -> set[str]:
        return {module.place(skip).partition("/")[0].removesuffix(".py") for module in self.modules.values()}

    def files(self) -> dict[str, bytes]:
        """Give the content of each file by its place in the save."""
        return {module.place(self.prefix): module.content for module in self.modules.values()}

    def refer(self, parts: Parts, name: str) -> str:
        """Name a class as `auto_map` does: the module's path in the save, and the class."""
        return f"{self.modules[parts].place(self.prefix).removesuffix('.py').replace('/', '.')}.{name}"


def _top(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _is_built_in(cls: type) -> bool:
    return _top(cls) in OURS


def root_of(cls: type) -> Path:
    """Find the folder that a class's top-level module is imported from."""
    problem = None
    if cls.__module__ in ("__main__", "__mp_main__"):
        problem = (
            "it is defined in the script or notebook that is running (__main__), which no one can import. Move it into "
            "a file of its own, say modeling_mine.py, and import it from there: `from modeling_mine import "
            f"{cls.__name__}`"
        )
    elif "." in cls.__qualname__:
        problem = f"it is defined inside another scope ({cls.__qualname__}). Define it at the top level of its module"
    elif not hasattr(sys.modules.get(cls.__module__), cls.__name__):
        problem = f"{cls.__module__} holds no {cls.__name__}. Give it the name that it is imported by"
    else:
        try:
            path = Path(os.path.abspath(inspect.getfile(cls)))
        except (TypeError, OSError):
            path = Path()
        if path.suffix == ".py" and path.is_file():
            depth = cls.__module__.count(".") + (path.name == "__init__.py")
            return path.parents[min(depth, len(path.parents) - 1)]
        problem = f"its source is no Python file ({str(path)!r})"
    raise RemoteCodeError(f"The code of {cls.__name__} cannot be saved with it: {problem}.")


def _is_installed(root: Path, cls: type) -> bool:
    """Tell whether a class belongs to an installed package, by a copy or (editable) by reference to its folder."""
    if root.name in {"site-packages", "dist-packages"}:
        return True
    if not hasattr(sys.modules.get(_top(cls)), "__path__"):
        return False
    finders = (module for name, module in [*sys.modules.items()] if name.startswith("__editable__"))
    return (
        any(_top(cls) in getattr(finder, "MAPPING", {}) for finder in finders)
        or os.path.realpath(root) in editable_folders()
    )


def editable_folders() -> set[str]:
    """List the folders that installed `.pth` files add to the path."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    files = (file for folder in folders for file in sorted(Path(folder).glob("*.pth")))
    lines = (line for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
    return {os.path.realpath(line.strip()) for line in lines if os.path.isabs(line.strip())}


def _places_of(top: str) -> list[str] | None:
    """List the folders or files that `import top` takes, None where no path is known for it."""
    try:
        module = sys.modules.get(top)
        spec = module.__spec__ if module else importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or (spec.origin in (None, "built-in", "frozen") and spec.submodule_search_locations is None):
        return None
    return [*(spec.submodule_search_locations or [spec.origin])]  # type: ignore[list-item]
