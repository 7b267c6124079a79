"""DINOv2 (Oquab et al. 2024): a Vision Transformer that learned what images show without being told.

Modules have the names that published checkpoints use. *Tokens* are the image's own, CLS, and then its patches, row by
row. Images may be of any size: positions are stretched over them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from maquette import ACT2FN, BaseModelOutputWithPooling, ImageClassifierOutput, PreTrainedModel
from maquette.modeling.backbone import BackboneMixin
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.packing import Layout, attention, lay_out
from maquette.modeling.patches import check_images, draw_images
from maquette.modeling.vision import DropPath, stretch_positions

from .configuration import Dinov2Config

Opt = Tensor | None


class Dinov2PatchEmbeddings(nn.Module):
    """Turns every patch of an image into one vector."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        patch = config.patch_shape
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels.to(self.projection.weight.dtype))  # (batch, dim, rows, columns)


class Dinov2Embeddings(nn.Module):
    """Turns images into tokens that know where they are."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.config, width, (rows, columns) = config, config.hidden_size, config.grid
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if config.use_mask_token else None
        self.patch_embeddings = Dinov2PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.empty(1, 1 + rows * columns, width))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixels: Tensor, masked: Opt = None) -> Tensor:
        check_images(self.config, pixels.shape, pixels.dtype, interpolates=True)
        patches = self.patch_embeddings(pixels)
        grid, x = (patches.shape[2], patches.shape[3]), patches.flatten(2).transpose(1, 2)  # (batch, patches, dim)
        if masked is not None:
            x = self._mask(x, masked)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # (batch, tokens, dim)
        return self.dropout(x + stretch_positions(self.position_embeddings[0], self.config.grid, grid))

    def _mask(self, x: Tensor, masked: Tensor) -> Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token: configure use_mask_token=True.")
        if masked.shape != x.shape[:2]:
            raise ValueError(
                f"bool_masked_pos is of shape {tuple(masked.shape)}, but these images have (batch, patches) = "
                f"{tuple(x.shape[:2])}. Give one truth value per patch, row by row."
            )
        return torch.where(masked.bool()[..., None], self.mask_token, x)


class Dinov2SelfAttention(nn.Module):
    """Lets tokens look at each other (Vaswani et al. 2017, equation 1)."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        dim = config.hidden_size
        self.width, self.share = dim // config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=config.qkv_bias) for _ in range(3))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (-1, self.width)) for project in (self.query, self.key, self.value))
        return attention(q, k, v, layout, dropout=self.share if self.training else 0.0).flatten(-2)


class Dinov2SelfOutput(nn.Module):
    """Brings the heads together; a module of its own, because checkpoints name it so."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class Dinov2Attention(nn.Module):
    """Attention, and the layer that brings its heads together."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.attention = Dinov2SelfAttention(config)
        self.output = Dinov2SelfOutput(config)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.output(self.attention(x, layout))


class Dinov2LayerScale(nn.Module):
    """Learns how much a branch adds, channel by channel (Touvron et al. 2021)."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((config.hidden_size,), float(config.layerscale_value)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class Dinov2MLP(nn.Module):
    """The feed-forward network, which works on each token by itself."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        dim, inner = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
        self.fc1, self.activation, self.fc2 = nn.Linear(dim, inner), ACT2FN[config.hidden_act], nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Dinov2SwiGLUFFN(nn.Module):
    """A gated feed-forward network (Shazeer 2020), two thirds as wide, rounded up to a multiple of 8."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        dim, inner = config.hidden_size, (int(int(config.hidden_size * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        self.weights_in, self.weights_out = nn.Linear(dim, 2 * inner), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.weights_in(x).chunk(2, dim=-1)
        return self.weights_out(silu(gate) * value)


class Dinov2Layer(nn.Module):
    """Attention, then the feed-forward network; each works on its input normed, and adds to it."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Dinov2Attention(config)
        self.layer_scale1 = Dinov2LayerScale(config)
        self.drop_path = DropPath(config.drop_path_rate)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Dinov2SwiGLUFFN(config) if config.use_swiglu_ffn else Dinov2MLP(config)
        self.layer_scale2 = Dinov2LayerScale(config)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = x + self.drop_path(self.layer_scale1(self.attention(self.norm1(x), layout)))
        return x + self.drop_path(self.layer_scale2(self.mlp(self.norm2(x))))


class Dinov2Encoder(nn.Module):
    """The blocks, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Dinov2Layer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, layout: Layout, *, keep_states: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and those before, between and after the blocks if these are to be kept."""
        states, recompute = [x], self.gradient_checkpointing and self.training
        for layer in self.layer:
            x = self._gradient_checkpointing_func(layer, x, layout) if recompute else layer(x, layout)
            states = [*states, x] if keep_states else []
        return x, states


