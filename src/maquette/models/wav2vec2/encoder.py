"""From sounds to states: convolutions that hear, a transformer, and an adapter where there is one.

On a long batch the convolutions cost more than the transformer. So they run on real samples only, channels last, and on
a CPU in pieces that fit its cache.
"""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, glu, linear, pad, relu

from maquette import ACT2FN
from maquette.modeling.packing import Layout, attention, is_traced

from .configuration import Wav2Vec2Config
from .frames import shrink_adapted

PIECE = 64  # frames that the convolutions compute at a time on a CPU


# AudioOptions ---------------------------------------------------------------------------------------------------------


class Convolution(nn.Conv1d):
    """A convolution over time by products of matrices, for inputs whose channels lie last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute `(…, channels, samples)`; the products' rows are stretches of the input where it lies, not copies."""
        x = x.transpose(-1, -2)  # (…, samples, channels)
        (kernel,), (stride,), channels = self.kernel_size, self.stride, x.shape[-1]
        count = (x.shape[-2] - kernel) // stride + 1
        taps = self.weight.transpose(1, 2).flatten(1)  # (out, kernel * channels)
        step = kernel if channels == 1 else stride  # rows may not overlap, except where they are tiny
        y: Any = self.bias
        for start in range(0, kernel, step):
            width = min(step, kernel - start)
            rows = x[..., start:, :].unfold(-2, width, stride)[..., :count, :, :]
            rows = rows.transpose(-1, -2).flatten(-2)  # (…, count, width * channels)
            part = taps[:, start * channels : (start + width) * channels]
            y = linear(rows, part, y) if start == 0 else torch.addmm(y, rows, part.t())
        return y.transpose(-1, -2)


class ConvLayer(nn.Module):
    """A convolution over time, a norm where there is one, and the activation."""

    def __init__(self, config: Wav2Vec2Config, number: int) -> None:
        super().__init__()
        channels = config.conv_dim[number]
        before = config.conv_dim[number - 1] if number else 1
        self.kernel, self.stride = config.conv_kernel[number], config.conv_stride[number]
        self.conv = Convolution(before, channels, self.kernel, self.stride, bias=config.conv_bias)
        if config.feat_extract_norm == "layer":
            self.layer_norm: nn.Module = nn.LayerNorm(channels)
        elif number == 0:
            self.layer_norm = nn.GroupNorm(channels, channels)
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, x: Tensor) -> Tensor:
        """Compute `(…, samples, channels)`, channels last: the norm and the products of matrices want it so."""
        x = self.conv(x.transpose(-1, -2))  # (…, channels, samples)
        norm = getattr(self, "layer_norm", None)
        x = norm(x).transpose(-1, -2) if isinstance(norm, nn.GroupNorm) else x.transpose(-1, -2)
        return self.activation(x if norm is None or isinstance(norm, nn.GroupNorm) else norm(x))


