"""From sounds to states in Flax: the modules of `encoder` under their names, channels last.

Padding is computed along: `real` is `(batch, frames)`, True at real frames, or None where all are. It is hidden from
attention, and zeros for convolutions over frames. `train` drops out, by the random numbers called "dropout".
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import constant, normal, variance_scaling, zeros
from jax import Array

from maquette import FLAX_ACT2FN
from maquette.modeling.flax_layers import attention, fill_padding, join_heads, split_heads

from .configuration import Wav2Vec2Config
from .frames import shrink_adapted

Opt = Array | None


def linear(config: Wav2Vec2Config, outputs: int) -> nn.Dense:
    """Make a linear layer as the configuration initialises them."""
    return nn.Dense(outputs, kernel_init=normal(config.initializer_range))


def uniform(bound: float) -> Any:
    """Make an initialiser that draws from -bound to bound."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def layer_norm(config: Wav2Vec2Config) -> nn.LayerNorm:
    """Make a norm over the channels of states."""
    return nn.LayerNorm(config.layer_norm_eps, use_fast_variance=False)


def convolution(inputs: int, outputs: int, kernel: int, stride: int, **options: Any) -> nn.Conv:
    """Make a convolution over time as the model initialises them."""
    weight, bias = variance_scaling(2.0, "fan_in", "normal"), uniform((inputs * kernel) ** -0.5)
    return nn.Conv(outputs, (kernel,), stride, kernel_init=weight, bias_init=bias, **{"padding": "VALID", **options})


# AudioOptions ---------------------------------------------------------------------------------------------------------


class ConvLayer(nn.Module):
    """A convolution over time, a norm where there is one, and the activation."""

    config: Wav2Vec2Config
    number: int

    def setup(self) -> None:
        config, number = self.config, self.number
        channels = config.conv_dim[number]
        before = config.conv_dim[number - 1] if number else 1
        kernel, stride = config.conv_kernel[number], config.conv_stride[number]
        self.conv = convolution(before, channels, kernel, stride, use_bias=config.conv_bias)
        if config.feat_extract_norm == "layer":
            self.layer_norm: Any = nn.LayerNorm(1e-5, use_fast_variance=False)
        elif number == 0:
            self.layer_norm = nn.GroupNorm(channels, epsilon=1e-5, use_fast_variance=False)

    def __call__(self, x: Array) -> Array:
        x = self.conv(x)  # (batch, fewer samples, channels)
        if self.config.feat_extract_norm == "layer" or self.number == 0:
            x = self.layer_norm(x)
        return FLAX_ACT2FN[self.config.feat_extract_activation](x)


class FeatureEncoder(nn.Module):
    """Turns sounds into features, one every `config.inputs_to_logits_ratio` samples."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        self.conv_layers = [ConvLayer(self.config, number) for number in range(len(self.config.conv_dim))]

    def __call__(self, waves: Array) -> Array:
        """Give features `(batch, frames, channels)` of `(batch, samples)`."""
        x = waves[..., None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nn.Module):
    """Brings features to the width of the encoder."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        init = uniform(self.config.conv_dim[-1] ** -0.5)
        self.layer_norm = layer_norm(self.config)
        self.projection = nn.Dense(self.config.hidden_size, kernel_init=init, bias_init=init)
        self.dropout = nn.Dropout(self.config.feat_proj_dropout)

    def __call__(self, features: Array, train: bool) -> tuple[Array, Array]:
        features = self.layer_norm(features)
        return self.dropout(self.projection(features), deterministic=not train), features


# The encoder -----------------------------------------------------------------------------------------------------


