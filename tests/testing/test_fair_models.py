"""The conformance kit accuses no model that keeps its promises in an unusual way, and still sees those that do not."""

import sys
from typing import Any

import broken_models as broken
import fair_models as fair
import pytest
import torch
from trio_torch import Trio, TrioConfig

from maquette.testing import ConformanceError, check_model, one_fresh_process


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with one_fresh_process():
        yield


def faults_of(model_class: Any, *only: str, **options: Any) -> str:
    """Examine a broken model by one check or several; gives what is said."""
    with pytest.raises(ConformanceError) as caught:
        check_model(model_class, model_class.config_class(), only=only, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model_class", "check"),
    [
        (fair.ComparesPairs, "batch"),
        (fair.ChoosesExperts, "gradients"),
        (fair.RecomputesItself, "checkpointing"),
        (fair.Recurrent, "state"),
        (fair.CountsOn, "state"),
    ],
)
def test_a_fair_model_passes(model_class: Any, check: str) -> None:
    report = check_model(model_class, model_class.config_class(), only=[check])
    assert report.passed == (check,), report


@pytest.mark.parametrize(
    ("model_class", "check", "culprits"),
    [
        (fair.ComparesWithTheMean, "batch", ["`logits_per_text` is different"]),
        (fair.LeavesOneExpertOut, "gradients", ["`after.2.weight` receives no gradient", "`after.2.bias`"]),
        (fair.StartsAnew, "state", ["in two calls instead of one, with `state` handed on", "`logits`"]),
        (fair.CountsFromZero, "state", ["`past_key_values` handed on", "`logits`", "positions included"]),
        (broken.IgnoresCheckpointing, "checkpointing", ["keeps as much for the backward pass", "torch.utils"]),
    ],
)
def test_its_broken_neighbour_is_named(model_class: Any, check: str, culprits: list[str]) -> None:
    said = faults_of(model_class, check)
    assert [culprit for culprit in culprits if culprit not in said] == [], said
    assert "experts" not in said


def test_pairs_of_other_lengths_cannot_tell() -> None:
    inputs = {"x": torch.ones(2, 4), "y": torch.ones(3, 4)}
    report = check_model(fair.ComparesPairs, broken.ToyConfig(), only=["batch"], inputs=inputs)
    assert "do not share their first dimension" in report.not_applicable["batch"]


def test_a_model_without_state_is_not_asked_for_it() -> None:
    assert "returns no state" in check_model(broken.Toy, broken.ToyConfig(), only=["state"]).not_applicable["state"]


def test_verdicts_are_not_buried(capfd: pytest.CaptureFixture[str]) -> None:
    said = faults_of(broken.BranchesOnValues, "compile", "export")
    assert len(said.splitlines()) < 6
    assert capfd.readouterr() == ("", "")


# Frameworks ------------------------------------------------------------------------------------------------------


def test_the_same_numbers_come_from_every_framework() -> None:
    before = set(sys.modules)  # another test of this process may have imported TensorFlow, which brings Keras
    report = check_model(
        Trio, TrioConfig(), only=["frameworks"], counterparts=["trio_keras:TFTrio", "trio_flax:FlaxTrio"]
    )
    assert report.passed == ("frameworks",)
    assert "pass counterparts" in check_model(Trio, TrioConfig(), only=["frameworks"]).not_applicable["frameworks"]
    for name, culprits in {
        "TFTrioOfDefaults": ["gives other numbers for the same weights and inputs", "`logits`", "epsilon"],
        "TFTrioOfSums": ["`loss` is different"],
        "TFTrioRenamed": ["does not compute with what Trio saves", "score"],
    }.items():
        said = faults_of(Trio, "frameworks", counterparts=[f"trio_keras:{name}"])
        assert [culprit for culprit in (name, *culprits) if culprit not in said] == [], said
    assert not {"keras", "flax", "trio_keras", "trio_flax"} & (set(sys.modules) - before)
