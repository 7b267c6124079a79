"""CLIP (Radford et al. 2021): a tower that reads texts and one that looks at images learn what belongs together."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maquette import ImageClassifierOutput, PreTrainedModel
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.two_towers import (
    ImageEmbeddings,
    ImageEmbedsOutput,
    ImageTower,
    TextEmbeddings,
    TextEmbedsOutput,
    TextTower,
    TowerLayer,
    TwoTowerOutput,
    TwoTowers,
    draw_pixels,
)

from .configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

Opt = Tensor | None
HISTORIC_END = 2  # what files of before 2023 call the end of a text, whatever their vocabulary does
# What a file may hold that a part of CLIP has no use for: buffers of old checkpoints, the other tower, the comparison.
OLD, SCALE = r"embeddings\.position_ids$", r"^logit_scale$"
TEXTS, IMAGES = r"^(text_model|text_projection)\.", r"^(vision_model|visual_projection)\."


class CLIPOutput(TwoTowerOutput):
    """What `CLIPModel` gives."""


class CLIPTextModelOutput(TextEmbedsOutput):
    """What `CLIPTextModelWithProjection` gives."""


class CLIPVisionModelOutput(ImageEmbedsOutput):
    """What `CLIPVisionModelWithProjection` gives."""


class CLIPPreTrainedModel(PreTrainedModel):
    """What all models of the family share. Each loads its part of a folder of both towers."""

    base_model: Any
    config_class: ClassVar[Any] = CLIPConfig
    base_model_prefix = "clip"
    supports_gradient_checkpointing = True
    _no_split_modules = ("TextEmbeddings", "ImageEmbeddings", "TowerLayer")
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (OLD,)

    def _init_weights(self, module: nn.Module) -> None:
        factor = self.config.initializer_factor
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, TowerLayer):
            width = self.config.hidden_size**-0.5 * factor
            deep = width * (2 * self.config.num_hidden_layers) ** -0.5  # so that sums over blocks keep their size
            attention, mlp = module.self_attn, module.mlp
            for layer in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.fc2):
                nn.init.normal_(layer.weight, std=deep)
            nn.init.normal_(attention.out_proj.weight, std=width)
            nn.init.normal_(mlp.fc1.weight, std=width * 2**-0.5)
        elif isinstance(module, TextEmbeddings):
            nn.init.normal_(module.token_embedding.weight, std=0.02 * factor)
            nn.init.normal_(module.position_embedding.weight, std=0.02 * factor)
        elif isinstance(module, ImageEmbeddings):
            nn.init.normal_(module.class_embedding, std=self.config.hidden_size**-0.5 * factor)  # type: ignore[arg-type]
            nn.init.normal_(module.patch_embedding.weight, std=self.config.initializer_range * factor)
            nn.init.normal_(module.position_embedding.weight, std=self.config.initializer_range * factor)
        elif module is self:
            for name in ("text_projection", "visual_projection", "classifier"):
                last = getattr(self, name, None)
                if isinstance(last, nn.Linear):
                    nn.init.normal_(last.weight, std=last.in_features**-0.5 * factor)


class CLIPTextModel(TextTower, CLIPPreTrainedModel):
    """The tower of texts; `pooler_output` is the state of each text's end, `(batch, hidden_size)`."""

    config_class: ClassVar[Any] = CLIPTextConfig
    base_model_prefix = "text_model"
    causal = True
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, IMAGES, r"^text_projection\.")

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self._build_tower()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return draw_texts(self.config)

    def _pool(self, x: Tensor, ids: Tensor, mask: Opt) -> Tensor:
        return x[torch.arange(x.shape[0], device=x.device), find_ends(ids, self.config.eos_token_id, mask)]


def draw_texts(config: Any) -> dict[str, Tensor]:
    """Give two small texts that end."""
    ids = torch.arange(10).reshape(2, 5) % config.vocab_size
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    ids[:, -1] = config.vocab_size - 1 if end == HISTORIC_END else end
    return {"input_ids": ids}


def find_ends(ids: Tensor, end: int | list[int], mask: Opt = None) -> Tensor:
    """Find the first end token among the real tokens of each row, `(batch,)`; the last real one where there is none.

    Args:
        ids: `(batch, length)`.
        end: the token, or several. 2 means the highest id that there is, as files of before 2023 do: in the vocabulary
            of that time, the end had it.
        mask: `(batch, length)`, True at real tokens; unless given, all are.
    """
    if end == HISTORIC_END:
        return (ids if mask is None else ids.masked_fill(~mask, -1)).int().argmax(1)
    ends = end if isinstance(end, list) else [end]
    found = torch.stack([ids == one for one in ends]).any(0)
    places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    if mask is not None:
        found, places = found & mask, places * mask
    return torch.where(found.any(1), found.int().argmax(1), places.argmax(1))