class Dinov2PreTrainedModel(PreTrainedModel):
    """What all DINOv2 models share. Heads take the arguments of `Dinov2Model`."""

    base_model: Any
    config: Dinov2Config
    config_class = Dinov2Config
    base_model_prefix = "dinov2"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ("Dinov2Embeddings", "Dinov2Layer")
    _keys_to_ignore_on_load_missing = (r"embeddings\.mask_token$",)
    embeddings: Dinov2Embeddings
    encoder: Dinov2Encoder

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(draw_images(self.config.num_channels, self.config.image_shape))}

    def _init_weights(self, module: nn.Module) -> None:
        scale = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Dinov2Embeddings):
            nn.init.trunc_normal_(module.cls_token, std=scale)
            nn.init.trunc_normal_(module.position_embeddings, std=scale)

    def get_input_embeddings(self) -> nn.Module:
        """Give the layer that turns patches into vectors."""
        return self.base_model.embeddings.patch_embeddings

    def _add_blocks(self) -> None:
        self.embeddings = Dinov2Embeddings(self.config)
        self.encoder = Dinov2Encoder(self.config)
        self.layernorm = nn.LayerNorm(self.config.hidden_size, eps=self.config.layer_norm_eps)

    def _encode(
        self, pixels: Tensor, masked: Opt, output_attentions: bool | None, *, keep_states: bool
    ) -> tuple[Tensor, list[Tensor], Any]:
        """Give the last states, those around the blocks, and attention weights if they were asked for."""
        x = self.embeddings(pixels, masked)
        keep = self._chosen("output_attentions", output_attentions)
        layout = lay_out(x, explicit=self.config.attn_implementation == "eager", keep_weights=keep)
        x, states = self.encoder(x, layout, keep_states=keep_states)
        return x, states, tuple(layout.weights) if layout.weights else None


class Dinov2Model(Dinov2PreTrainedModel):
    """Turns images into states, one vector for CLS and one for every patch."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__(config)
        self._add_blocks()

    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Opt = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute `last_hidden_state`, `(batch, 1 + patches, hidden_size)`, normed, and of it CLS as `pooler_output`.

        Args:
            pixel_values: `(batch, channels, height, width)`, of any size; pixels at the right and at the bottom that
                fill no whole patch are not looked at.
            bool_masked_pos: `(batch, patches)`, true where the mask token takes the patch's place.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.

        Raises:
            ValueError: whole numbers, other channels, less than a patch, a mask that does not fit, or no mask token.
        """
        keep = self._chosen("output_hidden_states", output_hidden_states)
        x, states, weights = self._encode(pixel_values, bool_masked_pos, output_attentions, keep_states=keep)
        x = self.layernorm(x)
        output = BaseModelOutputWithPooling(x, x[:, 0], tuple(states) or None, weights)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class Dinov2ForImageClassification(Dinov2PreTrainedModel):
    """Tells which class, or classes, an image is of, from CLS and the mean state of the patches."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__(config)
        self.dinov2 = Dinov2Model(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels) if config.num_labels else nn.Identity()

    def forward(self, pixel_values: Tensor, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self.dinov2(pixel_values, **{**options, "return_dict": True})
        x, kind = output.last_hidden_state, self.config.problem_type
        logits = self.classifier(torch.cat([x[:, 0], x[:, 1:].mean(1)], dim=1))
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)


class Dinov2Backbone(BackboneMixin, Dinov2PreTrainedModel):
    """Gives feature maps of the blocks that `config.out_features` names, for other models to build on."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__(config)
        self.num_features = [config.hidden_size] * len(config.stage_names)
        self._add_blocks()

    def forward(
        self,
        pixel_values: Tensor,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute `feature_maps`, one per chosen block, in the form that the configuration says; see `Dinov2Model`."""
        _, states, weights = self._encode(pixel_values, None, output_attentions, keep_states=True)
        patch, (height, width) = self.config.patch_shape, pixel_values.shape[2:]

        def finish(_: str, x: Tensor) -> Tensor:
            x = self.layernorm(x) if self.config.apply_layernorm else x
            if not self.config.reshape_hidden_states:
                return x
            return x[:, 1:].transpose(1, 2).unflatten(2, (height // patch[0], width // patch[1])).contiguous()

        shown: dict[str, Any] = {"output_hidden_states": output_hidden_states, "return_dict": return_dict}
        return self.give_maps(states, finish=finish, attentions=weights, **shown)
