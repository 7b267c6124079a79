"""The Flax part of `trio_torch`."""

import numpy as np
from flax import linen as nn

from maquette import FlaxPreTrainedModel, PretrainedConfig


class TrioConfig(PretrainedConfig):
    model_type = "trio"
    dim: int = 8
    num_labels: int = 3


class FlaxTrio(FlaxPreTrainedModel):
    config_class = TrioConfig
    epsilon = 1e-5

    def setup(self):
        self.norm, self.score = nn.LayerNorm(epsilon=self.epsilon), nn.Dense(self.config.num_labels)

    @property
    def dummy_inputs(self):
        return {"x": np.linspace(-1, 1, 3 * self.config.dim, dtype="float32").reshape(3, -1)}

    def __call__(self, x):
        return {"logits": self.score(self.norm(x))}


class FlaxTrioOfDefaults(FlaxTrio):
    epsilon = 1e-6  # what Flax has unless told
