"""From sounds to states in Keras: the layers of `encoder` under their names, channels last.

Padding is computed along: `real` is `(batch, frames)`, True at real frames, or None where all are. It is hidden from
attention, and zeros for convolutions over frames.
"""

import math
from typing import Any

import keras
from keras import ops
from keras.initializers import Constant, RandomNormal, RandomUniform, VarianceScaling
from keras.layers import Conv1D, Dense, Dropout, GroupNormalization, Layer, LayerNormalization

from maquette import TF_ACT2FN
from maquette.modeling.tf_layers import attention, fill_padding, join_heads, split_heads

from .configuration import Wav2Vec2Config
from .frames import shrink_adapted


def linear(config: Wav2Vec2Config, outputs: int) -> Dense:
    """Make a linear layer as the configuration initialises them."""
    return Dense(outputs, kernel_initializer=RandomNormal(stddev=config.initializer_range))


def convolution(inputs: int, outputs: int, kernel: int, stride: int, *, use_bias: bool = True) -> "Convolution":
    """Make a convolution over time as the model initialises them."""
    bound = (inputs * kernel) ** -0.5
    return Convolution(
        outputs,
        kernel,
        stride,
        use_bias=use_bias,
        data_format="channels_last",
        kernel_initializer=VarianceScaling(2.0, "fan_in", "untruncated_normal"),
        bias_initializer=RandomUniform(-bound, bound),
    )


class Convolution(Conv1D):
    """A convolution over time that computes half precision on a CPU as `convolve` does."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve; Keras adds the bias and the activation."""
        return convolve(inputs, kernel, self.strides[0])


def convolve(x: Any, kernel: Any, stride: int = 1) -> Any:
    """Convolve `(batch, samples, channels)`; on a CPU half precision is computed in float32.

    What TensorFlow calls there is wrong for few channels in bfloat16 on processors with AMX.
    """
    kind = keras.backend.standardize_dtype(x.dtype)
    if kind in ("bfloat16", "float16") and keras.distribution.list_devices()[0].startswith("cpu"):
        x, kernel = ops.cast(x, "float32"), ops.cast(kernel, "float32")
    return ops.cast(ops.conv(x, kernel, stride, data_format="channels_last"), kind)


# Hearing ---------------------------------------------------------------------------------------------------------


class ConvLayer(Layer):
    """A convolution over time, a norm where there is one, and the activation."""

    def __init__(self, config: Wav2Vec2Config, number: int) -> None:
        super().__init__()
        channels = config.conv_dim[number]
        before = config.conv_dim[number - 1] if number else 1
        kernel, stride = config.conv_kernel[number], config.conv_stride[number]
        self.conv = convolution(before, channels, kernel, stride, use_bias=config.conv_bias)
        self.layer_norm = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = LayerNormalization(epsilon=1e-5)
        elif number == 0:
            self.layer_norm = GroupNormalization(channels, epsilon=1e-5)
        self.activation = TF_ACT2FN[config.feat_extract_activation]

    def call(self, x: Any) -> Any:
        x = self.conv(x)  # (batch, fewer samples, channels)
        return self.activation(x if self.layer_norm is None else self.layer_norm(x))


class FeatureEncoder(Layer):
    """Turns sounds into features, one every `config.inputs_to_logits_ratio` samples."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.conv_layers = [ConvLayer(config, number) for number in range(len(config.conv_dim))]

    def call(self, waves: Any) -> Any:
        """Give features `(batch, frames, channels)` of `(batch, samples)`."""
        x = waves[..., None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(Layer):
    """Brings features to the width of the encoder."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        bound = config.conv_dim[-1] ** -0.5
        uniform = [RandomUniform(-bound, bound) for _ in range(2)]
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps)
        self.projection = Dense(config.hidden_size, kernel_initializer=uniform[0], bias_initializer=uniform[1])
        self.dropout = Dropout(config.feat_proj_dropout)

    def call(self, features: Any) -> Any:
        features = self.layer_norm(features)
        return self.dropout(self.projection(features)), features


# The encoder -----------------------------------------------------------------------------------------------------


class NormedWeight(Layer):
    """A kernel made of directions and, for each of its taps, a length (Salimans and Kingma 2016, equation 2)."""

    def __init__(self, width: int, channels: int, kernel: int) -> None:
        super().__init__()
        std = 2 / math.sqrt(kernel * width)
        usual, directions = Constant(std * math.sqrt(width * channels)), RandomNormal(stddev=std)
        self.original0 = self.add_weight(shape=(1, 1, kernel), initializer=usual, name="original0")  # the lengths
        self.original1 = self.add_weight(shape=(width, channels, kernel), initializer=directions, name="original1")

    def call(self, x: Any) -> Any:
        """Give the kernel in the type of `x`, `(kernel, channels, width)` as Keras has it."""
        lengths, directions = (ops.cast(weight, x.dtype) for weight in (self.original0, self.original1))
        norms = ops.sqrt(ops.sum(ops.square(directions), axis=(0, 1), keepdims=True))
        return ops.transpose(directions * (lengths / norms), (2, 1, 0))


