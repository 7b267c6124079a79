"""The Flax half of the conformance kit: a good model passes every check, and every check names what breaks it."""

import sys

import broken_flax_models as broken
import numpy as np
import pytest
import trio_flax as trio
from flax import linen as nn
from kit_tests import *  # noqa: F403
from kit_tests import faults_of

from maquette.testing import ConformanceError, check_model
from maquette.testing.flax import CHECKS

MODEL_CHECKS = {check.name for check in CHECKS}
ELSEWHERE = {"travel", "frameworks"}  # have tests of their own


def test_a_good_model_passes_everything() -> None:
    report = check_model(broken.FlaxScribe, broken.ScribeConfig())
    assert set(report.passed) == MODEL_CHECKS - ELSEWHERE - {"state"}
    assert set(report.not_applicable) == ELSEWHERE | {"state"}


def test_what_does_not_apply_is_said() -> None:
    report = check_model(broken.Toy, broken.ToyConfig(), skip={"fresh_process": "seen above"})
    assert set(report.not_applicable) == {
        *("padding", "ties", "resizing", "statistics", "state", "fresh_process", *ELSEWHERE)
    }
    assert all(report.not_applicable.values())


BROKEN = [
    (broken.FailsConstruction, "construction", ["the constructor", "dim must be odd", "broken_flax_models.py"]),
    (broken.ReturnsNothing, "forward", ["returns no arrays"]),
    (broken.ReturnsInfinity, "forward", ["`logits`", "not finite"]),
    (broken.DrawsFromTheSystem, "seed", ["`offset`", "same seed"]),
    (broken.HasOtherFromConfig, "from_config", ["`line.bias`", "`dim`"]),
    (broken.CountsItsLayers, "names", ["`line_0` is no member of a list", "`line.0`", "`line_1`", "self.line = […]"]),
    (broken.NamesNothing, "names", ["`Dense_0`", "setup"]),
    (broken.HasTwoOfOneName, "names", ["two variables are called `weight`"]),
    (broken.DropsInEvaluation, "determinism", ["two runs", "`logits`", "`train`"]),
    (broken.ChangesItsInput, "determinism", ["its input `x`"]),
    (broken.MixesTheBatch, "batch", ["`logits`", "batch of 3"]),
    (broken.SqueezesOneExample, "batch", ["a batch of one fails", "squeeze"]),
    (broken.PoolsPadding, "padding", ["`summary`", "attention_mask"]),
    (broken.StartsAnew, "state", ["in two calls instead of one, with `state` handed on", "`logits`"]),
    (broken.LeavesBiasUnsaved, "reload", ["line.bias: not in the file"]),
    (broken.ForgetsBias, "reload", ["`line.bias` is different"]),
    (broken.RollsDice, "reload", ["`logits`", "all weights are the same"]),
    (broken.WidensItsConfig, "reload", ["`tokenizer_class` is "]),
    (broken.ForgetsToTie, "ties", ["`back.weight` and `line.weight` are two weights", "`line.nothing`, which is no"]),
    (broken.OverflowsInHalf, "half_precision", ["`logits` is not finite in bfloat16"]),
    (broken.ShufflesRows, "resizing", ["`embed.weight` does not keep its first 23 rows"]),
    (broken.HidesItsScores, "resizing", ["`logits` still scores 23"]),
    (broken.StopsTheGradient, "gradients", ["`before.weight` receives no gradient", "remove it"]),
    (broken.TakesRootOfZero, "gradients", ["the gradient of `line.weight` is not finite"]),
    (broken.NeedsUnknownNumbers, "gradients", ["fails in training", "dropout"]),
    (broken.FreezesItsStatistics, "statistics", ["`norm.running_mean` does not change in training"]),
    (broken.AlwaysTrains, "statistics", ["`norm.running_mean` changes in evaluation mode"]),
    (broken.BranchesOnValues, "compile", ["compiling fails", "broken_flax_models.py", "where"]),
    (broken.DiffersCompiled, "compile", ["compiled, `logits`"]),
    (broken.KnowsItsProcess, "fresh_process", ["`logits`", "fresh process"]),
    (broken.BringsTorch, "fresh_process", ["imports torch"]),
    (broken.MovedAway, "fresh_process", ["there is no model", "nowhere_to_be_found"]),
]


def test_another_epsilon_is_seen_from_here_too() -> None:
    good, bad = trio.FlaxTrio, trio.FlaxTrioOfDefaults
    config, options = trio.TrioConfig(), {"only": ["frameworks"], "counterparts": ["trio_torch:Trio"]}
    assert check_model(good, config, **options).passed == ("frameworks",)
    with pytest.raises(ConformanceError, match=r"Trio gives other numbers for the same weights and inputs: `logits`"):
        check_model(bad, config, **options)


def test_carried_state_is_fair() -> None:
    assert check_model(broken.ReadsOn, broken.ToyConfig(), only=["state"]).passed == ("state",)


def test_unfit_inputs_are_told_with_the_nearest_name() -> None:
    said = faults_of(broken.Toy, "forward", inputs={"y": np.ones((2, 4), "float32")})["forward"]
    assert "__call__ takes x. Did you mean 'x'?" in said


def test_what_cannot_be_examined_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="no FlaxPreTrainedModel"):
        check_model(nn.Dense, broken.ToyConfig())
    with pytest.raises(TypeError, match="made from a ToyConfig, not from a ScribeConfig"):
        check_model(broken.Toy, broken.ScribeConfig())


# Code that travels -----------------------------------------------------------------------------------------------

PREFIX = "Flax"
TRAVELLER = """
import importlib
import numpy as np
from flax import linen as nn
from maquette import FlaxPreTrainedModel, PretrainedConfig
{imports}

class TravellerConfig(PretrainedConfig):
    model_type = "{package}"
    dim: int = 4

class FlaxTraveller(FlaxPreTrainedModel):
    config_class = TravellerConfig

    def setup(self):
        self.line = nn.Dense(factor() * self.config.dim)

    @property
    def dummy_inputs(self):
        return {{"x": np.ones((2, self.config.dim), "float32")}}

    def __call__(self, x):
        return self.line(x)
"""


def test_no_other_framework_here() -> None:
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
