"""Decoders as people wrote them for Transformers from 2022 to 2025: each keeps what it has read in another way.

`CODE` is a checkpoint's file with several kinds, `write` makes a folder of one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CODE = '''
from typing import List, Optional, Tuple, Union

import torch
from torch import nn

from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, StaticCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class TideConfig(PretrainedConfig):
    model_type = "tide"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, vocab_size=24, hidden_size=16, num_heads=2, num_hidden_layers=2, max_positions=40, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.num_hidden_layers = num_hidden_layers
        self.max_positions = max_positions
        super().__init__(**kwargs)


class TidePreTrainedModel(PreTrainedModel):
    config_class = TideConfig
    base_model_prefix = "transformer"
    _supports_cache_class = True


class TideLayer(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.layer_idx, self.heads = layer_idx, config.num_heads
        self.norm = nn.LayerNorm(config.hidden_size)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.mlp = nn.Linear(config.hidden_size, config.hidden_size)

    def split(self, x):
        return self.qkv(self.norm(x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def join(self, x, q, k, v, mask):
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + torch.tanh(self.mlp(x))

    def forward(self, x, mask, past=None, use_cache=False, cache_position=None):
        q, k, v = self.split(x)
        if isinstance(past, Cache):
            k, v = past.update(k, v, self.layer_idx, {"cache_position": cache_position})
            return self.join(x, q, k, v, mask), past
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self.join(x, q, k, v, mask), (k, v) if use_cache else None


def causal_mask(attention_mask, places, keys, dtype):
    hidden = torch.arange(keys, device=places.device)[None, :] > places[:, None]
    hidden = hidden[None, None]
    if attention_mask is not None:
        hidden = hidden | (attention_mask[:, None, None, :] == 0)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)


class TideBase(TidePreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_positions, config.hidden_size)
        self.h = nn.ModuleList([TideLayer(config, i) for i in range(config.num_hidden_layers)])
        self.ln_f = nn.LayerNorm(config.hidden_size)
        self.post_init()


class TideTuplesModel(TideBase):
    """2022: pairs of keys and values, positions from their length."""

    def forward(self, input_ids: Optional[torch.LongTensor] = None, past_key_values: Optional[Tuple] = None,
                attention_mask=None, position_ids=None, use_cache=None, return_dict=None):
        if past_key_values is None:
            past_length = 0
            past_key_values = tuple([None] * len(self.h))
        else:
            past_length = past_key_values[0][0].size(-2)
        places = torch.arange(past_length, past_length + input_ids.shape[-1], device=input_ids.device)
        if position_ids is None:
            position_ids = places.unsqueeze(0)
        x = self.wte(input_ids) + self.wpe(position_ids)
        mask = causal_mask(attention_mask, places, past_length + input_ids.shape[-1], x.dtype)
        presents = () if use_cache else None
        for block, layer_past in zip(self.h, past_key_values):
            x, present = block(x, mask, layer_past, use_cache)
            if use_cache:
                presents = presents + (present,)
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(x), past_key_values=presents)


class TideTuples(TidePreTrainedModel, GenerationMixin):
    _supports_cache_class = False

    def __init__(self, config):
        super().__init__(config)
        self.transformer = TideTuplesModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **kwargs):
        if past_key_values:
            input_ids = input_ids[:, -1].unsqueeze(-1)
        attention_mask = kwargs.get("attention_mask", None)
        position_ids = kwargs.get("position_ids", None)
        if attention_mask is not None and position_ids is None:
            position_ids = attention_mask.long().cumsum(-1) - 1
            position_ids.masked_fill_(attention_mask == 0, 1)
            if past_key_values:
                position_ids = position_ids[:, -1].unsqueeze(-1)
        return {"input_ids": input_ids, "past_key_values": past_key_values, "use_cache": kwargs.get("use_cache"),
                "position_ids": position_ids, "attention_mask": attention_mask}

    def forward(self, input_ids=None, past_key_values=None, attention_mask=None, position_ids=None, labels=None,
                use_cache=None, return_dict=None):
        out = self.transformer(input_ids, past_key_values, attention_mask, position_ids, use_cache)
        return CausalLMOutputWithPast(logits=self.lm_head(out[0]), past_key_values=out.past_key_values)

    @staticmethod
    def _reorder_cache(past: Tuple[Tuple[torch.Tensor]], beam_idx: torch.Tensor):
        return tuple(tuple(s.index_select(0, beam_idx.to(s.device)) for s in layer) for layer in past)


class TideCacheModel(TideBase):
    """2024: a cache object, with `cache_position`; tuples are converted."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None,
                past_key_values: Optional[Union[Cache, List[torch.FloatTensor]]] = None, use_cache=None,
                cache_position: Optional[torch.LongTensor] = None):
        x = self.wte(input_ids)
        return_legacy_cache = False
        if use_cache and not isinstance(past_key_values, Cache):
            return_legacy_cache = True
            past_key_values = DynamicCache.from_legacy_cache(past_key_values) if past_key_values else DynamicCache()
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        if cache_position is None:
            cache_position = torch.arange(seen, seen + x.shape[1], device=x.device)
        if position_ids is None:
            position_ids = cache_position.unsqueeze(0)
        keys = past_key_values.get_max_cache_shape() if isinstance(past_key_values, StaticCache) else seen + x.shape[1]
        x = x + self.wpe(position_ids)
        mask = causal_mask(attention_mask, cache_position, keys, x.dtype)
        for layer in self.h:
            x, _ = layer(x, mask, past_key_values, use_cache, cache_position)
        kept = past_key_values if use_cache else None
        if return_legacy_cache and kept is not None and hasattr(kept, "to_legacy_cache"):
            kept = kept.to_legacy_cache()
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(x), past_key_values=kept)


