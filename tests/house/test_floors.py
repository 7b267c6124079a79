"""The floors of the architecture: imports go downward only, and no framework is reached where none belongs."""

import ast
import functools
from pathlib import Path
from xml.etree import ElementTree

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maquette"
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "jaxlib"}
FLOORS: dict[str, int] = {
    **dict.fromkeys(("errors", "registry", "storage", "hub", "remote_code", "pretrained", "code_store"), 0),
    **dict.fromkeys(("configuration", "batch", "text", "images", "audio", "processing"), 1),
    "checkpoint": 2,
    "modeling": 3,
    "generation": 3,
    "models": 4,
    "auto": 5,
    **dict.fromkeys(("pipelines", "training", "testing", "workshop", "cli", "__main__"), 6),
}
ALL_FRAMEWORKS = {"batch.tensors"}  # asks which framework a value is of, and imports the one that is there already
MOST_NAMES = 24


def names() -> list[str]:
    found = (path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".") for path in SOURCE.rglob("*.py"))
    return sorted({name.removesuffix(".__init__") for name in found if name != "__init__"})


def floor(module: str) -> int | None:
    """Give the floor of a module, or of the nearest package above it that has one."""
    while module and module not in FLOORS:
        module = module.rpartition(".")[0]
    return FLOORS.get(module)


@functools.cache
def parse(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """List what a module imports, at any time: imports inside functions and for type checkers count as well."""
    found: set[str] = set()
    package = ["maquette", *module.split(".")]
    if not SOURCE.joinpath(*module.split(".")).is_dir():
        package.pop()
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def ours(module: str) -> set[str]:
    """List the modules of maquette that a module imports."""
    return {name.removeprefix("maquette.") for name in imports(module)} & {*names()} - {module}


def frameworks(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)} & FRAMEWORKS


def upward() -> list[str]:
    arrows = [(one, floor(one) or 0, other, floor(other) or 0) for one in names() for other in ours(one)]
    return [f"{one} (F{here}) imports {other} (F{there})" for one, here, other, there in arrows if there > here]


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Find what imports itself by a way over others: groups in which each reaches each."""
    reached: dict[str, set[str]] = {}
    for start in arrows:
        waiting, seen = [start], set()
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[start] = seen
    groups = {frozenset(o for o in reached[one] if one in reached.get(o, ())) for one in arrows if one in reached[one]}
    return sorted(sorted(group) for group in groups)


def test_every_module_has_a_floor() -> None:
    assert not [module for module in names() if floor(module) is None], "add them to FLOORS"


def test_imports_go_downward() -> None:
    assert not upward()


def test_the_check_sees_an_upward_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is none: with the floors turned over, it does."""
    monkeypatch.setitem(FLOORS, "errors", 9)
    assert any("hub.sources (F0) imports errors (F9)" in fault for fault in upward())


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count, too."""
    assert circles({module: ours(module) for module in names()}) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    folders: dict[str, set[str]] = {}
    for module in names():
        here = module.partition(".")[0]
        folders.setdefault(here, set()).update({other.partition(".")[0] for other in ours(module)} - {here})
    assert circles(folders) == []


def test_the_check_sees_a_circle() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f"}}
    assert circles(arrows) == [["a", "b", "c"], ["f"]]
    assert {"remote_code.importing", "remote_code.names"} <= ours("remote_code.finder")  # one stands inside a function


def test_a_stranger_finds_few_names_at_the_top() -> None:
    assert len({module.partition(".")[0] for module in names()}) <= MOST_NAMES


def test_the_picture_shows_the_floors() -> None:
    """Each floor's group in the drawing names what stands on it, but for what no reader looks for."""
    drawing = ElementTree.parse(SOURCE.parents[1] / "docs" / "images" / "floors.svg")
    tag = "{http://www.w3.org/2000/svg}"
    shown = {g.get("id"): {text.text for text in g.iter(f"{tag}text")} for g in drawing.iter(f"{tag}g")}
    for module, number in FLOORS.items():
        assert module in {"code_store", "__main__"} or module in shown[f"F{number}"], module


def test_no_framework_below_the_models() -> None:
    assert not [m for m in names() if floor(m) in (0, 1, 2) and m not in ALL_FRAMEWORKS and frameworks(m)]


def test_one_framework_at_a_time() -> None:
    """What is of Keras knows no torch, and the other way round; that Keras may run on JAX is told to JAX alone."""
    families = [{"torch"}, {"keras", "tensorflow"}, {"jax", "flax", "jaxlib"}]
    several = [module for module in names() if sum(bool(frameworks(module) & family) for family in families) > 1]
    assert set(several) <= ALL_FRAMEWORKS


def test_models_do_not_know_each_other() -> None:
    families = [module for module in names() if module.startswith("models.")]
    pairs = [(module, other) for module in families for other in ours(module) if other.startswith("models.")]
    assert not [pair for pair in pairs if pair[0].split(".")[1] != pair[1].split(".")[1]]


LIGHT = """
import sys
from maquette import PretrainedConfig, AutoConfig
class C(PretrainedConfig):
    model_type = "light"
    dim: int = 3
C(dim=4).save_pretrained("light")
AutoConfig.register("light", C)
assert AutoConfig.from_pretrained("light").dim == 4
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_configurations_bring_no_framework(run_fresh) -> None:
    """Promise 6."""
    loaded = run_fresh(LIGHT)
    heavy = FRAMEWORKS | {"numpy", "huggingface_hub", "tokenizers", "safetensors", "PIL"}
    assert not [name for name in heavy if f"'{name}'" in loaded]


def test_budgets_of_size() -> None:
    """A file has at most 500 lines, a function at most 60 without its docstring; most are far shorter."""
    lengths = []
    for module in names():
        tree = parse(module)
        lines = max((node.end_lineno for node in tree.body if node.end_lineno), default=0)
        assert lines <= 500, f"{module} has {lines} lines"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 60, f"{module}.{node.name} has {length} lines"
                lengths.append(length)
    lengths.sort()
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[int(len(lengths) * 0.95)] <= 35
