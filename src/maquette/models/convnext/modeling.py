"""ConvNeXt (Liu et al. 2022) and its second version (Woo et al. 2023): convolutions, built as Transformers are.

Modules have the names that published checkpoints use. Shapes are `(batch, channels, height, width)`, inside of blocks
`(batch, height, width, channels)`: in memory the channels lie last throughout.
"""

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from maquette import (
    ACT2FN,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    PreTrainedModel,
)
from maquette.modeling.backbone import BackboneMixin
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.patches import as_pair, draw_images
from maquette.modeling.vision import DropPath

from .configuration import ConvNextConfig, ConvNextV2Config

Opt = Tensor | None
EPSILON = 1e-6  # of all norms but the last


class ChannelNorm(nn.LayerNorm):
    """Norms each place over its channels, `(batch, channels, height, width)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextEmbeddings(nn.Module):
    """Turns patches of images into places of the first stage."""

    def __init__(self, config: ConvNextV2Config) -> None:
        super().__init__()
        self.channels, self.patch, width = config.num_channels, as_pair(config.patch_size), config.hidden_sizes[0]
        self.patch_embeddings = nn.Conv2d(config.num_channels, width, self.patch, stride=self.patch)
        self.layernorm = ChannelNorm(width, eps=EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.ndim != 4 or pixels.shape[1] != self.channels or not pixels.is_floating_point():
            raise ValueError(
                f"pixel_values are floating-point (batch, {self.channels}, height, width), not {pixels.dtype} "
                f"{tuple(pixels.shape)}. An image processor makes them so."
            )
        if pixels.shape[2] < self.patch[0] or pixels.shape[3] < self.patch[1]:
            raise ValueError(
                f"Images of {pixels.shape[2]} x {pixels.shape[3]} pixels are less than one patch: enlarge."
            )
        pixels = pixels.to(self.patch_embeddings.weight.dtype)
        return self.layernorm(self.patch_embeddings(pixels))


class GlobalResponseNorm(nn.Module):
    """Makes channels compete: each is multiplied by its share of the whole image's response (Woo et al. 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1, 1, 1, width)), nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        response = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (batch, 1, 1, width)
        share = response / (response.mean(-1, keepdim=True) + EPSILON)
        return self.weight * (x * share) + self.bias + x


class ConvNextLayer(nn.Module):
    """Looks around with a convolution of each channel by itself, then thinks about each place by itself."""

    def __init__(self, config: ConvNextV2Config, width: int, rate: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.layernorm = nn.LayerNorm(width, eps=EPSILON)
        self.pwconv1, self.act, self.pwconv2 = (
            nn.Linear(width, 4 * width),
            ACT2FN[config.hidden_act],
            nn.Linear(4 * width, width),
        )
        scale = config.layer_scale_init_value if isinstance(config, ConvNextConfig) else 0.0
        self.layer_scale_parameter = nn.Parameter(torch.full((width,), scale)) if scale else None
        self.grn = None if isinstance(config, ConvNextConfig) else GlobalResponseNorm(4 * width)
        self.drop_path = DropPath(rate)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.pwconv1(self.layernorm(self.dwconv(x).permute(0, 2, 3, 1))))
        inner = self.pwconv2(inner if self.grn is None else self.grn(inner))  # (batch, height, width, channels)
        if self.layer_scale_parameter is not None:
            inner = self.layer_scale_parameter * inner
        return x + self.drop_path(inner.permute(0, 3, 1, 2))


class ConvNextStage(nn.Module):
    """Blocks of one width; all stages but the first begin with a fourth of the places."""

    def __init__(self, config: ConvNextV2Config, inputs: int, outputs: int, *, stride: int, rates: list[float]) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        narrow = [] if same else [ChannelNorm(inputs, eps=EPSILON), nn.Conv2d(inputs, outputs, 2, stride=stride)]
        self.downsampling_layer = nn.ModuleList(narrow)
        self.layers = nn.ModuleList(ConvNextLayer(config, outputs, rate) for rate in rates)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.downsampling_layer, *self.layers):
            x = layer(x)
        return x


class ConvNextEncoder(nn.Module):
    """The stages, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: ConvNextV2Config) -> None:
        super().__init__()
        count, widths = sum(config.depths), [config.hidden_sizes[0], *config.hidden_sizes]
        rates = iter([config.drop_path_rate * number / max(count - 1, 1) for number in range(count)])
        self.stages = nn.ModuleList(
            ConvNextStage(config, *pair, stride=2 if number else 1, rates=list(itertools.islice(rates, depth)))
            for number, (pair, depth) in enumerate(zip(itertools.pairwise(widths), config.depths, strict=True))
        )
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, *, keep_states: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and those before, between and behind the stages if they are to be kept."""
        states, recompute = [x], self.gradient_checkpointing and self.training
        for stage in self.stages:
            x = self._gradient_checkpointing_func(stage, x) if recompute else stage(x)
            states = [*states, x] if keep_states else []
        return x, states


