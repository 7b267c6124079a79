"""ResNet (He et al. 2016) in Flax: the torch model's modules under the torch model's names.

Images come in and states go out as `(batch, channels, height, width)`, as in torch; inside, shapes are `(batch, height,
width, channels)`. Models give logits, no losses.

`train=True` normalises by the batch's own mean and variance; with `apply(…, train=True, mutable=["batch_stats"])`, the
running ones follow. The running variance follows that of the batch itself; torch's follows n / (n - 1) times that, for
n values of a channel in the batch.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from maquette import (
    FLAX_ACT2FN,
    BaseModelOutputWithPoolingAndNoAttention,
    FlaxPreTrainedModel,
    ImageClassifierOutputWithNoAttention,
)
from maquette.modeling.backbone import BackboneMixin

from .configuration import ResNetConfig
from .inputs import check_images, draw_images

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, equation 14


class ConvLayer(nn.Module):
    """A convolution, batch normalisation and, unless it is None, an activation."""

    outputs: int
    kernel: int = 3
    stride: int = 1
    activation: str | None = "relu"

    def setup(self) -> None:
        self.convolution = nn.Conv(
            self.outputs,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=self.kernel // 2,
            use_bias=False,
            kernel_init=he_normal,
        )
        self.normalization = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_fast_variance=False)

    def __call__(self, x: Array, train: bool) -> Array:
        x = self.normalization(self.convolution(x), use_running_average=not train)
        return FLAX_ACT2FN[self.activation](x) if self.activation else x


class Block(nn.Module):
    """Convolutions whose result is added to the block's input, or to its projection where shapes differ.

    Published checkpoints have ReLU inside of blocks in any case.
    """

    config: ResNetConfig
    inputs: int
    outputs: int
    stride: int

    def setup(self) -> None:
        same = self.inputs == self.outputs and self.stride == 1
        self.shortcut = None if same else ConvLayer(self.outputs, kernel=1, stride=self.stride, activation=None)
        if self.config.layer_type == "basic":
            self.layer = [ConvLayer(self.outputs, stride=self.stride), ConvLayer(self.outputs, activation=None)]
        else:
            first, second = (self.stride, 1) if self.config.downsample_in_bottleneck else (1, self.stride)
            self.layer = [
                ConvLayer(self.outputs // 4, kernel=1, stride=first),
                ConvLayer(self.outputs // 4, stride=second),
                ConvLayer(self.outputs, kernel=1, activation=None),
            ]

    def __call__(self, x: Array, train: bool) -> Array:
        residual = self.shortcut(x, train) if self.shortcut else x
        for layer in self.layer:
            x = layer(x, train)
        return FLAX_ACT2FN[self.config.hidden_act](x + residual)


class Stem(nn.Module):
    """Turns images into states of a fourth of their resolution."""

    config: ResNetConfig

    def setup(self) -> None:
        act = self.config.hidden_act
        self.embedder = ConvLayer(self.config.embedding_size, kernel=7, stride=2, activation=act)

    def __call__(self, x: Array, train: bool) -> Array:
        return nn.max_pool(self.embedder(x, train), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class Stage(nn.Module):
    """Blocks of one width, of which the first may halve the resolution."""

    config: ResNetConfig
    inputs: int
    outputs: int
    stride: int
    depth: int

    def setup(self) -> None:
        rest = (Block(self.config, self.outputs, self.outputs, 1) for _ in range(self.depth - 1))
        self.layers = [Block(self.config, self.inputs, self.outputs, self.stride), *rest]

    def __call__(self, x: Array, train: bool) -> Array:
        for block in self.layers:
            x = block(x, train)
        return x


class Encoder(nn.Module):
    """The stages, one after the other."""

    config: ResNetConfig

    def setup(self) -> None:
        config = self.config
        widths = itertools.pairwise([config.embedding_size, *config.hidden_sizes])
        strides = [2 if config.downsample_in_first_stage else 1, *[2] * (len(config.depths) - 1)]
        self.stages = [
            Stage(config, inputs, outputs, stride, depth)
            for (inputs, outputs), stride, depth in zip(widths, strides, config.depths, strict=True)
        ]

    def __call__(self, x: Array, train: bool) -> list[Array]:
        """Give the states before, between and behind the stages."""
        states = [x]
        for stage in self.stages:
            states = [*states, stage(states[-1], train)]
        return states


class Classifier(nn.Module):
    """Scores every class; checkpoints count it as the second of two layers, behind one that has no weights."""

    config: ResNetConfig

    @nn.compact
    def __call__(self, pooled: Array) -> Array:
        x, bound = pooled.reshape(pooled.shape[0], -1), self.config.hidden_sizes[-1] ** -0.5

        def uniform(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        count = self.config.num_labels
        return nn.Dense(count, kernel_init=uniform, bias_init=uniform, name="1")(x) if count else x


class FlaxResNetPreTrainedModel(FlaxPreTrainedModel):
    """What all ResNet models share."""

    config_class = ResNetConfig
    base_model_prefix = "resnet"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": draw_images(self.config)}

    def _encode(self, pixel_values: Array, train: bool) -> list[Array]:
        """Give the states before, between and behind the stages, `(batch, channels, height, width)`."""
        check_images(self.config, pixel_values)
        x = jnp.asarray(pixel_values, self.dtype).transpose(0, 2, 3, 1)
        return [state.transpose(0, 3, 1, 2) for state in self.encoder(self.embedder(x, train), train)]


class FlaxResNetModel(FlaxResNetPreTrainedModel):
    """Turns images into states, one vector per place, and one vector for the whole image."""

    def setup(self) -> None:
        self.embedder = Stem(self.config)
        self.encoder = Encoder(self.config)

    def __call__(
        self,
        pixel_values: Array,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
    ) -> Any:
        """Compute `last_hidden_state`, and its mean over all places as `pooler_output`, `(batch, channels, 1, 1)`.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, of any resolution.
            output_hidden_states: give what is before, between and behind the stages too.
            return_dict: unless given, as in the configuration; False gives a tuple.
            train: normalise by the batch's own mean and variance.

        Raises:
            ValueError: another number of axes or channels, or whole numbers.
        """
        states = self._encode(pixel_values, train)
        kept = tuple(states) if self._chosen("output_hidden_states", output_hidden_states) else None
        pooled = states[-1].mean((2, 3), keepdims=True)
        output = BaseModelOutputWithPoolingAndNoAttention(states[-1], pooled, kept)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxResNetForImageClassification(FlaxResNetPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def setup(self) -> None:
        self.resnet = FlaxResNetModel(self.config)
        self.classifier = Classifier(self.config)

    def __call__(self, pixel_values: Array, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `options` are those of `FlaxResNetModel`."""
        output = self.resnet(pixel_values, **{**options, "return_dict": True})
        logits = self.classifier(output.pooler_output)
        return self._make_output(ImageClassifierOutputWithNoAttention, output, options, None, logits)


class FlaxResNetBackbone(BackboneMixin, FlaxResNetPreTrainedModel):
    """Gives feature maps of the stages that `config.out_features` names, for other models to build on.

    The stages are chosen when it is made: a Flax module does not change.
    """

    @property
    def num_features(self) -> list[int]:  # type: ignore[override]
        """The channels of every stage."""
        return [self.config.embedding_size, *self.config.hidden_sizes]

    def setup(self) -> None:
        self.embedder = Stem(self.config)
        self.encoder = Encoder(self.config)

    def __call__(
        self,
        pixel_values: Array,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
    ) -> Any:
        """Compute `feature_maps`, one per chosen stage, `(batch, channels, height, width)`; see `FlaxResNetModel`."""
        states = self._encode(pixel_values, train)
        return self.give_maps(states, output_hidden_states=output_hidden_states, return_dict=return_dict)
