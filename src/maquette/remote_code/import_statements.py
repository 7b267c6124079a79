"""The imports of a Python file, found by reading it."""

import ast
from collections.abc import Iterator


def find_imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Find every import, and whether it stands where the module may be missing: in `try`, or where it did not run."""
    waiting = [(tree, False)]
    while waiting:
        node, guarded = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, guarded
        elif isinstance(node, ast.Call) and (call := _import_call(node)):
            yield call, True
        else:
            guarded = guarded or _is_guard(node)
            waiting += [(child, guarded) for child in reversed([*ast.iter_child_nodes(node)])]


def _is_guard(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return _mentions(node.test, "TYPE_CHECKING")
    if isinstance(node, ast.With):
        return any(_mentions(item.context_expr, "suppress") for item in node.items)
    return isinstance(node, ast.Try | ast.TryStar | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _mentions(node: ast.AST, name: str) -> bool:
    return any(name in (getattr(part, "id", ""), getattr(part, "attr", "")) for part in ast.walk(node))


def _import_call(node: ast.Call) -> ast.Import | ast.ImportFrom | None:
    """Read `importlib.import_module("…")` with a name that is written out as the import that it is."""
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if called != "import_module" or not isinstance(name, str) or not name.strip("."):
        return None
    path = name.lstrip(".")
    if path == name:
        return ast.Import([ast.alias(name)])
    base, _, last = path.rpartition(".")
    return ast.ImportFrom(base or None, [ast.alias(last)], len(name) - len(path))
