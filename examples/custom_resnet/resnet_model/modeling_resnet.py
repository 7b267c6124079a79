"""ResNet (He et al. 2016) with the stems and shortcuts of ResNet-C and -D and the groups of ResNeXt.

Layers have the names that torchvision and timm give them, so published weights fit.
"""

import torch
from torch import Tensor, nn

from maquette import PreTrainedModel

from .configuration_resnet import ResnetConfig


def build_convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


def build_shortcut(config: ResnetConfig, inputs: int, outputs: int, stride: int) -> nn.Module:
    """The way around a block: the input itself where the shape stays, otherwise brought to the new shape."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if not config.avg_down:
        return nn.Sequential(build_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, build_convolution(inputs, outputs, 1), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, config: ResnetConfig, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = build_convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = build_convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = build_shortcut(config, inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = torch.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return torch.relu(self.downsample(x) + residual)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, config: ResnetConfig, inputs: int, width: int, stride: int):
        super().__init__()
        inner = width * config.base_width // 64 * config.cardinality
        outputs = width * self.expansion
        self.conv1 = build_convolution(inputs, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = build_convolution(inner, inner, 3, stride, groups=config.cardinality)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = build_convolution(inner, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = build_shortcut(config, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = torch.relu(self.bn1(self.conv1(x)))
        residual = torch.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return torch.relu(self.downsample(x) + residual)


BLOCK_MAPPING = {"basic": BasicBlock, "bottleneck": Bottleneck}


def build_stem(config: ResnetConfig) -> tuple[nn.Module, int]:
    """The convolutions before the first block, and how many channels they give."""
    stride = 1 if config.small_images else 2
    if not config.stem_type:
        size = 3 if config.small_images else 7
        return build_convolution(config.input_channels, config.stem_width, size, stride), config.stem_width
    second = config.stem_width
    first = 3 * (second // 4) if config.stem_type == "deep-tiered" else second
    layers = [
        build_convolution(config.input_channels, first, 3, stride),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        build_convolution(first, second, 3),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        build_convolution(second, 2 * second, 3),
    ]
    return nn.Sequential(*layers), 2 * second


class ResnetPreTrainedModel(PreTrainedModel):
    """What both models share: their configuration, and how fresh weights are drawn."""

    config_class = ResnetConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"

    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Every block starts as its shortcut alone (Goyal et al. 2017, section 5.1).
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)


class ResnetModel(ResnetPreTrainedModel):
    """Turns images into a grid of features.

    `pixel_values` has the shape (batch, input_channels, height, width); the result (batch, num_features, height / r,
    width / r) with r = 2 ** (len(layers) - 1), four times that unless `small_images`.
    """

    def __init__(self, config: ResnetConfig):
        super().__init__(config)
        self.conv1, channels = build_stem(config)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.Identity() if config.small_images else nn.MaxPool2d(3, stride=2, padding=1)

        block = BLOCK_MAPPING[config.block_type]
        for index, depth in enumerate(config.layers):
            width, stride = 64 * 2**index, 1 if index == 0 else 2
            blocks = [block(config, channels, width, stride)]
            channels = width * block.expansion
            blocks += [block(config, channels, width, 1) for _ in range(depth - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.num_features = channels

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(pixel_values))))
        for index in range(len(self.config.layers)):
            x = self.get_submodule(f"layer{index + 1}")(x)
        return x


class ResnetModelForImageClassification(ResnetPreTrainedModel):
    """Says what is on an image: logits of shape (batch, num_classes), and the loss where labels are given."""

    def __init__(self, config: ResnetConfig):
        super().__init__(config)
        self.model = ResnetModel(config)
        self.fc = nn.Linear(self.model.num_features, config.num_classes)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        features = self.model(pixel_values).mean(dim=(2, 3))
        logits = self.fc(features)
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}
        return {"logits": logits}