class FeatureEncoder(nn.Module):
    """Turns sounds into features, one every `config.inputs_to_logits_ratio` samples."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(config, number) for number in range(len(config.conv_dim)))
        self.sees_whole_rows = config.feat_extract_norm == "group"
        self.gradient_checkpointing = False

    def forward(self, waves: Tensor, mask: Tensor | None) -> Tensor:
        """Give features `(batch, frames, channels)` of `(batch, samples)`.

        A frame hears nothing but its own samples. So clips can follow each other as one signal, in which every clip
        begins at a whole *hop*, the samples from one frame to the next; frames that would hear two clips are left out.

        Args:
            waves: the samples.
            mask: `(batch, frames)`, True at real frames, for computing these alone; the others are zeros then.
        """
        x, layers = waves[..., None], list(self.conv_layers)  # (batch, samples, 1)
        if self.sees_whole_rows:
            x = layers.pop(0)(x)
        hop, reach = measure(layers)
        frames = (x.shape[1] - reach) // hop + 1
        extra = -(-(reach - hop) // hop)  # hops that the last frame of a clip hears besides its own
        hops = pad(x, (0, 0, 0, (frames + extra) * hop - x.shape[1])).unflatten(1, (-1, hop))
        if mask is None:
            y = pad(self.encode(hops.flatten(0, 2), layers), (0, 0, 0, extra))  # (batch * (frames + extra), channels)
            return y.unflatten(0, (-1, frames + extra))[:, :frames]
        heard = reduce(torch.logical_or, (pad(mask, (n, extra - n)) for n in range(extra + 1)))
        y = self.encode(hops[heard].flatten(0, 1), layers)
        kept = pad(mask, (0, extra))[heard][: len(y)]
        padded = y.new_zeros(mask.numel(), y.shape[-1])
        return padded.index_copy(0, mask.flatten().nonzero()[:, 0], y[kept]).unflatten(0, mask.shape)

    def encode(self, signal: Tensor, layers: list[Any]) -> Tensor:
        """Compute the frames of one signal `(samples, channels)`, piece by piece where that is faster."""
        if is_traced(signal):
            return self._run(signal, layers)
        hop, reach = measure(layers)
        frames = max((signal.shape[0] - reach) // hop + 1, 0)
        step = PIECE if signal.device.type == "cpu" else max(frames, 1)
        ends = ((start, min(start + step, frames)) for start in range(0, frames, step))
        parts = [self._run(signal[start * hop : (end - 1) * hop + reach], layers) for start, end in ends]
        return torch.cat(parts) if parts else signal.new_zeros(0, layers[-1].conv.out_channels)

    def _run(self, x: Tensor, layers: list[Any]) -> Tensor:
        run = nn.Sequential(*layers)
        return self._gradient_checkpointing_func(run, x) if self.gradient_checkpointing and self.training else run(x)


def measure(layers: list[Any]) -> tuple[int, int]:
    """Give how many samples it is from one frame of some convolutions to the next, and how many a frame hears."""
    hop, reach = 1, 1
    for layer in layers:
        reach += (layer.kernel - 1) * hop
        hop *= layer.stride
    return hop, reach


class FeatureProjection(nn.Module):
    """Brings features to the width of the encoder."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layer_norm(features)
        return self.dropout(self.projection(features)), features


# The encoder -----------------------------------------------------------------------------------------------------


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """Convolve `(batch, channels, frames)` as torch's `conv1d` does; on a CPU half precision is computed in float32.

    oneDNN 3.12, which torch 2.13 calls there, is wrong for groups of 8 channels in bfloat16 on processors with AMX,
    and some twenty times slower than in float32 on those without instructions for bfloat16.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.device.type != "cpu" or (wide == x.dtype and not torch.is_autocast_enabled("cpu")):
        return conv1d(x, weight, bias, **options)
    with torch.autocast("cpu", enabled=False):
        return conv1d(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide), **options).to(x.dtype)


class NormedWeight(nn.Module):
    """A kernel made of directions and, for each of its taps, a length (Salimans and Kingma 2016, equation 2)."""

    def __init__(self, shape: tuple[int, int, int], std: float) -> None:
        super().__init__()
        self.std = std
        self.original0 = nn.Parameter(torch.empty(1, 1, shape[2]))  # the lengths
        self.original1 = nn.Parameter(torch.empty(shape))  # the directions

    def forward(self) -> Tensor:
        return self.original1 * (self.original0 / self.original1.norm(dim=(0, 1), keepdim=True))


class NormedConv(nn.Module):
    """A grouped convolution with such a kernel; its parameters have the names that torch's parametrisation gives."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.bias = nn.Parameter(torch.empty(width))
        self.parametrizations: Any = nn.Module()
        self.parametrizations.weight = NormedWeight((width, width // groups, kernel), std=2 / math.sqrt(kernel * width))
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Take the names that torch's older weight norm gave."""
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            if prefix + old in state:
                state[f"{prefix}parametrizations.weight.{new}"] = state.pop(prefix + old)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.parametrizations.weight(), self.bias, padding=self.padding, groups=self.groups)


class PositionalConvolution(nn.Module):
    """Tells each frame where it is by what is around it (Mohamed et al. 2019)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        self.conv = NormedConv(config.hidden_size, kernel, groups)
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, x: Tensor) -> Tensor:
        """Compute `(batch, frames, width)`, which has to be zeros at padding."""
        y = self.conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel gives one frame too many
        return self.activation(y).transpose(1, 2)


class Attention(nn.Module):
    """Lets frames look at the frames of their own clip."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.heads, self.dropout = config.num_attention_heads, config.attention_dropout
        width = config.hidden_size
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.q_proj, self.k_proj, self.v_proj))
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attention(q, k, v, layout, dropout=dropout).flatten(-2))  # (places, width)


