"""The conformance kit on every model of every card."""

import importlib
import shutil
from pathlib import Path

import pytest

import maquette.models
from maquette.registry import cards_of
from maquette.testing import cases, check_config, tiny_config

CARDS = {case.card.model_type: case.card for case in cases()}


# Decoders share most of their code, and so do heads of encoders: one of each kind is examined wholly, the others where
# they can differ.
WHOLE = (
    "llama-LlamaForCausalLM",
    "t5-T5ForConditionalGeneration",
    "bert-BertForMaskedLM",
    "modernbert-ModernBertModel",
    "whisper-WhisperForConditionalGeneration",
    "clip-CLIPModel",
    "dinov2-Dinov2Backbone",
    "convnext-ConvNextBackbone",
)
FAMILIES = {"modernbert", "clip", "siglip", "dinov2", "convnext"}
QUICK = ("batch", "gradients", "reload")
GENERATING = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq")


def is_relative(case) -> bool:
    """Tell whether a case is one that another one stands for."""
    is_of_many = case.card.package.rpartition(".")[2] in FAMILIES or not {*GENERATING}.isdisjoint(case.card.models)
    return is_of_many and str(case) not in WHOLE


def is_first(case) -> bool:
    """Tell whether a case is the first causal model of its folder."""
    first = cards_of(importlib.import_module(case.card.package))[0]
    return (case.card, case.auto_class) == (first, "AutoModelForCausalLM")


@pytest.mark.parametrize("case", [case for case in cases() if not is_relative(case)], ids=str)
def test_model(case) -> None:
    report = case.check(skip={"frameworks": "the tests of parity compare every class"})
    assert {"reload", "fresh_process", "gradients", "export"} <= set(report.passed)


@pytest.mark.parametrize("case", [case for case in cases() if is_relative(case)], ids=str)
def test_relative(case) -> None:
    wanted = {*QUICK, "export", "half_precision"} if is_first(case) else {*QUICK}
    if case.auto_class in GENERATING:
        wanted |= {"causality", "cache", "ragged", "generation"}
    assert set(case.check(only=wanted).passed) == wanted


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_configuration(card) -> None:
    config = tiny_config(card)
    check_config(type(config), config)


SAVE = """
import copied, torch
from maquette.registry import cards_of
from maquette.testing import Case
for card in cards_of(copied):
    config_class = card.load(card.config)
    config_class.register_for_auto_class()
    for auto, reference in card.models_in("torch").items():
        card.load(reference).register_for_auto_class(auto)
for card in cards_of(copied):
    for reference, auto in {reference: auto for auto, reference in card.models_in("torch").items()}.items():
        if card is not cards_of(copied)[0] and auto != "AutoModelForCausalLM" and "AutoModelForCausalLM" in card.models:
            continue  # the folder's models of other types differ from the first one's by their configurations
        torch.manual_seed(0)
        card.load(reference)(Case(card, auto, reference).config()).save_pretrained(f"{card.model_type}/{auto}")
"""
COMPARE = """
import importlib, pathlib, torch, maquette
from maquette.registry import cards_of
for card in cards_of(importlib.import_module("maquette.models.{name}")):
    for auto in [path.name for path in pathlib.Path(card.model_type).iterdir()]:
        folder, reference = card.model_type + "/" + auto, card.models[auto]
        copied = getattr(maquette, auto).from_pretrained(folder, trust_remote_code=True)
        assert type(copied).__module__.startswith("maquette_remote_"), type(copied)
        results = []
        for model in (copied, card.load(reference).from_pretrained(folder)):
            torch.manual_seed(0)
            found = model(**model.dummy_inputs).to_tuple()[0]
            results.append(found[0] if isinstance(found, tuple) else found)
        assert results[0].numel() and torch.equal(*results), folder
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