class NormedWeight(nn.Module):
    """A kernel made of directions and, for each of its taps, a length (Salimans and Kingma 2016, equation 2)."""

    shape: tuple[int, int, int]  # as torch has it, (width, channels, kernel)

    def setup(self) -> None:
        width, channels, kernel = self.shape
        std = 2 / math.sqrt(kernel * width)
        usual = constant(std * math.sqrt(width * channels))
        self.original0 = self.param("original0", usual, (1, 1, kernel))  # the lengths
        self.original1 = self.param("original1", normal(std), self.shape)  # the directions

    def __call__(self) -> Array:
        """Give the kernel, `(kernel, channels, width)` as JAX has it."""
        norms = jnp.sqrt(jnp.square(self.original1).sum((0, 1), keepdims=True))
        return (self.original1 * (self.original0 / norms)).transpose(2, 1, 0)


class Parametrizations(nn.Module):
    """Keeps the weight under the name that torch's parametrisation gives it."""

    shape: tuple[int, int, int]

    def setup(self) -> None:
        self.weight = NormedWeight(self.shape)

    def __call__(self) -> Array:
        return self.weight()


class NormedConv(nn.Module):
    """A grouped convolution with such a kernel."""

    width: int
    kernel: int
    groups: int

    def setup(self) -> None:
        self.bias = self.param("bias", zeros, (self.width,))
        self.parametrizations = Parametrizations((self.width, self.width // self.groups, self.kernel))

    def __call__(self, x: Array) -> Array:
        """Compute `(batch, frames, width)`."""
        options: dict[str, Any] = {"dimension_numbers": ("NHC", "HIO", "NHC"), "feature_group_count": self.groups}
        padding = (self.kernel // 2, (self.kernel - 1) // 2)
        kernel = self.parametrizations().astype(x.dtype)
        return jax.lax.conv_general_dilated(x, kernel, (1,), (padding,), **options) + self.bias


class PositionalConvolution(nn.Module):
    """Tells each frame where it is by what is around it (Mohamed et al. 2019)."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        kernel, groups = self.config.num_conv_pos_embeddings, self.config.num_conv_pos_embedding_groups
        self.conv = NormedConv(self.config.hidden_size, kernel, groups)

    def __call__(self, x: Array) -> Array:
        """Compute `(batch, frames, width)`, which has to be zeros at padding."""
        return FLAX_ACT2FN[self.config.feat_extract_activation](self.conv(x))


class Attention(nn.Module):
    """Lets frames look at the frames of their own clip."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        make = partial(linear, self.config, self.config.hidden_size)
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (make() for _ in range(4))
        self.dropout = nn.Dropout(self.config.attention_dropout)

    def __call__(self, x: Array, real: Opt, train: bool) -> tuple[Array, Array]:
        heads = self.config.num_attention_heads
        q, k, v = (split_heads(project(x), heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        attended, weights = attention(q, k, v, real, dropout=self.dropout, train=train)
        return self.out_proj(join_heads(attended)), weights


class FeedForward(nn.Module):
    """Works on each frame by itself."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        self.intermediate_dense = linear(self.config, self.config.intermediate_size)
        self.intermediate_dropout = nn.Dropout(self.config.activation_dropout)
        self.output_dense = linear(self.config, self.config.hidden_size)
        self.output_dropout = nn.Dropout(self.config.hidden_dropout)

    def __call__(self, x: Array, train: bool) -> Array:
        x = FLAX_ACT2FN[self.config.hidden_act](self.intermediate_dense(x))
        x = self.output_dense(self.intermediate_dropout(x, deterministic=not train))
        return self.output_dropout(x, deterministic=not train)


class LanguageAdapter(nn.Module):
    """The part of a block that is exchanged from language to language; checkpoints number its layers so."""

    config: Wav2Vec2Config
    width: int

    def setup(self) -> None:
        self.norm = nn.LayerNorm(1e-5, use_fast_variance=False)
        self.linear_1, self.linear_2 = linear(self.config, self.width), linear(self.config, self.config.hidden_size)

    def __call__(self, x: Array) -> Array:
        return self.linear_2(nn.relu(self.linear_1(self.norm(x))))


class EncoderLayer(nn.Module):
    """Attention, then the feed-forward network; the norms come before them (stable), or after."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        self.attention = Attention(self.config)
        self.dropout = nn.Dropout(self.config.hidden_dropout)
        self.feed_forward = FeedForward(self.config)
        self.layer_norm, self.final_layer_norm = layer_norm(self.config), layer_norm(self.config)
        width = self.config.adapter_attn_dim
        self.adapter_layer = None if width is None else LanguageAdapter(self.config, width)

    def __call__(self, x: Array, real: Opt, train: bool) -> tuple[Array, Array]:
        """Give the states, and the attention weights."""
        stable = self.config.do_stable_layer_norm
        attended, weights = self.attention(self.layer_norm(x) if stable else x, real, train)
        x = x + self.dropout(attended, deterministic=not train)  # (batch, frames, width)
        if not stable:
            x = self.layer_norm(x)
            return self.final_layer_norm(x + self.feed_forward(x, train)), weights
        x = x + self.feed_forward(self.final_layer_norm(x), train)
        return x if self.adapter_layer is None else x + self.adapter_layer(x), weights


class Encoder(nn.Module):
    """Positions, then the blocks; while training, some blocks count for nothing by chance."""

    config: Wav2Vec2Config

    def setup(self) -> None:
        self.pos_conv_embed = PositionalConvolution(self.config)
        self.layer_norm = layer_norm(self.config)
        self.dropout = nn.Dropout(self.config.hidden_dropout)
        self.layers = [EncoderLayer(self.config) for _ in range(self.config.num_hidden_layers)]

    def __call__(self, x: Array, real: Opt, train: bool) -> tuple[Array, list[Array], list[Array]]:
        """Give the last states, those before, between and after the blocks, and each block's attention weights."""
        stable, share = self.config.do_stable_layer_norm, self.config.layerdrop
        x = x + self.pos_conv_embed(fill_padding(x, real))
        x = self.dropout(x if stable else self.layer_norm(x), deterministic=not train)
        states, kept = [x], list[Array]()
        drops = jax.random.bernoulli(self.make_rng("dropout"), share, (len(self.layers),)) if train and share else None
        for number, layer in enumerate(self.layers):
            y, weights = layer(x, real, train)
            x = y if drops is None else jnp.where(drops[number], x, y)
            states, kept = [*states, x], [*kept, weights]
        return self.layer_norm(x) if stable else x, states, kept


# The adapter -----------------------------------------------------------------------------------------------------


class AdapterLayer(nn.Module):
    """A convolution that makes fewer frames, and a gate (Dauphin et al. 2016)."""

    config: Wav2Vec2Config
    width: int

    def setup(self) -> None:
        kernel, stride = self.config.adapter_kernel_size, self.config.adapter_stride
        self.conv = convolution(self.width, 2 * self.width, kernel, stride, padding=1)

    def __call__(self, x: Array) -> Array:
        return nn.glu(self.conv(x))  # (batch, fewer frames, width)


class Adapter(nn.Module):
    """Makes fewer frames of many, for decoders whose texts are short.

    All its layers always run: leaving one out by chance would change how many frames come out, which a compiler cannot
    follow.
    """

    config: Wav2Vec2Config
    width: int

    def setup(self) -> None:
        if self.width != self.config.hidden_size:
            self.proj = linear(self.config, self.width)
            self.proj_layer_norm = nn.LayerNorm(1e-5, use_fast_variance=False)
        self.layers = [AdapterLayer(self.config, self.width) for _ in range(self.config.num_adapter_layers)]

    def __call__(self, x: Array, real: Opt) -> Array:
        """Take states `(batch, frames, hidden_size)`; give `(batch, fewer frames, width)`, zeros at padding."""
        x = self.proj_layer_norm(self.proj(x)) if self.width != self.config.hidden_size else x
        x, lengths = fill_padding(x, real), None if real is None else real.sum(1)
        for layer in self.layers:
            x = layer(x)
            lengths = None if lengths is None else shrink_adapted(lengths, self.config)
            x = fill_padding(x, None if lengths is None else jnp.arange(x.shape[1]) < lengths[:, None])
        return x
