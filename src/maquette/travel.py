"""Code that goes along with a save: every file that the registered classes import, found by reading, tree kept."""

import ast
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import RemoteCodeError
from maquette.registry import travelling_classes
from maquette.remote_code import package_of
from maquette.transaction import Transaction

NEVER_COPIED = frozenset({"maquette", "transformers", *sys.stdlib_module_names})


def pack_code(cls: type, config: Any, transaction: Transaction) -> None:
    """Stage the code that `cls` needs and note in the configuration's `auto_map` which class is which.

    A class goes along when it was registered with `register_for_auto_class`, or came from such a save itself.

    Raises:
        RemoteCodeError: the code cannot travel; the message says how to mend it.
    """
    if package := package_of(cls):
        auto_map = {auto: _own_reference(reference) for auto, reference in package.auto_map.items()}
        return _stage(dict(package.files), auto_map, config, transaction)
    classes = {c._auto_class: c for c in travelling_classes(type(config)) if c._auto_class}  # type: ignore[attr-defined]
    if auto_class := getattr(cls, "_auto_class", None):
        classes[auto_class] = cls
    if cls not in classes.values():
        return
    closure = Closure.of([*classes.values(), type(config)])
    auto_map = {auto: closure.reference(target) for auto, target in {"AutoConfig": type(config), **classes}.items()}
    _stage({name: path.read_bytes() for name, path in closure.files().items()}, auto_map, config, transaction)


def _stage(files: dict[str, bytes], auto_map: dict[str, Any], config: Any, transaction: Transaction) -> None:
    for name, content in files.items():
        transaction.write(name, content)
    config.auto_map = auto_map
    transaction.code = (files, auto_map)


def _own_reference(reference: Any) -> Any:
    """Drop the repository from a reference: the code now lies in the same folder."""
    if isinstance(reference, list):
        return [_own_reference(one) for one in reference]
    return reference.rpartition("--")[2] if isinstance(reference, str) else reference


@dataclass(frozen=True)
class Module:
    """One file of the user's, by its dotted name under the root that it is imported from."""

    parts: tuple[str, ...]
    path: Path

    @property
    def package(self) -> tuple[str, ...]:
        return self.parts if self.path.name == "__init__.py" else self.parts[:-1]


