"""The conformance kit: good models pass every check, and every check names the culprit of the model that breaks it."""

import dataclasses
import os
import pickle
import random
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import broken_configurations as unfit
import broken_models as broken
import numpy as np
import pytest
import sample_models as good
import torch
from kit_tests import *  # noqa: F403
from kit_tests import faults_of, traveller
from torch import nn

from maquette import ConfigurationError, MaquetteError, ModelCard, PretrainedConfig, PreTrainedModel, UnknownNameError
from maquette.testing import Case, ConformanceError, Fault, Report, cases, check_config, check_model, tiny_config
from maquette.testing.comparison import close, compare, flatten, same
from maquette.testing.configuration import CHECKS as CONFIG_CHECKS
from maquette.testing.report import Check, NotApplicableError, Unchecked, run_checks
from maquette.testing.torch import CHECKS
from maquette.testing.torch.reshaping import kept_slices
from maquette.testing.torch.subject import seeded

MODEL_CHECKS = {check.name for check in CHECKS}
DECODERS = {"causality", "cache", "ragged", "generation"}
ELSEWHERE = {"travel", "state", "frameworks", *DECODERS}  # have tests of their own


# Good models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "inapplicable"),
    [
        (good.ScribeModel, {"ties", "loss", "travel", *DECODERS}),
        (good.ScribeForCausalLM, {"travel", "cache", "ragged"}),
        (
            good.GlyphForImageClassification,
            {"padding", "ties", "resizing", "pruning", "checkpointing", "travel", *DECODERS},
        ),
        (good.WaveModel, {"padding", "ties", "resizing", "pruning", "loss", "checkpointing", "travel", *DECODERS}),
    ],
)
def test_good_models_pass_and_what_does_not_apply_is_said(model_class: Any, inapplicable: set[str]) -> None:
    report = check_model(model_class, model_class.config_class())
    assert set(report.not_applicable) == inapplicable | {"state", "frameworks"}
    assert {*report.passed, *report.not_applicable} == MODEL_CHECKS
    assert all(report.not_applicable.values())


@pytest.mark.parametrize("config_class", [good.ScribeConfig, good.GlyphConfig, good.WaveConfig])
def test_good_configurations_pass(config_class: type[PretrainedConfig]) -> None:
    report = check_config(config_class)
    assert {*report.passed, "aliases"} == {check.name for check in CONFIG_CHECKS}


def test_values_name_what_trial_cannot_find() -> None:
    assert check_config(good.GlyphConfig).not_applicable["changes: pooling"]
    assert "changes: pooling" not in check_config(good.GlyphConfig, values={"pooling": "max"}).not_applicable
    with pytest.raises(UnknownNameError, match=r"'poolng'.*Did you mean 'pooling'"):
        check_config(good.GlyphConfig, values={"poolng": "max"})


def test_labels_are_made_for_every_kind_of_head() -> None:
    class Headed(broken.Classifier):
        def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
            multi = self.config.problem_type == "multi_label_classification"
            lose = nn.BCEWithLogitsLoss() if multi else nn.MSELoss()
            assert labels.shape == logits.shape
            return {"loss": lose(logits, labels), "logits": logits}

    for kind in ("multi_label_classification", "regression"):
        assert "loss" in check_model(Headed, broken.ToyConfig(problem_type=kind), only=["loss"]).passed


def test_given_inputs_and_labels_are_used() -> None:
    class Picky(broken.Classifier):
        def with_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
            assert labels.tolist() == [3, 1] and len(logits) == 2
            return super().with_loss(logits, labels)

    options = {"inputs": {"x": torch.ones(2, 4)}, "labels": torch.tensor([3, 1])}
    assert "loss" in check_model(Picky, broken.ToyConfig(), only=["loss", "gradients"], **options).passed


# Broken models: one for each check at least ----------------------------------------------------------------------

