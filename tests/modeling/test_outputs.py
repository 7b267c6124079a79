"""What models return: attribute, key and place are one value; torch sees inside."""

import copy
import pickle

import pytest
import torch

from maquette import BaseModelOutput, ModelOutput, SequenceClassifierOutput


def test_attribute_key_and_place_are_one_value() -> None:
    loss, logits = torch.tensor(1.0), torch.ones(2, 3)
    output = SequenceClassifierOutput(loss=loss, logits=logits)
    assert output.loss is output["loss"] is output[0] is loss
    assert output[1] is output.logits
    assert list(output) == list(output.keys()) == ["loss", "logits"]
    assert "attentions" not in output
    assert output.get("attentions") is None
    assert dict(output.items())["logits"] is logits
    first, second = output.to_tuple()
    assert (first is loss, second is logits, len(output), output[:1]) == (True, True, 2, (loss,))
    without = SequenceClassifierOutput(logits=logits)
    assert without[0] is logits
    for missing in ("loss", "nothing"):
        with pytest.raises(KeyError):
            without[missing]
    with pytest.raises(IndexError):
        without[1]


def test_a_class_of_ones_own_needs_no_decorator() -> None:
    class Mine(ModelOutput):
        scores: torch.Tensor
        extra: torch.Tensor | None = None

    output = Mine(scores=torch.zeros(2))
    assert list(output) == ["scores"]
    leaves, spec = torch.utils._pytree.tree_flatten(output)
    assert leaves[0] is output.scores
    assert isinstance(torch.utils._pytree.tree_unflatten(leaves, spec), Mine)


def test_copies_and_pickles() -> None:
    output = BaseModelOutput(last_hidden_state=torch.arange(3), hidden_states=(torch.ones(1), torch.zeros(1)))
    for other in (copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert type(other) is BaseModelOutput
        assert torch.equal(other.last_hidden_state, output[0])
        assert len(other.hidden_states) == 2


def test_compile_and_export_see_inside() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> BaseModelOutput:
            return BaseModelOutput(last_hidden_state=x * 2, hidden_states=(x,))

    x = torch.randn(3)
    compiled = torch.compile(Model(), fullgraph=True, backend="eager")(x)
    assert torch.equal(compiled.last_hidden_state, x * 2)
    exported = torch.export.export(Model(), (x,)).module()(x)
    assert torch.equal(exported["last_hidden_state"], x * 2)
    assert torch.equal(exported.hidden_states[0], x)
