"""Blueprint: a residual network, which looks at an image in stages, each coarser and wider than the one before.

It reads from top to bottom: block, stage, base model, head.
"""

from typing import Any

import torch
from torch import Tensor, nn

from maquette import (
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    PreTrainedModel,
)
from maquette.modeling.losses import compute_classification_loss

from .configuration import BlueprintConfig

Opt = Tensor | None


class Block(nn.Module):
    """Two convolutions on normed features, added to what came in (He et al. 2016, Identity Mappings)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (batch, width, rows, columns)
        return x + self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())


class Stage(nn.Module):
    """A convolution that halves the sides and changes the width, then blocks."""

    def __init__(self, inputs: int, width: int, depth: int, groups: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width, groups) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x


class BlueprintPreTrainedModel(PreTrainedModel):
    """What all Blueprint models share. The head takes the arguments of `BlueprintModel`, and labels."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two small images."""
        return {"pixel_values": torch.linspace(-1, 1, 2 * self.config.num_channels * 64).view(2, -1, 8, 8)}


class BlueprintModel(BlueprintPreTrainedModel):
    """Turns images into features, one vector for every small square of an image, and one for the whole."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        inputs = [config.num_channels, *config.widths]
        self.stages = nn.ModuleList(
            Stage(inputs[number], width, depth, config.groups)
            for number, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True))
        )
        self.norm = nn.GroupNorm(config.groups, config.widths[-1])

    def forward(self, pixel_values: Tensor, *, return_dict: bool | None = None) -> Any:
        """Compute features, `last_hidden_state` of shape `(batch, width, rows, columns)`, and their mean.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, as the image processor gives them.
            return_dict: False gives a tuple; unless given, as in the configuration.
        """
        x = pixel_values.to(self.dtype)
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x).relu()
        output = BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=x, pooler_output=x.mean((2, 3)))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class BlueprintForImageClassification(BlueprintPreTrainedModel):
    """Tells which class, or classes, an image is of."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = BlueprintModel(config)
        self.score = nn.Linear(config.widths[-1], config.num_labels)

    def forward(self, pixel_values: Tensor, *, labels: Opt = None, return_dict: bool | None = None) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        logits = self.score(self.model(pixel_values, return_dict=True).pooler_output)
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        output = ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
