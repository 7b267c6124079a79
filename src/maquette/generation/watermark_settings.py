"""`WatermarkingConfig`: how texts are marked, for `GenerationConfig(watermarking_config=…)`."""

import dataclasses
from typing import Any

from maquette.errors import ConfigurationError, bullets


@dataclasses.dataclass
class WatermarkingConfig:
    """How the green list of a watermark is made (Kirchenbauer et al. 2023, 2301.10226 and 2306.04634).

    Attributes:
        greenlist_ratio: the green share of the vocabulary.
        bias: what is added to the scores of green tokens.
        hashing_key: the secret.
        seeding_scheme: `"lefthash"`: the list follows from the last token; `"selfhash"`: from the candidate too.
        context_width: how many tokens `"selfhash"` looks at.

    Raises:
        ConfigurationError: listing what is wrong.
    """

    greenlist_ratio: float = 0.25
    bias: float = 2.0
    hashing_key: int = 15485863
    seeding_scheme: str = "lefthash"
    context_width: int = 1

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Check the values once more, after some were set."""
        faults = []
        if self.seeding_scheme not in ("lefthash", "selfhash"):
            faults.append(f"seeding_scheme is 'lefthash' or 'selfhash', not {self.seeding_scheme!r}")
        if not 0 < self.greenlist_ratio < 1:
            faults.append(f"greenlist_ratio is between 0 and 1, not {self.greenlist_ratio!r}")
        if self.context_width < 1:
            faults.append(f"context_width is at least 1, not {self.context_width!r}")
        if faults:
            raise ConfigurationError(f"WatermarkingConfig:{bullets(faults)}")

    def to_dict(self) -> dict[str, Any]:
        """Give the values as they are written to files."""
        return dataclasses.asdict(self)
