"""ResNet (He et al. 2016): stages of blocks that add to their input; each stage has half the resolution of the last.

Modules have the names that published checkpoints use. Shapes are `(batch, channels, height, width)` throughout. On CPUs
a large input is computed with channels last in memory, and without gradients the factors of batch normalisation are put
into convolutions; neither can be told from outside: weights stay as they are, outputs lie in memory as the input does.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from maquette import (
    ACT2FN,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
    PreTrainedModel,
)
from maquette.modeling.backbone import BackboneMixin
from maquette.modeling.losses import compute_classification_loss
from maquette.modeling.packing import is_traced

from .configuration import ResNetConfig
from .inputs import check_images, draw_images

Opt = Tensor | None
Activation = Any  # a function from Tensor to Tensor

# Pixels of a batch from which on channels lie last: with fewer, rearranging the weights costs more than it gains.
MANY_PIXELS = 2**17
# How many outputs a weight of a convolution must serve for normalising the weight to be cheaper than normalising them.
MANY_OUTPUTS = 16


class ConvLayer(nn.Module):
    """A convolution, batch normalisation and, unless it is None, an activation."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, activation: str | None = "relu"
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)
        self.activation = ACT2FN[activation] if activation else None

    def forward(self, x: Tensor) -> Tensor:
        alone = self.is_alone()
        if alone and folding_pays(self.convolution, self.normalization, x):
            x = convolve_folded(self.convolution, self.normalization, x)
        else:
            x = self.normalization(self.convolution(x))
        return activate(self.activation, x, in_place=alone) if self.activation else x

    def is_alone(self) -> bool:
        """Tell whether nobody sees what becomes of what the modules give."""
        return nobody_watches((self.convolution, nn.Conv2d), (self.normalization, nn.BatchNorm2d))


class Block(nn.Module):
    """Convolutions whose result is added to the block's input, or to its projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, activation: str, layers: list[ConvLayer]) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvLayer(inputs, outputs, kernel=1, stride=stride, activation=None)
        self.layer = nn.Sequential(*layers)
        self.activation = ACT2FN[activation]

    def forward(self, x: Tensor) -> Tensor:
        last: Any = self.layer[-1]
        residual = self.shortcut(x)
        x = self.layer(x)
        alone = nobody_watches((self.layer, nn.Sequential), (last, ConvLayer)) and last.is_alone()
        x = x.add_(residual) if alone else x + residual
        return activate(self.activation, x, in_place=True)


def make_block(config: ResNetConfig, inputs: int, outputs: int, *, stride: int) -> Block:
    """Build a block of the configuration's kind; published checkpoints have ReLU inside of blocks in any case."""
    if config.layer_type == "basic":
        layers = [ConvLayer(inputs, outputs, stride=stride), ConvLayer(outputs, outputs, activation=None)]
    else:
        narrow = outputs // 4
        first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
        layers = [
            ConvLayer(inputs, narrow, kernel=1, stride=first),
            ConvLayer(narrow, narrow, stride=second),
            ConvLayer(narrow, outputs, kernel=1, activation=None),
        ]
    return Block(inputs, outputs, stride=stride, activation=config.hidden_act, layers=layers)


