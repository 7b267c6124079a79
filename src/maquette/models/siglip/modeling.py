"""SigLIP (Zhai et al. 2023): two towers learn of each pair of a text and an image whether it belongs together."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from maquette import ImageClassifierOutput, PreTrainedModel
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.two_towers import (
    ImageTower,
    TextTower,
    TowerAttention,
    TowerMLP,
    TwoTowerOutput,
    TwoTowers,
    draw_pixels,
)

from .configuration import SiglipConfig, SiglipTextConfig, SiglipVisionConfig

Opt = Tensor | None
# What a file may hold that a part has no use for: buffers of old checkpoints, the other tower, the comparison.
OLD, SCALE, TEXTS, IMAGES = r"embeddings\.position_ids$", r"^logit_(scale|bias)$", r"^text_model\.", r"^vision_model\."
# The deviation of a normal distribution that is cut at two of its own.
CUT = 0.8796256610342398


class SiglipOutput(TwoTowerOutput):
    """What `SiglipModel` gives."""


class PoolingHead(nn.Module):
    """Lets one learned question look at all patches (Lee et al. 2019, section 3.2)."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attention = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = TowerMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        found = self.attention(self.probe.expand(x.shape[0], -1, -1), x, x, need_weights=False)[0]
        return (found + self.mlp(self.layernorm(found)))[:, 0]  # (batch, width)


class SiglipPreTrainedModel(PreTrainedModel):
    """What all models of the family share. Each loads its part of a folder of both towers."""

    base_model: Any
    config_class: ClassVar[Any] = SiglipConfig
    base_model_prefix = "siglip"
    supports_gradient_checkpointing = True
    _no_split_modules = ("TextEmbeddings", "ImageEmbeddings", "TowerLayer", "PoolingHead")
    _keys_to_ignore_on_load_unexpected: ClassVar[tuple[str, ...]] = (OLD,)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            std = module.weight[0].numel() ** -0.5 / CUT  # LeCun et al. 1998
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, TowerAttention):
            for layer in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                nn.init.xavier_uniform_(layer.weight)
        elif isinstance(module, TowerMLP):
            for layer in (module.fc1, module.fc2):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)
        elif isinstance(module, PoolingHead):
            nn.init.xavier_uniform_(module.probe)
            nn.init.xavier_uniform_(module.attention.in_proj_weight)
            nn.init.zeros_(module.attention.in_proj_bias)


class SiglipTextModel(TextTower, SiglipPreTrainedModel):
    """The tower of texts; `pooler_output` is made of the state of each text's last token, `(batch, projection_size)`.

    It was trained on texts that are padded to `max_position_embeddings`, without a mask: the last token is mostly
    padding. Where a mask hides it, the last real one is read.
    """

    config_class: ClassVar[Any] = SiglipTextConfig
    base_model_prefix = "text_model"
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, IMAGES)

    def __init__(self, config: SiglipTextConfig) -> None:
        super().__init__(config)
        self._build_tower()
        self.head = nn.Linear(config.hidden_size, config.projection_size or config.hidden_size)

    def _pool(self, x: Tensor, ids: Tensor, mask: Opt) -> Tensor:
        if mask is None:
            return self.head(x[:, -1])
        last = (torch.arange(ids.shape[1], device=ids.device) * mask).argmax(1)
        return self.head(x[torch.arange(x.shape[0], device=x.device), last])


class SiglipVisionModel(ImageTower, SiglipPreTrainedModel):
    """The tower of images; `pooler_output` is what attention makes of the patches, `(batch, hidden_size)`."""

    config_class: ClassVar[Any] = SiglipVisionConfig
    base_model_prefix = "vision_model"
    _keys_to_ignore_on_load_unexpected = (OLD, SCALE, TEXTS)

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__(config)
        self._build_tower()
        self.head = PoolingHead(config) if config.vision_use_head else None

    def _sum_up(self, x: Tensor) -> tuple[Tensor, Opt]:
        x = self.post_layernorm(x)
        return x, None if self.head is None else self.head(x)


class SiglipModel(TwoTowers, SiglipPreTrainedModel):
    """Both towers, and how well each text goes with each image: cosines, times `exp(logit_scale)`, plus `logit_bias`.

    Class attributes:
        score_function: what turns scores into probabilities, of each pair by itself.
        text_options: how a tokenizer is called for it.
    """

    output_class = SiglipOutput
    score_function: ClassVar[str] = "sigmoid"

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__(config)
        if not config.vision_config.vision_use_head:
            raise ValueError(
                "SiglipModel compares texts with images as wholes: vision_config needs vision_use_head=True."
            )
        self.text_model = SiglipTextModel(config.text_config)
        self.vision_model = SiglipVisionModel(config.vision_config)
        self.logit_scale, self.logit_bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    @property
    def text_options(self) -> dict[str, Any]:
        return {
            "padding": "max_length",
            "max_length": self.config.text_config.max_position_embeddings,
            "truncation": True,
        }

    def _score(self, text: Tensor, image: Tensor) -> Tensor:
        return text @ image.T * self.logit_scale.exp() + self.logit_bias

    def _contrast(self, per_text: Tensor, per_image: Tensor, labels: Tensor) -> Tensor:
        """Tell of every pair whether it belongs together (algorithm 1 of the paper)."""
        signs = 2 * one_hot(labels, per_text.shape[1]) - 1
        return -logsigmoid(signs * per_text).sum(-1).mean()


class SiglipForImageClassification(SiglipPreTrainedModel):
    """Tells which class, or classes, an image is of, from the mean state of its patches.

    The head that pools has no part in it: it is there for the sake of checkpoints, and is not trained.
    """

    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected = SiglipVisionModel._keys_to_ignore_on_load_unexpected

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__(config)
        width, count = config.vision_config.hidden_size, config.num_labels
        self.vision_model = SiglipVisionModel(config.vision_config)
        if self.vision_model.head is not None:
            self.vision_model.head.requires_grad_(False)
        self.classifier = nn.Linear(width, count) if count else nn.Identity()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": draw_pixels(self.config.vision_config)}

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and isinstance(self.classifier, nn.Linear):
            std = self.classifier.in_features**-0.5 * self.config.initializer_factor
            nn.init.normal_(self.classifier.weight, std=std)

    def forward(self, pixel_values: Opt = None, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is.

        `options` are those of `SiglipVisionModel`.
        """
        output = self.vision_model(pixel_values, **{**options, "return_dict": True})
        logits, kind = self.classifier(output.last_hidden_state.mean(1)), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutput, output, options, loss, logits)
