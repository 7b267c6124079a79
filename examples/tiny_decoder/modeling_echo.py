"""Echo: a decoder that hears, beside each token, what followed it the last time that it stood in the text."""

import torch
from torch import Tensor, nn

from maquette import GatedFeedForward, PretrainedConfig, PreTrainedModel, RMSNorm, RotaryEmbedding
from maquette.modeling.decoders import CausalLMHead, LaidOutDecoderOutput
from maquette.modeling.layers.rotary import rotate
from maquette.modeling.packing import attention, lay_out


class EchoConfig(PretrainedConfig):
    model_type = "echo"
    vocab_size: int = 2000
    dim: int = 128
    heads: int = 4
    depth: int = 3
    window: int = 64  # tokens that attention sees; what lies further back is heard as an echo
    echoes: bool = True


class Echo(nn.Module):
    """Finds for each token what came after its last occurrence in the row, and turns that into a vector."""

    def __init__(self, config: EchoConfig) -> None:
        super().__init__()
        self.vocabulary = config.vocab_size
        self.embed = nn.Embedding(config.vocab_size + 1, config.dim, padding_idx=0)  # 0: it has not occurred before

    def forward(self, ids: Tensor, layout) -> Tensor:
        tokens = layout.to_rows(ids)  # (batch, longest), each row from its first new token on
        # For every token of the vocabulary what came after it, plus 1; then the last token that was read, plus 1.
        state = layout.state(self, (self.vocabulary + 2,), tokens)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        is_real = places < layout.count_tokens(tokens.device)[:, None]
        before = torch.cat([state.value[:, -2:-1] - 1, tokens[:, :-1]], dim=1)  # what `tokens` came after; -1: nothing
        same = before[:, None, :] == tokens[:, :, None]  # (batch, token, pair)
        last = torch.where(same & (places <= places[:, None]), places + 1, 0).amax(2)
        found = torch.where(last > 0, tokens.gather(1, (last - 1).clamp(min=0)) + 1, state.value.gather(1, tokens))
        state.keep(self._remember(state.value, before, tokens, is_real))
        return self.embed(layout.from_rows(found))

    def _remember(self, value: Tensor, before: Tensor, tokens: Tensor, is_real: Tensor) -> Tensor:
        """Note what came after each token; of several occurrences, the last one counts."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        is_later = (before[:, None, :] == before[:, :, None]) & (places > places[:, None]) & is_real[:, None, :]
        counts = is_real & (before >= 0) & ~is_later.any(2)
        spare = self.vocabulary + 1
        value = value.scatter(1, torch.where(counts, before, spare), tokens + 1)
        ends = is_real.sum(1, keepdim=True)
        newest = tokens.gather(1, (ends - 1).clamp(min=0)) + 1
        value[:, -2:-1] = torch.where(ends > 0, newest, value[:, -2:-1])
        return value


class Block(nn.Module):
    def __init__(self, config: EchoConfig) -> None:
        super().__init__()
        self.heads, self.window = config.heads, config.window
        self.norm1, self.norm2 = RMSNorm(config.dim), RMSNorm(config.dim)
        self.qkv, self.out = nn.Linear(config.dim, 3 * config.dim, bias=False), nn.Linear(config.dim, config.dim)
        self.mlp = GatedFeedForward(config.dim, 3 * config.dim)

    def forward(self, x: Tensor, layout, rotation) -> Tensor:  # (places, dim)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (places, heads, width)
        q, k = rotate(q, rotation), rotate(k, rotation)
        x = x + self.out(attention(q, k, v, layout, causal=True, window=self.window).flatten(-2))
        return x + self.mlp(self.norm2(x))


class EchoModel(PreTrainedModel):
    config_class = EchoConfig

    def __init__(self, config: EchoConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.echo = Echo(config) if config.echoes else None
        self.rotary = RotaryEmbedding(config.dim // config.heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.dim)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, past_key_values=None):
        layout = lay_out(input_ids, attention_mask, cache=past_key_values, count_padding=False)
        ids = layout.gather(input_ids)
        x = self.embed(ids)
        if self.echo is not None:
            x = x + self.echo(ids, layout)
        rotation = self.rotary(layout.positions(x.device), dtype=x.dtype)
        for block in self.blocks:
            x = block(x, layout, rotation)
        return LaidOutDecoderOutput(last_hidden_state=self.norm(x), layout=layout, past_key_values=layout.cache)


class EchoForCausalLM(CausalLMHead, PreTrainedModel):
    config_class = EchoConfig
    base_model_prefix = "model"

    def __init__(self, config: EchoConfig) -> None:
        super().__init__(config)
        self.model = EchoModel(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)

    def _run_base(self, input_ids, attention_mask, options):
        return self.model(input_ids, attention_mask, options.get("past_key_values"))