class FeedForward(nn.Module):
    """Works on each frame by itself."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_dropout = nn.Dropout(config.activation_dropout)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.hidden_dropout)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        x = self.intermediate_dropout(self.activation(self.intermediate_dense(x)))
        return self.output_dropout(self.output_dense(x))


class LanguageAdapter(nn.Module):
    """The part of a block that is exchanged from language to language; checkpoints number its layers so."""

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.linear_1 = nn.Linear(config.hidden_size, width)
        self.linear_2 = nn.Linear(width, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(relu(self.linear_1(self.norm(x))))


class EncoderLayer(nn.Module):
    """Attention, then the feed-forward network; the norms come before them (stable), or after."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.is_stable = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        width = config.adapter_attn_dim
        self.adapter_layer = None if width is None else LanguageAdapter(config, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if not self.is_stable:
            x = self.layer_norm(x + self.dropout(self.attention(x, layout)))  # (places, width)
            return self.final_layer_norm(x + self.feed_forward(x))
        x = x + self.dropout(self.attention(self.layer_norm(x), layout))
        x = x + self.feed_forward(self.final_layer_norm(x))
        return x if self.adapter_layer is None else x + self.adapter_layer(x)


class Encoder(nn.Module):
    """Positions, then the blocks; while training, some blocks are left out by chance."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.is_stable, self.layerdrop = config.do_stable_layer_norm, config.layerdrop
        self.pos_conv_embed = PositionalConvolution(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, layout: Layout, *, keep_states: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and the states before, between and after the blocks if these are to be kept."""
        x = x + layout.gather(self.pos_conv_embed(layout.scatter(x)))
        x = self.dropout(x if self.is_stable else self.layer_norm(x))
        states = [x]
        recompute = self.gradient_checkpointing and self.training
        for layer, dropped in zip(self.layers, draw(len(self.layers), self.layerdrop * self.training), strict=True):
            if not dropped:
                x = self._gradient_checkpointing_func(layer, x, layout) if recompute else layer(x, layout)
            states = [*states, x] if keep_states else []
        return self.layer_norm(x) if self.is_stable else x, states if keep_states else []


def draw(count: int, share: float) -> list[bool]:
    """Say of each of some layers whether to leave it out of this step."""
    return (torch.rand(count) < share).tolist() if share > 0 else [False] * count


# The adapter -----------------------------------------------------------------------------------------------------


class AdapterLayer(nn.Module):
    """A convolution that makes fewer frames, and a gate (Dauphin et al. 2016)."""

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, 2 * width, config.adapter_kernel_size, config.adapter_stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return glu(self.conv(x), dim=1)  # (batch, width, fewer frames)


class Adapter(nn.Module):
    """Makes fewer frames of many, for decoders whose texts are short."""

    def __init__(self, config: Wav2Vec2Config, width: int) -> None:
        super().__init__()
        self.config, self.proj = config, None
        if width != config.hidden_size:
            self.proj = nn.Linear(config.hidden_size, width)
            self.proj_layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(AdapterLayer(config, width) for _ in range(config.num_adapter_layers))

    def forward(self, x: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
        """Take states `(places, hidden_size)`; give states `(batch, fewer frames, width)` and their layout."""
        x = layout.scatter(x if self.proj is None else self.proj_layer_norm(self.proj(x)))
        mask = layout.mask
        for layer, dropped in zip(
            self.layers, draw(len(self.layers), self.config.layerdrop * self.training), strict=True
        ):
            if not dropped:
                x = layer(x.transpose(1, 2)).transpose(1, 2)
                lengths = None if mask is None else shrink_adapted(mask.sum(1), self.config)
                mask = None if lengths is None else torch.arange(x.shape[1], device=x.device) < lengths[:, None]
                x = x if mask is None else x.masked_fill(~mask[..., None], 0)  # as if the clip were alone
        return x, Layout((x.shape[0], x.shape[1]), mask)
