"""What models share that compare texts with images in two towers (Radford et al. 2021): blocks, towers, the comparison.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor, as
`maquette.modeling.packing` tells.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette.errors import ConfigurationError
from maquette.modeling.activations import ACT2FN
from maquette.modeling.gathering import Rows
from maquette.modeling.outputs import BaseModelOutputWithPooling, ModelOutput
from maquette.modeling.packing import Layout, attention, lay_out
from maquette.modeling.patches import check_images, draw_images
from maquette.modeling.tower_configurations import ImageTowerConfig, TextTowerConfig, TowerConfig
from maquette.modeling.vision import stretch_positions

Opt = Tensor | None


class TowerOutput(BaseModelOutputWithPooling):
    """A tower's states, with one vector for the whole input."""


class TextEmbedsOutput(ModelOutput):
    """The vectors of texts, where images have theirs, and the tower's states."""

    text_embeds: Any = None
    last_hidden_state: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class ImageEmbedsOutput(ModelOutput):
    """The vectors of images, where texts have theirs, and the tower's states."""

    image_embeds: Any = None
    last_hidden_state: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attentions: tuple[Any, ...] | None = None


class TwoTowerOutput(ModelOutput):
    """Scores of every text for every image, the normed vectors that they compare, and what the towers gave."""

    loss: Any = None
    logits_per_image: Any = None
    logits_per_text: Any = None
    text_embeds: Any = None
    image_embeds: Any = None
    text_model_output: Any = None
    vision_model_output: Any = None


# Blocks ----------------------------------------------------------------------------------------------------------


class TowerAttention(nn.Module):
    """Lets tokens look at the tokens of their own row (Vaswani et al. 2017)."""

    def __init__(self, config: TowerConfig, causal: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.width, self.causal, self.share = width // config.num_attention_heads, causal, config.attention_dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (-1, self.width)) for project in (self.q_proj, self.k_proj, self.v_proj))
        share = self.share if self.training else 0.0
        return self.out_proj(attention(q, k, v, layout, causal=self.causal, dropout=share).flatten(-2))


class TowerMLP(nn.Module):
    """The feed-forward network, which works on each token by itself."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class TowerLayer(nn.Module):
    """Attention, then the feed-forward network; each works on its input normed, and adds to it."""

    def __init__(self, config: TowerConfig, causal: bool) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = TowerAttention(config, causal)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = TowerMLP(config)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), layout)
        return x + self.mlp(self.layer_norm2(x))


class TowerEncoder(nn.Module):
    """The blocks, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: TowerConfig, *, causal: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TowerLayer(config, causal) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, layout: Layout, *, keep_states: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and the states before, between and after the blocks if these are to be kept."""
        states, recompute = [x], self.gradient_checkpointing and self.training
        for layer in self.layers:
            x = self._gradient_checkpointing_func(layer, x, layout) if recompute else layer(x, layout)
            states = [*states, x] if keep_states else []
        return x, states


class TextEmbeddings(nn.Module):
    """Turns token ids into states that know their places."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding(positions)  # (places, hidden_size)


class ImageEmbeddings(nn.Module):
    """Turns images into tokens that know their places: the patches row by row, and before them one for the whole.

    Args:
        has_class: there is that one; patches have no bias then.
    """

    def __init__(self, config: ImageTowerConfig, *, has_class: bool) -> None:
        super().__init__()
        self.config, width, patch = config, config.hidden_size, config.patch_shape
        self.class_embedding = nn.Parameter(torch.empty(width)) if has_class else None
        self.patch_embedding = nn.Conv2d(config.num_channels, width, patch, stride=patch, bias=not has_class)
        self.position_embedding = nn.Embedding(has_class + config.grid[0] * config.grid[1], width)

    def forward(self, pixels: Tensor, interpolates: bool) -> Tensor:
        check_images(self.config, pixels.shape, pixels.dtype, interpolates=interpolates)
        patches = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype))  # (batch, width, rows, columns)
        x = patches.flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)  # (batch, tokens, width)
        grid = patches.shape[2], patches.shape[3]
        return x + stretch_positions(self.position_embedding.weight, self.config.grid, grid)


# Towers ----------------------------------------------------------------------------------------------------------


