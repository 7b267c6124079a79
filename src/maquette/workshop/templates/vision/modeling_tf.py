"""Blueprint in Keras: the torch model's layers under the torch model's names, so that all read each other's files.

Images come in and features go out as `(batch, channels, height, width)`, as in torch; inside, channels are the last
axis, which TensorFlow can compute on any machine.
"""

from typing import Any

import numpy as np
from keras import ops
from keras.layers import Conv2D, Dense, GroupNormalization, Layer

from maquette import (
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    TFPreTrainedModel,
)
from maquette.modeling.tf_losses import compute_classification_loss

from .configuration import BlueprintConfig


def norm(groups: int) -> GroupNormalization:
    """Make a norm that adds to the variance what torch's adds."""
    return GroupNormalization(groups, epsilon=1e-5)


def convolution(width: int, strides: int = 1) -> Conv2D:
    """Make a convolution over 3 × 3 places, with one place of zeros around where it takes no strides."""
    padding = "same" if strides == 1 else "valid"
    return Conv2D(width, 3, strides=strides, padding=padding, data_format="channels_last")


class Block(Layer):
    """Two convolutions on normed features, added to what came in (He et al. 2016, Identity Mappings)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(groups), norm(groups)
        self.conv1, self.conv2 = convolution(width), convolution(width)

    def call(self, x: Any) -> Any:  # (batch, rows, columns, width)
        return x + self.conv2(ops.relu(self.norm2(self.conv1(ops.relu(self.norm1(x))))))


class Stage(Layer):
    """A convolution that halves the sides and changes the width, then blocks."""

    def __init__(self, width: int, depth: int, groups: int) -> None:
        super().__init__()
        self.enter = convolution(width, strides=2)
        self.blocks = [Block(width, groups) for _ in range(depth)]

    def call(self, x: Any) -> Any:
        x = self.enter(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))  # "same" would leave out the top and left
        for block in self.blocks:
            x = block(x)
        return x


class TFBlueprintPreTrainedModel(TFPreTrainedModel):
    """What all Blueprint models share. The head takes the arguments of `TFBlueprintModel`, and labels."""

    config_class = BlueprintConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Two small images."""
        shape = (2, self.config.num_channels, 8, 8)
        return {"pixel_values": np.linspace(-1, 1, np.prod(shape, dtype=int), dtype="float32").reshape(shape)}


class TFBlueprintModel(TFBlueprintPreTrainedModel):
    """Turns images into features, one vector for every small square of an image, and one for the whole."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.stages = [
            Stage(width, depth, config.groups) for width, depth in zip(config.widths, config.depths, strict=True)
        ]
        self.norm = norm(config.groups)

    def call(self, pixel_values: Any, *, return_dict: bool | None = None) -> Any:
        """Compute features, `last_hidden_state` of shape `(batch, width, rows, columns)`, and their mean.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, as the image processor gives them.
            return_dict: False gives a tuple; unless given, as in the configuration.
        """
        x = ops.transpose(ops.cast(pixel_values, self.compute_dtype), (0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        x = ops.transpose(ops.relu(self.norm(x)), (0, 3, 1, 2))
        output = BaseModelOutputWithPoolingAndNoAttention(last_hidden_state=x, pooler_output=ops.mean(x, axis=(2, 3)))
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFBlueprintForImageClassification(TFBlueprintPreTrainedModel):
    """Tells which class, or classes, an image is of."""

    def __init__(self, config: BlueprintConfig) -> None:
        super().__init__(config)
        self.model = TFBlueprintModel(config)
        self.score = Dense(config.num_labels)

    def call(self, pixel_values: Any, *, labels: Any = None, return_dict: bool | None = None) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        logits = self.score(self.model(pixel_values, return_dict=True).pooler_output)
        kind = self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        output = ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()