BROKEN = [
    (broken.FailsConstruction, "construction", ["the constructor fails", "dim must be odd", "broken_models.py"]),
    (broken.FailsForward, "forward", ["shape '[5, -1]' is invalid", "broken_models.py", "in forward"]),
    (broken.ReturnsNothing, "forward", ["returns no tensors"]),
    (broken.ReturnsInfinity, "forward", ["`logits`", "not finite"]),
    (broken.HasNoInputs, "forward", ["dummy_inputs"]),
    (broken.DrawsFromTheSystem, "seed", ["`offset`", "same seed"]),
    (broken.HasOtherFromConfig, "from_config", ["`line.bias`", "`dim`"]),
    (broken.DropsInEvaluation, "determinism", ["`sprinkler` (Sprinkler)", "`logits`", "F.dropout"]),
    (broken.ChangesItsInput, "determinism", ["its input `x`"]),
    (broken.CountsInEvaluation, "determinism", ["`seen`", "self.training"]),
    (broken.MixesTheBatch, "batch", ["`centre` (BatchCentre)", "batch of 3"]),
    (broken.SqueezesOneExample, "batch", ["a batch of one fails", "squeeze"]),
    (broken.PoolsPadding, "padding", ["`summary`", "attention_mask"]),
    (broken.SharesMemory, "ties", ["`line.weight` and `back.weight` share memory"]),
    (broken.ForgetsToTie, "ties", ["tie_word_embeddings=True"]),
    (broken.UntiesWhenLoaded, "ties", ["`scores.weight` and `scribe.word_embeddings.weight`", "no longer"]),
    (broken.SavesTiesTwice, "ties", ["`scores.weight` and `scribe.word_embeddings.weight`", "saved 2 times"]),
    (broken.HasRandomBuffer, "buffers", ["non-persistent buffer `noise`"]),
    (broken.KeepsPlainTensor, "buffers", ["`scale`", "neither parameter nor buffer", "register_buffer"]),
    (broken.LeavesBiasUnsaved, "reload", ["line.bias: not in the file"]),
    (broken.ForgetsCodes, "reload", ["`codes`", "in training mode"]),
    (broken.RollsDice, "reload", ["`logits`", "all parameters and buffers are the same"]),
    (broken.WidensItsConfig, "reload", ["`tokenizer_class` is 'Fast', but 'FastFast'"]),
    (broken.IsItsOwnCopy, "deepcopy", ["`line.weight`", "`line.bias`"]),
    (broken.LosesItsGain, "deepcopy", ["`logits`"]),
    (broken.HoldsLambda, "pickle", ["`activation`", "lambda"]),
    (broken.LosesItsGain, "pickle", ["`logits`"]),
    (broken.MakesFloat32, "half_precision", ["fails in bfloat16", "broken_models.py", "dtype=x.dtype"]),
    (broken.OverflowsInHalf, "half_precision", ["`logits` is not finite in bfloat16"]),
    (broken.LoadsAsFloat32, "half_precision", ["`line.bias` is torch.float32 instead of torch.bfloat16"]),
    (broken.HidesItsScores, "resizing", ["`logits` still scores 29", "get_output_embeddings"]),
    (broken.ShufflesRows, "resizing", ["`scribe.word_embeddings.weight` does not keep its first 29 rows"]),
    (broken.PrunesWrongly, "pruning", ["`last_hidden_state`", "contribution at zero"]),
    (broken.PrunesNothing, "pruning", ["changes the shape of no parameter"]),
    (broken.RedrawsWhenPruned, "pruning", ["`layer.0.attention.q_lin.weight`", "`layer.1.widen.weight` changes"]),
    (broken.LosesPerExample, "loss", ["shape (3,)", "not one number"]),
    (broken.NamesLossOtherwise, "loss", ["no key 'loss', only cost, scores", "no key 'logits'"]),
    (broken.ReturnsPair, "loss", ["returns a tuple", '"loss" and "logits"']),
    (broken.DetachesLoss, "loss", ["does not backpropagate"]),
    (broken.LosesInfinity, "loss", ["the loss is inf"]),
    (broken.HasSpareLayer, "gradients", ["`spare.weight` receives no gradient", "`before.weight`", "requires_grad_"]),
    (broken.TakesRootOfZero, "gradients", ["the gradient of `line.weight` is not finite"]),
    (broken.IgnoresCheckpointing, "checkpointing", ["recomputes nothing", "_gradient_checkpointing_func"]),
    (broken.ClaimsCheckpointing, "checkpointing", ["supports_gradient_checkpointing is True"]),
    (broken.DoublesRecomputed, "checkpointing", ["the gradient of `first.weight`"]),
    (broken.DiffersCompiled, "compile", ["compiled, `logits`"]),
    (broken.DiffersCompiled, "export", ["`logits`"]),
    (broken.BranchesOnValues, "export", ["data-dependent", "broken_models.py", "torch.where"]),
    (broken.KnowsItsProcess, "fresh_process", ["`process`", "fresh process"]),
    (broken.MovedAway, "fresh_process", ["there is no model", "nowhere_to_be_found"]),
]


