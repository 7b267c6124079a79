"""What a ResNet can be: its widths and depths, and what its blocks are made of."""

from typing import Annotated, Literal

from msgspec import Meta

from maquette.modeling.backbone import BackboneConfigMixin

Count = Annotated[int, Meta(gt=0)]


class ResNetConfig(BackboneConfigMixin):
    """Configures a ResNet (He et al. 2016); the defaults are those of ResNet-50.

    ResNet-18 and ResNet-34 have `layer_type="basic"`, `hidden_sizes=[64, 128, 256, 512]`, and the depths
    `[2, 2, 2, 2]` and `[3, 4, 6, 3]`; ResNet-101 and ResNet-152 have the depths `[3, 4, 23, 3]` and `[3, 8, 36, 3]`.

    Args:
        num_channels: channels of the images.
        embedding_size: channels behind the stem.
        hidden_sizes: channels behind each stage.
        depths: blocks of each stage.
        layer_type: "basic" (two 3 x 3 convolutions a block) or "bottleneck" (one of 3 x 3 between two of 1 x 1, a
            fourth as wide as the stage).
        hidden_act: the activation, a name of `maquette.ACT2FN`.
        downsample_in_first_stage: the first stage halves the resolution too, as the others do.
        downsample_in_bottleneck: a bottleneck that halves the resolution does so in its first convolution, as in the
            paper, not in its 3 x 3 convolution.
        out_features: the stages whose feature maps a backbone gives, of `stage_names`; the last unless given.
        out_indices: the same stages by their places in `stage_names`, which may be counted from the end.
    """

    model_type = "resnet"

    num_channels: Count = 3
    embedding_size: Count = 64
    hidden_sizes: list[Count] = [256, 512, 1024, 2048]  # noqa: RUF012 - a field's default: every configuration gets its own
    depths: list[Count] = [3, 4, 6, 3]  # noqa: RUF012 - likewise
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    @property
    def stage_names(self) -> list[str]:
        """What stages are called: the stem, then `stage1` and so on."""
        return ["stem", *(f"stage{number}" for number in range(1, len(self.depths) + 1))]

    def validate(self) -> None:
        super().validate()
        if not self.depths or len(self.depths) != len(self.hidden_sizes):
            raise ValueError(
                f"depths={self.depths} and hidden_sizes={self.hidden_sizes} must name the same number of stages, at "
                "least one."
            )
        if self.layer_type == "bottleneck" and min(self.hidden_sizes) < 4:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes}: a bottleneck is a fourth as wide, so each must be 4 or more."
            )