class NormedConv(Layer):
    """A grouped convolution with such a kernel; its parameters have the names that torch's parametrisation gives."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, (kernel // 2, (kernel - 1) // 2)
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.parametrizations = {"weight": NormedWeight(width, width // groups, kernel)}

    def call(self, x: Any) -> Any:
        """Compute `(batch, frames, width)`, group by group: not every backend has convolutions in groups."""
        padded = ops.pad(x, ((0, 0), self.padding, (0, 0)))
        kernels = ops.split(self.parametrizations["weight"](x), self.groups, axis=-1)
        parts = zip(ops.split(padded, self.groups, axis=-1), kernels, strict=True)
        return ops.concatenate([convolve(part, kernel) for part, kernel in parts], axis=-1) + self.bias


class PositionalConvolution(Layer):
    """Tells each frame where it is by what is around it (Mohamed et al. 2019)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        self.conv = NormedConv(config.hidden_size, kernel, groups)
        self.activation = TF_ACT2FN[config.feat_extract_activation]

    def call(self, x: Any) -> Any:
        """Compute `(batch, frames, width)`, which has to be zeros at padding."""
        return self.activation(self.conv(x))


class Attention(Layer):
    """Lets frames look at the frames of their own clip."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (linear(config, config.hidden_size) for _ in range(4))
        self.dropout = Dropout(config.attention_dropout)

    def call(self, x: Any, real: Any) -> Any:
        q, k, v = (split_heads(project(x), self.heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        attended, weights = attention(q, k, v, real, dropout=self.dropout)  # (batch, frames, heads, width)
        return self.out_proj(join_heads(attended)), weights


class FeedForward(Layer):
    """Works on each frame by itself."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.intermediate_dense = linear(config, config.intermediate_size)
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = linear(config, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)
        self.activation = TF_ACT2FN[config.hidden_act]

    def call(self, x: Any) -> Any:
        x = self.intermediate_dropout(self.activation(self.intermediate_dense(x)))
        return self.output_dropout(self.output_dense(x))


class LanguageAdapter(Layer):
    """The part of a block that is exchanged from language to language; checkpoints number its layers so."""

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.norm = LayerNormalization(epsilon=1e-5)
        self.linear_1, self.linear_2 = linear(config, width), linear(config, config.hidden_size)

    def call(self, x: Any) -> Any:
        return self.linear_2(ops.relu(self.linear_1(self.norm(x))))


class EncoderLayer(Layer):
    """Attention, then the feed-forward network; the norms come before them (stable), or after."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.is_stable = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.dropout = Dropout(config.hidden_dropout)
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = LayerNormalization(epsilon=config.layer_norm_eps)
        width = config.adapter_attn_dim
        self.adapter_layer = None if width is None else LanguageAdapter(config, width)

    def call(self, x: Any, real: Any) -> Any:
        """Give the states, and the attention weights."""
        attended, weights = self.attention(self.layer_norm(x) if self.is_stable else x, real)
        x = x + self.dropout(attended)  # (batch, frames, width)
        if not self.is_stable:
            x = self.layer_norm(x)
            return self.final_layer_norm(x + self.feed_forward(x)), weights
        x = x + self.feed_forward(self.final_layer_norm(x))
        return x if self.adapter_layer is None else x + self.adapter_layer(x), weights


class Encoder(Layer):
    """Positions, then the blocks; while training, some blocks count for nothing by chance."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.is_stable, self.layerdrop = config.do_stable_layer_norm, config.layerdrop
        self.pos_conv_embed = PositionalConvolution(config)
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any, real: Any, training: bool | None = None) -> Any:
        """Give the last states, those before, between and after the blocks, and each block's attention weights."""
        x = x + self.pos_conv_embed(fill_padding(x, real))
        x = self.dropout(x if self.is_stable else self.layer_norm(x))
        states, kept = [x], list[Any]()
        drops = keras.random.uniform((len(self.layers),), seed=self.seeds) < self.layerdrop if training else None
        for number, layer in enumerate(self.layers):
            y, weights = layer(x, real)
            x = y if drops is None else ops.where(drops[number], x, y)
            states, kept = [*states, x], [*kept, weights]
        return self.layer_norm(x) if self.is_stable else x, states, kept


# The adapter -----------------------------------------------------------------------------------------------------


class AdapterLayer(Layer):
    """A convolution that makes fewer frames, and a gate (Dauphin et al. 2016)."""

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.conv = convolution(width, 2 * width, config.adapter_kernel_size, config.adapter_stride)

    def call(self, x: Any) -> Any:
        values, gates = ops.split(self.conv(ops.pad(x, ((0, 0), (1, 1), (0, 0)))), 2, axis=-1)
        return values * ops.sigmoid(gates)  # (batch, fewer frames, width)


class Adapter(Layer):
    """Makes fewer frames of many, for decoders whose texts are short.

    All its layers always run: leaving one out by chance would change how many frames come out, which a compiler cannot
    follow.
    """

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.config, self.proj = config, None
        if width != config.hidden_size:
            self.proj, self.proj_layer_norm = linear(config, width), LayerNormalization(epsilon=1e-5)
        self.layers = [AdapterLayer(config, width) for _ in range(config.num_adapter_layers)]

    def call(self, x: Any, real: Any) -> Any:
        """Take states `(batch, frames, hidden_size)`; give `(batch, fewer frames, width)`, zeros at padding."""
        x = fill_padding(x if self.proj is None else self.proj_layer_norm(self.proj(x)), real)
        lengths = None if real is None else ops.sum(ops.cast(real, "int32"), axis=1)
        for layer in self.layers:
            x = layer(x)
            lengths = None if lengths is None else shrink_adapted(lengths, self.config)
            x = fill_padding(x, None if lengths is None else ops.arange(ops.shape(x)[1]) < lengths[:, None])
        return x
