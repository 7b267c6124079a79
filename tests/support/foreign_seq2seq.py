"""A model with an encoder as people wrote it for Transformers, which keeps what it has read in one of two ways."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CODE = '''
import torch
from torch import nn

from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput


class FerryConfig(PretrainedConfig):
    model_type = "ferry"

    def __init__(self, vocab_size=24, hidden_size=16, num_heads=2, num_hidden_layers=2, max_positions=40, **kwargs):
        self.vocab_size, self.hidden_size, self.num_heads = vocab_size, hidden_size, num_heads
        self.num_hidden_layers, self.max_positions = num_hidden_layers, max_positions
        super().__init__(is_encoder_decoder=kwargs.pop("is_encoder_decoder", True), **kwargs)


class FerryAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.heads, self.q, self.out = config.num_heads, nn.Linear(size, size), nn.Linear(size, size)
        self.kv = nn.Linear(size, 2 * size)

    def project(self, x):
        return self.kv(x).view(*x.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x, k, v, mask):
        q = self.q(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        scores = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).masked_fill(~mask, torch.finfo(q.dtype).min)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class FerryEncoder(PreTrainedModel):
    config_class = FerryConfig

    def __init__(self, config):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_positions, config.hidden_size)
        self.attention = FerryAttention(config)
        self.reads = 0

    def forward(self, input_ids=None, attention_mask=None, return_dict=None):
        self.reads += len(input_ids)
        x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.shape[1]))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        x = x + self.attention(x, *self.attention.project(x), mask[:, None, None].bool())
        return BaseModelOutput(last_hidden_state=x)


class FerryLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.own, self.cross = FerryAttention(config), FerryAttention(config)
        self.mlp = nn.Linear(config.hidden_size, config.hidden_size)


class FerryPairs(PreTrainedModel, GenerationMixin):
    config_class = FerryConfig

    def __init__(self, config):
        super().__init__(config)
        self.encoder = FerryEncoder(config)
        self.wpe = nn.Embedding(config.max_positions, config.hidden_size)
        self.h = nn.ModuleList(FerryLayer(config) for _ in range(config.num_hidden_layers))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.widths = []

    def get_encoder(self):
        return self.encoder

    def keep(self, cache, n, layer, x, states):
        if cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        k, v = cache.self_attention_cache.update(*layer.own.project(x), n)
        if cache.is_updated.get(n):
            cross = cache.cross_attention_cache.layers[n].keys, cache.cross_attention_cache.layers[n].values
        else:
            cross = cache.cross_attention_cache.update(*layer.cross.project(states), n)
            cache.is_updated[n] = True
        return cache, (k, v), cross

    def seen(self, cache):
        return 0 if cache is None else cache.get_seq_length()

    def forward(self, input_ids=None, attention_mask=None, decoder_input_ids=None, encoder_outputs=None,
                past_key_values=None, labels=None, use_cache=None, return_dict=None):
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        states, cache, seen = encoder_outputs[0], past_key_values, self.seen(past_key_values)
        self.widths.append(decoder_input_ids.shape[1])
        places = torch.arange(seen, seen + decoder_input_ids.shape[1])
        x = self.encoder.wte(decoder_input_ids) + self.wpe(places)
        mask = (torch.arange(seen + len(places)) <= places[:, None])[None, None]
        looks = torch.ones(states.shape[:2]) if attention_mask is None else attention_mask
        for n, layer in enumerate(self.h):
            cache, own, cross = self.keep(cache, n, layer, x, states)
            x = x + layer.own(x, *own, mask)
            x = x + layer.cross(x, *cross, looks[:, None, None].bool())
            x = x + torch.tanh(layer.mlp(x))
        return Seq2SeqLMOutput(logits=self.lm_head(x), past_key_values=cache if use_cache else None)


class FerryTuples(FerryPairs):
    """As before 2024: four tensors for every layer."""

    def keep(self, cache, n, layer, x, states):
        k, v = layer.own.project(x)
        held = cache[n] if cache is not None and n < len(cache) else None
        if held is not None:
            k, v = torch.cat([held[0], k], 2), torch.cat([held[1], v], 2)
        cross = layer.cross.project(states) if held is None else held[2:]
        kept = tuple(cache or ())
        return (*kept[:n], (k, v, *cross), *kept[n + 1 :]), (k, v), cross

    def seen(self, cache):
        return 0 if cache is None else cache[0][0].shape[2]
'''
KINDS = ("FerryPairs", "FerryTuples")
TEXTS = [[5, 6, 7, 2], [8, 2], [9, 10, 11, 12, 13, 14, 2], [1, 4, 2]]


def write(kind: str, folder: Path) -> Path:
    """Write a checkpoint with its code, its weights sharp."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modeling_ferry.py").write_text(CODE)
    auto_map = {"AutoConfig": "modeling_ferry.FerryConfig", "AutoModelForSeq2SeqLM": f"modeling_ferry.{kind}"}
    more: dict[str, Any] = {"architectures": [kind], "model_type": "ferry", "dtype": "float32", "auto_map": auto_map}
    ids = {"eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1, "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps({**more, **ids, "transformers_version": "4.46.0"}))
    attention = {"q": (16, 16), "kv": (32, 16), "out": (16, 16)}
    modules = {"encoder.attention": attention}
    for n in range(2):
        modules |= {f"h.{n}.own": attention, f"h.{n}.cross": attention, f"h.{n}": {"mlp": (16, 16)}}
    shapes: dict[str, tuple[int, ...]] = {"encoder.wte.weight": (24, 16), "encoder.wpe.weight": (40, 16)}
    shapes |= {"wpe.weight": (40, 16), "lm_head.weight": (24, 16)}
    for name, layers in modules.items():
        for layer, shape in layers.items():
            shapes |= {f"{name}.{layer}.weight": shape, f"{name}.{layer}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(5)
    tensors = {name: torch.randn(shape, generator=generator) * 0.6 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
