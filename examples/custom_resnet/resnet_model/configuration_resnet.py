"""What a ResNet can be: its blocks, its stem and its width."""

from maquette import PretrainedConfig

BLOCK_TYPES = ("basic", "bottleneck")
STEM_TYPES = ("", "deep", "deep-tiered")


class ResnetConfig(PretrainedConfig):
    """Configures a ResNet; the defaults are ResNet-50 for ImageNet.

    Args:
        block_type: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3, 1x1).
        layers: how many blocks each stage has. A stage has twice the channels of the one before, on half the grid.
        num_classes: how many classes the classifier tells apart.
        input_channels: 3 for colour, 1 for grey.
        cardinality: groups of a bottleneck's 3x3 convolution (ResNeXt; Xie et al. 2017).
        base_width: channels of each of these groups in the first stage; with cardinality 1 and 64, plain ResNet.
        stem_width: channels of the stem's first convolution. A deep stem ends in twice as many.
        stem_type: "" (one convolution), or "deep" and "deep-tiered" (three; He et al. 2019, ResNet-C).
        avg_down: shortcuts halve the grid by averaging instead of skipping (He et al. 2019, ResNet-D).
        small_images: the stem keeps the grid as it is, for images of 8x8 to 64x64; otherwise it takes a quarter.
    """

    model_type = "custom_resnet"

    def __init__(
        self,
        block_type: str = "bottleneck",
        layers: list[int] = [3, 4, 6, 3],  # noqa: B006 - every configuration gets a list of its own
        num_classes: int = 1000,
        input_channels: int = 3,
        cardinality: int = 1,
        base_width: int = 64,
        stem_width: int = 64,
        stem_type: str = "",
        avg_down: bool = False,
        small_images: bool = False,
        **kwargs,
    ):
        if block_type not in BLOCK_TYPES:
            raise ValueError(f"`block_type` must be one of {BLOCK_TYPES}, got {block_type!r}.")
        if stem_type not in STEM_TYPES:
            raise ValueError(f"`stem_type` must be one of {STEM_TYPES}, got {stem_type!r}.")

        self.block_type = block_type
        self.layers = layers
        self.num_classes = num_classes
        self.input_channels = input_channels
        self.cardinality = cardinality
        self.base_width = base_width
        self.stem_width = stem_width
        self.stem_type = stem_type
        self.avg_down = avg_down
        self.small_images = small_images
        super().__init__(**kwargs)

    def validate(self):
        if self.block_type == "basic" and (self.cardinality, self.base_width) != (1, 64):
            raise ValueError("Basic blocks have no groups: `cardinality` must be 1 and `base_width` 64.")
        if not self.layers or min(self.layers) < 1:
            raise ValueError(f"`layers` must list at least one block for every stage, got {self.layers}.")
