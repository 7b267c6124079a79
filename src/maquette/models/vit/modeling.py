"""Vision Transformer (Dosovitskiy et al. 2021): an image is a text whose words are its patches.

Modules have the names that published checkpoints use, and some exist for these names alone. *Tokens* are the image's
own, CLS, and then its patches, row by row.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, interpolate, scaled_dot_product_attention

from maquette import (
    ACT2FN,
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
    PreTrainedModel,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)
from maquette.modeling.losses import compute_classification_loss

from .configuration import ViTConfig
from .inputs import check_images, check_mask, check_stride, draw_images, draw_mask, find_grid, require_token

Opt = Tensor | None


class PatchEmbeddings(nn.Module):
    """Turns every patch of an image into one vector."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        patch = config.patch_shape
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels.to(self.projection.weight.dtype))  # (batch, dim, rows, columns)


class Embeddings(nn.Module):
    """Turns images into tokens that know where they are."""

    def __init__(self, config: ViTConfig, use_mask_token: bool) -> None:
        super().__init__()
        self.config, self.grid = config, config.grid
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if use_mask_token else None
        self.patch_embeddings = PatchEmbeddings(config)
        tokens = 1 + self.grid[0] * self.grid[1]
        self.position_embeddings = nn.Parameter(torch.empty(1, tokens, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixels: Tensor, masked: Opt, interpolates: bool) -> Tensor:
        check_images(self.config, pixels.shape, pixels.dtype, interpolates=interpolates)
        patches = self.patch_embeddings(pixels)  # (batch, dim, rows, columns)
        x = patches.flatten(2).transpose(1, 2)  # (batch, patches, dim)
        if masked is not None:
            x = self._mask(x, masked)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # (batch, tokens, dim)
        return self.dropout(x + self._positions(patches.shape[2], patches.shape[3]))

    def _mask(self, x: Tensor, masked: Tensor) -> Tensor:
        token = require_token(self.mask_token)
        check_mask(masked.shape, x.shape[:2])
        return torch.where(masked.bool()[..., None], token, x)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Give a vector for every token; a grid of another size than the learned one is drawn from it, bicubically."""
        if (rows, columns) == self.grid:
            return self.position_embeddings
        table = self.position_embeddings[:, 1:].unflatten(1, self.grid).permute(0, 3, 1, 2)  # (1, dim, rows, columns)
        table = interpolate(table, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.position_embeddings[:, :1], table.flatten(2).transpose(1, 2)], dim=1)


class Dense(nn.Module):
    """A linear layer that checkpoints have one name further down."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class SelfAttention(nn.Module):
    """Lets tokens look at each other (Vaswani et al. 2017, equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.heads, self.width = config.num_attention_heads, dim // config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=config.qkv_bias) for _ in range(3))

    def forward(self, queries: Tensor, x: Tensor, explicit: bool) -> tuple[Tensor, Opt]:
        """Attend from `queries` to `x`; in plain operations, the attention weights are given too."""
        q, k, v = self._split(self.query(queries)), self._split(self.key(x)), self._split(self.value(x))
        rate = self.dropout if self.training else 0.0
        if not explicit:
            return scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(2), None
        weights = (q @ k.transpose(2, 3) * self.width**-0.5).softmax(-1)  # (batch, heads, queries, tokens)
        weights = dropout(weights, rate)
        return (weights @ v).transpose(1, 2).flatten(2), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.width)).transpose(1, 2)  # (batch, heads, tokens, width)


class Attention(nn.Module):
    """Attention, and the layer that brings its heads together; two modules, because checkpoints name them so."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.output = Dense(config.hidden_size, config.hidden_size)
        self.pruned_heads: set[int] = set()

    def prune_heads(self, heads: list[int]) -> None:
        inner = self.attention
        new, kept = find_pruneable_heads_and_indices(heads, inner.heads, inner.width, self.pruned_heads)
        for name in ("query", "key", "value"):
            setattr(inner, name, prune_linear_layer(getattr(inner, name), kept))
        self.output.dense = prune_linear_layer(self.output.dense, kept, dim=1)
        inner.heads -= len(new)
        self.pruned_heads |= new

    def forward(self, queries: Tensor, x: Tensor, explicit: bool) -> tuple[Tensor, Opt]:
        x, weights = self.attention(queries, x, explicit)
        return self.output(x), weights


class Layer(nn.Module):
    """Attention, then a feed-forward network; each works on its input normed, and adds to it."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.layernorm_before = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.layernorm_after = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.intermediate = Dense(dim, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.output = Dense(config.intermediate_size, dim)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, explicit: bool, only_first: bool) -> tuple[Tensor, Opt]:
        """Give the states of all tokens, or of CLS only, and attention weights if they are computed."""
        normed = self.layernorm_before(x)  # (batch, tokens, dim)
        x, queries = (x[:, :1], normed[:, :1]) if only_first else (x, normed)
        attended, weights = self.attention(queries, normed, explicit)
        x = x + self.dropout(attended)
        inner = self.activation(self.intermediate(self.layernorm_after(x)))  # (batch, tokens, intermediate_size)
        return x + self.dropout(self.output(inner)), weights


class Encoder(nn.Module):
    """The blocks, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(
        self, x: Tensor, *, explicit: bool, keep_states: bool, keep_weights: bool, only_first: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Give the last states, and if they are to be kept, the states around the blocks and the attention weights."""
        states, kept_weights = [x] if keep_states else [], []
        narrow = only_first and not keep_states and not keep_weights
        recompute = self.gradient_checkpointing and self.training
        for layer in self.layer:
            inputs = (x, explicit or keep_weights, narrow and layer is self.layer[-1])
            x, weights = self._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)
            states += [x] if keep_states else []
            kept_weights += [weights] if keep_weights else []
        return x[:, :1] if only_first else x, states, kept_weights


class Pooler(nn.Module):
    """Makes one vector of the image from the state of CLS."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_output_size or config.hidden_size)
        self.activation = ACT2FN[config.pooler_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x[:, 0]))  # (batch, pooler_output_size)


class ViTPreTrainedModel(PreTrainedModel):
    """What all ViT models share. Heads take the arguments of `ViTModel`."""

    base_model: Any
    config: ViTConfig
    config_class = ViTConfig
    base_model_prefix = "vit"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_missing = (r"^pooler\.", r"embeddings\.mask_token$")  # classifiers are saved without them

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(draw_images(self.config))}

    def _init_weights(self, module: nn.Module) -> None:
        scale = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Embeddings):  # elsewhere cut at -2 and 2, usually a hundred standard deviations away
            nn.init.normal_(module.cls_token, std=scale)
            nn.init.normal_(module.position_embeddings, std=scale)

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        for number, heads in heads_to_prune.items():
            self.base_model.encoder.layer[number].attention.prune_heads(heads)

    def get_input_embeddings(self) -> nn.Module:
        """Give the layer that turns patches into vectors."""
        return self.base_model.embeddings.patch_embeddings