class _ConvNext(PreTrainedModel):
    """What models of both versions share."""

    base_model: Any
    embeddings: ConvNextEmbeddings
    encoder: ConvNextEncoder
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ("ConvNextEmbeddings", "ConvNextLayer")

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        patch = as_pair(self.config.patch_size)
        side = 2 ** (len(self.config.depths) - 1) * 2
        return {
            "pixel_values": torch.from_numpy(draw_images(self.config.num_channels, (patch[0] * side, patch[1] * side)))
        }

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def _add_stages(self) -> None:
        self.embeddings = ConvNextEmbeddings(self.config)
        self.encoder = ConvNextEncoder(self.config)


class _Model(_ConvNext):
    """Turns images into states, one vector per place, and one vector for the whole image."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._add_stages()
        self.layernorm = nn.LayerNorm(config.hidden_sizes[-1], eps=config.layer_norm_eps)

    def forward(
        self, pixel_values: Tensor, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `last_hidden_state`, and its normed mean over all places as `pooler_output`, `(batch, channels)`.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, of any resolution.
            output_hidden_states: give what is before, between and behind the stages too.
            return_dict: unless given, as in the configuration; False gives a tuple.

        Raises:
            ValueError: another number of axes or channels, whole numbers, or less than a patch.
        """
        keep = self._chosen("output_hidden_states", output_hidden_states)
        x, states = self.encoder(self.embeddings(pixel_values), keep_states=keep)
        output = BaseModelOutputWithPoolingAndNoAttention(x, self.layernorm(x.mean((-2, -1))), tuple(states) or None)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class _ForImageClassification(_ConvNext):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    model_class: ClassVar[type[_Model]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.model_class(config))
        width = config.hidden_sizes[-1]
        self.classifier = nn.Linear(width, config.num_labels) if config.num_labels else nn.Identity()

    def forward(self, pixel_values: Tensor, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self.base_model(pixel_values, **{**options, "return_dict": True})
        logits, kind = self.classifier(output.pooler_output), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutputWithNoAttention, output, options, loss, logits)


class _Backbone(BackboneMixin, _ConvNext):
    """Gives normed feature maps of the stages that `config.out_features` names, for other models to build on."""

    _keys_to_ignore_on_load_missing = (r"^hidden_states_norms\.",)  # classifiers are saved without them

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]
        self._add_stages()
        widths = self.out_feature_channels
        self.hidden_states_norms = nn.ModuleDict({n: ChannelNorm(widths[n], eps=1e-5) for n in self.out_features})

    def forward(
        self, pixel_values: Tensor, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `feature_maps`, one per chosen stage, `(batch, channels, height, width)`.

        A stage that was chosen later than the model was made is normed without weights.
        """
        _, states = self.encoder(self.embeddings(pixel_values), keep_states=True)

        def finish(name: str, x: Tensor) -> Tensor:
            if name in self.hidden_states_norms:
                return self.hidden_states_norms[name](x)
            return layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)

        shown: dict[str, Any] = {"output_hidden_states": output_hidden_states, "return_dict": return_dict}
        return self.give_maps(states, finish=finish, **shown)


class ConvNextPreTrainedModel(_ConvNext):
    """What models of the first version share."""

    config_class = ConvNextConfig
    base_model_prefix = "convnext"


class ConvNextModel(_Model, ConvNextPreTrainedModel):
    """Turns images into states, one vector per place, and one vector for the whole image."""


class ConvNextForImageClassification(_ForImageClassification, ConvNextPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    model_class = ConvNextModel


class ConvNextBackbone(_Backbone, ConvNextPreTrainedModel):
    """Gives normed feature maps of the stages that `config.out_features` names, for other models to build on."""


class ConvNextV2PreTrainedModel(_ConvNext):
    """What models of the second version share."""

    config_class = ConvNextV2Config
    base_model_prefix = "convnextv2"


class ConvNextV2Model(_Model, ConvNextV2PreTrainedModel):
    """Turns images into states, one vector per place, and one vector for the whole image."""


class ConvNextV2ForImageClassification(_ForImageClassification, ConvNextV2PreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    model_class = ConvNextV2Model


class ConvNextV2Backbone(_Backbone, ConvNextV2PreTrainedModel):
    """Gives normed feature maps of the stages that `config.out_features` names, for other models to build on."""