class Stem(nn.Module):
    """Turns images into states of a fourth of their resolution."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.embedder = ConvLayer(config.num_channels, width, kernel=7, stride=2, activation=config.hidden_act)
        self.pooler = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.pooler(self.embedder(pixel_values))


class Stage(nn.Module):
    """Blocks of one width, of which the first may halve the resolution."""

    def __init__(self, config: ResNetConfig, inputs: int, outputs: int, *, stride: int, depth: int) -> None:
        super().__init__()
        rest = (make_block(config, outputs, outputs, stride=1) for _ in range(depth - 1))
        self.layers = nn.Sequential(make_block(config, inputs, outputs, stride=stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Encoder(nn.Module):
    """The stages, one after the other."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        widths = itertools.pairwise([config.embedding_size, *config.hidden_sizes])
        strides = [2 if config.downsample_in_first_stage else 1, *[2] * (len(config.depths) - 1)]
        self.stages = nn.ModuleList(
            Stage(config, inputs, outputs, stride=stride, depth=depth)
            for (inputs, outputs), stride, depth in zip(widths, strides, config.depths, strict=True)
        )

    def forward(self, x: Tensor, *, keep_states: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and those before, between and behind the stages if they are to be kept."""
        states = [x]
        for stage in self.stages:
            x = stage(x)
            states = [*states, x] if keep_states else []
        return x, states


class ResNetPreTrainedModel(PreTrainedModel):
    """What all ResNet models share."""

    base_model: Any
    embedder: Any
    encoder: Any
    config_class = ResNetConfig
    base_model_prefix = "resnet"
    main_input_name = "pixel_values"

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(draw_images(self.config))}

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015, equation 14

    def _encode(self, pixel_values: Tensor, *, keep_states: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the last states `(batch, hidden_sizes[-1], height / 32, width / 32)`, and all if they are to be kept."""
        check_images(self.config, pixel_values, kind=Tensor)
        x = arrange(pixel_values)
        x, states = self.encoder(self.embedder(x), keep_states=keep_states)
        if pixel_values.is_contiguous():  # give back what came, whatever the computation was done with
            return x.contiguous(), tuple(state.contiguous() for state in states)
        return x, tuple(states)


class ResNetModel(ResNetPreTrainedModel):
    """Turns images into states, one vector per place, and one vector for the whole image."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.embedder = Stem(config)
        self.encoder = Encoder(config)
        self.pooler = nn.AdaptiveAvgPool2d((1, 1))

    def forward(
        self, pixel_values: Tensor, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `last_hidden_state`, and its mean over all places as `pooler_output`, `(batch, channels, 1, 1)`.

        Args:
            pixel_values: `(batch, num_channels, height, width)`, of any resolution.
            output_hidden_states: give what is before, between and behind the stages too.
            return_dict: unless given, as in the configuration; False gives a tuple.

        Raises:
            ValueError: another number of axes or channels, or whole numbers.
        """
        keep = self._chosen("output_hidden_states", output_hidden_states)
        x, states = self._encode(pixel_values, keep_states=keep)
        output = BaseModelOutputWithPoolingAndNoAttention(x, self.pooler(x), states or None)
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class ResNetForImageClassification(ResNetPreTrainedModel):
    """Tells which class, or classes, an image is of, or the numbers that belong to it."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.resnet = ResNetModel(config)
        score = nn.Linear(config.hidden_sizes[-1], config.num_labels) if config.num_labels else nn.Identity()
        self.classifier = nn.Sequential(nn.Flatten(), score)

    def forward(self, pixel_values: Tensor, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is.

        `options` are those of `ResNetModel`.
        """
        output = self.resnet(pixel_values, **{**options, "return_dict": True})
        logits, kind = self.classifier(output.pooler_output), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(ImageClassifierOutputWithNoAttention, output, options, loss, logits)


class ResNetBackbone(BackboneMixin, ResNetPreTrainedModel):
    """Gives feature maps of the stages that `config.out_features` names, for other models to build on."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.num_features = [config.embedding_size, *config.hidden_sizes]
        self.embedder = Stem(config)
        self.encoder = Encoder(config)

    def forward(
        self, pixel_values: Tensor, *, output_hidden_states: bool | None = None, return_dict: bool | None = None
    ) -> Any:
        """Compute `feature_maps`, one per chosen stage, `(batch, channels, height, width)`; see `ResNetModel`."""
        _, states = self._encode(pixel_values, keep_states=True)
        return self.give_maps(states, output_hidden_states=output_hidden_states, return_dict=return_dict)


# Speed: the same numbers from less work --------------------------------------------------------------------------


def arrange(x: Tensor) -> Tensor:
    """Put channels last in memory, where a CPU computes a batch of this size faster so."""
    if x.device.type != "cpu" or is_traced(x) or x.shape[0] * x.shape[2] * x.shape[3] < MANY_PIXELS:
        return x
    return x.contiguous(memory_format=torch.channels_last)


def activate(activation: Activation, x: Tensor, *, in_place: bool) -> Tensor:
    """Apply an activation, in the memory of `x` where it can and may."""
    return relu(x, inplace=in_place) if activation is relu else activation(x)


def nobody_watches(*modules: tuple[nn.Module, type[nn.Module]]) -> bool:
    """Tell whether nobody sees what modules of these kinds give: no gradients, no hooks, nothing replaced."""
    anywhere = nn.modules.module
    if torch.is_grad_enabled() or torch._C._get_tracing_state() is not None:
        return False
    if anywhere._global_forward_hooks or anywhere._global_forward_pre_hooks:
        return False
    hooks = (
        module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__ for module, _ in modules
    )
    return not any(hooks) and all(type(module) is kind for module, kind in modules)


def folding_pays(convolution: nn.Conv2d, normalization: nn.BatchNorm2d, x: Tensor) -> bool:
    """Tell whether normalising the weights comes to the same as normalising what they give, and is less work."""
    if normalization.training or normalization.running_var is None or not normalization.affine or is_traced(x):
        return False
    if x.device.type != "cpu" or x.dtype != torch.float32 or convolution.weight.dtype != torch.float32:
        return False
    places = x.shape[0] * x.shape[2] * x.shape[3] // (convolution.stride[0] * convolution.stride[1])
    return places >= MANY_OUTPUTS * convolution.weight[0].numel() and convolution.bias is None


def convolve_folded(convolution: nn.Conv2d, normalization: Any, x: Tensor) -> Tensor:
    """Convolve with weights that are normalised beforehand: γ(Wx - μ) / σ + β = (γ/σ W)x + (β - γ/σ μ)."""
    scale = normalization.weight * torch.rsqrt(normalization.running_var + normalization.eps)  # (outputs,)
    shift = normalization.bias - scale * normalization.running_mean
    return convolution._conv_forward(x, convolution.weight * scale[:, None, None, None], shift)
