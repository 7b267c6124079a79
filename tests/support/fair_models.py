"""Models that keep every promise in ways of their own, and next to each one that breaks it in the same way."""

from typing import Any

import torch
from broken_models import Toy, ToyConfig
from torch import nn
from torch.utils.checkpoint import checkpoint

from maquette import PretrainedConfig, PreTrainedModel


class ComparesPairs(Toy):
    """Scores every example against every other one's partner, as contrastive models do."""

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        one, other = self.line(x), self.line(x if y is None else y).tanh()
        logits = one @ other.T  # (batch, batch)
        return {"logits_per_text": logits, "logits_per_image": logits.T, "embeds": one}


class ComparesWithTheMean(ComparesPairs):
    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        found = super().forward(x, y)
        return {**found, "logits_per_text": found["logits_per_text"] - found["logits_per_text"].mean()}


class ChoosesExperts(Toy):
    """Sends each example to the one of many experts that its router prefers; most are chosen by none."""

    count = 12

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.router = nn.Linear(config.dim, self.count)
        self.experts = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(self.count))
        nn.init.zeros_(self.router.weight)
        nn.init.zeros_(self.router.bias)

    def forward(self, x: torch.Tensor) -> Any:
        weights, choices = self.router(self.line(x)).softmax(-1).max(-1)
        parts = torch.zeros_like(x)
        for number in choices.unique().tolist():
            rows = (choices == number).nonzero()[:, 0]
            parts = parts.index_add(0, rows, self.experts[number](x[rows]) * weights[rows, None])
        return {"logits": parts}


class LeavesOneExpertOut(ChoosesExperts):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.after = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(3))

    def forward(self, x: torch.Tensor) -> Any:
        logits = super().forward(x)["logits"]
        for layer in self.after[:-1]:
            logits = layer(logits)
        return {"logits": logits}


class RecomputesItself(Toy):
    """Calls torch's own function, and has a switch that only its inner module looks at."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = False
        self.body = Body(config.dim)

    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": self.line(self.body(x))}


class Body(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            recompute = self.gradient_checkpointing and self.training
            x = (
                checkpoint(lambda y, layer=layer: layer(y).tanh(), x, use_reentrant=False)
                if recompute
                else (layer(x).tanh())
            )
        return x


class SequenceConfig(PretrainedConfig):
    model_type = "sequence"
    vocab_size: int = 17
    dim: int = 6


class Recurrent(PreTrainedModel):
    """Reads on where an earlier call stopped."""

    config_class = SequenceConfig
    begins = True

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.cell = nn.GRU(config.dim, config.dim, batch_first=True)
        self.score = nn.Linear(config.dim, config.vocab_size)

    def forward(self, input_ids: torch.Tensor, state: torch.Tensor | None = None) -> Any:
        states, last = self.cell(self.embed(input_ids), state if self.begins else None)
        return {"logits": self.score(states), "state": last, "pooled": states.mean(1)}


class StartsAnew(Recurrent):
    begins = False


class CountsFromZero(PreTrainedModel):
    """Keeps the keys and values of earlier calls, and gives every call the positions of the first."""

    config_class = SequenceConfig
    follows = False

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.places = nn.Embedding(32, config.dim)
        self.q, self.k, self.v = (nn.Linear(config.dim, config.dim) for _ in range(3))

    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, use_cache: bool = False) -> Any:
        before = past_key_values[0][0].shape[1] if past_key_values else 0
        positions = torch.arange(input_ids.shape[1]) + (before if self.follows else 0)
        x = self.embed(input_ids) + self.places(positions)
        k, v = self.k(x), self.v(x)
        if past_key_values:
            k, v = (torch.cat([old, new], 1) for old, new in zip(past_key_values[0], (k, v), strict=True))
        mask = torch.ones(x.shape[1], k.shape[1], dtype=torch.bool).tril(before)
        found = nn.functional.scaled_dot_product_attention(self.q(x), k, v, attn_mask=mask)
        return {"logits": found, **({"past_key_values": ((k, v),)} if use_cache else {})}


class CountsOn(CountsFromZero):
    follows = True
