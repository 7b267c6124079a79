"""Small models that keep every promise, each of another kind; fresh processes import them from here."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone writes it

from maquette import (
    CausalLMOutput,
    PretrainedConfig,
    PreTrainedModel,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)


class ScribeConfig(PretrainedConfig):
    """A small transformer's configuration, written as annotated fields."""

    model_type = "scribe"
    aliases = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}  # noqa: RUF012

    vocab_size: Annotated[int, msgspec.Meta(gt=0)] = 29
    dim: Annotated[int, msgspec.Meta(gt=0)] = 12
    n_heads: Annotated[int, msgspec.Meta(gt=0)] = 3
    n_layers: Annotated[int, msgspec.Meta(gt=0)] = 2
    max_positions: int = 16
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1

    def validate(self) -> None:
        if self.dim % self.n_heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of n_heads ({self.n_heads}).")


class ScribeAttention(nn.Module):
    """Self-attention whose heads can be taken out."""

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__()
        self.n_heads, self.head_size = config.n_heads, config.dim // config.n_heads
        self.q_lin = nn.Linear(config.dim, config.dim)
        self.k_lin = nn.Linear(config.dim, config.dim)
        self.v_lin = nn.Linear(config.dim, config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)
        self.pruned: set[int] = set()

    def prune_heads(self, heads: Iterable[int]) -> None:
        new, index = find_pruneable_heads_and_indices(heads, self.n_heads, self.head_size, self.pruned)
        for name in ("q_lin", "k_lin", "v_lin"):
            setattr(self, name, prune_linear_layer(getattr(self, name), index))
        self.out_lin = prune_linear_layer(self.out_lin, index, dim=1)
        self.n_heads -= len(new)
        self.pruned |= new

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        shape = (batch, length, self.n_heads, self.head_size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q_lin, self.k_lin, self.v_lin))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (batch, heads, length, head_size)
        return self.out_lin(mixed.transpose(1, 2).reshape(batch, length, -1))


class ScribeBlock(nn.Module):
    def __init__(self, config: ScribeConfig) -> None:
        super().__init__()
        self.attention = ScribeAttention(config)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, 2 * config.dim)
        self.narrow = nn.Linear(2 * config.dim, config.dim)
        self.output_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.output_norm(x + self.dropout(self.narrow(F.gelu(self.widen(x)))))


class ScribeModel(PreTrainedModel):
    """Reads tokens left to right; recomputes activations on request."""

    config_class = ScribeConfig
    base_model_prefix = "scribe"
    supports_gradient_checkpointing = True

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.position_embeddings = nn.Embedding(config.max_positions, config.dim)
        self.layer = nn.ModuleList(ScribeBlock(config) for _ in range(config.n_layers))
        self.register_buffer("position_ids", torch.arange(config.max_positions), persistent=False)
        self.gradient_checkpointing = False

    def _prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        for number, heads in heads_to_prune.items():
            self.layer[number].attention.prune_heads(heads)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        length = input_ids.shape[1]
        x = self.word_embeddings(input_ids) + self.position_embeddings(self.position_ids[:length])
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()  # (length, length)
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, :].bool()  # (batch, 1, length, length)
        for block in self.layer:
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(block, x, mask)
            else:
                x = block(x, mask)
        return {"last_hidden_state": x}


class ScribeForCausalLM(PreTrainedModel):
    """Predicts the next token with the input embeddings' own weights and a bias."""

    config_class = ScribeConfig
    base_model_prefix = "scribe"
    supports_gradient_checkpointing = True

    def __init__(self, config: ScribeConfig) -> None:
        super().__init__(config)
        self.scribe = ScribeModel(config)
        self.scores = nn.Linear(config.dim, config.vocab_size)

    def get_output_embeddings(self) -> nn.Module:
        return self.scores

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.scores = value

    def get_input_embeddings(self) -> nn.Module:
        return self.scribe.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.scribe.word_embeddings = value

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> CausalLMOutput:
        logits = self.scores(self.scribe(input_ids, attention_mask)["last_hidden_state"])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


class GlyphConfig(PretrainedConfig):
    """A small convolutional net's configuration, with a constructor written by hand."""

    model_type = "glyph"

    def __init__(self, widths=[4, 8], channels: int = 3, pooling: str = "mean", **kwargs: Any) -> None:  # noqa: B006
        if pooling not in ("mean", "max"):
            raise ValueError(f"pooling must be 'mean' or 'max', not {pooling!r}.")
        self.widths = widths
        self.channels = channels
        self.pooling = pooling
        super().__init__(**kwargs)


class GlyphForImageClassification(PreTrainedModel):
    """Classifies images; batch normalisation, and a plain dictionary as output."""

    config_class = GlyphConfig
    main_input_name = "pixel_values"

    def __init__(self, config: GlyphConfig) -> None:
        super().__init__(config)
        sizes = [config.channels, *config.widths]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
                for before, after in pairwise(sizes)
            )
        )
        self.classifier = nn.Linear(sizes[-1], config.num_labels)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        count = 3 * self.config.channels * 8 * 8
        return {"pixel_values": torch.linspace(-1, 1, count).reshape(3, self.config.channels, 8, 8).sin()}

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        features = self.stages(pixel_values).flatten(2)
        logits = self.classifier(features.mean(-1) if self.config.pooling == "mean" else features.amax(-1))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class WaveConfig(PretrainedConfig):
    """How many frequencies, and how fast the slowest is."""

    model_type = "wave"
    n_frequencies: int = 6
    base: float = 100.0


class WaveModel(PreTrainedModel):
    """Maps times to sines of frequencies kept in a non-persistent buffer, mixes them, and returns a bare tensor."""

    config_class = WaveConfig

    def __init__(self, config: WaveConfig) -> None:
        super().__init__(config)
        steps = torch.arange(config.n_frequencies, dtype=torch.float32) / config.n_frequencies
        self.register_buffer("frequencies", config.base**-steps, persistent=False)
        self.mix = nn.Linear(config.n_frequencies, 2)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        return {"times": torch.tensor([[0.0], [0.5], [2.0]])}

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.sin(times * self.frequencies.to(times.dtype)))
