"""Vision Transformer (Dosovitskiy et al. 2021) in Keras: the torch model's layers under the torch model's names.

Images come in as `(batch, channels, height, width)`, as in torch; only the convolutions see the channels last, for that
is the order TensorFlow can compute on a CPU. `modeling.py` tells what else there is to know.
"""

from typing import Any

import keras
from keras import ops
from keras.layers import Conv2D, Dense, Dropout, Layer, LayerNormalization

from maquette import (
    TF_ACT2FN,
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    TFPreTrainedModel,
)
from maquette.modeling.tables import draw_bicubic
from maquette.modeling.tf_layers import attention, join_heads, split_heads
from maquette.modeling.tf_losses import compute_classification_loss

from .configuration import ViTConfig
from .inputs import check_images, check_mask, check_stride, draw_images, draw_mask, find_grid, require_token


def normal(config: ViTConfig) -> Any:
    """Make what the configuration initialises weights with."""
    return keras.initializers.RandomNormal(stddev=config.initializer_range)


def linear(config: ViTConfig, outputs: int, *, use_bias: bool = True) -> Dense:
    """Make a linear layer as the configuration initialises them."""
    return Dense(outputs, use_bias=use_bias, kernel_initializer=normal(config))


class PatchEmbeddings(Layer):
    """Turns every patch of an image into one vector."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        options = {"data_format": "channels_last", "kernel_initializer": normal(config)}
        self.projection = Conv2D(config.hidden_size, config.patch_shape, strides=config.patch_shape, **options)

    def call(self, pixels: Any) -> Any:
        return self.projection(ops.transpose(pixels, (0, 2, 3, 1)))  # (batch, rows, columns, dim)


class Embeddings(Layer):
    """Turns images into tokens that know where they are."""

    def __init__(self, config: ViTConfig, use_mask_token: bool) -> None:
        super().__init__()
        self.config, dim, count = config, config.hidden_size, config.grid[0] * config.grid[1]
        self.cls_token = self.add_weight(shape=(1, 1, dim), initializer=normal(config), name="cls_token")
        self.mask_token = None
        if use_mask_token:
            self.mask_token = self.add_weight(shape=(1, 1, dim), initializer="zeros", name="mask_token")
        self.patch_embeddings = PatchEmbeddings(config)
        shape = (1, 1 + count, dim)
        self.position_embeddings = self.add_weight(shape=shape, initializer=normal(config), name="position_embeddings")
        self.dropout = Dropout(config.hidden_dropout_prob)

    def call(self, pixels: Any, masked: Any, interpolates: bool = False) -> Any:
        check_images(self.config, pixels.shape, pixels.dtype, interpolates=interpolates)
        patches = self.patch_embeddings(pixels)
        (rows, columns), batch, dim = find_grid(self.config, pixels.shape), ops.shape(pixels)[0], patches.shape[3]
        x = ops.reshape(patches, (batch, rows * columns, dim))
        if masked is not None:
            token = ops.convert_to_tensor(require_token(self.mask_token))
            check_mask(masked.shape, x.shape[:2])
            x = ops.where(ops.cast(masked, "bool")[..., None], token, x)
        x = ops.concatenate([ops.broadcast_to(self.cls_token, (batch, 1, dim)), x], axis=1)  # (batch, tokens, dim)
        return self.dropout(x + self._positions(rows, columns))

    def _positions(self, rows: int, columns: int) -> Any:
        """Give a vector for every token; a grid of another size than the learned one is drawn from it, bicubically."""
        (own_rows, own_columns), positions = self.config.grid, ops.convert_to_tensor(self.position_embeddings)
        if (rows, columns) == (own_rows, own_columns):
            return positions
        table = ops.reshape(positions[0, 1:], (own_rows, own_columns, -1))
        down, across = draw_bicubic(own_rows, rows), draw_bicubic(own_columns, columns)
        table = ops.einsum("ri,cj,ijd->rcd", down, across, table)
        table = ops.cast(ops.reshape(table, (1, rows * columns, -1)), positions.dtype)
        return ops.concatenate([positions[:, :1], table], axis=1)


class Projection(Layer):
    """A linear layer that checkpoints have one name further down."""

    def __init__(self, config: ViTConfig, outputs: int) -> None:
        super().__init__()
        self.dense = linear(config, outputs)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class SelfAttention(Layer):
    """Lets tokens look at each other."""

    def __init__(self, config: ViTConfig, number: int) -> None:
        super().__init__()
        self.heads = config.num_attention_heads - len(config.pruned_heads.get(number, ()))
        width = self.heads * (config.hidden_size // config.num_attention_heads)
        self.query, self.key, self.value = (linear(config, width, use_bias=config.qkv_bias) for _ in range(3))
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def call(self, queries: Any, x: Any) -> Any:
        """Attend from `queries` to `x`; the attention weights are given too."""
        q, k, v = (split_heads(y, self.heads) for y in (self.query(queries), self.key(x), self.value(x)))
        attended, weights = attention(q, k, v, dropout=self.dropout)  # (batch, queries, heads, width)
        return join_heads(attended), weights


class Attention(Layer):
    """Attention, and the layer that brings its heads together; two layers, because checkpoints name them so."""

    def __init__(self, config: ViTConfig, number: int) -> None:
        super().__init__()
        self.attention = SelfAttention(config, number)
        self.output_ = Projection(config, config.hidden_size)

    def call(self, queries: Any, x: Any) -> Any:
        x, weights = self.attention(queries, x)
        return self.output_(x), weights


class Block(Layer):
    """Attention, then a feed-forward network; each works on its input normed, and adds to it."""

    def __init__(self, config: ViTConfig, number: int) -> None:
        super().__init__()
        self.layernorm_before = LayerNormalization(epsilon=config.layer_norm_eps)
        self.attention = Attention(config, number)
        self.layernorm_after = LayerNormalization(epsilon=config.layer_norm_eps)
        self.intermediate = Projection(config, config.intermediate_size)
        self.activation = TF_ACT2FN[config.hidden_act]
        self.output_ = Projection(config, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def call(self, x: Any, only_first: bool = False) -> Any:
        """Give the states of all tokens, or of CLS only, and the attention weights."""
        normed = self.layernorm_before(x)  # (batch, tokens, dim)
        x, queries = (x[:, :1], normed[:, :1]) if only_first else (x, normed)
        attended, weights = self.attention(queries, normed)
        x = x + self.dropout(attended)
        inner = self.activation(self.intermediate(self.layernorm_after(x)))  # (batch, tokens, intermediate_size)
        return x + self.dropout(self.output_(inner)), weights


class Encoder(Layer):
    """The blocks, one after the other."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layer = [Block(config, number) for number in range(config.num_hidden_layers)]

    def call(self, x: Any, only_first: bool = False) -> Any:
        """Give the states before, between and after the blocks, and each block's attention weights."""
        states, kept = [x], list[Any]()
        for block in self.layer:
            x, weights = block(x, only_first=only_first and block is self.layer[-1])
            states, kept = [*states, x], [*kept, weights]
        return states, kept


