"""Vision Transformer (Dosovitskiy et al. 2021) in Flax: the torch model's modules under the torch model's names.

Images come in as `(batch, channels, height, width)`, as in torch; only the convolutions see the channels last. Models
give logits, no losses. `train=True` drops states out, by the random numbers called "dropout". `modeling.py` tells what
else there is to know.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from maquette import (
    FLAX_ACT2FN,
    BaseModelOutputWithPooling,
    FlaxPreTrainedModel,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
)
from maquette.modeling.flax_layers import attention, join_heads, split_heads
from maquette.modeling.tables import draw_bicubic

from .configuration import ViTConfig
from .inputs import check_images, check_mask, draw_images, draw_mask, find_grid, require_token

Opt = Array | None


def linear(config: ViTConfig, outputs: int, *, use_bias: bool = True) -> nn.Dense:
    """Make a linear layer as the configuration initialises them."""
    return nn.Dense(outputs, use_bias=use_bias, kernel_init=nn.initializers.normal(config.initializer_range))


def convolution(config: ViTConfig, outputs: int, patch: tuple[int, int]) -> nn.Conv:
    """Make a convolution over patches side by side, likewise."""
    normal = nn.initializers.normal(config.initializer_range)
    return nn.Conv(outputs, patch, strides=patch, padding="VALID", kernel_init=normal)


def norm(config: ViTConfig) -> nn.LayerNorm:
    """Make a layer that norms states; its variance is computed as elsewhere, exact also where the mean is large."""
    return nn.LayerNorm(epsilon=config.layer_norm_eps, use_fast_variance=False)


class PatchEmbeddings(nn.Module):
    """Turns every patch of an image into one vector."""

    config: ViTConfig

    def setup(self) -> None:
        self.projection = convolution(self.config, self.config.hidden_size, self.config.patch_shape)

    def __call__(self, pixels: Array) -> Array:
        return self.projection(pixels.transpose(0, 2, 3, 1))  # (batch, rows, columns, dim)


class Embeddings(nn.Module):
    """Turns images into tokens that know where they are."""

    config: ViTConfig
    use_mask_token: bool

    def setup(self) -> None:
        config, normal = self.config, nn.initializers.normal(self.config.initializer_range)
        dim, count = config.hidden_size, config.grid[0] * config.grid[1]
        self.cls_token = self.param("cls_token", normal, (1, 1, dim))
        self.mask_token = self.param("mask_token", nn.initializers.zeros, (1, 1, dim)) if self.use_mask_token else None
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = self.param("position_embeddings", normal, (1, 1 + count, dim))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(self, pixels: Array, masked: Opt, interpolates: bool, train: bool) -> Array:
        check_images(self.config, pixels.shape, pixels.dtype, interpolates=interpolates)
        x = self.patch_embeddings(pixels.astype(self.cls_token.dtype))
        rows, columns = x.shape[1:3]
        x = x.reshape(x.shape[0], rows * columns, -1)
        if masked is not None:
            token = require_token(self.mask_token)
            check_mask(masked.shape, x.shape[:2])
            x = jnp.where(masked.astype(bool)[..., None], token, x)
        first = jnp.broadcast_to(self.cls_token, (x.shape[0], 1, x.shape[2]))
        x = jnp.concatenate([first, x], axis=1)  # (batch, tokens, dim)
        return self.dropout(x + self._positions(rows, columns), deterministic=not train)

    def _positions(self, rows: int, columns: int) -> Array:
        """Give a vector for every token; a grid of another size than the learned one is drawn from it, bicubically."""
        (own_rows, own_columns), positions = self.config.grid, self.position_embeddings
        if (rows, columns) == (own_rows, own_columns):
            return positions
        table = positions[0, 1:].reshape(own_rows, own_columns, -1)
        down, across = draw_bicubic(own_rows, rows), draw_bicubic(own_columns, columns)
        table = jnp.einsum("ri,cj,ijd->rcd", down, across, table).astype(positions.dtype)
        return jnp.concatenate([positions[:, :1], table.reshape(1, rows * columns, -1)], axis=1)


class Projection(nn.Module):
    """A linear layer that checkpoints have one name further down."""

    config: ViTConfig
    outputs: int

    def setup(self) -> None:
        self.dense = linear(self.config, self.outputs)

    def __call__(self, x: Array) -> Array:
        return self.dense(x)


class SelfAttention(nn.Module):
    """Lets tokens look at each other."""

    config: ViTConfig
    number: int

    def setup(self) -> None:
        config = self.config
        self.heads = config.num_attention_heads - len(config.pruned_heads.get(self.number, ()))
        width = self.heads * (config.hidden_size // config.num_attention_heads)
        self.query, self.key, self.value = (linear(config, width, use_bias=config.qkv_bias) for _ in range(3))
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def __call__(self, queries: Array, x: Array, train: bool) -> tuple[Array, Array]:
        """Attend from `queries` to `x`; the attention weights are given too."""
        q, k, v = (split_heads(y, self.heads) for y in (self.query(queries), self.key(x), self.value(x)))
        attended, weights = attention(q, k, v, dropout=self.dropout, train=train)  # (batch, queries, heads, width)
        return join_heads(attended), weights


class Attention(nn.Module):
    """Attention, and the layer that brings its heads together; two modules, because checkpoints name them so."""

    config: ViTConfig
    number: int

    def setup(self) -> None:
        self.attention = SelfAttention(self.config, self.number)
        self.output = Projection(self.config, self.config.hidden_size)

    def __call__(self, queries: Array, x: Array, train: bool) -> tuple[Array, Array]:
        x, weights = self.attention(queries, x, train)
        return self.output(x), weights


class Block(nn.Module):
    """Attention, then a feed-forward network; each works on its input normed, and adds to it."""

    config: ViTConfig
    number: int

    def setup(self) -> None:
        config = self.config
        self.layernorm_before = norm(config)
        self.attention = Attention(config, self.number)
        self.layernorm_after = norm(config)
        self.intermediate = Projection(config, config.intermediate_size)
        self.output = Projection(config, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(self, x: Array, train: bool, only_first: bool) -> tuple[Array, Array]:
        """Give the states of all tokens, or of CLS only, and the attention weights."""
        normed = self.layernorm_before(x)  # (batch, tokens, dim)
        x, queries = (x[:, :1], normed[:, :1]) if only_first else (x, normed)
        attended, weights = self.attention(queries, normed, train)
        x = x + self.dropout(attended, deterministic=not train)
        inner = self.intermediate(self.layernorm_after(x))  # (batch, tokens, intermediate_size)
        inner = self.output(FLAX_ACT2FN[self.config.hidden_act](inner))
        return x + self.dropout(inner, deterministic=not train), weights


class Encoder(nn.Module):
    """The blocks, one after the other."""

    config: ViTConfig

    def setup(self) -> None:
        self.layer = [Block(self.config, number) for number in range(self.config.num_hidden_layers)]

    def __call__(self, x: Array, train: bool, only_first: bool) -> tuple[list[Array], list[Array]]:
        """Give the states before, between and after the blocks, and each block's attention weights."""
        states, kept = [x], list[Array]()
        for number, block in enumerate(self.layer, 1):
            x, weights = block(x, train, only_first and number == len(self.layer))
            states, kept = [*states, x], [*kept, weights]
        return states, kept