class TideCache(TidePreTrainedModel, GenerationMixin):
    def __init__(self, config):
        super().__init__(config)
        self.transformer = TideCacheModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, labels=None,
                use_cache=None, return_dict=None, cache_position=None, num_logits_to_keep: int = 0):
        out = self.transformer(input_ids, attention_mask, position_ids, past_key_values, use_cache, cache_position)
        logits = self.lm_head(out[0][:, -num_logits_to_keep:, :]).float()
        return CausalLMOutputWithPast(logits=logits, past_key_values=out.past_key_values)

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, inputs_embeds=None,
                                      cache_position=None, position_ids=None, use_cache=True, **kwargs):
        if past_key_values is not None and cache_position is not None and input_ids.shape[1] != cache_position.shape[0]:
            input_ids = input_ids[:, cache_position]
        if attention_mask is not None and position_ids is None:
            position_ids = attention_mask.long().cumsum(-1) - 1
            position_ids.masked_fill_(attention_mask == 0, 1)
        if past_key_values is not None and position_ids is not None:
            position_ids = position_ids[:, -input_ids.shape[1] :]
        return {"input_ids": input_ids, "position_ids": position_ids, "past_key_values": past_key_values,
                "use_cache": use_cache, "attention_mask": attention_mask, "cache_position": cache_position}


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class TideModernModel(TideBase):
    """2025: a cache made with the configuration, masks and attention by name, keywords handed on."""

    _supports_sdpa = True
    _supports_attention_backend = True

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None,
                **kwargs):
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        places = torch.arange(seen, seen + input_ids.shape[1], device=input_ids.device)
        if position_ids is None:
            position_ids = places.unsqueeze(0)
        x = self.wte(input_ids) + self.wpe(position_ids)
        mask = create_causal_mask(config=self.config, inputs_embeds=x, attention_mask=attention_mask,
                                  past_key_values=past_key_values, position_ids=position_ids)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        for layer in self.h:
            q, k, v = layer.split(x)
            if past_key_values is not None:
                k, v = past_key_values.update(k, v, layer.layer_idx)
            mixed, _ = attend(layer, q, k, v, mask, dropout=0.0, scaling=q.shape[-1] ** -0.5, **kwargs)
            x = x + layer.out(mixed.flatten(2))
            x = x + torch.tanh(layer.mlp(x))
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(x), past_key_values=past_key_values)


class TideModern(TidePreTrainedModel, GenerationMixin):
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config):
        super().__init__(config)
        self.transformer = TideModernModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, labels=None,
                use_cache=None, logits_to_keep: Union[int, torch.Tensor] = 0, **kwargs):
        out = self.transformer(input_ids, attention_mask, position_ids, past_key_values, use_cache, **kwargs)
        logits = self.lm_head(slice_logits_to_keep(out.last_hidden_state, logits_to_keep))
        return CausalLMOutputWithPast(logits=logits, past_key_values=out.past_key_values)
'''
KINDS = ("TideTuples", "TideCache", "TideModern")
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [1, 4], [3, 3, 4]]
CASES: list[dict[str, Any]] = [{"max_new_tokens": 9}, {"max_new_tokens": 7, "num_beams": 3}]
FIELDS = {"vocab_size": 24, "hidden_size": 16, "num_heads": 2, "num_hidden_layers": 2, "max_positions": 40}


def tensors() -> dict[str, torch.Tensor]:
    """Give weights, with a sharp distribution."""
    generator = torch.Generator().manual_seed(5)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (24, 16), "wpe.weight": (40, 16)}
    shapes |= {"ln_f.weight": (16,), "ln_f.bias": (16,)}
    for n in range(2):
        sizes = {"norm.weight": (16,), "norm.bias": (16,), "qkv.weight": (48, 16), "qkv.bias": (48,)}
        sizes |= {"out.weight": (16, 16), "out.bias": (16,), "mlp.weight": (16, 16), "mlp.bias": (16,)}
        shapes |= {f"h.{n}.{name}": shape for name, shape in sizes.items()}
    shapes = {f"transformer.{name}": shape for name, shape in shapes.items()} | {"lm_head.weight": (24, 16)}
    found = {name: torch.randn(shape, generator=generator) * 0.7 for name, shape in shapes.items()}
    return found | {name: torch.ones_like(t) for name, t in found.items() if "norm.w" in name or "ln_f.w" in name}


def write(kind: str, folder: Path) -> Path:
    """Write a checkpoint with its code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modeling_tide.py").write_text(CODE)
    auto_map = {"AutoConfig": "modeling_tide.TideConfig", "AutoModelForCausalLM": f"modeling_tide.{kind}"}
    more: dict[str, Any] = {"architectures": [kind], "model_type": "tide", "dtype": "float32", "auto_map": auto_map}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "transformers_version": "4.46.0"}
    (folder / "config.json").write_text(json.dumps({**FIELDS, **more, **ids}))
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
