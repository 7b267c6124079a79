"""Rotary position embeddings (Su et al. 2021), with every scaling that checkpoints have.

    self.rotary_emb = RotaryEmbedding.of(config)                    # once in a model
    rotation = self.rotary_emb(layout.positions(device), dtype=x.dtype)   # once in a forward
    q, k = rotate(q, rotation), rotate(k, rotation)                 # in every layer, (places, heads, width)

A position turns each pair of numbers, one from either half of a head's state, by an angle: the position times the
pair's frequency. Angles are computed in float32, wherever the model's weights are.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.configuration.rotary import NEEDED, STRETCHING
from maquette.errors import ConfigurationError, did_you_mean
from maquette.modeling.packing import Layout


class Rotation(NamedTuple):
    """What turns states: made by `RotaryEmbedding`, applied by `rotate`; both are `(places, 1, rotated width)`."""

    cos: Tensor
    sin: Tensor  # negative in its first half


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn states `(places, heads, width)` according to their positions; what is wider than the rotation stays."""
    width = rotation.cos.shape[-1]
    if width < x.shape[-1]:
        turned, rest = x.split((width, x.shape[-1] - width), -1)
        return torch.cat((rotate(turned, rotation), rest), -1)
    return torch.addcmul(x * rotation.cos, x.roll(width // 2, -1), rotation.sin)


def row_lengths(layout: Layout, device: torch.device) -> Tensor:
    """Give for each place how many tokens its row has, those in the cache included: `(tokens,)`, or `(batch, 1)`."""
    if layout.starts is not None:
        return layout.starts + 1
    before = torch.tensor(layout.before or (0,) * layout.shape[0], device=device)
    if layout.places is not None:
        new = torch.tensor(layout.lengths, device=device)
        return new.repeat_interleave(new) + before[layout.places // layout.shape[1]]
    new = torch.full_like(before, layout.shape[1]) if layout.mask is None else layout.mask.sum(1)
    return (before + new)[:, None]


class RotaryEmbedding(nn.Module):
    """Turns positions into rotations.

    With the scalings "dynamic" and "longrope" the frequencies depend on how long a text is. Here, that is the length of
    each row by itself, which `lengths` gives, so that a row's result is the same in any batch; a row that grows beyond
    the original length while it generates keeps the keys that it has (Transformers counts the longest row of the batch
    for all of them). Without `lengths`, positions `(batch, length)` say it of each row, and positions `(places,)`
    count as one row.
    """

    frequencies: Tensor
    long_frequencies: Tensor | None

    def __init__(
        self,
        width: int,
        parameters: Mapping[str, Any] | None = None,
        *,
        max_position_embeddings: int | None = None,
    ) -> None:
        """Compute the frequencies.

        Args:
            width: of a head.
            parameters: `rope_type`, `rope_theta`, `partial_rotary_factor` and what the kind of scaling needs, as
                `rope_parameters` of a configuration has them; unless given, plain rotations with a theta of 10,000.
            max_position_embeddings: the longest input; "dynamic" needs it, and others where they name no length.

        Raises:
            ConfigurationError: an unknown kind of scaling, a parameter that is missing, or an odd width.
        """
        super().__init__()
        self.scaling = {"rope_theta": 10_000.0, **(parameters or {})}
        self.kind = self.scaling.get("rope_type") or "default"
        self.limit = max_position_embeddings
        share = self.scaling.get("partial_rotary_factor") or 1.0
        self.head_width = width
        self.width = width if self.kind == "proportional" or share == 1 else -(-int(width * share) // 2) * 2
        self._check()
        frequencies, long, self.attention_factor = self._compute()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("long_frequencies", long, persistent=False)

    @classmethod
    def of(cls, config: Any, layer_type: str | None = None) -> "RotaryEmbedding":
        """Make what a `RotaryConfig` asks for, for one of its layer types where these differ."""
        parameters = config.rotary_parameters(layer_type)
        return cls(config.rotary_width, parameters, max_position_embeddings=config.max_position_embeddings)

    @property
    def depends_on_length(self) -> bool:
        """Whether `forward` needs to know how long rows are."""
        return self.kind in ("dynamic", "longrope")

    def extra_repr(self) -> str:
        return f"{self.width}, {self.kind}, theta={self.scaling['rope_theta']}"

    @torch.no_grad()
    def forward(
        self, positions: Tensor, lengths: Tensor | None = None, *, dtype: torch.dtype = torch.float32
    ) -> Rotation:
        """Give the rotation of every place.

        Args:
            positions: `(places,)` or `(batch, length)`, whole numbers or not.
            lengths: how many tokens the row of each place has, those that are cached included; of a shape that is
                broadcast to that of `positions`.
            dtype: of the result, that of the states to rotate.
        """
        angles = positions[..., None, None].float() * self._choose_frequencies(positions, lengths)
        cos, sin = angles.cos(), angles.sin()
        if self.attention_factor != 1.0:
            cos, sin = cos * self.attention_factor, sin * self.attention_factor
        return Rotation(cos.to(dtype), sin.to(dtype))

    def _choose_frequencies(self, positions: Tensor, lengths: Tensor | None) -> Tensor:
        """Give `(width,)`, or `(…, 1, width)` where it depends on the row."""
        if not self.depends_on_length:
            return self.frequencies
        if lengths is None:
            lengths = positions.amax(-1, keepdim=True) + 1
        lengths = lengths[..., None, None]
        if self.long_frequencies is not None:
            return torch.where(lengths > self._original_length(), self.long_frequencies, self.frequencies)
        assert self.limit is not None
        kind = torch.float32 if positions.device.type == "mps" else torch.float64  # so that all rows round alike
        factor, exponent = self.scaling["factor"], self.width / (self.width - 2)
        stretch = factor * lengths.clamp(min=self.limit).to(kind) / self.limit - (factor - 1)
        pairs = torch.arange(0, self.width, 2, dtype=kind, device=positions.device) / self.width
        return _both_halves((1.0 / (self.scaling["rope_theta"] * stretch**exponent) ** pairs).float())

    # Frequencies -----------------------------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        """Move with the model, but stay in float32: in bfloat16, angles are wrong by radians after 1,000 tokens."""
        super()._apply(fn, recurse)
        device = self.frequencies.device
        self.frequencies, long, _ = self._compute(device)
        self.long_frequencies = long
        return self

    def _check(self) -> None:
        if self.kind not in NEEDED:
            raise ConfigurationError(
                f"There is no rotary scaling {self.kind!r}.{did_you_mean(str(self.kind), NEEDED)} "
                f"Known are {', '.join(NEEDED)}."
            )
        needed = [*NEEDED[self.kind]]
        if self.limit is None and self.kind == "dynamic":
            needed.append("max_position_embeddings")
        if self.limit is None and self.kind in STRETCHING:
            needed.append("original_max_position_embeddings")
        if self.limit is None and self.kind in ("yarn", "longrope"):
            needed.append("factor")
        missing = [name for name in needed if self.scaling.get(name) is None]
        if missing:
            raise ConfigurationError(f"Rotary scaling {self.kind!r} needs {' and '.join(missing)}.")
        if self.width < 2 or self.width % 2:
            raise ConfigurationError(
                f"A rotation turns pairs of numbers, so its width must be even: {self.width} of a head "
                f"{self.head_width} wide are to be turned. Change head_dim or partial_rotary_factor."
            )

    def _original_length(self) -> int:
        return int(self.scaling.get("original_max_position_embeddings") or self.limit or 0)

    def _factor(self) -> float:
        """Give how much longer inputs may be than they were in the first training."""
        factor = self.scaling.get("factor")
        return float(factor if factor is not None else (self.limit or 0) / self._original_length())

    def _compute(self, device: torch.device | None = None) -> tuple[Tensor, Tensor | None, float]:
        """Give frequencies `(width,)`, those of long texts where they differ, and what scales cosines and sines."""
        if device is not None and device.type == "meta":
            return self.frequencies.float(), self.long_frequencies, self.attention_factor
        theta, width = self.scaling["rope_theta"], self.width
        plain = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        long, scale = None, 1.0
        if self.kind == "linear":
            plain = plain / self.scaling["factor"]
        elif self.kind == "proportional":
            plain = self._keep_first(plain)
        elif self.kind == "llama3":
            plain = self._compute_llama3(plain)
        elif self.kind == "yarn":
            plain, scale = self._compute_yarn(plain), self._yarn_attention_factor()
        elif self.kind == "longrope":
            short, long = (torch.tensor(self.scaling[n], dtype=torch.float32) for n in ("short_factor", "long_factor"))
            powers = theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
            plain, long, scale = 1.0 / (short * powers), 1.0 / (long * powers), self._longrope_attention_factor()
            long = _both_halves(long).to(device)
        return _both_halves(plain).to(device), long, scale

    def _keep_first(self, plain: Tensor) -> Tensor:
        """Leave the later pairs unturned, frequencies being those of the whole head."""
        share, factor = self.scaling.get("partial_rotary_factor") or 1.0, self.scaling.get("factor") or 1.0
        turned = int(share * self.head_width // 2)
        return torch.cat((plain[:turned], torch.zeros_like(plain[turned:]))) / factor

    def _compute_llama3(self, plain: Tensor) -> Tensor:
        """Slow down long waves, keep short ones, and blend between (Llama 3.1: Grattafiori et al. 2024)."""
        factor, low, high = (self.scaling[n] for n in ("factor", "low_freq_factor", "high_freq_factor"))
        turns = self._original_length() * plain / (2 * math.pi)  # of each pair, over the original length
        blend = ((turns - low) / (high - low)).clamp(0, 1)
        return plain * ((1 - blend) / factor + blend)

    def _compute_yarn(self, plain: Tensor) -> Tensor:
        """Blend frequencies and their interpolation by how often a pair turns (Peng et al. 2023, section 3.2)."""
        theta, width, original = self.scaling["rope_theta"], self.width, self._original_length()

        def pair_that_turns(times: float) -> float:
            return width * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

        low = pair_that_turns(self.scaling.get("beta_fast") or 32)
        high = pair_that_turns(self.scaling.get("beta_slow") or 1)
        if self.scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        if low == high:
            high += 0.001
        slowed = ((torch.arange(width // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
        return plain / self._factor() * slowed + plain * (1 - slowed)

    def _yarn_attention_factor(self) -> float:
        """Give what sharpens attention over long texts (Peng et al. 2023, equation 22)."""
        given, factor = self.scaling.get("attention_factor"), self._factor()
        if given is not None:
            return float(given)
        mscale, all_dim = self.scaling.get("mscale"), self.scaling.get("mscale_all_dim")
        if factor <= 1:
            return 1.0
        if mscale and all_dim:
            return (0.1 * mscale * math.log(factor) + 1) / (0.1 * all_dim * math.log(factor) + 1)
        return 0.1 * math.log(factor) + 1

    def _longrope_attention_factor(self) -> float:
        """Give what sharpens attention over long texts (Ding et al. 2024)."""
        given, factor = self.scaling.get("attention_factor"), self._factor()
        if given is not None:
            return float(given)
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(self._original_length()))


def _both_halves(frequencies: Tensor) -> Tensor:
    """Give each pair's frequency to its two places, once backwards, so that sines come out with the signs needed."""
    return torch.cat((-frequencies, frequencies), -1)