class Pooler(Layer):
    """Makes one vector of the image from the state of CLS."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dense = linear(config, config.pooler_output_size or config.hidden_size)
        self.activation = TF_ACT2FN[config.pooler_act]

    def call(self, x: Any) -> Any:
        return self.activation(self.dense(x[:, 0]))  # (batch, pooler_output_size)


class TFViTPreTrainedModel(TFPreTrainedModel):
    """What all ViT models share. Heads take the arguments of `TFViTModel`."""

    config: ViTConfig
    config_class = ViTConfig
    base_model_prefix = "vit"
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_missing = (r"^pooler\.", r"embeddings\.mask_token$")  # classifiers are saved without them

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": draw_images(self.config)}


class TFViTModel(TFViTPreTrainedModel):
    """Turns images into states, one vector for CLS and one for every patch."""

    def __init__(self, config: ViTConfig, add_pooling_layer: bool = True, *, use_mask_token: bool = False) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config, use_mask_token)
        self.encoder = Encoder(config)
        self.layernorm = LayerNormalization(epsilon=config.layer_norm_eps)
        self.pooler = Pooler(config) if add_pooling_layer else None

    def get_config(self) -> dict[str, Any]:
        chosen = {
            "add_pooling_layer": self.pooler is not None,
            "use_mask_token": self.embeddings.mask_token is not None,
        }
        return {**super().get_config(), **chosen}

    def call(
        self,
        pixel_values: Any,
        bool_masked_pos: Any = None,
        *,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, 1 + patches, dim)`, and what is asked for besides.

        Args:
            pixel_values: `(batch, channels, height, width)`, prepared as the model was trained.
            bool_masked_pos: `(batch, patches)`, true where the mask token takes the patch's place.
            interpolate_pos_encoding: take images of any size, stretching the positions over them; pixels at the right
                and at the bottom that fill no whole patch are not looked at.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of CLS only, `(batch, 1, dim)`.

        Raises:
            ValueError: images of another size or with other channels, a mask that does not fit, or no mask token.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        x = self.embeddings(pixel_values, bool_masked_pos, interpolates=bool(interpolate_pos_encoding))
        states, weights = self.encoder(x, only_first=only_first and not keep_states and not keep_weights)
        x = self.layernorm(states[-1][:, :1] if only_first else states[-1])
        output = BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x),
            hidden_states=tuple(states) if keep_states else None,
            attentions=tuple(weights) if keep_weights else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TFViTForImageClassification(TFViTPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.vit = TFViTModel(config, add_pooling_layer=False)
        self.classifier = linear(config, config.num_labels) if config.num_labels else None

    def call(self, pixel_values: Any, labels: Any = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self.vit(pixel_values, **{**options, "only_first": True, "return_dict": True})
        logits, kind = output.last_hidden_state[:, 0], self.config.problem_type
        logits = logits if self.classifier is None else self.classifier(logits)
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)


class TFViTForMaskedImageModeling(TFViTPreTrainedModel):
    """Guesses the pixels of patches that it does not see (Xie et al. 2022, SimMIM)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.vit = TFViTModel(config, add_pooling_layer=False, use_mask_token=True)
        outputs = config.encoder_stride**2 * config.num_channels
        self.decoder = [Conv2D(outputs, 1, data_format="channels_last", kernel_initializer=normal(config))]

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {**super().dummy_inputs, **draw_mask(self.config)}

    def call(self, pixel_values: Any, bool_masked_pos: Any = None, **options: Any) -> Any:
        """Give `reconstruction`, the image, and with `bool_masked_pos`, `(batch, patches)`, the loss."""
        if bool_masked_pos is not None:
            check_stride(self.config)
        output = self.vit(pixel_values, bool_masked_pos, **{**options, "return_dict": True})
        grid = find_grid(self.config, pixel_values.shape)
        x = ops.reshape(output.last_hidden_state[:, 1:], (-1, *grid, self.config.hidden_size))
        image = shuffle_pixels(self.decoder[0](x), self.config.encoder_stride)  # (batch, channels, height, width)
        loss = None if bool_masked_pos is None else self._compare(image, pixel_values, bool_masked_pos, grid)
        return self._make_output(MaskedImageModelingOutput, output, options, loss, image)

    def _compare(self, image: Any, pixels: Any, masked: Any, grid: tuple[int, int]) -> Any:
        """Give the mean absolute difference of masked patches (Xie et al. 2022, equation 1)."""
        mask = ops.reshape(ops.cast(masked, "bool"), (-1, 1, *grid))
        for axis in (2, 3):
            mask = ops.repeat(mask, self.config.encoder_stride, axis=axis)
        height, width = image.shape[2:]  # what `pixels` has beyond whole patches is left out
        apart = ops.where(mask, ops.abs(image - pixels[..., :height, :width]), 0)
        return ops.sum(apart) / (ops.cast(ops.sum(ops.cast(mask, "int32")), apart.dtype) + 1e-5) / image.shape[1]


def shuffle_pixels(x: Any, stride: int) -> Any:
    """Make pixels of channels, `(batch, rows, columns, channels · stride²)` to `(batch, channels, height, width)`."""
    rows, columns, channels = x.shape[1], x.shape[2], x.shape[3] // stride**2
    x = ops.reshape(x, (-1, rows, columns, channels, stride, stride))
    return ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (-1, channels, rows * stride, columns * stride))
