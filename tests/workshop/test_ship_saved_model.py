"""`maquette ship --to saved-model`: Keras models in a process that has TensorFlow alone."""

COMMON = """
import warnings
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
import keras
import numpy as np
import maquette
from maquette import InputError
from maquette.workshop import ship

class PairConfig(maquette.PretrainedConfig):
    model_type = "ship_pair"
    dim: int = 6

class TFPairModel(maquette.TFPreTrainedModel):
    config_class = PairConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.layer = keras.layers.Dense(config.dim)

    @property
    def dummy_inputs(self):
        return {"x": np.ones((2, 3), np.float32)}

    def call(self, x, training=False):
        y = self.layer(x)
        return {"y": y, "both": (y, keras.ops.mean(y, 1))}

def refused(model, to, says):
    try:
        ship(model, "refused", to=to)
    except InputError as error:
        assert says in str(error), error
    else:
        raise AssertionError("was not refused")
"""
ON_TENSORFLOW = """
import tensorflow as tf
config = maquette.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
model = maquette.TFDistilBertForSequenceClassification(config)
found = model.ship("out", to="saved-model")
assert not found.differs and found.about["outputs"] == ["logits"] and len(found.compared) == 2
assert found.about["inputs"] == {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]}
serve = tf.saved_model.load("out/saved_model").signatures["serve"]
ids = np.arange(27, dtype=np.int32).reshape(3, 9)
mask = np.ones_like(ids)
mask[1, 4:] = 0
logits = serve(input_ids=tf.constant(ids), attention_mask=tf.constant(mask))["logits"]
expected = np.asarray(model(input_ids=ids, attention_mask=mask)["logits"])
np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=300 * np.finfo(np.float32).eps)

found = TFPairModel(PairConfig()).ship("own", to="saved-model")
assert not found.differs and sorted(found.about["outputs"]) == ["both_0", "both_1", "y"]
assert found.about["inputs"] == {"x": ["batch", 3]} and "saved_model" in found.files

refused(TFPairModel(PairConfig()), "onnx", "these are exported. Keras models go --to saved-model")
refused(maquette.DistilBertModel(config), "saved-model", "is of torch, and a SavedModel is made of Keras")
"""
ON_JAX = """
refused(TFPairModel(PairConfig()), "saved-model", "set KERAS_BACKEND=tensorflow before Keras is imported")
"""


def test_keras_models_as_graphs_of_tensorflow(run_fresh) -> None:
    run_fresh(COMMON + ON_TENSORFLOW, env={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"})


def test_another_backend_is_refused(run_fresh) -> None:
    run_fresh(COMMON + ON_JAX, env={"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"})