def test_all_faults_of_all_checks_come_at_once() -> None:
    said = faults_of(broken.SeveralThings)
    assert set(said) == {"buffers", "pickle", "gradients", "export"}
    assert "`noise`" in said["buffers"]
    assert "`rule`" in said["pickle"]
    assert "`spare.weight`" in said["gradients"]


def test_a_check_that_would_only_repeat_a_fault_says_so_instead() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_model(broken.FailsConstruction, broken.ToyConfig())
    report = caught.value.report
    assert set(report.failed) == {"construction"}
    assert not report.passed
    assert report.not_applicable["forward"] == "needs construction to pass"
    assert report.not_applicable["export"] == "needs forward and determinism to pass"


# Broken configurations -------------------------------------------------------------------------------------------

BROKEN_CONFIGS = [
    (unfit.Numbered, "equality", ["`serial`"]),
    (unfit.Doubling, "dictionary", ["`dim` is 8, but 16", "self.dim = dim"]),
    (unfit.NumberKeys, "json", ["`kinds`", "keys of text", "dict[int, str]"]),
    (unfit.ReadsOtherwise, "folder", ["`dim` is 4, but 5"]),
    (unfit.OwnCopy, "deepcopy", ["`sizes`"]),
    (unfit.HoldsFunction, "pickle", ["lambda"]),
    (unfit.Swallowing, "typos", ["`widthh`, a misspelt `width`", "constructor", "super().__init__(**kwargs)"]),
    (unfit.TakesAnyAttribute, "typos", ["the attribute `widthh`"]),
    (unfit.SharesStages, "defaults", ["`stages`", "`stages[0]`", "copy"]),
    (unfit.HidesItsAlias, "aliases", ["the alias `hidden_size` does not read `dim`"]),
    (unfit.Stubborn, "changes", ["the argument `depth` is not kept", "`dim` stays 4"]),
    (unfit.SeesNoDifference, "changes", ["differ in `dim`"]),
]


@pytest.mark.parametrize(("config_class", "check", "culprits"), BROKEN_CONFIGS)
def test_a_broken_configuration_is_caught_by_name(config_class: Any, check: str, culprits: list[str]) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_config(config_class, only=[check])
    said = str(caught.value)
    assert [culprit for culprit in culprits if culprit not in said] == [], said


def test_every_check_of_configurations_has_a_broken_one() -> None:
    assert {check for _, check, _ in BROKEN_CONFIGS} == {check.name for check in CONFIG_CHECKS}


def test_a_configuration_without_defaults_has_to_be_given() -> None:
    class Demanding(PretrainedConfig):
        dim: int

    with pytest.raises(ConfigurationError, match=r"(?s)dim.*second argument"):
        check_config(Demanding)
    report = check_config(Demanding, Demanding(dim=3))
    assert "changes" in report.passed
    assert "inside a function" in report.not_applicable["pickle"]


def test_checks_of_configurations_bring_no_framework(run_fresh: Callable[..., str]) -> None:
    code = """
        import sys
        from maquette.testing import cases, check_config
        from maquette import PretrainedConfig
        class C(PretrainedConfig):
            dim: int = 4
        print(check_config(C))
        cases()
        assert not {"torch", "tensorflow", "jax", "keras"} & set(sys.modules)
    """
    assert "changes" in run_fresh(textwrap.dedent(code))


# Code that travels -----------------------------------------------------------------------------------------------

PREFIX = ""
TRAVELLER = """
import importlib
import torch
from maquette import PretrainedConfig, PreTrainedModel
{imports}

class TravellerConfig(PretrainedConfig):
    model_type = "{package}"
    dim: int = 4

class Traveller(PreTrainedModel):
    config_class = TravellerConfig

    def __init__(self, config):
        super().__init__(config)
        self.line = torch.nn.Linear(config.dim, factor() * config.dim)

    @property
    def dummy_inputs(self):
        return {{"x": torch.ones(2, self.config.dim)}}

    def forward(self, x):
        return self.line(x)
"""


