"""The Keras half of the conformance kit: a good model passes every check, and every check names what breaks it."""

import sys

import broken_keras_models as broken
import keras
import numpy as np
import pytest
import trio_keras as trio
from kit_tests import *  # noqa: F403
from kit_tests import faults_of

from maquette import UnknownNameError
from maquette.testing import ConformanceError, check_model
from maquette.testing.tf import CHECKS

MODEL_CHECKS = {check.name for check in CHECKS}
ELSEWHERE = {"travel", "frameworks"}  # have tests of their own


def test_a_good_model_passes_everything() -> None:
    report = check_model(broken.TFScribe, broken.ScribeConfig())
    assert set(report.passed) == MODEL_CHECKS - ELSEWHERE - {"state"}
    assert set(report.not_applicable) == ELSEWHERE | {"state"}


@pytest.mark.any_backend
def test_what_does_not_apply_is_said() -> None:
    report = check_model(broken.Toy, broken.ToyConfig(), skip={"fresh_process": "seen above"})
    assert set(report.not_applicable) == {
        *("padding", "ties", "resizing", "loss", "statistics", "state", "fresh_process", *ELSEWHERE)
    }
    assert all(report.not_applicable.values())


BROKEN = [
    (broken.FailsConstruction, "construction", ["the constructor", "dim must be odd", "broken_keras_models.py"]),
    (broken.FailsOnDummies, "construction", ["first run on `dummy_inputs`"]),
    (broken.ReturnsNothing, "forward", ["returns no arrays"]),
    (broken.ReturnsInfinity, "forward", ["`logits`", "not finite"]),
    (broken.DrawsFromTheSystem, "seed", ["`offset`", "same seed"]),
    (broken.HasOtherFromConfig, "from_config", ["`line.bias`", "`dim`"]),
    (broken.HidesALayer, "names", ["`_secret.", "underscore"]),
    (broken.EnclosesALayer, "names", ["enclosed/kernel", "closure"]),
    (broken.HasTwoOfOneName, "names", ["two variables are called `line.weight`"]),
    (broken.DropsInEvaluation, "determinism", ["two runs", "`logits`", "Dropout"]),
    (broken.CountsInEvaluation, "determinism", ["`seen` is different", "`training`"]),
    (broken.MixesTheBatch, "batch", ["`logits`", "batch of 3"]),
    (broken.SqueezesOneExample, "batch", ["a batch of one fails", "broken_keras_models.py", "squeeze"]),
    (broken.PoolsPadding, "padding", ["`summary`", "attention_mask"]),
    (broken.StartsAnew, "state", ["in two calls instead of one, with `state` handed on", "`logits`"]),
    (broken.LeavesBiasUnsaved, "reload", ["line.bias: not in the file"]),
    (broken.ForgetsBias, "reload", ["`line.bias` is different", "assign"]),
    (broken.RollsDice, "reload", ["`logits`", "all weights are the same"]),
    (broken.WidensItsConfig, "reload", ["`tokenizer_class` is 'Fast', but 'FastFast'"]),
    (broken.ForgetsToTie, "ties", ["`back.weight` and `line.weight` are two weights", "`line.nothing`, which is no"]),
    (broken.UntiesWhenLoaded, "ties", ["`again.weight` and `line.weight`", "no longer"]),
    (broken.OverflowsInHalf, "half_precision", ["`logits` is not finite in bfloat16"]),
    (broken.KeepsFloat32, "half_precision", ["`offset` is float32"]),
    (broken.ShufflesRows, "resizing", ["`embed.weight` does not keep its first 23 rows"]),
    (broken.HidesItsScores, "resizing", ["`logits` still scores 23"]),
    (broken.LosesPerExample, "loss", ["shape (3,)", "not one number"]),
    (broken.NamesLossOtherwise, "loss", ["no key 'loss', only cost, scores", "no key 'logits'"]),
    (broken.ReturnsPair, "loss", ["returns a tuple", '"loss" and "logits"']),
    (broken.LosesInfinity, "loss", ["the loss is inf"]),
    (broken.StopsTheGradient, "gradients", ["`before.weight` receives no gradient", "trainable=False"]),
    (broken.TakesRootOfZero, "gradients", ["the gradient of `line.weight` is not finite"]),
    (broken.FreezesItsStatistics, "statistics", ["`norm.running_mean` does not change in training"]),
    (broken.BranchesOnValues, "compile", ["compiling fails", "broken_keras_models.py", "where"]),
    (broken.DiffersCompiled, "compile", ["compiled, `logits`"]),
    (broken.LearnsNothing, "fit", ["changes no weight"]),
    (broken.DescribesAnother, "fit", ["saved by Keras and loaded again"]),
    (broken.KnowsItsProcess, "fresh_process", ["`logits`", "fresh process"]),
    (broken.BringsTorch, "fresh_process", ["imports torch"]),
    (broken.MovedAway, "fresh_process", ["there is no model", "nowhere_to_be_found"]),
]


@pytest.mark.any_backend
def test_all_faults_of_all_checks_come_at_once() -> None:
    said = faults_of(broken.SeveralThings)
    assert set(said) == {"names", "reload", "half_precision", "gradients"}
    assert "`_secret." in said["names"]
    assert "`offset`" in said["half_precision"]
    assert "receives no gradient" in said["gradients"]


def test_another_epsilon_is_seen_from_here_too() -> None:
    good, bad = trio.TFTrio, trio.TFTrioOfDefaults
    config, options = trio.TrioConfig(), {"only": ["frameworks"], "counterparts": ["trio_torch:Trio"]}
    assert check_model(good, config, **options).passed == ("frameworks",)
    with pytest.raises(ConformanceError, match=r"Trio gives other numbers for the same weights and inputs: `logits`"):
        check_model(bad, config, **options)


def test_carried_state_is_fair() -> None:
    assert check_model(broken.ReadsOn, broken.ToyConfig(), only=["state"]).passed == ("state",)


@pytest.mark.any_backend
def test_unfit_inputs_are_told_with_the_nearest_name() -> None:
    said = faults_of(broken.Toy, "forward", inputs={"y": np.ones((2, 4), "float32")})["forward"]
    assert "call takes x, training. Did you mean 'x'?" in said or "call takes x" in said


@pytest.mark.any_backend
def test_what_cannot_be_examined_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="no TFPreTrainedModel"):
        check_model(keras.layers.Dense, broken.ToyConfig())
    with pytest.raises(TypeError, match="made from a ToyConfig, not from a ScribeConfig"):
        check_model(broken.Toy, broken.ScribeConfig())
    with pytest.raises(TypeError, match="inputs must be tensors"):
        check_model(broken.Toy, broken.ToyConfig(), inputs={"x": [1.0]})
    with pytest.raises(UnknownNameError, match=r"no check 'exprt'"):
        check_model(broken.Toy, broken.ToyConfig(), skip={"exprt": "why not"})


# Code that travels -----------------------------------------------------------------------------------------------

PREFIX = "TF"
TRAVELLER = """
import importlib
import keras
import numpy as np
from maquette import PretrainedConfig, TFPreTrainedModel
{imports}

class TravellerConfig(PretrainedConfig):
    model_type = "{package}"
    dim: int = 4

class TFTraveller(TFPreTrainedModel):
    config_class = TravellerConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = keras.layers.Dense(factor() * config.dim)

    @property
    def dummy_inputs(self):
        return {{"x": np.ones((2, self.config.dim), "float32")}}

    def call(self, x):
        return self.line(x)
"""


def test_no_torch_here() -> None:
    assert "torch" not in sys.modules