class Closure:
    """All modules that a set of classes needs, from their own files on."""

    def __init__(self, root: Path, *, only: str | None) -> None:
        self.root, self.only = root, only
        self.modules: dict[tuple[str, ...], Module] = {}
        self.absolute = False

    @classmethod
    def of(cls, classes: list[type]) -> "Closure":
        """Follow the imports of every class's module."""
        roots = {_root_of(target): target for target in classes}
        if len(roots) > 1:
            places = ", ".join(f"{target.__name__} in {str(root)!r}" for (root, _), target in roots.items())
            raise RemoteCodeError(f"The classes of one save must come from one folder or package, not: {places}.")
        (root, only), _ = roots.popitem()
        closure = cls(root, only=only)
        for target in classes:
            closure.add(tuple(target.__module__.split(".")))
        return closure

    def add(self, parts: tuple[str, ...]) -> bool:
        """Take in the module of that name and all that it imports; tells whether there is such a file."""
        if parts in self.modules:
            return True
        path = self._locate(parts)
        if path is None:
            return False
        module = self.modules[parts] = Module(parts, path)
        for statement, guarded in _imports(ast.parse(path.read_bytes(), filename=str(path))):
            self._follow(module, statement, guarded=guarded)
        return True

    def _locate(self, parts: tuple[str, ...]) -> Path | None:
        stem = self.root.joinpath(*parts)
        candidates = (
            (stem.with_name(stem.name + ".py"), stem / "__init__.py") if parts else (self.root / "__init__.py",)
        )
        return next((path for path in candidates if path.is_file()), None)

    def _follow(self, module: Module, statement: ast.Import | ast.ImportFrom, *, guarded: bool) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                parts = tuple(alias.name.split("."))
                if self._is_own(parts[0]):
                    self.absolute = True
                    for depth in range(1, len(parts) + 1):
                        self.add(parts[:depth])
            return
        if statement.level:
            base = module.package[: len(module.package) - statement.level + 1]
        elif self._is_own((statement.module or "").split(".")[0]):
            base, self.absolute = (), True
        else:
            return
        base += tuple(statement.module.split(".")) if statement.module else ()
        self._follow_names(module, base, statement, guarded=guarded)

    def _follow_names(self, module: Module, base: tuple[str, ...], statement: ast.ImportFrom, *, guarded: bool) -> None:
        """`from base import a, b`: each name is a module of its own, or stands in the file of `base`."""
        in_base = [alias.name for alias in statement.names if not self.add((*base, alias.name))]
        if in_base and not self.add(base) and not guarded:
            line = ast.unparse(statement)
            raise RemoteCodeError(
                f"{module.path}, line {statement.lineno}: {line!r} names no file below {str(self.root)!r}, so the code "
                "would not load again. Put the module there, or import it from an installed package."
            )

    @functools.cache  # noqa: B019 - a closure lives for one save
    def _is_own(self, top: str) -> bool:
        """Tell the user's own modules from installed ones: they lie beside the class's own top-level module."""
        if top in NEVER_COPIED or (self.only is not None and top != self.only):
            return False
        return (self.root / f"{top}.py").is_file() or ((self.root / top).is_dir() and _is_imported_from(top, self.root))

    @property
    def prefix(self) -> int:
        """How many leading packages all modules share and the save leaves out; none where an import spells them."""
        if self.absolute:
            return 0
        packages = [module.package for module in self.modules.values()]
        shared = 0
        while (
            all(len(package) > shared for package in packages) and len({package[shared] for package in packages}) == 1
        ):
            shared += 1
        return shared

    def files(self) -> dict[str, Path]:
        """Map each file's place in the save to where it is read."""
        skip = self.prefix
        return {
            "/".join((*(m.package[skip:]), "__init__.py" if m.package == m.parts else f"{m.parts[-1]}.py")): m.path
            for m in self.modules.values()
        }

    def reference(self, cls: type) -> str:
        """Name a class as `auto_map` does: the module's path in the save, and the class."""
        return ".".join((*cls.__module__.split(".")[self.prefix :], cls.__name__))


def _root_of(cls: type) -> tuple[Path, str | None]:
    """Find the folder that a class's top-level module is imported from, and the only name that counts in it, if one."""
    problem = None
    if cls.__module__ == "__main__":
        problem = (
            "it is defined in the script or notebook that is running (__main__), which no one can import. Move it into "
            "a file of its own, say modeling_mine.py, and import it from there: `from modeling_mine import "
            f"{cls.__name__}`"
        )
    elif "." in cls.__qualname__:
        problem = f"it is defined inside another scope ({cls.__qualname__}). Define it at the top level of its module"
    if problem:
        raise RemoteCodeError(f"The code of {cls.__name__} cannot be saved with it: {problem}.")
    try:
        path = Path(inspect.getfile(cls)).resolve()
    except (TypeError, OSError) as error:
        raise RemoteCodeError(
            f"The code of {cls.__name__} cannot be saved with it: its source file is not found."
        ) from error
    depth = cls.__module__.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]
    return root, cls.__module__.split(".")[0] if root.name in {"site-packages", "dist-packages"} else None


def _is_imported_from(top: str, root: Path) -> bool:
    """Tell whether `import top` would take the folder under `root`, and not an installed package of the same name."""
    spec = importlib.util.find_spec(top)
    places = [*(spec.submodule_search_locations or ())] if spec else []
    return any(Path(place).resolve() == (root / top).resolve() for place in places)


def _imports(tree: ast.AST, *, guarded: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Find every import statement, and whether it stands where a failing import is expected (inside `try`)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, guarded
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from ((statement, True) for statement, _ in _imports(node))
        else:
            yield from _imports(node, guarded=guarded or isinstance(node, ast.Try))
