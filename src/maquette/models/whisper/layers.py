"""The parts of Whisper: where places lie in a window, and the blocks of both stacks."""

import math

import torch
from torch import Tensor, nn

from maquette.modeling.cross_attention import Source
from maquette.modeling.encoder_decoder_blocks import EncoderDecoderBlock, keep_finite
from maquette.modeling.packing import Layout

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


class WhisperEncoderLayer(EncoderDecoderBlock):
    """Attention, then the feed-forward network; each works on its input normed, and adds to it."""

    key_bias = False

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config, config.encoder_attention_heads, config.encoder_ffn_dim, causal=False)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self._add(x, self.self_attn(self.self_attn_layer_norm(x), layout))  # (places, d_model)
        return keep_finite(self._add(x, self._transform(self.final_layer_norm(x))))


class WhisperDecoderLayer(EncoderDecoderBlock):
    """As in the encoder, with attention to what that heard in between."""

    key_bias = False

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config, config.decoder_attention_heads, config.decoder_ffn_dim, causal=True, looks=True)

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None) -> Tensor:
        x = self._add(x, self.self_attn(self.self_attn_layer_norm(x), layout))  # (places, d_model)
        if source is not None:
            x = self._add(x, self.encoder_attn(self.encoder_attn_layer_norm(x), layout, source))
        return self._add(x, self._transform(self.final_layer_norm(x)))
