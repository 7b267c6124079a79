"""What makes one Blueprint different from another."""

from typing import Annotated

import msgspec

from maquette import PretrainedConfig

Count = Annotated[int, msgspec.Meta(ge=1)]


class BlueprintConfig(PretrainedConfig):
    """Configures a Blueprint; every field is written to `config.json`, and a misspelt one is an error.

    Attributes:
        bands: of frequencies, which the feature extractor gives for every frame of a sound.
        dim: numbers that a frame's state has.
        depth: blocks, one after the other.
        kernel: frames that a block looks at together, an odd number.
    """

    model_type = "blueprint"
    bands: Count = 32
    dim: Count = 48
    depth: Count = 2
    kernel: Count = 5

    def validate(self) -> None:
        """Check what a field has to be."""
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} has to be odd: as many frames before as behind.")
