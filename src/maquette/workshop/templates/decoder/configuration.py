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
        heads: ways in which a token looks at those before it.
        depth: blocks, one after the other.
        window: how many tokens back a token sees; None for all of them.
    """

    model_type = "blueprint"
    vocab_size: Count = 1000
    dim: Count = 96
    heads: Count = 4
    depth: Count = 3
    window: Count | None = None
    use_cache: bool = True

    def validate(self) -> None:
        """Check what fields have to do with each other."""
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"dim={self.dim} has to be a multiple of twice heads={self.heads}: heads have even widths."
            )