def test_models_that_came_with_their_code_are_examined_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    model_class = traveller(sys.modules[__name__], tmp_path, "guest_kit", "from .sibling import factor")
    model_class(model_class.config_class()).save_pretrained(tmp_path / "saved")
    from maquette import AutoModel

    guest = AutoModel.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    report = check_model(type(guest), guest.config, only=["travel", "fresh_process", "pickle"])
    assert report.passed == ("pickle", "travel")
    assert "came with a checkpoint" in report.not_applicable["fresh_process"]


def test_classes_that_no_other_process_can_import_are_told_apart() -> None:
    class Local(broken.Toy):
        pass

    report = check_model(Local, broken.ToyConfig(), only=["pickle", "fresh_process", "reload"])
    assert report.passed == ("reload",)
    assert "inside a function" in report.not_applicable["fresh_process"]
    assert "inside a function" in report.not_applicable["pickle"]


# Choosing, and what is said ----------------------------------------------------------------------------------------


def test_skipping_needs_a_reason_and_a_known_name() -> None:
    skip = {"export": "branches on values, on purpose"}
    report = check_model(broken.BranchesOnValues, broken.ToyConfig(), skip=skip, only=["export", "forward"])
    assert report.not_applicable["export"] == "skipped: branches on values, on purpose"
    for empty in ("", " ", None, True):
        with pytest.raises(ValueError, match="say why, for export"):
            check_model(broken.Toy, broken.ToyConfig(), skip={"export": empty})
    with pytest.raises(UnknownNameError, match=r"no check 'exprt'\. Did you mean 'export'"):
        check_model(broken.Toy, broken.ToyConfig(), skip={"exprt": "why not"})
    with pytest.raises(UnknownNameError, match=r"no check 'typo'\. Did you mean 'typos'"):
        check_config(broken.ToyConfig, only=["typo"])
    assert "skipped: later" in check_config(broken.ToyConfig, skip={"typos": "later"}).not_applicable["typos"]


def test_reports_and_errors_list_everything() -> None:
    def two_faults(subject: Any) -> Any:
        yield Fault(f"{subject} is flat", "blow it up")
        yield Fault(f"{subject} is flat", "blow it up")
        yield Fault("the rest is missing", "buy it")
        yield Unchecked("spare", "there is none")

    def inapplicable(subject: Any) -> Any:
        raise NotApplicableError("it is Sunday")

    def raises(subject: Any) -> Any:
        raise KeyError("wheel")

    fine = Check("fine", lambda subject: [])
    checks = [fine, Check("tyre", two_faults), Check("post", inapplicable), Check("other", raises)]
    with pytest.raises(ConformanceError) as caught:
        run_checks("Bicycle", checks, "tyre")
    error = caught.value
    assert isinstance(error, AssertionError)
    assert isinstance(error, MaquetteError)
    assert str(error) == (
        "Bicycle fails 2 of 3 checks.\n"
        "tyre\n  - tyre is flat: blow it up.\n  - the rest is missing: buy it.\n"
        "other\n  - the check 'other' ended in KeyError: 'wheel' (at test_testing.py:"
        f"{raises.__code__.co_firstlineno + 1}, in raises): see the message of the error."
    )
    assert error.report.not_applicable == {"tyre: spare": "there is none", "post": "it is Sunday"}
    assert pickle.loads(pickle.dumps(error)).report == error.report
    report = run_checks("Bicycle", [fine, Check("post", inapplicable)], None)
    assert report == Report("Bicycle", ("fine",), {"post": "it is Sunday"})
    assert (
        str(report)
        == "Bicycle: 1 passed, 1 not applicable, 0 failed\n  fine  passed\n  post  not applicable: it is Sunday"
    )


def test_what_cannot_be_examined_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="no PreTrainedModel"):
        check_model(nn.Linear, broken.ToyConfig())
    with pytest.raises(TypeError, match="made with torch"):
        check_model(dict, broken.ToyConfig())
    with pytest.raises(TypeError, match="Pass the class"):
        check_model(broken.Toy(broken.ToyConfig()), broken.ToyConfig())
    with pytest.raises(TypeError, match="made from a ToyConfig, not from a WaveConfig"):
        check_model(broken.Toy, good.WaveConfig())
    for inputs in ({"x": np.ones((2, 4))}, torch.ones(2, 4)):
        with pytest.raises(TypeError, match="inputs must be"):
            check_model(broken.Toy, broken.ToyConfig(), inputs=inputs)
    assert (
        "forward takes x. Did you mean 'x'?"
        in faults_of(broken.Toy, "forward", inputs={"y": torch.ones(2, 4)})["forward"]
    )


