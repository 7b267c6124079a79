"""The parts of Whisper: where places lie in a window, attention, and the blocks of both stacks."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from maquette import ACT2FN
from maquette.modeling.cross_attention import Source, cross_attention
from maquette.modeling.packing import Layout, attention

from .configuration import WhisperConfig


class WhisperPositions(nn.Embedding):
    """Vectors of a window's places, sines and cosines of falling frequencies; they are not trained."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config.max_source_positions, config.d_model)
        self.requires_grad_(False)

    def fill(self) -> None:
        """Write the sines, then the cosines."""
        places, half = torch.arange(self.num_embeddings), self.embedding_dim // 2
        rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
        angles = places[:, None] * rates
        with torch.no_grad():
            self.weight.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))


class WhisperAttention(nn.Module):
    """Lets each place look at its own row, at those before it, or at what the encoder heard."""

    def __init__(self, config: WhisperConfig, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.width, self.causal, self.dropout = config.d_model // heads, causal, config.attention_dropout
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values, `(places, heads, width)`."""
        return self.k_proj(x).unflatten(-1, (-1, self.width)), self.v_proj(x).unflatten(-1, (-1, self.width))

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        q = self.q_proj(x).unflatten(-1, (-1, self.width))  # (places, heads, width)
        share = self.dropout if self.training else 0.0
        if source is not None:
            attended = cross_attention(q, self.project, source, dropout=share)
        else:
            attended = attention(q, *self.project(x), layout, causal=self.causal, dropout=share)
        return self.out_proj(attended.flatten(-2))


class _WhisperLayer(nn.Module):
    """What blocks of both stacks have: a feed-forward network, and sums of what normed states find."""

    def __init__(self, config: WhisperConfig, heads: int, inner: int, *, causal: bool) -> None:
        super().__init__()
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.self_attn = WhisperAttention(config, heads, causal=causal)
        self.activation_fn = ACT2FN[config.activation_function]
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, inner)
        self.fc2 = nn.Linear(inner, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def _add(self, x: Tensor, found: Tensor) -> Tensor:
        return x + dropout(found, self.dropout, self.training)

    def _transform(self, x: Tensor) -> Tensor:
        return self.fc2(dropout(self.activation_fn(self.fc1(x)), self.activation_dropout, self.training))


class WhisperEncoderLayer(_WhisperLayer):
    """Attention, then the feed-forward network."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config, config.encoder_attention_heads, config.encoder_ffn_dim, causal=False)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self._add(x, self.self_attn(self.self_attn_layer_norm(x), layout))  # (places, d_model)
        x = self._add(x, self._transform(self.final_layer_norm(x)))
        most = torch.finfo(x.dtype).max - 1000
        return x.clamp(-most, most) if x.dtype == torch.float16 else x


class WhisperDecoderLayer(_WhisperLayer):
    """As in the encoder, with attention to what that heard in between."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config, config.decoder_attention_heads, config.decoder_ffn_dim, causal=True)
        self.encoder_attn = WhisperAttention(config, config.decoder_attention_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self._add(x, self.self_attn(self.self_attn_layer_norm(x), layout))  # (places, d_model)
        if source is not None:
            x = self._add(x, self.encoder_attn(self.encoder_attn_layer_norm(x), layout, source))
        return self._add(x, self._transform(self.final_layer_norm(x)))