class Pooler(nn.Module):
    """Makes one vector of the image from the state of CLS."""

    config: ViTConfig

    def setup(self) -> None:
        self.dense = linear(self.config, self.config.pooler_output_size or self.config.hidden_size)

    def __call__(self, x: Array) -> Array:
        return FLAX_ACT2FN[self.config.pooler_act](self.dense(x[:, 0]))  # (batch, pooler_output_size)


class FlaxViTPreTrainedModel(FlaxPreTrainedModel):
    """What all ViT models share. Heads take the arguments of `FlaxViTModel`."""

    config_class = ViTConfig
    base_model_prefix = "vit"
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_missing = (r"^pooler\.", r"embeddings\.mask_token$")  # classifiers are saved without them

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": draw_images(self.config)}


class FlaxViTModel(FlaxViTPreTrainedModel):
    """Turns images into states, one vector for CLS and one for every patch."""

    add_pooling_layer: bool = True
    use_mask_token: bool = False

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.use_mask_token)
        self.encoder = Encoder(self.config)
        self.layernorm = norm(self.config)
        self.pooler = Pooler(self.config) if self.add_pooling_layer else None

    def __call__(
        self,
        pixel_values: Array,
        bool_masked_pos: Opt = None,
        *,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
        train: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, 1 + patches, dim)`, and what is asked for besides.

        Args:
            pixel_values: `(batch, channels, height, width)`, prepared as the model was trained.
            bool_masked_pos: `(batch, patches)`, true where the mask token takes the patch's place.
            interpolate_pos_encoding: take images of any size, stretching the positions over them; pixels at the right
                and at the bottom that fill no whole patch are not looked at.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of CLS only, `(batch, 1, dim)`.
            train: drop states out.

        Raises:
            ValueError: images of another size or with other channels, a mask that does not fit, or no mask token.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        masked = None if bool_masked_pos is None else jnp.asarray(bool_masked_pos)
        x = self.embeddings(jnp.asarray(pixel_values), masked, bool(interpolate_pos_encoding), train)
        states, weights = self.encoder(x, train, only_first and not keep_states and not keep_weights)
        x = self.layernorm(states[-1][:, :1] if only_first else states[-1])
        output = BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if keep_states else None,
            attentions=tuple(weights) if keep_weights else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class FlaxViTForImageClassification(FlaxViTPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def setup(self) -> None:
        self.vit = FlaxViTModel(self.config, add_pooling_layer=False)
        self.classifier = linear(self.config, self.config.num_labels) if self.config.num_labels else None

    def __call__(self, pixel_values: Array, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`."""
        output = self.vit(pixel_values, **{**options, "only_first": True, "return_dict": True})
        first = output.last_hidden_state[:, 0]
        logits = first if self.classifier is None else self.classifier(first)
        return self._make_output(ImageClassifierOutput, output, options, None, logits)


class FlaxViTForMaskedImageModeling(FlaxViTPreTrainedModel):
    """Guesses the pixels of patches that it does not see (Xie et al. 2022, SimMIM)."""

    def setup(self) -> None:
        self.vit = FlaxViTModel(self.config, add_pooling_layer=False, use_mask_token=True)
        outputs = self.config.encoder_stride**2 * self.config.num_channels
        self.decoder = [convolution(self.config, outputs, (1, 1))]

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {**super().dummy_inputs, **draw_mask(self.config)}

    def __call__(self, pixel_values: Array, bool_masked_pos: Opt = None, **options: Any) -> Any:
        """Give `reconstruction`, the image; `bool_masked_pos`, `(batch, patches)`, says what the model does not see."""
        output = self.vit(pixel_values, bool_masked_pos, **{**options, "return_dict": True})
        x, grid = output.last_hidden_state[:, 1:], find_grid(self.config, pixel_values.shape)
        x = self.decoder[0](x.reshape(x.shape[0], *grid, -1))
        image = shuffle_pixels(x, self.config.encoder_stride)  # (batch, channels, height, width)
        return self._make_output(MaskedImageModelingOutput, output, options, None, image)


def shuffle_pixels(x: Array, stride: int) -> Array:
    """Make pixels of channels, `(batch, rows, columns, channels · stride²)` to `(batch, channels, height, width)`."""
    batch, rows, columns, _ = x.shape
    x = x.reshape(batch, rows, columns, -1, stride, stride).transpose(0, 3, 1, 4, 2, 5)
    return x.reshape(batch, -1, rows * stride, columns * stride)
