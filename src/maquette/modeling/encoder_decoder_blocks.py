"""The parts of blocks that BART and Whisper share: attention with projections of its own, and what stands beside it.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor, as
`maquette.modeling.packing` tells.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from maquette.modeling.activations import ACT2FN
from maquette.modeling.cross_attention import Source, cross_attention
from maquette.modeling.packing import Layout, attention


class EncoderDecoderAttention(nn.Module):
    """Lets each place look at its own row, at those before it, or at what the encoder read (Vaswani et al. 2017).

    Args:
        config: has `d_model` and `attention_dropout`.
        heads: how many heads share the width.
        causal: places look at those before them only.
        key_bias: the projection of keys has a bias.
    """

    def __init__(self, config: Any, heads: int, *, causal: bool = False, key_bias: bool = True) -> None:
        super().__init__()
        self.width, self.causal, self.dropout = config.d_model // heads, causal, config.attention_dropout
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=key_bias)
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


class EncoderDecoderBlock(nn.Module):
    """What blocks of both stacks have; a block of a family says in `forward` where it norms and adds.

    Class attributes:
        key_bias: projections of keys have a bias.
    """

    key_bias: ClassVar[bool] = True

    def __init__(self, config: Any, heads: int, inner: int, *, causal: bool, looks: bool = False) -> None:
        super().__init__()
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.self_attn = EncoderDecoderAttention(config, heads, causal=causal, key_bias=self.key_bias)
        self.activation_fn = ACT2FN[config.activation_function]
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, inner)
        self.fc2 = nn.Linear(inner, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        if looks:
            self.encoder_attn = EncoderDecoderAttention(config, heads, key_bias=self.key_bias)
            self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)

    def _add(self, x: Tensor, found: Tensor) -> Tensor:
        return x + dropout(found, self.dropout, self.training)

    def _transform(self, x: Tensor) -> Tensor:
        return self.fc2(dropout(self.activation_fn(self.fc1(x)), self.activation_dropout, self.training))


def keep_finite(x: Tensor) -> Tensor:
    """Keep float16 finite; other types are given as they are."""
    most = torch.finfo(x.dtype).max - 1000
    return x.clamp(-most, most) if x.dtype == torch.float16 else x


def choose_layers(layers: nn.ModuleList, share: float) -> list[nn.Module]:
    """Leave out each layer with this probability (LayerDrop, Fan et al. 2019); 0 unless training."""
    return [layer for layer in layers if torch.rand(()) >= share] if share else list(layers)
