"""What every Keras model can do: training, loading with differences, types, vocabularies, saving as Keras saves."""

from pathlib import Path

import keras
import numpy as np
import pytest
from base_tests import *  # noqa: F403
from base_tests import INPUTS, LABELS, RNG, arrays, tiny
from keras import layers
from safetensors.numpy import load_file

from maquette import (
    BaseModelOutput,
    CheckpointError,
    PretrainedConfig,
    SaveError,
    TFAutoModelForSequenceClassification,
    TFDistilBertForMaskedLM,
    TFDistilBertForSequenceClassification,
    TFDistilBertModel,
    TFPreTrainedModel,
)


@pytest.mark.parametrize("told", [True, False], ids=["loss of compile", "loss of the model"])
def test_fit_learns_and_a_keras_file_holds_it(told: bool, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = TFDistilBertForSequenceClassification(tiny(initializer_range=0.3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if told else None
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=["accuracy"] if told else None)
    history = model.fit(INPUTS, LABELS, epochs=25, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    measured = model.evaluate(INPUTS, LABELS, verbose=0, return_dict=True)
    predicted = model.predict(INPUTS, verbose=0).logits
    # what evaluate says is the cross-entropy of what predict says, by hand
    chances = np.exp(predicted) / np.exp(predicted).sum(1, keepdims=True)
    np.testing.assert_allclose(measured["loss"], -np.log(chances[range(32), LABELS]).mean(), rtol=1e-4)
    if told:
        np.testing.assert_allclose(measured["accuracy"], (predicted.argmax(1) == LABELS).mean())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is TFDistilBertForSequenceClassification and again.config == model.config
    np.testing.assert_allclose(again.predict(INPUTS, verbose=0).logits, predicted, atol=1e-6)
    again.fit(INPUTS, LABELS, epochs=1, verbose=0)  # it is compiled as before
    model.save_pretrained(tmp_path / "folder")
    np.testing.assert_array_equal(
        arrays(TFAutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")(INPUTS)), arrays(model(INPUTS))
    )


def test_the_two_ways_to_give_labels_come_to_the_same() -> None:
    losses = []
    for data in [(INPUTS, LABELS), ({**INPUTS, "labels": LABELS},), (INPUTS, {"labels": LABELS})]:
        keras.utils.set_random_seed(1)
        model = TFDistilBertForSequenceClassification(tiny())
        model.compile("sgd")
        losses.append(model.fit(*data, epochs=2, batch_size=8, shuffle=False, verbose=0).history["loss"])
    assert losses[0] == losses[1] == losses[2]


def test_without_labels_fit_says_so() -> None:
    model = TFDistilBertForSequenceClassification(tiny())
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"give labels, as y or inside the dictionary"):
        model.fit(INPUTS, verbose=0)


def test_dropout_is_told_that_it_trains() -> None:
    """By `training=True`, and by `fit`, in a head whose `call` does not mention it."""
    model = TFDistilBertForSequenceClassification(tiny(dropout=0.5, seq_classif_dropout=0.5))
    still = arrays(model(INPUTS))
    np.testing.assert_array_equal(arrays(model(INPUTS, training=False)), still)
    assert np.abs(arrays(model(INPUTS, training=True)) - still).max() > 1e-4
    seen = []

    class Spy(layers.Layer):
        def call(self, x, training=None):
            seen.append(training)
            return x

    class Spied(TFPreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            self.score, self.spy = layers.Dense(1), Spy()

        @property
        def dummy_inputs(self):
            return {"x": np.ones((2, 3), "float32")}

        def call(self, x):
            return self.score(self.spy(x))

    spied = Spied(PretrainedConfig())
    spied.compile("sgd", "mse")
    assert set(seen) <= {None, False}
    spied.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert True in seen


@pytest.mark.any_backend
def test_shards_and_variants(tmp_path: Path) -> None:
    model = TFDistilBertModel(tiny())
    model.save_pretrained(tmp_path, max_shard_size=4000, variant="small")
    assert len(list(tmp_path.glob("model.small-*.safetensors")) or list(tmp_path.glob("*small*.safetensors"))) > 1
    again = TFDistilBertModel.from_pretrained(tmp_path, variant="small")
    np.testing.assert_array_equal(arrays(again(INPUTS)), arrays(model(INPUTS)))


@pytest.mark.any_backend
def test_a_further_layer_may_be_missing_where_it_is_allowed(tmp_path: Path) -> None:
    TFDistilBertModel(tiny()).save_pretrained(tmp_path)
    more = TFDistilBertModel.from_pretrained(tmp_path, n_layers=3, allow_missing=["transformer.layer.2.*"])
    assert len(more.transformer.layer) == 3


def test_a_type_for_loading_leaves_that_of_keras_alone(tmp_path: Path) -> None:
    TFDistilBertModel(tiny()).save_pretrained(tmp_path)
    TFDistilBertModel.from_pretrained(tmp_path, dtype="bfloat16")
    assert keras.config.dtype_policy().name == "float32"


def test_a_resized_model_trains() -> None:
    model = TFDistilBertForMaskedLM(tiny())
    model.resize_token_embeddings(44)
    model.compile("sgd")
    model.fit(INPUTS, INPUTS["input_ids"], verbose=0)


@pytest.mark.any_backend
def test_a_model_without_inputs_says_so() -> None:
    class Silent(TFPreTrainedModel):
        config_class = PretrainedConfig

        def call(self, x):
            return x

    with pytest.raises(NotImplementedError, match="override `dummy_inputs`"):
        Silent(PretrainedConfig())


class TokenConfig(PretrainedConfig):
    model_type = "tokens"
    vocab_size: int = 5


class Scale(layers.Layer):
    """A weight for every entry, right inside a layer that a list holds."""

    def __init__(self, size):
        super().__init__()
        self.by_entry = self.add_weight(shape=(size,), initializer="ones")

    def call(self, x):
        return x * self.by_entry


class TFTokens(TFPreTrainedModel):
    config_class = TokenConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = layers.Embedding(config.vocab_size, 3)
        self.heads = [layers.Dense(3), Scale(config.vocab_size)]
        self.score = layers.Dense(config.vocab_size)

    def call(self, input_ids):
        return self.heads[1](self.score(self.heads[0](self.embed(input_ids))))


@pytest.mark.any_backend
def test_what_cannot_be_resized_stays_as_it_is() -> None:
    model = TFTokens(TokenConfig())
    before = np.asarray(model(**model.dummy_inputs))
    with pytest.raises(NotImplementedError, match=r"Scale has a variable for every entry .* an attribute of its own"):
        model.resize_token_embeddings(7)
    assert model.config.vocab_size == 5
    np.testing.assert_array_equal(np.asarray(model(**model.dummy_inputs)), before)


@pytest.mark.any_backend
def test_a_file_that_unties_tied_weights_is_refused(tmp_path: Path) -> None:
    TFDistilBertForMaskedLM(tiny(tie_word_embeddings=False)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="ties weights for which the file holds different values"):
        TFDistilBertForMaskedLM.from_pretrained(tmp_path, tie_word_embeddings=True)


def test_a_compiled_function_gives_outputs_by_name() -> None:
    model = TFDistilBertModel(tiny())
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        specs = {name: tf.TensorSpec((None, None), tf.int64) for name in INPUTS}  # any batch, any length
        call = tf.function(lambda inputs: model(inputs), input_signature=[specs])
        found = call({name: tf.constant(value) for name, value in INPUTS.items()})
        assert type(found) is BaseModelOutput
        found = found.last_hidden_state
    else:
        import jax

        variables = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
        found = jax.jit(lambda v, x: model.stateless_call(*v, x)[0])(variables, INPUTS).last_hidden_state
    np.testing.assert_allclose(np.asarray(found), arrays(model(INPUTS)), atol=1e-5)


class OddConfig(PretrainedConfig):
    model_type = "odd"
    width: int = 6


class Odd(layers.Layer):
    """Every kind of place that a variable can have: under a reserved name, in a dictionary, on its own."""

    def __init__(self, width):
        super().__init__()
        self.output_ = layers.Dense(width)
        self.by_name = {"one": layers.Conv1D(width, 3, groups=2, padding="same"), "two": layers.LayerNormalization()}
        self.scale_by = self.add_weight(shape=(1, width), initializer="ones", name="whatever")

    def call(self, x):
        return self.by_name["two"](self.by_name["one"](self.output_(x))) * self.scale_by


class TFOdd(TFPreTrainedModel):
    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        self.blocks = [Odd(config.width) for _ in range(2)]
        self.norm = layers.BatchNormalization()

    @property
    def dummy_inputs(self):
        return {"x": np.zeros((2, 5, self.config.width), "float32")}

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


@pytest.mark.any_backend
def test_names_are_paths_of_attributes(tmp_path: Path) -> None:
    model = TFOdd(OddConfig())
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    inside = {"output.weight", "output.bias", "by_name.one.weight", "by_name.one.bias", "by_name.two.weight"}
    inside |= {"by_name.two.bias", "scale_by"}
    norm = {f"norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert set(saved) == {f"blocks.{number}.{name}" for number in (0, 1) for name in inside} | norm
    assert saved["blocks.0.by_name.one.weight"].shape == (6, 3, 3)  # out, in / groups, kernel
    x = RNG.normal(size=(2, 5, 6)).astype("float32")
    np.testing.assert_array_equal(np.asarray(TFOdd.from_pretrained(tmp_path)(x)), np.asarray(model(x)))


CUSTOM = """
import numpy as np
from keras import layers
from maquette import PretrainedConfig, TFPreTrainedModel

class WaveConfig(PretrainedConfig):
    model_type = "wave"
    width: int = 4

class TFWave(TFPreTrainedModel):
    config_class = WaveConfig
    def __init__(self, config):
        super().__init__(config)
        self.hear = layers.Conv1D(config.width, 3)
    @property
    def dummy_inputs(self):
        return {"waves": np.zeros((1, 9, 1), "float32")}
    def call(self, waves):
        return {"heard": self.hear(waves)}
"""


LOAD = """
import sys
from maquette import TFAutoModel
assert not {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)
model = TFAutoModel.from_pretrained("saved")
model(**model.dummy_inputs)
assert "torch" not in sys.modules
assert "tensorflow" in sys.modules or "jax" in sys.modules  # TensorFlow itself imports JAX where there is one
assert sys.argv[1:] != ["jax"] or "tensorflow" not in sys.modules
print("light")
"""


def test_only_the_backend_is_imported(tmp_path: Path, run_fresh) -> None:
    TFDistilBertModel(tiny()).save_pretrained(tmp_path / "saved")
    assert "light" in run_fresh(f"import sys; sys.argv[1:] = ['{keras.backend.backend()}']" + LOAD)


class TFNested(TFPreTrainedModel):
    """Layers inside of what Keras makes itself, and weights in a list."""

    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.mlp = keras.Sequential([layers.Dense(4), layers.ReLU(), layers.Dense(2)])
        start = keras.Input((2,))
        self.graph = keras.Model(start, layers.Dense(3)(start))
        self.scales = [self.add_weight(shape=(3,), initializer="random_normal") for _ in range(2)]
        self.norm = layers.Normalization()

    @property
    def dummy_inputs(self):
        return {"x": np.ones((2, 4), "float32")}

    def call(self, x):
        return self.graph(self.mlp(self.norm(x))) * self.scales[0] + self.scales[1]


def test_what_keras_nests_is_saved_too(tmp_path: Path) -> None:
    model = TFNested(PretrainedConfig())
    x = RNG.normal(3, 2, size=(64, 4)).astype("float32")
    model.norm.adapt(x)
    model.save_pretrained(tmp_path)
    saved = set(load_file(tmp_path / "model.safetensors"))
    assert {"mlp.0.weight", "mlp.2.bias", "graph.1.weight", "scales.0", "scales.1"} <= saved
    again = TFNested.from_pretrained(tmp_path, strict=True)
    np.testing.assert_allclose(np.asarray(again(x)), np.asarray(model(x)), atol=1e-6)


class TFHiding(TFPreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.attend = layers.MultiHeadAttention(2, 4)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((1, 3, 4), "float32")}

    def call(self, x):
        return self.attend(x, x)


@pytest.mark.any_backend
def test_what_would_be_lost_is_refused(tmp_path: Path) -> None:
    model = TFHiding(PretrainedConfig())
    with pytest.raises(SaveError, match=r"no path of public attributes leads to these[\s\S]*query/kernel"):
        model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


class TFWider(TFTokens):
    def __init__(self, config, *, extra=3, **kwargs):
        super().__init__(config, **kwargs)
        self.heads = [layers.Dense(extra), layers.Dense(3)]

    def call(self, input_ids):
        return self.score(self.heads[1](self.heads[0](self.embed(input_ids))))


def test_resizing_a_compiled_frozen_model_and_one_with_further_arguments() -> None:
    model = TFWider(TokenConfig())
    model.embed.trainable = False
    model.compile("adam", "mse")
    ids = np.arange(10).reshape(2, 5) % 5
    before = np.asarray(model(ids))
    model.resize_token_embeddings(8)
    np.testing.assert_allclose(np.asarray(model(ids))[..., :5], before, atol=1e-6)
    assert not model.embed.trainable and model.score.trainable
    with pytest.raises(ValueError, match=r"heads\.0\.weight: \(7, 3\), rebuilt \(3, 3\)[\s\S]*get_config"):
        TFWider(TokenConfig(), extra=7).resize_token_embeddings(8)


def test_weights_of_samples_need_a_loss_of_compile() -> None:
    model = TFDistilBertForSequenceClassification(tiny())
    model.compile("sgd")
    with pytest.raises(ValueError, match="takes no weights of samples or classes"):
        model.fit(INPUTS, LABELS, sample_weight=np.zeros(32), verbose=0)
    model.compile("sgd", metrics=["accuracy"])
    assert "accuracy" in model.fit({**INPUTS, "labels": LABELS}, verbose=0).history
