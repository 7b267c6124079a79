"""The floors of the architecture: imports go downward only, and no framework is reached where none belongs."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "maquette"
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "jaxlib"}
GROUND = "version errors transaction files pretrained registry trust abilities remote_code travel tensors"
GROUND += " code_finder code_import code_package code_store import_statements requirements stand_in verification"
GROUND += " sharing shipment readme hub_errors"
DATA = "plain configuration batch text preprocessing"
DATA += " images audio feature_extraction processing processor_parts preprocessor_classes"
FLOORS: dict[str, int] = {
    **dict.fromkeys(GROUND.split(), 0),
    **dict.fromkeys(DATA.split(), 1),
    "checkpoint": 2,
    **dict.fromkeys(("stand_in.attention_masks", "stand_in.caches", "stand_in.layers", "stand_in.outputs"), 3),
    "modeling": 3,
    "models": 4,
    "auto": 5,
    "auto_preprocessing": 5,
    "testing": 6,
    "training": 6,
    "trust_report": 6,
    "commands": 6,
    "cli": 6,
    "__main__": 6,
}
# What a higher floor may be asked for from inside a function, and why.
CALLED_LATER = {
    ("registry", "models"): "cards are found by looking into the folder",
}


def names() -> list[str]:
    found = (path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".") for path in SOURCE.rglob("*.py"))
    return sorted({name.removesuffix(".__init__") for name in found if name != "__init__"})


def floor(module: str) -> int | None:
    """Give the floor of a module, or of the nearest package above it that has one."""
    while module and module not in FLOORS:
        module = module.rpartition(".")[0]
    return FLOORS.get(module)


def parse(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(module: str, *, at_import: bool) -> set[str]:
    """List what a module imports: when it is imported itself, or at any time."""
    tree = parse(module)
    nodes = tree.body if at_import else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["maquette", *module.split(".")]
            base = ".".join(package[: len(package) - node.level]) + "." if node.level else ""
            found.add(base + (node.module or ""))
    return found


@pytest.mark.parametrize("module", names())
def test_every_module_has_a_floor_and_imports_downward(module: str) -> None:
    here = floor(module)
    assert here is not None, f"{module} has no floor: add it to FLOORS"
    for target in imports(module, at_import=False):
        if target.startswith("maquette."):
            name = target.removeprefix("maquette.")
            there = floor(name)
            assert there is not None, name
            assert there <= here or (module, name) in CALLED_LATER, f"{module} (F{here}) imports {name} (F{there})"


@pytest.mark.parametrize("module", names())
def test_no_framework_below_the_models(module: str) -> None:
    if floor(module) in (0, 1, 2) and module != "tensors":
        tops = {name.partition(".")[0] for name in imports(module, at_import=False)}
        assert not tops & FRAMEWORKS


@pytest.mark.parametrize("module", names())
def test_one_framework_at_a_time(module: str) -> None:
    """What is of Keras knows no torch, and the other way round; that Keras may run on JAX is told to JAX alone."""
    families = [{"torch"}, {"keras", "tensorflow"}, {"jax", "flax", "jaxlib"}]
    tops = {name.partition(".")[0] for name in imports(module, at_import=False)}
    assert module == "tensors" or sum(bool(tops & family) for family in families) <= 1, tops & FRAMEWORKS


@pytest.mark.parametrize("module", names())
def test_models_do_not_know_each_other(module: str) -> None:
    if module.startswith("models.") and module.count("."):
        own = module.split(".")[1]
        others = {t.split(".")[2] for t in imports(module, at_import=False) if t.startswith("maquette.models.")}
        assert others <= {own}


def test_the_check_sees_an_upward_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is none: with the floors turned over, it does."""
    monkeypatch.setitem(FLOORS, "errors", 9)
    with pytest.raises(AssertionError, match=r"F9"):
        test_every_module_has_a_floor_and_imports_downward("files")


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