def test_inputs_that_cannot_tell_are_not_applicable() -> None:
    only = ["batch"]
    single = check_model(broken.Toy, broken.ToyConfig(), inputs={"x": torch.ones(1, 4)}, only=only)
    assert "at least two" in single.not_applicable["batch"]


def test_the_caller_finds_everything_as_it_was() -> None:
    home = os.environ["MAQUETTE_HOME"]
    torch.manual_seed(7), random.seed(7), np.random.seed(7)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    config = good.ScribeConfig(dropout=0.3)
    with torch.no_grad():
        check_model(good.ScribeForCausalLM, config, skip={"fresh_process": "slow"})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()
    assert config == good.ScribeConfig(dropout=0.3)
    assert os.environ["MAQUETTE_HOME"] == home
    assert not Path(home).exists()


# Its own arithmetic ----------------------------------------------------------------------------------------------


def test_comparisons_agree_with_numpy() -> None:
    one = torch.tensor([1.0, float("nan"), float("inf"), -3.0])
    assert same(one, one.clone())
    assert not same(one, one.double())
    assert not same(one, one[:3])
    other = one + torch.tensor([0.0, 0.0, 0.0, 3e-4])
    for tolerance in (1e-5, 1e-3):
        expected = np.allclose(one, other, rtol=0, atol=3 * tolerance, equal_nan=True)
        assert close(one, other, tolerance) is expected
    assert not close(one, torch.tensor([1.0, 0.0, float("inf"), -3.0]), 1.0)
    assert compare({"a": one, "b": one}, {"b": other, "c": one}, 1e-3) == {"a": "missing", "c": "new"}


def test_outputs_are_flattened_by_name() -> None:
    @dataclasses.dataclass
    class Pair:
        left: Any
        right: Any

    t = [torch.full((1,), float(n)) for n in range(4)]
    found = flatten({"loss": t[0], "all": (t[1], [t[2]]), "size": 3, "pair": Pair(t[3], None)})
    assert list(found) == ["loss", "all.0", "all.1.0", "pair.left"]
    assert [tensor.item() for tensor in found.values()] == [0, 1, 2, 3]
    assert list(flatten(t[0])) == [""]


@pytest.mark.parametrize(("dim", "kept"), [(0, [0, 2, 5]), (1, [1, 3])])
def test_kept_slices_are_found(dim: int, kept: list[int]) -> None:
    with seeded(0):
        old = torch.randn(6, 4)
    new = torch.from_numpy(np.take(old.numpy(), kept, axis=dim))
    assert kept_slices(old, new) == (dim, kept)
    assert kept_slices(old, new + 1) is None
    assert kept_slices(old, old[:3, :3]) is None


# The models of cards ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyCard(ModelCard):
    tiny: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyCard:
    folder = tmp_path / "scribe_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "modeling.py").write_text("from sample_models import ScribeConfig, ScribeForCausalLM, ScribeModel\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scribe_package", raising=False)
    return TinyCard(
        package="scribe_package",
        model_type="scribe",
        config="modeling:ScribeConfig",
        models={
            "AutoModel": "modeling:ScribeModel",
            "AutoModelForCausalLM": "modeling:ScribeForCausalLM",
            "AutoModelForPreTraining": "modeling:ScribeForCausalLM",
            "TFAutoModel": "modeling_tf:TFScribeModel",
        },
        tiny={"dim": 4, "n_heads": 2, "n_layers": 1},
    )


def test_a_card_yields_a_case_for_every_model(card: TinyCard) -> None:
    found = cases([card])
    assert [str(case) for case in found] == ["scribe-ScribeModel", "scribe-ScribeForCausalLM"]
    assert [case.model_class for case in found] == [good.ScribeModel, good.ScribeForCausalLM]
    assert [str(case) for case in cases([card], framework="tf")] == ["scribe-TFScribeModel"]
    assert found[0].config() == good.ScribeConfig(dim=4, n_heads=2, n_layers=1) == tiny_config(card)
    report = found[1].check(only=["forward", "pruning"])
    assert report.passed == ("forward", "pruning")
    with pytest.raises(ConfigurationError, match="card of 'scribe' supplies no tiny"):
        tiny_config(dataclasses.replace(card, tiny={}))
    assert all(isinstance(case, Case) and issubclass(case.model_class, PreTrainedModel) for case in cases())
