"""The Flax half of the conformance kit: a good model passes every check, and every check names what breaks it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import broken_flax_models as broken
import numpy as np
import pytest
from flax import linen as nn

from maquette.testing import ConformanceError, check_model, one_fresh_process
from maquette.testing.flax import CHECKS

MODEL_CHECKS = {check.name for check in CHECKS}
ELSEWHERE = {"travel", "state", "frameworks"}  # have tests of their own


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with one_fresh_process():
        yield


def faults_of(model_class: Any, *only: str, **options: Any) -> dict[str, str]:
    """Examine a broken model; gives what is said under each failed check."""
    with pytest.raises(ConformanceError) as caught:
        check_model(model_class, model_class.config_class(), only=only or None, **options)
    return {name: "\n".join(map(str, faults)) for name, faults in caught.value.report.failed.items()}


def test_a_good_model_passes_everything() -> None:
    report = check_model(broken.FlaxScribe, broken.ScribeConfig())
    assert set(report.passed) == MODEL_CHECKS - ELSEWHERE
    assert set(report.not_applicable) == ELSEWHERE


def test_what_does_not_apply_is_said() -> None:
    report = check_model(broken.Toy, broken.ToyConfig(), skip={"fresh_process": "seen above"})
    assert set(report.not_applicable) == {*("padding", "ties", "resizing", "statistics", "fresh_process", *ELSEWHERE)}
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


@pytest.mark.parametrize(("model_class", "check", "culprits"), BROKEN, ids=[cls.__name__ for cls, _, _ in BROKEN])
def test_a_broken_model_is_caught_by_name(model_class: Any, check: str, culprits: list[str]) -> None:
    said = faults_of(model_class, check)
    assert set(said) == {check}
    assert [culprit for culprit in culprits if culprit not in said[check]] == [], said[check]


def test_every_check_has_a_broken_model() -> None:
    assert {check for _, check, _ in BROKEN} == MODEL_CHECKS - ELSEWHERE


def test_unfit_inputs_are_told_with_the_nearest_name() -> None:
    said = faults_of(broken.Toy, "forward", inputs={"y": np.ones((2, 4), "float32")})["forward"]
    assert "__call__ takes x. Did you mean 'x'?" in said


def test_what_cannot_be_examined_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="no FlaxPreTrainedModel"):
        check_model(nn.Dense, broken.ToyConfig())
    with pytest.raises(TypeError, match="made from a ToyConfig, not from a ScribeConfig"):
        check_model(broken.Toy, broken.ScribeConfig())


# Code that travels -----------------------------------------------------------------------------------------------

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


def traveller(folder: Path, package: str, imports: str) -> Any:
    """Write a package with a model that needs its sibling, import it, and register it to carry its code."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / "sibling.py").write_text("def factor():\n    return 2\n")
    (folder / package / "modeling.py").write_text(TRAVELLER.format(imports=imports, package=package))
    module = importlib.import_module(f"{package}.modeling")
    module.TravellerConfig.register_for_auto_class()
    module.FlaxTraveller.register_for_auto_class("FlaxAutoModel")
    return module.FlaxTraveller


def test_code_that_travels_is_loaded_with_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    model_class = traveller(tmp_path, "flax_complete", "from .sibling import factor")
    report = check_model(model_class, model_class.config_class(), only=["travel", "fresh_process"])
    assert report.passed == ("fresh_process", "travel")

    hidden = "factor = importlib.import_module('flax_lossy.sibling').factor"
    said = faults_of(traveller(tmp_path, "flax_lossy", hidden), "travel", "fresh_process")
    assert set(said) == {"travel"}
    assert "flax_lossy" in said["travel"]


def test_no_other_framework_here() -> None:
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
