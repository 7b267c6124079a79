"""Small decoders written as a user writes one, for tests of generation."""

from typing import Any

import torch
from torch import Tensor, nn

from maquette import CausalLMOutput, PretrainedConfig, PreTrainedModel
from maquette.modeling.layers.rotary import RotaryEmbedding, rotate
from maquette.modeling.packing import Layout, attention, lay_out


class TinyConfig(PretrainedConfig):
    model_type = "tiny-decoder"
    vocab_size: int = 40
    hidden_size: int = 32
    num_attention_heads: int = 4
    num_hidden_layers: int = 3
    num_key_value_heads: int = 2
    window: int | None = None
    recurrent: bool = False


class Block(nn.Module):
    def __init__(self, config: TinyConfig, window: int | None) -> None:
        super().__init__()
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.window = config.hidden_size // self.heads, window
        self.norm = nn.LayerNorm(config.hidden_size)
        self.q = nn.Linear(config.hidden_size, self.heads * self.width)
        self.kv = nn.Linear(config.hidden_size, 2 * self.key_heads * self.width)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.up, self.down = nn.Linear(config.hidden_size, 64), nn.Linear(64, config.hidden_size)

    def forward(self, x: Tensor, turn: Any, layout: Layout) -> Tensor:
        y = self.norm(x)
        q = self.q(y).unflatten(-1, (self.heads, self.width))
        k, v = self.kv(y).unflatten(-1, (2 * self.key_heads, self.width)).chunk(2, dim=-2)
        y = attention(rotate(q, turn), rotate(k, turn), v, layout, causal=True, window=self.window)
        x = x + self.out(y.flatten(-2))
        return x + self.down(self.up(x).relu())


class Blend(nn.Module):
    """A recurrence: each state is half of the one before it and half of the token."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        rows, state = layout.to_rows(x), layout.state(self, x.shape[-1:], x)
        value, states, ends = state.value, [], layout.counts
        for place in range(rows.shape[1]):
            real = torch.tensor([[place < end] for end in ends])
            value = torch.where(real, (value + rows[:, place]) / 2, value)
            states.append(value)
        state.keep(value)
        return layout.from_rows(torch.stack(states, dim=1)) if states else x


class TinyForCausalLM(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(
            Block(config, config.window if n % 2 else None) for n in range(config.num_hidden_layers)
        )
        self.blend = Blend() if config.recurrent else None
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rotary = RotaryEmbedding(config.hidden_size // config.num_attention_heads)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> CausalLMOutput:  # fmt: skip
        inputs = input_ids if inputs_embeds is None else inputs_embeds
        layout = lay_out(inputs, attention_mask, cache=past_key_values, count_padding=False)
        x = layout.gather(inputs)
        x = self.embed(x) if inputs_embeds is None else x
        turn = self.rotary(layout.positions(x.device), dtype=x.dtype)
        for block in self.blocks:
            x = block(x, turn, layout)
        if self.blend is not None:
            x = self.blend(x, layout)
        return CausalLMOutput(logits=layout.scatter(self.head(x)))
