"""What makes one Blueprint different from another."""

from typing import Annotated

import msgspec

from maquette import PretrainedConfig

Count = Annotated[int, msgspec.Meta(ge=1)]


class BlueprintConfig(PretrainedConfig):
    """Configures a Blueprint; every field is written to `config.json`, and a misspelt one is an error.

    Attributes:
        vocab_size: tokens that there are.
        text_dim: numbers that a token's state has.
        text_heads: ways in which a token looks at the others.
        text_depth: blocks of the tower of texts, one after the other.
        num_channels: colours of an image.
        widths: channels of each stage of the tower of images; every stage halves the image's sides.
        groups: of channels that are normed together.
        dim: width of the space where texts and images are compared.
        logit_scale: logarithm of what cosines are multiplied by, at first.
    """

    model_type = "blueprint"
    vocab_size: Count = 300
    text_dim: Count = 64
    text_heads: Count = 4
    text_depth: Count = 1
    num_channels: Count = 3
    widths: list[Count] = [16, 32, 64]  # noqa: RUF012 - a field's default: every instance has its own
    groups: Count = 8
    dim: Count = 64
    logit_scale: float = 2.66

    def validate(self) -> None:
        """Check what fields have to do with each other."""
        if self.text_dim % (2 * self.text_heads):
            raise ValueError(
                f"text_dim={self.text_dim} has to be a multiple of twice text_heads={self.text_heads}: widths are even."
            )
        if not self.widths:
            raise ValueError("widths=[] names no stage: give one width at least.")
        if wrong := [width for width in self.widths if width % self.groups]:
            raise ValueError(f"widths have to be multiples of groups={self.groups}, not {wrong[0]}.")
