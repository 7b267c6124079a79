"""The Keras part of `trio_torch`, and what is easily done wrong there."""

import keras
import numpy as np

from maquette import PretrainedConfig, TFPreTrainedModel
from maquette.modeling.tf_losses import compute_token_loss


class TrioConfig(PretrainedConfig):
    model_type = "trio"
    dim: int = 8
    num_labels: int = 3


class TFTrio(TFPreTrainedModel):
    config_class = TrioConfig
    epsilon = 1e-5

    def __init__(self, config):
        super().__init__(config)
        self.norm = keras.layers.LayerNormalization(epsilon=self.epsilon)
        self.score = keras.layers.Dense(config.num_labels)

    @property
    def dummy_inputs(self):
        return {"x": np.linspace(-1, 1, 3 * self.config.dim, dtype="float32").reshape(3, -1)}

    def call(self, x, labels=None):
        logits = self.score(self.norm(x))
        return {"logits": logits} if labels is None else {"loss": compute_token_loss(logits, labels), "logits": logits}


class TFTrioOfDefaults(TFTrio):
    epsilon = 1e-3  # what Keras has unless told


class TFTrioOfSums(TFTrio):
    def call(self, x, labels=None):
        found = super().call(x, labels)
        return found if labels is None else {**found, "loss": found["loss"] * 2}


class TFTrioRenamed(TFTrio):
    def __init__(self, config):
        super().__init__(config)
        self.scores = self.score
        del self.score
        self.score = lambda x: self.scores(x)
