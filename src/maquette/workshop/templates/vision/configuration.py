"""What makes one Blueprint different from another."""

from typing import Annotated

import msgspec

from maquette import PretrainedConfig

Count = Annotated[int, msgspec.Meta(ge=1)]


class BlueprintConfig(PretrainedConfig):
    """Configures a Blueprint; every field is written to `config.json`, and a misspelt one is an error.

    Attributes:
        num_channels: colours of an image.
        widths: channels of each stage; every stage halves the image's sides.
        depths: blocks of each stage.
        groups: of channels that are normed together.
    """

    model_type = "blueprint"
    num_channels: Count = 3
    widths: list[Count] = [16, 32, 64]  # noqa: RUF012 - a field's default: every instance has its own
    depths: list[Count] = [1, 1, 1]  # noqa: RUF012
    groups: Count = 8

    def validate(self) -> None:
        """Check what fields have to do with each other."""
        if not self.widths or len(self.widths) != len(self.depths):
            raise ValueError(f"widths={self.widths} and depths={self.depths} have to be of one length, at least 1.")
        if wrong := [width for width in self.widths if width % self.groups]:
            raise ValueError(f"widths have to be multiples of groups={self.groups}, not {wrong[0]}.")
