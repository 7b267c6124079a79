"""What makes one Blueprint different from another."""

from typing import Annotated

import msgspec

from maquette import PretrainedConfig

Count = Annotated[int, msgspec.Meta(ge=1)]


class BlueprintConfig(PretrainedConfig):
    """Configures a Blueprint; every field is written to `config.json`, and a misspelt one is an error.

    Attributes:
        vocab_size: tokens that there are.
        dim: numbers that a token's state has.
        heads: ways in which a token looks at the others.
        depth: blocks, one after the other.
        dropout: share of what a block adds that is left out while training.
    """

    model_type = "blueprint"
    vocab_size: Count = 1000
    dim: Count = 64
    heads: Count = 4
    depth: Count = 2
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1

    def validate(self) -> None:
        """Check what fields have to do with each other."""
        if self.dim % (2 * self.heads):
            raise ValueError(f"dim={self.dim} has to be a multiple of twice heads={self.heads}: widths are even.")
