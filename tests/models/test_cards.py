"""The conformance kit on every model of every card."""

import shutil
from pathlib import Path

import pytest

import maquette.models
from maquette.testing import cases, check_config, tiny_config

CARDS = {case.card.model_type: case.card for case in cases()}


@pytest.mark.parametrize("case", cases(), ids=str)
def test_model(case) -> None:
    report = case.check(skip={"frameworks": "the tests of parity compare every class"})
    assert {"reload", "fresh_process", "gradients", "export"} <= set(report.passed)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_configuration(card) -> None:
    config = tiny_config(card)
    check_config(type(config), config)


SAVE = """
import torch
from copied import CARD
config_class = CARD.load(CARD.config)
config_class.register_for_auto_class()
for auto, reference in CARD.models_in("torch").items():
    CARD.load(reference).register_for_auto_class(auto)
for auto, reference in CARD.models_in("torch").items():
    torch.manual_seed(0)
    CARD.load(reference)(config_class(**CARD.tiny)).save_pretrained(auto)
"""
COMPARE = """
import importlib, torch, maquette
card = importlib.import_module("maquette.models.{name}").CARD
for auto, reference in card.models_in("torch").items():
    copied = getattr(maquette, auto).from_pretrained(auto, trust_remote_code=True)
    assert type(copied).__module__.startswith("maquette_remote_"), type(copied)
    results = []
    for model in (copied, card.load(reference).from_pretrained(auto)):
        torch.manual_seed(0)
        found = model(**model.dummy_inputs).to_tuple()[0]
        results.append(found[0] if isinstance(found, tuple) else found)
    assert results[0].numel() and torch.equal(*results), auto
print("equal")
"""


@pytest.mark.parametrize("name", sorted({case.card.package.rpartition(".")[2] for case in cases()}))
def test_a_folder_copied_out_unedited_is_a_custom_model(name, tmp_path, run_fresh) -> None:
    """The package's own code under another name travels with its weights like anyone's, and computes the same."""
    source = Path(maquette.models.__path__[0]) / name
    shutil.copytree(source, tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    run_fresh(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{SAVE}")
    shutil.rmtree(tmp_path / "copied")
    assert run_fresh(COMPARE.format(name=name)) == "equal\n"


@pytest.mark.parametrize("framework", ["tf", "flax"])
def test_models_of_other_frameworks_are_no_longer_than_torchs(framework) -> None:
    """The weights need no code of their own there, so nothing may make them longer."""
    for folder in sorted(Path(maquette.models.__path__[0]).iterdir()):
        for sibling in folder.glob(f"*_{framework}.py"):
            lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in (sibling, torch_file(sibling))]
            assert lines[0] <= lines[1], sibling


def torch_file(path: Path) -> Path:
    return path.with_name(path.name.replace("_tf.py", ".py").replace("_flax.py", ".py"))
