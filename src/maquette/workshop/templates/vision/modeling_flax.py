"""Blueprint in Flax: the torch model's modules under the torch model's names, so that all read each other's files.

Images come in and features go out as `(batch, channels, height, width)`, as in torch; inside, channels are the last
axis. Models give logits, no losses.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from maquette import (
    BaseModelOutputWithPoolingAndNoAttention,
    FlaxPreTrainedModel,
    ImageClassifierOutputWithNoAttention,
)

from .configuration import BlueprintConfig


def norm(groups: int) -> nn.GroupNorm:
    """Make a norm that adds to the variance what torch's adds."""
    return nn.GroupNorm(groups, epsilon=1e-5)


def convolution(width: int, strides: int = 1) -> nn.Conv:
    """Make a convolution over 3 × 3 places, with one place of zeros around."""
    return nn.Conv(width, (3, 3), strides=strides, padding=1)


class Block(nn.Module):
    """Two convolutions on normed features, added to what came in (He et al. 2016, Identity Mappings)."""

    width: int
    groups: int

    def setup(self) -> None:
        self.norm1, self.norm2 = norm(self.groups), norm(self.groups)
        self.conv1, self.conv2 = convolution(self.width), convolution(self.width)

    def __call__(self, x: Array) -> Array:  # (batch, rows, columns, width)
        return x + self.conv2(nn.relu(self.norm2(self.conv1(nn.relu(self.norm1(x))))))


class Stage(nn.Module):
    """A convolution that halves the sides and changes the width, then blocks."""

    width: int
    depth: int
    groups: int

    def setup(self) -> None:
        self.enter = convolution(self.width, strides=2)
        self.blocks = [Block(self.width, self.groups) for _ in range(self.depth)]

    def __call__(self, x: Array) -> Array:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x


class FlaxBlueprintPreTrainedModel(FlaxPreTrainedModel):
    """What all Blueprint models share. The head takes the arguments of `FlaxBlueprintModel`."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Two small images."""
        shape = (2, self.config.num_channels, 8, 8)
        return {"pixel_values": np.linspace(-1, 1, np.prod(shape, dtype=int), dtype="float32").reshape(shape)}


class FlaxBlueprintModel(FlaxBlueprintPreTrainedModel):
    """Turns images into features, one vector for every small square of an image, and one for the whole."""

    def setup(self) -> None:
        config = self.config
        self.stages = [
            Stage(width, depth, config.groups) for width, depth in zip(config.widths, config.depths, strict=True)
        ]
        self.norm = norm(config.groups)

    def __call__(self, pixel_values: Array, *, return_dict: bool | None = None) -> Any:
        """Compute features, `last_hidden_state` of shape `(batch, width, rows, columns)`, and their mean.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, as the image processor gives them.
            return_dict: False gives a tuple; unless given, as in the configuration.
        """
        x = jnp.asarray(pixel_values, self.dtype).transpose(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        x = nn.relu(self.norm(x)).transpose(0, 3, 1, 2)
        output = BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=x, pooler_output=x.mean((2, 3)))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxBlueprintForImageClassification(FlaxBlueprintPreTrainedModel):
    """Tells which class, or classes, an image is of."""

    def setup(self) -> None:
        self.model = FlaxBlueprintModel(self.config)
        self.score = nn.Dense(self.config.num_labels)

    def __call__(self, pixel_values: Array, *, return_dict: bool | None = None) -> Any:
        """Give logits `(batch, num_labels)`."""
        logits = self.score(self.model(pixel_values, return_dict=True).pooler_output)
        output = ImageClassifierOutputWithNoAttention(logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
