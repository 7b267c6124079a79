"""Heads on base models of any kind keep every promise, and give what the built-in heads give on the same weights."""

import headed_models as headed
import pytest
import torch
from rounding import assert_near

import maquette
from maquette import ConfigurationError
from maquette.modeling.packing import use_packing
from maquette.testing import check_model, one_fresh_process

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 10, 3, 0, 0], [0, 0, 4, 12, 13]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
SMALL = {"vocab_size": 20, "max_position_embeddings": 8, "num_labels": 3}
TEXT = {**SMALL, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with one_fresh_process():
        yield


@pytest.mark.parametrize("name", ["GlanceForSequenceClassification", "StripesForImageClassification"])
def test_the_kit_passes(name) -> None:
    model_class = getattr(headed, name)
    report = check_model(model_class, model_class.config_class(num_labels=3))
    assert {"reload", "fresh_process", "gradients", "loss", "export"} <= set(report.passed)


@pytest.mark.parametrize(
    "name", ["GlanceForTokenClassification", "GlanceForQuestionAnswering", "EchoForSequenceClassification"]
)
def test_what_else_can_differ_passes(name) -> None:
    model_class = getattr(headed, name)
    wanted = {"batch", "gradients", "loss", "reload"}
    report = check_model(model_class, model_class.config_class(num_labels=3), only=wanted)
    assert set(report.passed) == wanted


def head_on(base, kind, **attributes):
    return type(f"Own{kind.__name__}", (kind,), {"base_model_class": base, "__module__": __name__, **attributes})


GENERIC = {
    "tokens": maquette.GenericForTokenClassification,
    "spans": maquette.GenericForQuestionAnswering,
    "rows": maquette.GenericForSequenceClassification,
}
LABELS = {
    "tokens": {"labels": torch.tensor([[0, 1, 2, -100, 1], [2, 2, 0, -100, -100], [-100, -100, 1, 0, 2]])},
    "spans": {"start_positions": torch.tensor([1, 0, 3]), "end_positions": torch.tensor([2, 2, 4])},
    "rows": {"labels": torch.tensor([2, 0, 1])},
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("family", "kind", "built_in", "renames", "attributes"),
    [
        ("Bert", "tokens", "ForTokenClassification", {"classifier": "score"}, {}),
        ("Bert", "spans", "ForQuestionAnswering", {}, {}),
        ("Bert", "rows", "ForSequenceClassification", {"classifier": "score"}, {"pooling": "pooled"}),
        ("DistilBert", "tokens", "ForTokenClassification", {"classifier": "score"}, {}),
        ("DistilBert", "spans", "ForQuestionAnswering", {}, {}),
    ],
)
def test_they_give_what_built_in_heads_give(family, kind, built_in, renames, attributes, packed) -> None:
    torch.manual_seed(0)
    fields = TEXT if family == "Bert" else {**SMALL, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}
    config = getattr(maquette, f"{family}Config")(**fields)
    expected = getattr(maquette, family + built_in)(config).eval()
    own = head_on(getattr(maquette, f"{family}Model"), GENERIC[kind], **attributes)(config).eval()
    state = {}
    for name, value in expected.state_dict().items():
        first, _, rest = name.partition(".")
        state[f"{renames.get(first, first)}.{rest}"] = value
    if attributes:  # the built-in head has a bias
        expected.classifier.bias.data.zero_()
        del state["score.bias"]
    missing, unexpected = own.load_state_dict(state, strict=False)
    assert not unexpected and all(".pooler." in name for name in missing)
    with use_packing(packed):
        found, wanted = (model(IDS, MASK, **LABELS[kind]) for model in (own, expected))
    for name in ("loss", "logits", "start_logits", "end_logits"):
        if name in wanted:
            assert_near(found[name], wanted[name], name)


def test_rows_are_read_where_pooling_says() -> None:
    """Of states that are spelt out: the first, the last, and the mean of the real ones."""
    for pooling, expected in {"first": [5, 9, 4], "last": [9, 3, 13], "mean": [7.0, 22 / 3, 29 / 3]}.items():
        kind = head_on(headed.EchoModel, maquette.GenericForSequenceClassification, pooling=pooling, head_width=1)
        model = kind(headed.EchoConfig(num_labels=1, units=1))
        model.score.weight.data.fill_(1)
        model.base_model.forward = lambda ids: ids[..., None].float()
        assert torch.allclose(model(IDS, MASK).logits[:, 0], torch.tensor(expected, dtype=torch.float))


def test_the_name_of_the_base_follows_the_classes_around() -> None:
    assert headed.GlanceForTokenClassification.base_model_prefix == "glance"
    assert headed.EchoForSequenceClassification.base_model_prefix == "model"
    assert headed.EchoForSequenceClassification.main_input_name == "ids"
    assert headed.EchoForSequenceClassification.config_class is headed.EchoConfig
    weights = headed.GlanceForTokenClassification(headed.GlanceConfig()).state_dict()
    assert {"glance.words.weight", "score.weight"} <= set(weights)


def test_a_base_loads_into_a_head(tmp_path) -> None:
    torch.manual_seed(0)
    base = headed.GlanceModel(headed.GlanceConfig())
    base.save_pretrained(tmp_path)
    model, info = headed.GlanceForTokenClassification.from_pretrained(tmp_path, num_labels=4, output_loading_info=True)
    assert info["missing_keys"] == ["score.weight", "score.bias"]
    assert torch.equal(model.glance.words.weight, base.words.weight) and model.score.out_features == 4


def test_without_a_class_the_base_is_what_automodel_makes() -> None:
    class Registered(headed.GlanceConfig):
        model_type = "glance-registered"

    class RegisteredModel(headed.GlanceModel):
        config_class = Registered

    class Head(maquette.GenericForTokenClassification, headed.GlancePreTrainedModel):
        config_class = Registered

    maquette.AutoModel.register(Registered, RegisteredModel)
    assert type(Head(Registered()).glance) is RegisteredModel


def test_what_does_not_fit_is_said() -> None:
    kind = head_on(headed.EchoModel, maquette.GenericForTokenClassification)
    with pytest.raises(ConfigurationError, match=r"EchoConfig has none of hidden_size.*head_width"):
        kind(headed.EchoConfig())
    kind = head_on(headed.EchoModel, maquette.GenericForSequenceClassification, pooling="pooled", head_width=8)
    with pytest.raises(ConfigurationError, match="EchoModel gives last_hidden_state"):
        kind(headed.EchoConfig())(IDS)
    model = head_on(headed.EchoModel, maquette.GenericForSequenceClassification, head_width=8)(headed.EchoConfig())
    model.base_model.forward = lambda ids: ids[:, 0].float()
    with pytest.raises(ValueError, match=r"EchoModel gives a tensor \(3,\) first"):
        model(IDS)
