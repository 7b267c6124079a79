"""Code that does without maquette: a model's own files, and the modules of ours that they use, side by side.

Transformers finds files that import each other relatively, in one folder without others in it. `pkg/blocks.py` becomes
`pkg_blocks.py`, and `maquette.modeling.packing`, `maquette_modeling_packing.py`. What Transformers has itself, bases of
models, configurations and outputs, is taken from there.
"""

import ast
import functools
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import maquette
from maquette.errors import InputError, bullets
from maquette.storage.version import __version__

BASE, DECODER = "maquette_base", "maquette_decoder"
PEER = Path(__file__).with_name("peer")
# Modules of ours that work anywhere as they are: torch, and each other.
COPIED = ("maquette.modeling.", "maquette.generation.", "maquette.errors", "maquette.configuration.rotary")
# Modules whose names are found in one of the files for Transformers.
REPLACED = {
    **dict.fromkeys(("maquette.modeling.outputs", "maquette.batch.view", "maquette.storage.html_view"), BASE),
    **dict.fromkeys(("maquette.configuration", "maquette.configuration.config"), BASE),
    "maquette.modeling.torch": DECODER,
}
STAYING = ("maquette.modeling.common", "maquette.modeling.tf", "maquette.modeling.flax", "maquette.modeling.generat")


class Folder:
    """Files side by side, made of a model's code.

    Args:
        files: the model's own, by their paths.
        generates: whether the model writes texts.
    """

    def __init__(self, files: Mapping[str, bytes], *, generates: bool) -> None:
        self.own = {_dotted(path): (path, content.decode("utf-8")) for path, content in files.items()}
        self.generates = generates
        self.waiting: list[str] = []
        self.found: dict[str, str] = {}
        self.faults: list[str] = []

    def write(self) -> dict[str, str]:
        """Give all files by their names.

        Raises:
            InputError: something of ours cannot go along; lists what, and where.
        """
        for module, (path, text) in self.own.items():
            self.found[f"{flat(module)}.py"] = self._rewrite(text, module, is_package=path.endswith("__init__.py"))
        self._add_peer_file(BASE)
        if self.generates:
            self._add_peer_file(DECODER)
            self._want("maquette.generation.open_cache")
        while self.waiting:
            module = self.waiting.pop()
            file = Path(_find(module) or "")
            text = f"# {module} of maquette {__version__} (Apache-2.0)\n" + file.read_text(encoding="utf-8")
            self.found[f"{flat(module)}.py"] = self._rewrite(text, module, is_package=file.name == "__init__.py")
        if self.faults:
            raise InputError(f"Code that cannot go without maquette:{bullets(self.faults)}")
        return self.found

    def _add_peer_file(self, name: str) -> None:
        self.found[f"{name}.py"] = (PEER / f"{name}.py").read_text(encoding="utf-8")

    def _want(self, module: str) -> None:
        if f"{flat(module)}.py" not in self.found and module not in self.waiting:
            self.waiting.append(module)

    def _rewrite(self, text: str, module: str, *, is_package: bool) -> str:
        """Have a file import its neighbours."""
        lines = text.splitlines(keepends=True)
        statements = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in sorted(statements, key=lambda each: -each.lineno):
            new = [*self._translate(node, module, is_package)]
            if new != [None]:
                indent = " " * node.col_offset
                lines[node.lineno - 1 : node.end_lineno] = [f"{indent}{line}\n" for line in new]
        return "".join(lines)

    def _translate(self, node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> Iterator[str | None]:
        """Give the statements that stand for one; None where it stays."""
        if isinstance(node, ast.Import):
            ours = [each.name for each in node.names if each.name.partition(".")[0] in {"maquette", *self._tops()}]
            if ours:
                self.faults.append(f"{module}, line {node.lineno}: import {ours[0]}: write from {ours[0]} import …")
            yield None
            return
        base = _absolute(node, module, is_package)
        if base.partition(".")[0] == "maquette":
            for alias in node.names:
                target = self._locate(base, alias.name, f"{module}, line {node.lineno}")
                yield f"from {target} import {_spell(alias)}"
        elif node.level or base in self.own or base.partition(".")[0] in self._tops():
            for alias in node.names:
                if f"{base}.{alias.name}".lstrip(".") in self.own or base not in self.own:
                    self.faults.append(f"{module}, line {node.lineno}: a module is imported by name: import its names")
                yield f"from .{flat(base)} import {_spell(alias)}"
        else:
            yield None

    def _tops(self) -> set[str]:
        return {name.partition(".")[0] for name in self.own if name}

    def _locate(self, base: str, name: str, where: str) -> str:
        """Say which file has a name of ours."""
        home = base
        if base == "maquette":
            home = getattr(getattr(maquette, name), "__module__", "")
        elif _find(f"{base}.{name}"):
            self.faults.append(f"{where}: a module is imported by name, {base}.{name}: import its names")
        if home.startswith("maquette.models.") or home.startswith("maquette.auto."):
            return "transformers"
        if home in REPLACED:
            file = REPLACED[home]
            return f".{file if self.generates else BASE}"
        if not home.startswith(COPIED) or home.startswith(STAYING):
            self.faults.append(f"{where}: {name} ({home}) is of maquette, and has no counterpart in Transformers")
            return "transformers"
        self._want(home)
        return f".{flat(home)}"


def flat(module: str) -> str:
    """Name the file of a module, beside all others."""
    return module.replace(".", "_") or "package"


def _dotted(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".") if module else []
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *(node.module or "").split(".")]).strip(".")


def _spell(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


@functools.cache
def _find(module: str) -> str | None:
    try:
        spec = find_spec(module)
    except (ImportError, AttributeError):
        return None
    return spec.origin if spec else None
