"""What a ConvNeXt can be, of the first and of the second version: its widths and depths."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette.modeling.backbone import BackboneConfigMixin

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class ConvNextV2Config(BackboneConfigMixin):
    """Configures ConvNeXt V2 (Woo et al. 2023); the defaults are those of ConvNeXt-T.

    Args:
        num_channels: colours of a pixel.
        patch_size: pixels on a side of what the stem makes one place of, or `(height, width)`.
        num_stages: how many stages there are, as many as `depths` and `hidden_sizes` say.
        hidden_sizes: channels of each stage.
        depths: blocks of each stage.
        hidden_act: inside of blocks, a name in `ACT2FN`.
        initializer_range: standard deviation of fresh weights.
        layer_norm_eps: what the norm behind the last stage adds to the variance; elsewhere it is 1e-6.
        drop_path_rate: share of images for which the last block is left out while training; blocks before it are left
            out less often, the first one never.
        image_size: not used, as images may be of any size; kept as files have it.
        out_features, out_indices: the stages whose feature maps a backbone gives, by name or place in `stage_names`.
    """

    model_type = "convnextv2"
    aliases: ClassVar[dict[str, str]] = {"num_hidden_layers": "num_stages"}

    num_channels: Count = 3
    patch_size: Count | tuple[Count, Count] = 4
    num_stages: Count = 4
    hidden_sizes: list[Count] = [96, 192, 384, 768]  # noqa: RUF012 - a field's default: every configuration gets its own
    depths: list[Count] = [3, 3, 9, 3]  # noqa: RUF012 - likewise
    hidden_act: str = "gelu"
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-12
    drop_path_rate: Share = 0.0
    image_size: Count | tuple[Count, Count] = 224

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("hidden_sizes", "depths"):
            if getattr(self, name) is None:
                setattr(self, name, self._schema()[name].fresh_default())
        super().__post_init__(**kwargs)

    @property
    def stage_names(self) -> list[str]:
        """What stages are called: the stem, then `stage1` and so on."""
        return ["stem", *(f"stage{number}" for number in range(1, len(self.depths) + 1))]

    def validate(self) -> None:
        super().validate()
        if not len(self.depths) == len(self.hidden_sizes) == self.num_stages:
            raise ValueError(
                f"depths={self.depths}, hidden_sizes={self.hidden_sizes} and num_stages={self.num_stages} must name "
                "the same number of stages."
            )
        if self.drop_path_rate == 1:
            raise ValueError("drop_path_rate=1 leaves out the last block of every image; give less.")


class ConvNextConfig(ConvNextV2Config):
    """Configures ConvNeXt (Liu et al. 2022). Takes what `ConvNextV2Config` takes.

    Args:
        layer_scale_init_value: what fresh blocks' contributions are multiplied by; 0 leaves the factors out.
    """

    model_type = "convnext"

    layer_scale_init_value: Annotated[float, Meta(ge=0)] = 1e-6
