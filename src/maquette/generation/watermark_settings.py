"""How texts are marked, for `GenerationConfig(watermarking_config=…)`: by green lists, or by SynthID."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from maquette.errors import ConfigurationError, bullets


class _Settings:
    def __post_init__(self) -> None:
        self.validate()

    def _faults(self) -> list[str]:
        raise NotImplementedError

    def validate(self) -> None:
        """Check the values once more, after some were set."""
        if faults := self._faults():
            raise ConfigurationError(f"{type(self).__name__}:{bullets(faults)}")

    def to_dict(self) -> dict[str, Any]:
        """Give the values as they are written to files."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]


@dataclasses.dataclass
class WatermarkingConfig(_Settings):
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

    def _faults(self) -> list[str]:
        faults = []
        if self.seeding_scheme not in ("lefthash", "selfhash"):
            faults.append(f"seeding_scheme is 'lefthash' or 'selfhash', not {self.seeding_scheme!r}")
        if not 0 < self.greenlist_ratio < 1:
            faults.append(f"greenlist_ratio is between 0 and 1, not {self.greenlist_ratio!r}")
        if self.context_width < 1:
            faults.append(f"context_width is at least 1, not {self.context_width!r}")
        return faults


@dataclasses.dataclass
class SynthIDTextWatermarkingConfig(_Settings):
    """How SynthID marks texts (Dathathri et al. 2024, doi 10.1038/s41586-024-08025-4).

    Attributes:
        ngram_len: how many tokens a mark follows from, the marked one included.
        keys: the secret, a number for each layer of the tournament.
        context_history_size: how many of a text's latest contexts are remembered; one that comes again is not marked.
        sampling_table_seed: of the table that turns hashes into zeros and ones.
        sampling_table_size: how many numbers it has, 2^24 at most.
        skip_first_ngram_calls: leave the first `ngram_len - 1` tokens unmarked.
        debug_mode: mark as if all tokens were equally likely, to try a detector.

    Raises:
        ConfigurationError: listing what is wrong.
    """

    ngram_len: int
    keys: list[int]
    context_history_size: int = 1024
    sampling_table_seed: int = 0
    sampling_table_size: int = 2**16
    skip_first_ngram_calls: bool = False
    debug_mode: bool = False

    def _faults(self) -> list[str]:
        faults = []
        if self.ngram_len < 2:
            faults.append(f"ngram_len is at least 2, a token and the one before it, not {self.ngram_len!r}")
        if not self.keys:
            faults.append("keys is empty: give a number for each layer")
        if self.context_history_size < 0:
            faults.append(f"context_history_size is at least 0, not {self.context_history_size!r}")
        if not 1 <= self.sampling_table_size <= 2**24:
            faults.append(f"sampling_table_size is between 1 and 2^24, not {self.sampling_table_size!r}")
        return faults


Watermark = WatermarkingConfig | SynthIDTextWatermarkingConfig


def as_watermark(values: Mapping[str, Any]) -> Watermark:
    """Take what a file or a setting says; what only SynthID has tells the two apart.

    Raises:
        ConfigurationError: a name that is unknown, one that is missing, or a value that cannot be.
    """
    own = {field.name: field for field in dataclasses.fields(SynthIDTextWatermarkingConfig)}
    is_synthid = not own.keys().isdisjoint(values)
    kind: type[Watermark] = SynthIDTextWatermarkingConfig if is_synthid else WatermarkingConfig
    known = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known.keys()):
        raise ConfigurationError(
            f"watermarking_config has {', '.join(unknown)}; {kind.__name__} knows {', '.join(sorted(known))}."
        )
    needed = [name for name, field in known.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise ConfigurationError(f"watermarking_config: {kind.__name__} needs {' and '.join(missing)}.")
    return kind(**values)