class _Tower:
    """What both towers share, before a `PreTrainedModel`."""

    config: Any
    encoder: Any
    base_model: Any

    def _require(self: Any, kind: type[TowerConfig]) -> None:
        if not isinstance(self.config, kind):
            raise ConfigurationError(
                f"{type(self).__name__} is made from a {self.config_class.__name__}, not from a "
                f"{type(self.config).__name__}. A configuration of both towers has it as {kind.part}."
            )

    def _how_to_attend(self: Any, output_attentions: bool | None) -> dict[str, bool]:
        keep = self._chosen("output_attentions", output_attentions)
        return {"explicit": self.config.attn_implementation == "eager", "keep_weights": keep}

    def _give(
        self: Any, last: Tensor, pooled: Opt, states: Sequence[Tensor], layout: Layout, return_dict: bool | None
    ) -> Any:
        weights = tuple(layout.weights) if layout.weights else None
        output = TowerOutput(last, pooled, tuple(layout.scatter(state) for state in states) or None, weights)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class TextTower(_Tower):
    """Makes a model a tower that reads texts: put it before `PreTrainedModel`, and write `_pool(x, ids, mask)`.

    Class attributes:
        causal: tokens see those before them only.
    """

    causal: ClassVar[bool] = False
    embeddings: TextEmbeddings
    final_layer_norm: nn.LayerNorm

    def _build_tower(self) -> None:
        self._require(TextTowerConfig)
        self.embeddings = TextEmbeddings(self.config)
        self.encoder = TowerEncoder(self.config, causal=self.causal)
        self.final_layer_norm = nn.LayerNorm(self.config.hidden_size, eps=self.config.layer_norm_eps)

    def _pool(self, x: Tensor, ids: Tensor, mask: Opt) -> Tensor:
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.token_embedding

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.token_embedding = value

    def forward(
        self: Any,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        position_ids: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, hidden_size)`, and `pooler_output`.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, where states are zeros; unless given, all tokens are real.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.

        Raises:
            ValueError: no ids, ids of another shape or type, too long a text, or a mask that does not fit.
        """
        ids, name, most = input_ids, type(self).__name__, self.config.max_position_embeddings
        if ids is None or ids.ndim != 2 or ids.is_floating_point():
            found = "nothing" if ids is None else f"{ids.dtype} {tuple(ids.shape)}"
            raise ValueError(f"{name} reads texts: input_ids are whole numbers (batch, length), not {found}.")
        if ids.shape[1] > most:
            raise ValueError(f"{ids.shape[1]} tokens, {most} positions: truncate.")
        layout = lay_out(ids, attention_mask, **self._how_to_attend(output_attentions))
        positions = layout.positions(ids.device) if position_ids is None else layout.gather(position_ids)
        x = self.embeddings(layout.gather(ids), positions)  # (places, hidden_size)
        keep = self._chosen("output_hidden_states", output_hidden_states)
        x, states = self.encoder(x, layout, keep_states=keep)
        last = layout.scatter(self.final_layer_norm(x))
        return self._give(last, self._pool(last, ids, layout.mask), states, layout, return_dict)


class ImageTower(_Tower):
    """Makes a model a tower that looks at images: put it before `PreTrainedModel`, and write `_sum_up(x)`.

    Class attributes:
        has_class: one token stands for the whole image.
    """

    has_class: ClassVar[bool] = False
    main_input_name = "pixel_values"
    embeddings: ImageEmbeddings

    def _build_tower(self) -> None:
        self._require(ImageTowerConfig)
        self.embeddings = ImageEmbeddings(self.config, has_class=self.has_class)
        self.encoder = TowerEncoder(self.config)
        self.post_layernorm = nn.LayerNorm(self.config.hidden_size, eps=self.config.layer_norm_eps)

    def _begin(self, x: Tensor) -> Tensor:
        """Turn embeddings into the states that the first block gets; override it."""
        return x

    def _sum_up(self, x: Tensor) -> tuple[Tensor, Opt]:
        """Give the last states, and one vector per image."""
        raise NotImplementedError

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": draw_pixels(self.config)}

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embedding

    def forward(
        self: Any,
        pixel_values: Opt = None,
        *,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, tokens, hidden_size)`, and `pooler_output`.

        Args:
            pixel_values: `(batch, channels, height, width)`, prepared as the model was trained.
            interpolate_pos_encoding: take images of any size, stretching the positions over them; pixels at the right
                and at the bottom that fill no whole patch are not looked at.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.

        Raises:
            ValueError: no images, or images of another size or with other channels.
        """
        if pixel_values is None:
            raise ValueError(f"{type(self).__name__} looks at images, and got no pixel_values.")
        x = self._begin(self.embeddings(pixel_values, bool(interpolate_pos_encoding)))  # (batch, tokens, hidden_size)
        layout = lay_out(x, **self._how_to_attend(output_attentions))
        x, states = self.encoder(x, layout, keep_states=self._chosen("output_hidden_states", output_hidden_states))
        return self._give(*self._sum_up(x), states, layout, return_dict)


def draw_pixels(config: Any) -> Tensor:
    """Give two images that a tower takes."""
    return torch.from_numpy(draw_images(config.num_channels, config.image_shape))


# Both ------------------------------------------------------------------------------------------------------------


class TwoTowers:
    """Makes a model of two towers compare them: put it before `PreTrainedModel`, with `_score` and `_contrast`.

    The towers are `text_model` and `vision_model`.
    """

    config: Any
    training: bool
    output_class: ClassVar[type[ModelOutput]] = TwoTowerOutput
    text_model: Any
    vision_model: Any

    def _embed_text(self, pooled: Tensor) -> Tensor:
        """Bring what a tower pooled to where both are compared; override it."""
        return pooled

    def _embed_image(self, pooled: Tensor) -> Tensor:
        return pooled

    def _score(self, text: Tensor, image: Tensor) -> Tensor:
        """Give the scores of normed vectors, `(texts, images)`."""
        raise NotImplementedError

    def _contrast(self, per_text: Tensor, per_image: Tensor, labels: Tensor) -> Tensor:
        """Give the mean loss of some pairs.

        Args:
            per_text: scores of their texts for all images, `(pairs, all pairs)`.
            per_image: scores of their images for all texts, `(pairs, all pairs)`.
            labels: their places among all.
        """
        raise NotImplementedError

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {**self.text_model.dummy_inputs, "pixel_values": draw_pixels(self.config.vision_config)}

    def get_input_embeddings(self) -> nn.Module:
        found: nn.Module = self.text_model.get_input_embeddings()
        return found

    def set_input_embeddings(self, value: Any) -> None:
        self.text_model.set_input_embeddings(value)

    def get_text_features(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give what the tower of texts gives, `pooler_output` where texts and images are compared, not yet normed.

        `options` are those of the tower.
        """
        return self._project(self.text_model, self._embed_text, options, input_ids, attention_mask)

    def get_image_features(self, pixel_values: Opt = None, **options: Any) -> Any:
        """Give what the tower of images gives, `pooler_output` where texts and images are compared, not yet normed.

        `options` are those of the tower.
        """
        return self._project(self.vision_model, self._embed_image, options, pixel_values)

    def _project(self: Any, tower: Any, embed: Any, options: dict[str, Any], *inputs: Opt) -> Any:
        output = tower(*inputs, **{**options, "return_dict": True})
        output.pooler_output = embed(output.pooler_output)
        return output if self._chosen("return_dict", options.get("return_dict")) else output.to_tuple()

    def forward(
        self: Any,
        input_ids: Opt = None,
        pixel_values: Opt = None,
        attention_mask: Opt = None,
        *,
        position_ids: Opt = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        token_type_ids: Opt = None,
    ) -> Any:
        """Compute `logits_per_text`, `(texts, images)`, and `logits_per_image`, its transpose.

        Args:
            input_ids: `(texts, length)`.
            pixel_values: `(images, channels, height, width)`.
            attention_mask: `(texts, length)`, 0 at padding.
            position_ids: `(texts, length)` or `(1, length)`.
            return_loss: give the contrastive loss of texts and images that belong together row by row. Where
                `torch.distributed` is initialised, a model in training compares with the rows of all processes, each of
                which has to call it; the mean of the processes' gradients is that of the whole batch.
            interpolate_pos_encoding: take images of any size.
            output_attentions, output_hidden_states: of both towers; unless given, as in the configuration.
            return_dict: unless given, as in the configuration.
            token_type_ids: `(texts, length)`, for a tower of texts that takes them.

        Raises:
            ValueError: one of the two is missing or does not fit, or the loss of other numbers of texts than images.
        """
        if input_ids is None or pixel_values is None:
            missing, alone = ("input_ids", "image") if input_ids is None else ("pixel_values", "text")
            raise ValueError(
                f"{type(self).__name__} compares texts with images, and got no {missing}. get_{alone}_features takes "
                f"one kind alone."
            )
        shown = {
            "output_attentions": self._chosen("output_attentions", output_attentions),
            "output_hidden_states": self._chosen("output_hidden_states", output_hidden_states),
            "return_dict": True,
        }
        images = self.get_image_features(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **shown)
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        texts = self.get_text_features(input_ids, attention_mask, position_ids=position_ids, **more, **shown)
        image, text = (x / torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in _pooled(images, texts))
        per_text = self._score(text, image)
        loss = self._compare(per_text, text, image) if return_loss else None
        output = self.output_class(loss, per_text.T, per_text, text, image, texts, images)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _compare(self, per_text: Tensor, text: Tensor, image: Tensor) -> Tensor:
        if len(text) != len(image):
            raise ValueError(
                f"return_loss=True: texts and images belong together row by row, and there are {len(text)} texts and "
                f"{len(image)} images."
            )
        rows, per_image = Rows(text, together=self.training), per_text.T
        if len(rows.sizes) > 1:
            all_text, all_image = rows.gather(text), rows.gather(image)
            per_text, per_image = self._score(text, all_image), self._score(all_text, image).T
        labels = torch.tensor([*rows.labels], device=text.device)
        return rows.average(self._contrast(per_text, per_image, labels))


def _pooled(*outputs: Any) -> list[Tensor]:
    return [output.pooler_output for output in outputs]