class CLIPVisionModel(ImageTower, CLIPPreTrainedModel):
    """The tower of images; `pooler_output` is the normed state of the whole image, `(batch, hidden_size)`."""

    config_class: ClassVar[Any] = CLIPVisionConfig
    base_model_prefix = "vision_model"
    has_class = True
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, TEXTS, r"^visual_projection\.")

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self._build_tower()
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # the name in checkpoints

    def _begin(self, x: Tensor) -> Tensor:
        return self.pre_layrnorm(x)

    def _sum_up(self, x: Tensor) -> tuple[Tensor, Opt]:
        return x, self.post_layernorm(x[:, 0])


class CLIPModel(TwoTowers, CLIPPreTrainedModel):
    """Both towers, and how well each text goes with each image: cosines, times `exp(logit_scale)`."""

    output_class = CLIPOutput

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config)
        self.text_model, self.vision_model = CLIPTextModel(config.text_config), CLIPVisionModel(config.vision_config)
        width = config.projection_dim
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, width, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))

    def _embed_text(self, pooled: Tensor) -> Tensor:
        return self.text_projection(pooled)

    def _embed_image(self, pooled: Tensor) -> Tensor:
        return self.visual_projection(pooled)

    def _score(self, text: Tensor, image: Tensor) -> Tensor:
        return text @ image.T * self.logit_scale.exp()

    def _contrast(self, per_text: Tensor, per_image: Tensor, labels: Tensor) -> Tensor:
        """Guess which image a text is of, and which text is of an image (figure 3 of the paper)."""
        return (cross_entropy(per_text, labels) + cross_entropy(per_image, labels)) / 2


class CLIPTextModelWithProjection(CLIPPreTrainedModel):
    """The tower of texts, up to where they are compared with images: `text_embeds`, `(batch, projection_dim)`."""

    config_class: ClassVar[Any] = CLIPTextConfig
    base_model_prefix = "text_model"
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, IMAGES)

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        self.text_model = CLIPTextModel(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return draw_texts(self.config)

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, **options: Any) -> Any:
        """Give the vectors of texts; `options` are those of `CLIPTextModel`."""
        output = self.text_model(input_ids, attention_mask, **{**options, "return_dict": True})
        embeds = self.text_projection(output.pooler_output)
        return self._make_output(CLIPTextModelOutput, output, options, embeds, output.last_hidden_state)


class CLIPVisionModelWithProjection(CLIPPreTrainedModel):
    """The tower of images, up to where they are compared with texts: `image_embeds`, `(batch, projection_dim)`."""

    config_class: ClassVar[Any] = CLIPVisionConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, TEXTS)

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = CLIPVisionModel(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": draw_pixels(self.config)}

    def forward(self, pixel_values: Opt = None, **options: Any) -> Any:
        """Give the vectors of images; `options` are those of `CLIPVisionModel`."""
        output = self.vision_model(pixel_values, **{**options, "return_dict": True})
        embeds = self.visual_projection(output.pooler_output)
        return self._make_output(CLIPVisionModelOutput, output, options, embeds, output.last_hidden_state)


class CLIPForImageClassification(CLIPPreTrainedModel):
    """Tells which class, or classes, an image is of, from the mean state of its patches.

    The norm that pools has no part in it: it is there for the sake of checkpoints, and is not trained.
    """

    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected = CLIPVisionModel._keys_to_ignore_on_load_unexpected

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config)
        width = config.vision_config.hidden_size
        self.vision_model = CLIPVisionModel(config.vision_config)
        self.vision_model.post_layernorm.requires_grad_(False)
        self.classifier = nn.Linear(width, config.num_labels) if config.num_labels else nn.Identity()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": draw_pixels(self.config.vision_config)}

    def forward(self, pixel_values: Opt = None, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is.

        `options` are those of `CLIPVisionModel`.
        """
        output = self.vision_model(pixel_values, **{**options, "return_dict": True})
        logits, kind = self.classifier(output.last_hidden_state[:, 1:].mean(1)), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)
