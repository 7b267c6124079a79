"""ResNet (He et al. 2016) in Keras: the torch model's layers under the torch model's names.

Images come in and states go out as `(batch, channels, height, width)`, as in torch; inside, shapes are `(batch, height,
width, channels)`, the order TensorFlow can compute on a CPU.

In training, the running variance follows that of the batch itself; torch's follows n / (n - 1) times that, for n values
of a channel in the batch.
"""

import itertools
from typing import Any

from keras import ops
from keras.initializers import RandomUniform, VarianceScaling
from keras.layers import BatchNormalization, Conv2D, Dense, Flatten, Layer

from maquette import (
    TF_ACT2FN,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    TFPreTrainedModel,
)
from maquette.modeling.backbone import BackboneMixin
from maquette.modeling.tf_losses import compute_classification_loss

from .configuration import ResNetConfig
from .inputs import check_images, draw_images


class ConvLayer(Layer):
    """A convolution, batch normalisation and, unless it is None, an activation."""

    def __init__(self, outputs: int, *, kernel: int = 3, stride: int = 1, activation: str | None = "relu") -> None:
        super().__init__()
        self.padding = kernel // 2
        self.convolution = Conv2D(
            outputs,
            kernel,
            strides=stride,
            use_bias=False,
            data_format="channels_last",
            kernel_initializer=VarianceScaling(2.0, "fan_out", "untruncated_normal"),  # He et al. 2015, equation 14
        )
        self.normalization = BatchNormalization(momentum=0.9, epsilon=1e-5)
        self.activation = TF_ACT2FN[activation] if activation else None

    def call(self, x: Any) -> Any:
        x = self.normalization(self.convolution(pad(x, self.padding)))
        return self.activation(x) if self.activation else x


def pad(x: Any, count: int, *, fill: float = 0.0) -> Any:
    """Surround images with so many pixels on every side; "same" would put fewer at the top and left."""
    widths = ((0, 0), (count, count), (count, count), (0, 0))
    return ops.pad(x, widths, constant_values=fill) if count else x


class Block(Layer):
    """Convolutions whose result is added to the block's input, or to its projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, activation: str, layers: list[ConvLayer]) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else ConvLayer(outputs, kernel=1, stride=stride, activation=None)
        self.layer = layers
        self.activation = TF_ACT2FN[activation]

    def call(self, x: Any) -> Any:
        residual = self.shortcut(x) if self.shortcut else x
        for layer in self.layer:
            x = layer(x)
        return self.activation(x + residual)


def make_block(config: ResNetConfig, inputs: int, outputs: int, *, stride: int) -> Block:
    """Build a block of the configuration's kind; published checkpoints have ReLU inside of blocks in any case."""
    if config.layer_type == "basic":
        layers = [ConvLayer(outputs, stride=stride), ConvLayer(outputs, activation=None)]
    else:
        first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
        layers = [
            ConvLayer(outputs // 4, kernel=1, stride=first),
            ConvLayer(outputs // 4, stride=second),
            ConvLayer(outputs, kernel=1, activation=None),
        ]
    return Block(inputs, outputs, stride=stride, activation=config.hidden_act, layers=layers)


class Stem(Layer):
    """Turns images into states of a fourth of their resolution."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.embedder = ConvLayer(config.embedding_size, kernel=7, stride=2, activation=config.hidden_act)

    def call(self, x: Any) -> Any:
        x = pad(self.embedder(x), 1, fill=float("-inf"))
        return ops.max_pool(x, 3, strides=2, padding="valid", data_format="channels_last")


class Stage(Layer):
    """Blocks of one width, of which the first may halve the resolution."""

    def __init__(self, config: ResNetConfig, inputs: int, outputs: int, *, stride: int, depth: int) -> None:
        super().__init__()
        rest = (make_block(config, outputs, outputs, stride=1) for _ in range(depth - 1))
        self.layers = [make_block(config, inputs, outputs, stride=stride), *rest]

    def call(self, x: Any) -> Any:
        for block in self.layers:
            x = block(x)
        return x


class Encoder(Layer):
    """The stages, one after the other."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        widths = itertools.pairwise([config.embedding_size, *config.hidden_sizes])
        strides = [2 if config.downsample_in_first_stage else 1, *[2] * (len(config.depths) - 1)]
        self.stages = [
            Stage(config, inputs, outputs, stride=stride, depth=depth)
            for (inputs, outputs), stride, depth in zip(widths, strides, config.depths, strict=True)
        ]

    def call(self, x: Any) -> Any:
        """Give the states before, between and behind the stages."""
        states = [x]
        for stage in self.stages:
            states = [*states, stage(states[-1])]
        return states


class TFResNetPreTrainedModel(TFPreTrainedModel):
    """What all ResNet models share."""

    config: ResNetConfig
    config_class = ResNetConfig
    base_model_prefix = "resnet"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": draw_images(self.config)}

    def _encode(self, pixel_values: Any) -> list[Any]:
        """Give the states before, between and behind the stages, `(batch, channels, height, width)`."""
        check_images(self.config, pixel_values)
        states = self.encoder(self.embedder(ops.transpose(pixel_values, (0, 2, 3, 1))))
        return [ops.transpose(state, (0, 3, 1, 2)) for state in states]


class TFResNetModel(TFResNetPreTrainedModel):
    """Turns images into states, one vector per place, and one vector for the whole image."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.embedder = Stem(config)
        self.encoder = Encoder(config)

    def call(
        self, pixel_values: Any, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `last_hidden_state`, and its mean over all places as `pooler_output`, `(batch, channels, 1, 1)`.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, of any resolution.
            output_hidden_states: give what is before, between and behind the stages too.
            return_dict: unless given, as in the configuration; False gives a tuple.

        Raises:
            ValueError: another number of axes or channels, or whole numbers.
        """
        states = self._encode(pixel_values)
        kept = tuple(states) if self._chosen("output_hidden_states", output_hidden_states) else None
        pooled = ops.mean(states[-1], axis=(2, 3), keepdims=True)
        output = BaseModelOutputWithPoolingAndNoAttention(states[-1], pooled, kept)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFResNetForImageClassification(TFResNetPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.resnet = TFResNetModel(config)
        bound = config.hidden_sizes[-1] ** -0.5
        uniform = RandomUniform(-bound, bound)
        self.classifier = [Flatten()]
        if config.num_labels:
            self.classifier.append(Dense(config.num_labels, kernel_initializer=uniform, bias_initializer=uniform))

    def call(self, pixel_values: Any, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is.

        `options` are those of `TFResNetModel`.
        """
        output = self.resnet(pixel_values, **{**options, "return_dict": True})
        logits, kind = output.pooler_output, self.config.problem_type
        for layer in self.classifier:
            logits = layer(logits)
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutputWithNoAttention, output, options, loss, logits)


class TFResNetBackbone(BackboneMixin, TFResNetPreTrainedModel):
    """Gives feature maps of the stages that `config.out_features` names, for other models to build on."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.num_features = [config.embedding_size, *config.hidden_sizes]
        self.embedder = Stem(config)
        self.encoder = Encoder(config)

    def call(
        self, pixel_values: Any, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `feature_maps`, one per chosen stage, `(batch, channels, height, width)`; see `TFResNetModel`."""
        states = self._encode(pixel_values)
        return self.give_maps(states, output_hidden_states=output_hidden_states, return_dict=return_dict)
