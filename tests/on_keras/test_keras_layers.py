"""Layers of Keras that torch orders otherwise: what files hold of them gives torch's numbers."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from numpy_convolutions import convolve, convolve_transposed

from maquette import DistilBertConfig, PretrainedConfig, TFDistilBertForSequenceClassification, TFPreTrainedModel
from maquette.modeling.tf_losses import compute_token_loss

RNG = np.random.default_rng(0)
TINY = {"vocab_size": 40, "dim": 16, "n_heads": 4, "n_layers": 1, "hidden_dim": 24, "max_position_embeddings": 16}
IDS = RNG.integers(1, 40, (8, 7), dtype="int32")


def to_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


class TFConvolutions(TFPreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.deep = layers.DepthwiseConv2D((3, 2), depth_multiplier=2, strides=2)
        self.line = layers.DepthwiseConv1D(3, depth_multiplier=3)
        self.both = layers.SeparableConv2D(5, 3, depth_multiplier=2)
        self.up = layers.Conv2DTranspose(4, (3, 2), strides=2)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((1, 7, 9, 3), "float32")}

    def call(self, x):
        return {"deep": self.deep(x), "line": self.line(x[:, 0]), "both": self.both(x), "up": self.up(x)}


def test_convolutions_of_every_kind_are_saved_as_torch_has_them(tmp_path: Path) -> None:
    model = TFConvolutions(PretrainedConfig())
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    x = RNG.normal(size=(2, 3, 7, 9)).astype("float32")
    found = {name: np.asarray(value) for name, value in model(to_last(x)).items()}
    w = {name: array.astype("float64") for name, array in model.state_arrays().items()}
    expected = {
        "deep": convolve(x, w["deep.weight"], w["deep.bias"], stride=2, groups=3),
        "line": convolve(x[:, :, 0], w["line.weight"], w["line.bias"], groups=3),
        "both": convolve(
            convolve(x, w["both.depthwise.weight"], groups=3), w["both.pointwise.weight"], w["both.pointwise.bias"]
        ),
        "up": convolve_transposed(x, w["up.weight"], w["up.bias"], stride=2),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], to_last(value), atol=1e-4)
    model.save_pretrained(tmp_path)
    again = TFConvolutions.from_pretrained(tmp_path, strict=True)
    for name, array in again.state_arrays().items():
        np.testing.assert_array_equal(array, model.state_arrays()[name])


@pytest.mark.parametrize("kind", ["bfloat16", "mixed_bfloat16", "float32"])
def test_an_archive_keeps_the_types(kind: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(kind)
    try:
        model = TFDistilBertForSequenceClassification(DistilBertConfig(**TINY))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [v.dtype for v in again.weights] == [v.dtype for v in model.weights]
    assert again.distilbert.transformer.layer[0].ffn.lin1.dtype_policy.name == kind
    np.testing.assert_array_equal(*(np.asarray(one(IDS).logits, "float32") for one in (model, again)))
    assert keras.config.dtype_policy().name == "float32"


def test_a_type_given_to_from_config_is_kept_too(tmp_path: Path) -> None:
    half = TFDistilBertForSequenceClassification.from_config(DistilBertConfig(**TINY), dtype="bfloat16")
    half.save(tmp_path / "model.keras")
    assert {v.dtype for v in keras.models.load_model(tmp_path / "model.keras").weights} == {"bfloat16"}


def test_fresh_padding_starts_at_zero_where_there_is_a_token_for_it() -> None:
    for token in (3, None):
        model = TFDistilBertForSequenceClassification(DistilBertConfig(**TINY, pad_token_id=token))
        empty = ~model.state_arrays()["distilbert.embeddings.word_embeddings.weight"].any(1)
        assert list(np.flatnonzero(empty)) == [row for row in (token,) if row is not None]


# Losses ----------------------------------------------------------------------------------------------------------


class TokenConfig(PretrainedConfig):
    model_type = "tagger"
    vocab_size: int = 40


class TFTagger(TFPreTrainedModel):
    """Scores the mean of a text's embeddings."""

    config_class = TokenConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed, self.score = layers.Embedding(config.vocab_size, 8), layers.Dense(3)

    def call(self, input_ids, labels=None):
        logits = self.score(keras.ops.mean(self.embed(input_ids), axis=1))
        return {"logits": logits} if labels is None else {"loss": compute_token_loss(logits, labels), "logits": logits}


def test_a_batch_without_labels_costs_nothing() -> None:
    model = TFTagger(TokenConfig())
    before = model.state_arrays()
    model.compile("sgd")
    assert model.fit(IDS, np.full(8, -100), verbose=0).history["loss"] == [0.0]
    for name, array in model.state_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def by_hand(model, labels: np.ndarray) -> float:
    scores = np.asarray(model(IDS)["logits"], "float64")
    return float((np.log(np.exp(scores).sum(1)) - scores[range(len(labels)), labels]).mean())


def test_losses_and_metrics_can_be_given_by_name() -> None:
    labels, entropy = IDS[:, 0] % 3, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = TFTagger(TokenConfig())
    right = np.asarray(model(IDS)["logits"]).argmax(1) == labels
    for loss, metrics, y in [
        ({"logits": entropy}, {"logits": "accuracy"}, labels),
        ({"logits": entropy}, ["accuracy"], {"logits": labels}),
        (entropy, {"logits": "accuracy"}, {"labels": labels}),
    ]:
        model.compile(loss=loss, metrics=metrics)
        measured = model.evaluate(IDS, y, verbose=0, return_dict=True)
        assert measured["loss"] == pytest.approx(by_hand(model, labels), rel=1e-5)
        assert measured["accuracy"] == pytest.approx(right.mean())
    model.compile("sgd", loss={"logit": entropy})
    with pytest.raises(ValueError, match=r"names a loss for 'logit'; the outputs are logits"):
        model.evaluate(IDS, labels, verbose=0)


class TFTwins(TFPreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.left, self.right = layers.Dense(1), layers.Dense(2)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((2, 3), "float32")}

    def call(self, x):
        return {"left": self.left(x), "right": self.right(x)}


def test_a_loss_for_some_of_several_outputs() -> None:
    x, model = RNG.normal(size=(4, 3)).astype("float32"), TFTwins(PretrainedConfig())
    left, right = (np.asarray(value) for value in model(x).values())
    model.compile("sgd", loss={"right": "mse"}, metrics={"right": "mae"})
    measured = model.evaluate(x, {"right": np.zeros((4, 2))}, verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx((right**2).mean(), rel=1e-5)
    model.compile("sgd", loss={"left": "mse", "right": "mse"})
    both = model.evaluate(x, {"left": np.zeros((4, 1)), "right": np.zeros((4, 2))}, verbose=0, return_dict=True)
    assert both["loss"] == pytest.approx((left**2).mean() + (right**2).mean(), rel=1e-5)


# Export ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="another backend traces for minutes")
def test_export_leaves_open_what_the_model_leaves_open(tmp_path: Path) -> None:
    import tensorflow as tf

    model = TFTagger(TokenConfig())
    assert model._signature()["input_ids"].shape == (None, None)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve({"input_ids": IDS})["logits"], model(IDS)["logits"], atol=1e-6)
    assert TFConvolutions(PretrainedConfig())._signature()["x"].shape == (None, None, None, 3)
    model.export(tmp_path / "told", verbose=False, input_signature=[keras.InputSpec(shape=(None, 4), dtype="int32")])
    served = tf.saved_model.load(str(tmp_path / "told"))
    assert served.serve(IDS[:, :4])["logits"].shape == (8, 3)
