"""One architecture in three frameworks, the torch part; `trio_keras` and `trio_flax` have the others."""

import torch
from torch import nn

from maquette import PretrainedConfig, PreTrainedModel


class TrioConfig(PretrainedConfig):
    model_type = "trio"
    dim: int = 8
    num_labels: int = 3


class Trio(PreTrainedModel):
    config_class = TrioConfig

    def __init__(self, config: TrioConfig) -> None:
        super().__init__(config)
        self.norm, self.score = nn.LayerNorm(config.dim), nn.Linear(config.dim, config.num_labels)

    @property
    def dummy_inputs(self):
        return {"x": 0.1 * torch.linspace(-1, 1, 3 * self.config.dim).reshape(3, -1)}

    def forward(self, x, labels=None):
        logits = self.score(self.norm(x))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
