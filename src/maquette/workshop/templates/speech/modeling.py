"""Blueprint: convolutions over the frames of a sound, and a head that tells what was heard.

It reads from top to bottom: block, base model, head. Padding is not real: states there are zeros, and change no others.
"""

from typing import Any

import torch
from torch import Tensor, nn

from maquette import BaseModelOutput, PreTrainedModel, SequenceClassifierOutput
from maquette.modeling.losses import compute_classification_loss

from .configuration import BlueprintConfig

Opt = Tensor | None


class Block(nn.Module):
    """A convolution over frames, then a layer for each frame; added to what came in."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.conv = nn.Conv1d(config.dim, config.dim, config.kernel, padding=config.kernel // 2)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (batch, frames, dim), (batch, frames, 1)
        heard = self.conv((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.out(nn.functional.gelu(heard)) * mask


class BlueprintPreTrainedModel(PreTrainedModel):
    """What all Blueprint models share. The head takes the arguments of `BlueprintModel`, and labels."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    main_input_name = "input_features"

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two short sounds."""
        return {"input_features": torch.linspace(-1, 1, 2 * 7 * self.config.bands).view(2, 7, -1)}


class BlueprintModel(BlueprintPreTrainedModel):
    """Turns sounds into states, one vector per frame."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.enter = nn.Linear(config.bands, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, input_features: Tensor, attention_mask: Opt = None, *, return_dict: bool | None = None) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, frames, dim)`, zeros at padding.

        Args:
            input_features: `(batch, frames, bands)`, as the feature extractor gives them.
            attention_mask: `(batch, frames)`, 0 at padding; unless given, all frames are real.
            return_dict: False gives a tuple; unless given, as in the configuration.
        """
        features = input_features.to(self.dtype)
        mask = torch.ones_like(features[..., :1]) if attention_mask is None else attention_mask[..., None].to(features)
        x = self.enter(features) * mask
        for block in self.blocks:
            x = block(x, mask)
        output = BaseModelOutput(last_hidden_state=self.norm(x) * mask)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class BlueprintForAudioClassification(BlueprintPreTrainedModel):
    """Tells which class, or classes, a sound is of, from the mean of its frames."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = BlueprintModel(config)
        self.score = nn.Linear(config.dim, config.num_labels)

    def forward(
        self, input_features: Tensor, attention_mask: Opt = None, *, labels: Opt = None, return_dict: bool | None = None
    ) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        sums = self.model(input_features, attention_mask, return_dict=True).last_hidden_state.sum(1)
        count = input_features.shape[1] if attention_mask is None else attention_mask.sum(1, keepdim=True).clamp(min=1)
        logits = self.score(sums / count)
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
