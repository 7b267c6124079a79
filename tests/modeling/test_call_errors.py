"""Inputs that do not fit are named: which argument, which value, where, and what it should be."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import tiny
from torch import Tensor, nn

from maquette import InputError, PretrainedConfig, PreTrainedModel, SequenceClassifierOutput


class OwnConfig(PretrainedConfig):
    size: int = 20


class Own(PreTrainedModel):
    """A model of a user's own, which checks nothing."""

    config_class = OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.words, self.kinds = nn.Embedding(config.size, 4), nn.Embedding(2, 4)
        self.score = nn.Linear(4, 3)

    def forward(self, tokens: Tensor, kinds: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.words(tokens)
        x = x if kinds is None else x + self.kinds(kinds)
        logits = self.score(x.mean(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


IDS = torch.arange(10).view(2, 5)
MASK = torch.tensor([[1] * 5, [1, 1, 0, 0, 0]])
HIGH = torch.tensor([[1, 2, 3, 4, 5], [6, 77, 8, 9, 99]])


def own() -> Own:
    torch.manual_seed(0)
    return Own(OwnConfig()).eval()


def text() -> PreTrainedModel:
    return tiny("DistilBertForSequenceClassification")[0]


def words() -> PreTrainedModel:
    return tiny("DistilBertForMaskedLM")[0]


def half(name: str) -> Any:
    model, inputs = tiny(name)
    return copy.deepcopy(model).bfloat16()(**inputs)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "ids too high": (
        lambda: text()(HIGH),
        r"input_ids\[1, 1\] is 77 \(and 1 more\); it has to be from 0 to 49, the rows of "
        r"distilbert.embeddings.word_embeddings \(config.vocab_size\)",
    ),
    "packed": (lambda: text()(HIGH, MASK), r"input_ids\[1, 1\] is 77 .* from 0 to 49"),
    "negative": (lambda: text()(IDS - 3), r"input_ids\[0, 0\] is -3 \(and 2 more\)"),
    "positions": (lambda: text()(IDS, position_ids=IDS + 30), r"position_ids\[0, 2\] is 32 .*max_position_embeddings"),
    "classes": (
        lambda: text()(IDS, labels=torch.tensor([0, 7])),
        r"labels\[1\] is 7; .* from 0 to 2 \(config.num_labels\)",
    ),
    "words as labels": (lambda: words()(IDS, MASK, labels=HIGH), r"labels\[1, 1\] is 77 .*config.vocab_size"),
    "image classes": (
        lambda: tiny("ViTForImageClassification")[0](
            **tiny("ViTForImageClassification")[1], labels=torch.tensor([3, 0])
        ),
        r"labels\[0\] is 3; it has to be from 0 to 2",
    ),
    "own ids": (lambda: own()(HIGH), r"Own: tokens\[1, 1\] is 77 \(and 1 more\); .* from 0 to 19, the rows of words"),
    "own kinds": (lambda: own()(IDS, IDS.flip(1)), r"Own: kinds\[0, 0\] is 4 .* from 0 to 1, the rows of kinds\.$"),
    "own labels": (lambda: own()(IDS, labels=torch.tensor([-1, 0])), r"Own: labels\[0\] is -1; .* from 0 to 2"),
    "own floats": (lambda: own()(IDS.float()), r"tokens is float32; these are whole numbers: give tokens.long\(\)"),
    "list": (lambda: text()(IDS.tolist()), r"input_ids is a list, not a tensor: give torch.tensor\(input_ids\)"),
    "array": (lambda: text()(IDS.numpy()), "input_ids is a ndarray, not a tensor"),
    "list of a mask": (lambda: text()(IDS, MASK.tolist()), "attention_mask is a list"),
    "list of labels": (lambda: text()(IDS, labels=[0, 1]), "labels is a list"),
    "list of tensors": (lambda: text()([*IDS]), r"a list of tensors; make one of them: torch.stack\(input_ids\)"),
    "whole batch": (lambda: text()({"input_ids": IDS}), r"input_ids is a dict; .* model\(\*\*batch\)"),
    "text": (lambda: text()("good film"), "input_ids is text; a tokenizer"),
    "own list": (lambda: own()(IDS.tolist()), "tokens is a list"),
    "images as a list": (lambda: tiny("ViTModel")[0]([[[[0.5]]]]), "pixel_values is a list"),
    "clips as a list": (lambda: tiny("Wav2Vec2Model")[0]([[0.5] * 3000]), "input_values is a list"),
    "half images": (
        lambda: half("ResNetForImageClassification"),
        "pixel_values is float32, but the weights are bfloat16",
    ),
    "half clips": (lambda: half("Wav2Vec2ForCTC"), r"give input_values.to\(model.dtype\)"),
    "half vectors": (
        lambda: text()(inputs_embeds=torch.ones(2, 5, 16).double()),
        "inputs_embeds is float64, but the weights are float32",
    ),
    "labels of another shape": (
        lambda: words()(IDS, MASK, labels=IDS[:, 1:]),
        r"labels has the shape \(2, 4\), but the batch is \(batch, length\) = \(2, 5\)\.$",
    ),
    "misspelt": (lambda: text()(IDS, lables=MASK), "takes no argument 'lables'. Did you mean 'labels'"),
    "misspelt for the base": (lambda: text()(IDS, position_id=IDS), "Did you mean 'position_ids'"),
    "of another's trainer": (
        lambda: text()(IDS, num_items_in_batch=2),
        r"'num_items_in_batch'\. .*DistilBertModel takes",
    ),
    "own unknown": (lambda: own()(IDS, kind=IDS), "Own takes no argument 'kind'. Did you mean 'kinds'"),
}


@pytest.mark.parametrize(("call", "says"), CASES.values(), ids=CASES)
def test_inputs_that_do_not_fit_are_named(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input_ids": IDS.float()}, r"input_ids are whole numbers \(batch, length\).* not torch.float32 \(2, 5\)"),
        ({"input_ids": IDS.half(), "attention_mask": MASK}, "input_ids are whole numbers"),
        (
            {"inputs_embeds": IDS[..., None].expand(2, 5, 16)},
            r"inputs_embeds floating-point .*not torch.int64 \(2, 5, 16\)",
        ),
        ({"inputs_embeds": IDS}, "not torch.int64"),
        ({"inputs_embeds": torch.ones(2, 5, 1)}, r"\(batch, length, 16\): not torch.float32 \(2, 5, 1\)"),
    ],
)
@pytest.mark.parametrize("name", ["DistilBertModel", "DistilBertForQuestionAnswering"])
def test_ids_are_not_taken_for_vectors(name: str, given: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tiny(name)[0](**given)


@pytest.mark.parametrize("name", ["ViTModel", "ResNetModel"])
def test_bytes_are_not_taken_for_images(name: str) -> None:
    model, inputs = tiny(name)
    with pytest.raises(ValueError, match=r"pixel_values are floating-point.* An image processor scales"):
        model((inputs["pixel_values"] * 50).to(torch.uint8))


def test_other_errors_are_left_alone() -> None:
    class Failing(Own):
        def forward(self, tokens: Any, failure: Exception) -> Any:  # type: ignore[override]
            raise failure

    model = Failing(OwnConfig())
    for failure in (IndexError("own"), RuntimeError("own"), AttributeError("own"), TypeError("own"), KeyError("own")):
        with pytest.raises(type(failure)) as caught:
            model([1], failure)
        assert caught.value is failure
    with pytest.raises(InputError, match=r"CUDA stopped at an assertion.* on the CPU names the value"):
        model(IDS, RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(TypeError, match="positional arguments"):
        text()(IDS, None, None)


def test_labels_of_any_whole_type_serve() -> None:
    expected = words()(IDS, labels=IDS).loss
    assert torch.equal(words()(IDS, labels=IDS.int()).loss, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_every_property_of_a_model_can_be_asked_for() -> None:
    model = own()
    assert hasattr(model, "dummy_inputs")
    assert model.dummy_inputs is None
    assert dict(inspect.getmembers(model))["config"] is model.config
    assert not model.accepts_loss_kwargs
    traced = torch.jit.trace(model, IDS, strict=False)
    torch.testing.assert_close(traced(IDS)["logits"], model(IDS).logits)


@pytest.mark.parametrize("name", ["DistilBertModel", "Wav2Vec2Model"])
def test_outputs_have_names_that_users_know(name: str) -> None:
    model, inputs = tiny(name)
    output = model(**inputs)
    assert type(output).__module__ == "maquette.modeling.outputs"
    assert "layout" not in repr(output).lower()
    assert "layout" not in output


def test_one_mask_serves_all_rows() -> None:
    for name in ("DistilBertForTokenClassification", "Wav2Vec2ForCTC"):
        model, inputs = tiny(name)
        mask = inputs["attention_mask"][1:]
        both = {**inputs, "attention_mask": mask.expand(2, -1)}
        assert torch.equal(model(**{**inputs, "attention_mask": mask}).logits, model(**both).logits)


def test_vectors_may_stand_where_ids_do() -> None:
    """What captum's interpretable embeddings do: the layer gives back what it is given."""
    model = copy.deepcopy(text())
    vectors = model.get_input_embeddings()(IDS)
    model.set_input_embeddings(nn.Identity())
    torch.testing.assert_close(model(vectors, MASK).logits, text()(IDS, MASK).logits)
