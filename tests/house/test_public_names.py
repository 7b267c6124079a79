"""What type checkers see is what there is."""

import ast
import re
from importlib import import_module
from pathlib import Path

import maquette

OF_OTHERS = re.compile(r"[._](tf|flax)\b|[._](tf|flax)_")  # their tests have processes of their own
STUB = Path(maquette.__file__).with_suffix(".pyi")


def declared() -> set[str]:
    """List the public names of the stub."""
    found: set[str] = set()
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_") or name == "__version__"}


def test_the_stub_declares_what_the_package_exports() -> None:
    there = set(dir(maquette))
    assert there - declared() == set(), "add these to __init__.pyi"
    assert declared() - there == set(), "take these out of __init__.pyi"


def test_declared_names_are_the_classes_they_name() -> None:
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if not (alias.asname or "").startswith("_") and not OF_OTHERS.search(node.module or ""):
                    assert getattr(maquette, alias.name) is getattr(import_module(node.module), alias.name)


STAR = """
import sys
{before}
from maquette import *
found = {{name for name in dir() if not name.startswith("__")}} - {{"sys"}}
wanted = {{"PretrainedConfig", "AutoModel", "AutoTokenizer", "DistilBertConfig", "ConfigurationError", "BatchEncoding"}}
assert wanted <= found, wanted - found
assert not [name for name in found if name.startswith(("TF", "Flax", "FLAX", "_"))]
assert not {{"keras", "tensorflow", "jax", "flax"}} & {{name for name in sys.modules if sys.modules[name]}}
print(sorted(found))
"""


def test_a_star_import_gives_the_public_names_without_keras_and_flax(run_fresh) -> None:
    found = set(ast.literal_eval(run_fresh(STAR.format(before=""))))
    others = {name for name in dir(maquette) if name.startswith(("TF", "Flax", "FLAX", "__"))}
    assert found == set(dir(maquette)) - others and {"Trainer", "DistilBertModel"} <= found


def test_a_star_import_works_without_torch(run_fresh) -> None:
    found = set(ast.literal_eval(run_fresh(STAR.format(before="sys.modules['torch'] = None"))))
    assert not {"PreTrainedModel", "DistilBertModel", "Trainer", "ACT2FN"} & found
