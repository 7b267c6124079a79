"""How the code of a checkpoint is imported: what was hashed is compiled, and `import` means what its author meant."""

import builtins
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import types
from collections.abc import Sequence
from typing import Any

from maquette.remote_code.package import CodePackage, known_package
from maquette.remote_code.requirements import explain_requirement, is_installed
from maquette.remote_code.store import pickle_by_code, recall_code


def find_module(fullname: str) -> Any:
    """Find a module of a private package; one that this process has not loaded is recalled, if it was approved.

    Raises:
        ModuleNotFoundError: it was not; says what to do.
    """
    top, _, module = fullname.partition(".")
    package = known_package(top) or recall_code(top)
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
        pickle_by_code(module)


def _importer(package: CodePackage) -> Any:
    """Give the `import` of a private package: its own top-level files come first, as beside a script.

    In code written for Transformers, `transformers` means maquette where Transformers is not installed.
    """

    def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        if level == 0 and _is_own(package, name, fromlist or (), (globals or {}).get("__name__", "")):
            found = builtins.__import__(f"{package.name}.{name}", globals, locals, fromlist, 0)
            return found if fromlist else sys.modules[f"{package.name}.{top}"]
        if level == 0 and top == "transformers" and not is_installed("transformers"):
            from maquette.remote_code.stand_in import stand_in

            return stand_in(name, fromlist or ())
        try:
            return builtins.__import__(name, globals, locals, fromlist, level)
        except ModuleNotFoundError as error:
            if level == 0 and error.name == top and (advice := explain_requirement(package.requirements, top)):
                error.add_note(advice)
            raise

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
    return any(package.locate(path) for path in (name, *(f"{name}.{one}" for one in wanted))) or not is_installed(top)