class ViTModel(ViTPreTrainedModel):
    """Turns images into states, one vector for CLS and one for every patch."""

    def __init__(self, config: ViTConfig, add_pooling_layer: bool = True, *, use_mask_token: bool = False) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config, use_mask_token)
        self.encoder = Encoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = Pooler(config) if add_pooling_layer else None

    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Opt = None,
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
        x, states, weights = self.encoder(
            self.embeddings(pixel_values, bool_masked_pos, bool(interpolate_pos_encoding)),
            explicit=self.config.attn_implementation == "eager",
            keep_states=self._chosen("output_hidden_states", output_hidden_states),
            keep_weights=self._chosen("output_attentions", output_attentions),
            only_first=only_first,
        )
        x = self.layernorm(x)
        pooled = None if self.pooler is None else self.pooler(x)
        output = BaseModelOutputWithPooling(x, pooled, tuple(states) or None, tuple(weights) or None)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class ViTForImageClassification(ViTPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels else nn.Identity()

    def forward(self, pixel_values: Tensor, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self.vit(pixel_values, **{**options, "only_first": True, "return_dict": True})
        logits, kind = self.classifier(output.last_hidden_state[:, 0]), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)


class ViTForMaskedImageModeling(ViTPreTrainedModel):
    """Guesses the pixels of patches that it does not see (Xie et al. 2022, SimMIM)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False, use_mask_token=True)
        outputs = config.encoder_stride**2 * config.num_channels
        self.decoder = nn.Sequential(nn.Conv2d(config.hidden_size, outputs, 1), nn.PixelShuffle(config.encoder_stride))

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        masks = {name: torch.from_numpy(mask) for name, mask in draw_mask(self.config).items()}
        return {**super().dummy_inputs, **masks}

    def forward(self, pixel_values: Tensor, bool_masked_pos: Opt = None, **options: Any) -> Any:
        """Give `reconstruction`, the image, and with `bool_masked_pos`, `(batch, patches)`, the loss."""
        if bool_masked_pos is not None:
            check_stride(self.config)
        output = self.vit(pixel_values, bool_masked_pos, **{**options, "return_dict": True})
        grid = find_grid(self.config, pixel_values.shape)
        x = output.last_hidden_state[:, 1:].transpose(1, 2).unflatten(2, grid)  # (batch, dim, rows, columns)
        image = self.decoder(x)  # (batch, channels, height, width)
        loss = None if bool_masked_pos is None else _compare(image, pixel_values, bool_masked_pos.reshape(-1, 1, *grid))
        return self._make_output(MaskedImageModelingOutput, output, options, loss, image)


def _compare(image: Tensor, pixels: Tensor, masked: Tensor) -> Tensor:
    """Give the mean absolute difference of masked patches (Xie et al. 2022, equation 1)."""
    height, width = image.shape[2:]  # what `pixels` has beyond whole patches is left out
    mask = masked.bool().repeat_interleave(height // masked.shape[2], 2).repeat_interleave(width // masked.shape[3], 3)
    apart = (image - pixels[..., :height, :width]).abs() * mask
    return apart.sum() / (mask.sum() + 1e-5) / image.shape[1]
