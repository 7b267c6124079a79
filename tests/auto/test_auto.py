"""AutoClasses: which class is found, in which order, and what is said when there is none."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from constructors import GammaAndBeta, RawParameters, Tricky, TrickyConfig

import maquette
from maquette import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    PretrainedConfig,
    UnknownNameError,
    UntrustedCodeError,
    registry,
)
from maquette.registry import AUTO_CLASSES, MODEL_AUTO_CLASSES


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_configs", "_classes", "_bundled"):
        monkeypatch.setattr(registry, name, {})


def test_what_is_registered_is_found(tmp_path: Path) -> None:
    AutoConfig.register("tricky", TrickyConfig)
    AutoModel.register(TrickyConfig, RawParameters)
    AutoModelForImageClassification.register(TrickyConfig, GammaAndBeta)
    RawParameters(TrickyConfig(dim=4)).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path, depth=9)
    assert (type(config), config.dim, config.depth) == (TrickyConfig, 4, 9)
    assert type(AutoModel.from_pretrained(tmp_path)) is RawParameters
    assert type(AutoModelForImageClassification.from_config(config)) is GammaAndBeta
    assert type(AutoModel.from_pretrained(tmp_path, config=config)) is RawParameters
    assert AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert AutoConfig.for_model("tricky", dim=8).dim == 8
    found, unused = AutoConfig.from_pretrained(tmp_path, return_unused_kwargs=True, dim=5, foo=1)
    assert (found.dim, unused) == (5, {"foo": 1})


def test_every_auto_class_of_the_family_takes_registrations() -> None:
    assert len(AUTO_CLASSES) > 45
    for name in MODEL_AUTO_CLASSES:
        auto_class = getattr(maquette, name)
        assert auto_class.__name__ == name
        auto_class.register(TrickyConfig, RawParameters)
        auto_class.register(TrickyConfig, RawParameters)  # the same again, as when a notebook cell runs twice
        with pytest.raises(UnknownNameError, match="exist_ok=True"):
            auto_class.register(TrickyConfig, GammaAndBeta)
        auto_class.register(TrickyConfig, GammaAndBeta, exist_ok=True)
        assert type(auto_class.from_config(TrickyConfig())) is GammaAndBeta
        with pytest.raises(TypeError, match="from_pretrained"):
            auto_class()
    with pytest.raises(TypeError, match="from_pretrained"):
        AutoConfig()


def test_the_peers_auto_classes_are_all_there(run_peer: Callable[..., str], run_fresh) -> None:
    code = (
        "from transformers.models.auto import modeling_auto as m; print([n for n in vars(m) if n.startswith('Auto')])"
    )
    theirs = {name for name in eval(run_peer(code)) if name.startswith(("AutoModel", "AutoBackbone"))}
    assert len(theirs) > 40
    assert theirs <= set(AUTO_CLASSES)


def test_a_model_type_must_match(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"model_type = 'tricky'"):
        AutoConfig.register("trick", TrickyConfig)

    class Other(PretrainedConfig):
        model_type = "tricky"

    AutoConfig.register("tricky", TrickyConfig)
    with pytest.raises(UnknownNameError, match="registered already"):
        AutoConfig.register("tricky", Other)
    with pytest.raises(UnknownNameError, match="config_class is TrickyConfig"):
        AutoModel.register(Other, Tricky)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "trickie"}, r"Unknown model type 'trickie'. Did you mean 'tricky'\?"),
        ({"model_type": "../../etc"}, r"Unknown model type '../../etc'"),
        ({"model_type": 3}, r"Unknown model type 3"),
        ({"model_type": None, "dim": 3}, r"has no model_type"),
        ({"dim": 3}, r"has no model_type"),
        ({"model_type": "tricky", "auto_map": 3}, r"auto_map must map"),
    ],
)
def test_a_file_that_does_not_say_what_it_is(tmp_path: Path, content: dict, message: str) -> None:
    AutoConfig.register("tricky", TrickyConfig)
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    for auto_class in (AutoConfig, AutoModel):
        with pytest.raises(UnknownNameError, match=message):
            auto_class.from_pretrained(tmp_path)


def test_a_folder_with_code_never_becomes_a_built_in_model(tmp_path: Path, monkeypatch) -> None:
    card = registry.ModelCard(
        package="constructors_card", model_type="tricky", config="x:X", models={"AutoModel": "x:X"}
    )
    monkeypatch.setattr(registry, "built_in_cards", lambda: {"tricky": card})
    content = {"model_type": "tricky", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    for auto_class in (AutoConfig, AutoModel):
        with pytest.raises(UntrustedCodeError, match=r"mine\.py"):
            auto_class.from_pretrained(tmp_path)


def test_the_users_registration_wins_over_a_card_and_says_so(tmp_path: Path, monkeypatch, caplog) -> None:
    card = registry.ModelCard(package="constructors_card", model_type="tricky", config="x:X")
    monkeypatch.setattr(registry, "built_in_cards", lambda: {"tricky": card})
    with caplog.at_level(logging.WARNING, logger="maquette"):
        AutoConfig.register("tricky", TrickyConfig)
    assert "'tricky' is also a built-in model type" in caplog.text
    TrickyConfig(dim=2).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TrickyConfig


def test_a_missing_head_names_those_there_are(monkeypatch) -> None:
    card = registry.ModelCard(
        package="maquette", model_type="tricky", config="configuration:PretrainedConfig", models={"AutoModel": "x:X"}
    )
    monkeypatch.setattr(registry, "built_in_cards", lambda: {"tricky": card})
    with pytest.raises(UnknownNameError, match=r"'tricky' has no class for AutoModelForImageClassification.*AutoModel"):
        AutoModelForImageClassification.from_config(TrickyConfig())


INSTALLED = {
    "cardpackage/__init__.py": (
        "from maquette import ModelCard\n"
        "CARD = ModelCard(package=__name__, model_type='carded', config='parts:CardedConfig',"
        " models={'AutoModel': 'parts:Carded'})\n"
    ),
    "cardpackage/parts.py": (
        "from maquette import PretrainedConfig, PreTrainedModel\n"
        "class CardedConfig(PretrainedConfig):\n    model_type = 'carded'\n    dim: int = 3\n"
        "class Carded(PreTrainedModel):\n    config_class = CardedConfig\n"
    ),
    "cardpackage-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: cardpackage\nVersion: 1.0\n",
    "cardpackage-1.0.dist-info/entry_points.txt": (
        "[maquette.models]\ncarded = cardpackage\nbroken = nowhere_to_be_found\n"
    ),
}


def test_an_installed_package_brings_its_card(tmp_path: Path, run_fresh) -> None:
    for name, content in INSTALLED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    printed = run_fresh("""
import sys; sys.path.insert(0, ".")
from maquette import AutoConfig, AutoModel
config = AutoConfig.for_model("carded", dim=5)
print(type(config).__module__, type(AutoModel.from_config(config)).__name__)
""")
    assert printed.startswith("cardpackage.parts Carded\n")
    assert "The entry point 'broken' (nowhere_to_be_found) cannot be loaded" in printed


def test_public_names_are_found_and_misspelt_ones_suggested() -> None:
    assert {"AutoModelForCTC", "PreTrainedModel", "PretrainedConfig", "ModelOutput"} <= set(dir(maquette))
    with pytest.raises(AttributeError, match=r"Did you mean 'PreTrainedModel'\?"):
        maquette.PreTrainedModle  # noqa: B018 - looking it up is the test
    for name in dir(maquette):
        assert getattr(maquette, name) is not None
