"""Folders as people published them with code for the peer, in the styles of several years.

Each is written here from scratch, small, with the imports and habits of its time. The shapes of the weights are spelt
out, as a file found in the wild would have them; their values are random.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass
class Wild:
    """One folder.

    Attributes:
        files: the Python and text files.
        config: `config.json`.
        weights: shapes by name; a text is a name that holds the same values.
        auto_class: what loads it.
        inputs: the arguments of the call, each as nested lists of ids, or as a shape of floats.
    """

    files: dict[str, str]
    config: dict[str, Any]
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    auto_class: str = "AutoModel"
    inputs: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in self.weights.items()}

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**self.files, "config.json": json.dumps(self.config)}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
        if self.weights:
            save_file(self.tensors(), folder / "model.safetensors", {"format": "pt"})
        return folder


def block(prefix: str, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name.replace('__', '.')}": shape for name, shape in shapes.items()}


IDS = [[3, 7, 1, 4, 9], [2, 5, 6, 0, 0]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]

# An encoder of 2020: archive maps, file_utils, docstring decorators, masks and head masks from the base class ---------

ENCODER_CONFIGURATION = '''
""" Pebble model configuration """
from transformers.configuration_utils import PretrainedConfig
from transformers.utils import logging

logger = logging.get_logger(__name__)

PEBBLE_PRETRAINED_CONFIG_ARCHIVE_MAP = {"pebble-small": "https://example.org/pebble-small/config.json"}


class PebbleConfig(PretrainedConfig):
    r"""Configuration of Pebble."""

    model_type = "pebble"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        vocab_size=30522,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=512,
        type_vocab_size=2,
        initializer_range=0.02,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        position_embedding_type="absolute",
        classifier_dropout=None,
        **kwargs
    ):
        super().__init__(pad_token_id=pad_token_id, **kwargs)

        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.hidden_act = hidden_act
        self.intermediate_size = intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.position_embedding_type = position_embedding_type
        self.classifier_dropout = classifier_dropout
'''

ENCODER_MODELING = '''
""" PyTorch Pebble model. """
import math
import os
import warnings
from dataclasses import dataclass
from typing import Optional, Tuple

import torch
import torch.utils.checkpoint
from packaging import version
from torch import nn
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

from transformers.activations import ACT2FN
from transformers.file_utils import (
    ModelOutput,
    add_code_sample_docstrings,
    add_start_docstrings,
    add_start_docstrings_to_model_forward,
    replace_return_docstrings,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.modeling_utils import (
    PreTrainedModel,
    apply_chunking_to_forward,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)
from transformers.utils import logging
from .configuration_pebble import PebbleConfig

logger = logging.get_logger(__name__)

_CHECKPOINT_FOR_DOC = "pebble-small"
_CONFIG_FOR_DOC = "PebbleConfig"
_TOKENIZER_FOR_DOC = "PebbleTokenizer"
PEBBLE_PRETRAINED_MODEL_ARCHIVE_LIST = ["pebble-small"]


@dataclass
class PebbleForPreTrainingOutput(ModelOutput):
    loss: Optional[torch.FloatTensor] = None
    prediction_logits: torch.FloatTensor = None
    hidden_states: Optional[Tuple[torch.FloatTensor]] = None


class PebbleEmbeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.register_buffer("position_ids", torch.arange(config.max_position_embeddings).expand((1, -1)))
        if version.parse(torch.__version__) > version.parse("1.6.0"):
            self.register_buffer(
                "token_type_ids", torch.zeros(self.position_ids.size(), dtype=torch.long), persistent=False
            )

    def forward(self, input_ids=None, token_type_ids=None):
        length = input_ids.size()[1]
        if token_type_ids is None:
            token_type_ids = self.token_type_ids[:, :length].expand(input_ids.shape[0], length)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(self.position_ids[:, :length])
        return self.dropout(self.LayerNorm(x))


class PebbleSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        if config.hidden_size % config.num_attention_heads != 0 and not hasattr(config, "embedding_size"):
            raise ValueError("The hidden size is not a multiple of the number of heads")
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def transpose_for_scores(self, x):
        return x.view(x.size()[:-1] + (self.num_attention_heads, self.attention_head_size)).permute(0, 2, 1, 3)

    def forward(self, hidden_states, attention_mask=None, head_mask=None, output_attentions=False):
        query, key, value = (
            self.transpose_for_scores(part(hidden_states)) for part in (self.query, self.key, self.value)
        )
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(self.attention_head_size)
        if attention_mask is not None:
            scores = scores + attention_mask
        probs = self.dropout(nn.Softmax(dim=-1)(scores))
        if head_mask is not None:
            probs = probs * head_mask
        context = torch.matmul(probs, value).permute(0, 2, 1, 3).contiguous()
        context = context.view(context.size()[:-2] + (-1,))
        return (context, probs) if output_attentions else (context,)


class PebbleLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.seq_len_dim = 1
        self.attention = PebbleSelfAttention(config)
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        if isinstance(config.hidden_act, str):
            self.intermediate_act_fn = ACT2FN[config.hidden_act]
        else:
            self.intermediate_act_fn = config.hidden_act
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states, attention_mask=None, head_mask=None, output_attentions=False):
        outputs = self.attention(hidden_states, attention_mask, head_mask, output_attentions)
        hidden = hidden_states + outputs[0]
        hidden = apply_chunking_to_forward(
            self.feed_forward_chunk, self.chunk_size_feed_forward, self.seq_len_dim, hidden
        )
        return (hidden,) + outputs[1:]

    def feed_forward_chunk(self, x):
        return self.LayerNorm(self.output(self.intermediate_act_fn(self.dense(x))) + x)


class PebbleEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.ModuleList([PebbleLayer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False

    def forward(self, hidden_states, attention_mask, head_mask, output_attentions, output_hidden_states, return_dict):
        all_hidden_states = () if output_hidden_states else None
        all_attentions = () if output_attentions else None
        for i, layer_module in enumerate(self.layer):
            if output_hidden_states:
                all_hidden_states = all_hidden_states + (hidden_states,)
            layer_head_mask = head_mask[i] if head_mask is not None else None
            if self.gradient_checkpointing and self.training:

                def create_custom_forward(module):
                    def custom_forward(*inputs):
                        return module(*inputs, output_attentions)

                    return custom_forward

                layer_outputs = torch.utils.checkpoint.checkpoint(
                    create_custom_forward(layer_module), hidden_states, attention_mask, layer_head_mask,
                    use_reentrant=False,
                )
            else:
                layer_outputs = layer_module(hidden_states, attention_mask, layer_head_mask, output_attentions)
            hidden_states = layer_outputs[0]
            if output_attentions:
                all_attentions = all_attentions + (layer_outputs[1],)
        if output_hidden_states:
            all_hidden_states = all_hidden_states + (hidden_states,)
        if not return_dict:
            return tuple(v for v in [hidden_states, all_hidden_states, all_attentions] if v is not None)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, hidden_states=all_hidden_states, attentions=all_attentions
        )


class PebblePreTrainedModel(PreTrainedModel):
    """An abstract class to handle weights initialization."""

    config_class = PebbleConfig
    base_model_prefix = "pebble"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_missing = [r"position_ids"]

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
            if module.padding_idx is not None:
                module.weight.data[module.padding_idx].zero_()
        elif isinstance(module, nn.LayerNorm):
            module.bias.data.zero_()
            module.weight.data.fill_(1.0)

    def _set_gradient_checkpointing(self, module, value=False):
        if isinstance(module, PebbleEncoder):
            module.gradient_checkpointing = value


PEBBLE_START_DOCSTRING = r"""
    This model is a torch.nn.Module.
"""
PEBBLE_INPUTS_DOCSTRING = r"""
    Args: input_ids of shape {0}
"""


@add_start_docstrings("The bare Pebble Model outputting raw hidden-states.", PEBBLE_START_DOCSTRING)
class PebbleModel(PebblePreTrainedModel):
    """The model."""

    def __init__(self, config, add_pooling_layer=True):
        super().__init__(config)
        self.config = config
        self.embeddings = PebbleEmbeddings(config)
        self.encoder = PebbleEncoder(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
        self.init_weights()

    def get_input_embeddings(self):
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value):
        self.embeddings.word_embeddings = value

    def _prune_heads(self, heads_to_prune):
        for layer, heads in heads_to_prune.items():
            self.encoder.layer[layer].attention.prune_heads(heads)

    @add_start_docstrings_to_model_forward(PEBBLE_INPUTS_DOCSTRING.format("batch_size, sequence_length"))
    @add_code_sample_docstrings(
        processor_class=_TOKENIZER_FOR_DOC,
        checkpoint=_CHECKPOINT_FOR_DOC,
        output_type=BaseModelOutputWithPoolingAndCrossAttentions,
        config_class=_CONFIG_FOR_DOC,
    )
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        head_mask=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        output_attentions = output_attentions if output_attentions is not None else self.config.output_attentions
        output_hidden_states = (
            output_hidden_states if output_hidden_states is not None else self.config.output_hidden_states
        )
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        input_shape = input_ids.size()
        if attention_mask is None:
            attention_mask = torch.ones(input_shape, device=input_ids.device)
        extended_attention_mask = self.get_extended_attention_mask(attention_mask, input_shape)
        head_mask = self.get_head_mask(head_mask, self.config.num_hidden_layers)
        embedding_output = self.embeddings(input_ids, token_type_ids)
        encoder_outputs = self.encoder(
            embedding_output, extended_attention_mask, head_mask, output_attentions, output_hidden_states, return_dict
        )
        sequence_output = encoder_outputs[0]
        pooled_output = torch.tanh(self.pooler(sequence_output[:, 0])) if self.pooler is not None else None
        if not return_dict:
            return (sequence_output, pooled_output) + encoder_outputs[1:]
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=sequence_output,
            pooler_output=pooled_output,
            hidden_states=encoder_outputs.hidden_states,
            attentions=encoder_outputs.attentions,
        )


@add_start_docstrings("""Pebble Model with a `language modeling` head on top. """, PEBBLE_START_DOCSTRING)
class PebbleForMaskedLM(PebblePreTrainedModel):
    _keys_to_ignore_on_load_unexpected = [r"pooler"]
    _keys_to_ignore_on_load_missing = [r"position_ids", r"decoder.bias"]

    def __init__(self, config):
        super().__init__(config)
        if config.is_decoder:
            logger.warning("If you want to use `PebbleForMaskedLM` make sure `config.is_decoder=False`.")
        self.pebble = PebbleModel(config, add_pooling_layer=False)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.init_weights()

    def get_output_embeddings(self):
        return self.decoder

    def set_output_embeddings(self, new_embeddings):
        self.decoder = new_embeddings

    @replace_return_docstrings(output_type=MaskedLMOutput, config_class=_CONFIG_FOR_DOC)
    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=None, **kwargs):
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        outputs = self.pebble(input_ids, attention_mask=attention_mask, return_dict=return_dict, **kwargs)
        prediction_scores = self.decoder(outputs[0])
        loss = None
        if labels is not None:
            loss = CrossEntropyLoss()(prediction_scores.view(-1, self.config.vocab_size), labels.view(-1))
        if not return_dict:
            output = (prediction_scores,) + outputs[2:]
            return ((loss,) + output) if loss is not None else output
        return MaskedLMOutput(
            loss=loss, logits=prediction_scores, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
'''

ENCODER_WEIGHTS = {
    **block("embeddings.", word_embeddings__weight=(11, 8), position_embeddings__weight=(16, 8)),
    **block("embeddings.", token_type_embeddings__weight=(2, 8), LayerNorm__weight=(8,), LayerNorm__bias=(8,)),
    **{
        f"encoder.layer.{layer}.{name}": shape
        for layer in range(2)
        for name, shape in {
            **{
                f"attention.{part}.{leaf}": shape
                for part in ("query", "key", "value")
                for leaf, shape in (("weight", (8, 8)), ("bias", (8,)))
            },
            **{"dense.weight": (12, 8), "dense.bias": (12,), "output.weight": (8, 12), "output.bias": (8,)},
            **{"LayerNorm.weight": (8,), "LayerNorm.bias": (8,)},
        }.items()
    },
}
ENCODER_CONFIG = {
    "architectures": ["PebbleForMaskedLM"],
    "auto_map": {
        "AutoConfig": "configuration_pebble.PebbleConfig",
        "AutoModel": "modeling_pebble.PebbleModel",
        "AutoModelForMaskedLM": "modeling_pebble.PebbleForMaskedLM",
    },
    "model_type": "pebble",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "position_embedding_type": "absolute",
    "gradient_checkpointing": False,
    "torch_dtype": "float32",
    "transformers_version": "4.17.0",
    "use_cache": True,
}
ENCODER_FILES = {
    "configuration_pebble.py": ENCODER_CONFIGURATION,
    "modeling_pebble.py": ENCODER_MODELING,
    "README.md": "---\nlicense: mit\n---\n# Pebble\n",
}
ENCODER_INPUTS = {"input_ids": IDS, "attention_mask": MASK}

# A decoder of 2023: optional kernels, a table of attention classes, caches, warnings that are given once -------------

DECODER_CONFIGURATION = '''
# coding=utf-8
# Copyright 2023 The Brook team. All rights reserved.
""" Brook model configuration"""

from transformers.configuration_utils import PretrainedConfig
from transformers.utils import logging


logger = logging.get_logger(__name__)


class BrookConfig(PretrainedConfig):
    model_type = "brook"
    attribute_map = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers"}
    keys_to_ignore_at_inference = ["past_key_values"]
    _auto_class = "AutoConfig"

    def __init__(
        self,
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=None,
        hidden_act="silu",
        max_position_embeddings=2048,
        initializer_range=0.02,
        rms_norm_eps=1e-6,
        use_cache=True,
        pad_token_id=None,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        rope_theta=10000.0,
        rope_scaling=None,
        attention_bias=False,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads

        # for backward compatibility
        if num_key_value_heads is None:
            num_key_value_heads = num_attention_heads

        self.num_key_value_heads = num_key_value_heads
        self.hidden_act = hidden_act
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.use_cache = use_cache
        self.rope_theta = rope_theta
        self.rope_scaling = rope_scaling
        self._rope_scaling_validation()
        self.attention_bias = attention_bias

        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )

    def _rope_scaling_validation(self):
        if self.rope_scaling is None:
            return
        if not isinstance(self.rope_scaling, dict) or len(self.rope_scaling) != 2:
            raise ValueError(f"`rope_scaling` must be a dictionary with two fields, got {self.rope_scaling}")
'''

DECODER_MODELING = '''
# coding=utf-8
""" PyTorch Brook model."""
import math
import warnings
from typing import List, Optional, Tuple, Union

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.nn import CrossEntropyLoss

from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_attn_mask_utils import _prepare_4d_causal_attention_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS, is_torch_greater_or_equal_than_1_13
from transformers.utils import (
    add_start_docstrings,
    add_start_docstrings_to_model_forward,
    is_flash_attn_2_available,
    is_flash_attn_greater_or_equal_2_10,
    logging,
    replace_return_docstrings,
)
from transformers.utils.import_utils import is_torch_fx_available
from .configuration_brook import BrookConfig

if is_flash_attn_2_available():
    from flash_attn import flash_attn_func, flash_attn_varlen_func
    from flash_attn.bert_padding import index_first_axis, pad_input, unpad_input

try:
    from flash_attn.ops.rms_norm import rms_norm
except ImportError:
    rms_norm = None

if is_torch_fx_available():
    if not is_torch_greater_or_equal_than_1_13:
        import torch.fx

logger = logging.get_logger(__name__)

_CONFIG_FOR_DOC = "BrookConfig"


class BrookRMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


ALL_LAYERNORM_LAYERS.append(BrookRMSNorm)


class BrookRotaryEmbedding(nn.Module):
    def __init__(self, dim, max_position_embeddings=2048, base=10000, device=None):
        super().__init__()
        self.dim = dim
        self.base = base
        inv_freq = 1.0 / (self.base ** (torch.arange(0, self.dim, 2).float().to(device) / self.dim))
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self._set_cos_sin_cache(seq_len=max_position_embeddings, device=self.inv_freq.device)

    def _set_cos_sin_cache(self, seq_len, device):
        self.max_seq_len_cached = seq_len
        t = torch.arange(self.max_seq_len_cached, device=device, dtype=self.inv_freq.dtype)
        emb = torch.cat((torch.outer(t, self.inv_freq),) * 2, dim=-1)
        self.register_buffer("cos_cached", emb.cos(), persistent=False)
        self.register_buffer("sin_cached", emb.sin(), persistent=False)

    def forward(self, x, seq_len=None):
        if seq_len > self.max_seq_len_cached:
            self._set_cos_sin_cache(seq_len=seq_len, device=x.device)
        return self.cos_cached[:seq_len].to(dtype=x.dtype), self.sin_cached[:seq_len].to(dtype=x.dtype)


def rotate_half(x):
    x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def apply_rotary_pos_emb(q, k, cos, sin, position_ids):
    cos = cos[position_ids].unsqueeze(1)
    sin = sin[position_ids].unsqueeze(1)
    return (q * cos) + (rotate_half(q) * sin), (k * cos) + (rotate_half(k) * sin)


class BrookMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class BrookAttention(nn.Module):
    def __init__(self, config: BrookConfig, layer_idx: Optional[int] = None):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        if layer_idx is None:
            logger.warning_once(f"Instantiating {self.__class__.__name__} without passing a `layer_idx`.")
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // self.num_heads
        self.num_key_value_heads = config.num_key_value_heads
        self.num_key_value_groups = self.num_heads // self.num_key_value_heads
        kv = self.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv, bias=config.attention_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self.rotary_emb = BrookRotaryEmbedding(self.head_dim, config.max_position_embeddings, config.rope_theta)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Optional[torch.Tensor] = None,
        position_ids: Optional[torch.LongTensor] = None,
        past_key_value: Optional[Cache] = None,
        output_attentions: bool = False,
        use_cache: bool = False,
        **kwargs,
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor], Optional[Tuple[torch.Tensor]]]:
        if "padding_mask" in kwargs:
            warnings.warn("Passing `padding_mask` is deprecated.")
        bsz, q_len, _ = hidden_states.size()
        split = lambda x, heads: x.view(bsz, q_len, heads, self.head_dim).transpose(1, 2)
        query = split(self.q_proj(hidden_states), self.num_heads)
        key = split(self.k_proj(hidden_states), self.num_key_value_heads)
        value = split(self.v_proj(hidden_states), self.num_key_value_heads)
        kv_seq_len = key.shape[-2]
        if past_key_value is not None:
            kv_seq_len += past_key_value.get_usable_length(kv_seq_len, self.layer_idx)
        cos, sin = self.rotary_emb(value, seq_len=kv_seq_len)
        query, key = apply_rotary_pos_emb(query, key, cos, sin, position_ids)
        if past_key_value is not None:
            key, value = past_key_value.update(key, value, self.layer_idx, {"sin": sin, "cos": cos})
        key = key.repeat_interleave(self.num_key_value_groups, dim=1)
        value = value.repeat_interleave(self.num_key_value_groups, dim=1)
        attn_weights = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(self.head_dim)
        if attention_mask is not None:
            attn_weights = attn_weights + attention_mask
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
        attn_output = torch.matmul(attn_weights, value).transpose(1, 2).contiguous().reshape(bsz, q_len, -1)
        return self.o_proj(attn_output), attn_weights if output_attentions else None, past_key_value


class BrookFlashAttention2(BrookAttention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._flash_attn_uses_top_left_mask = not is_flash_attn_greater_or_equal_2_10()


BROOK_ATTENTION_CLASSES = {"eager": BrookAttention, "flash_attention_2": BrookFlashAttention2}


class BrookDecoderLayer(nn.Module):
    def __init__(self, config: BrookConfig, layer_idx: int):
        super().__init__()
        self.self_attn = BROOK_ATTENTION_CLASSES[config._attn_implementation](config=config, layer_idx=layer_idx)
        self.mlp = BrookMLP(config)
        self.input_layernorm = BrookRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = BrookRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states, attention_mask=None, position_ids=None, past_key_value=None,
                output_attentions=False, use_cache=False, **kwargs):
        residual = hidden_states
        hidden_states, weights, present = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states), attention_mask=attention_mask,
            position_ids=position_ids, past_key_value=past_key_value, output_attentions=output_attentions,
            use_cache=use_cache, **kwargs,
        )
        hidden_states = residual + hidden_states
        hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        outputs = (hidden_states,)
        if output_attentions:
            outputs += (weights,)
        if use_cache:
            outputs += (present,)
        return outputs


BROOK_START_DOCSTRING = r"""
    This model inherits from [`PreTrainedModel`].
"""


@add_start_docstrings("The bare Brook Model.", BROOK_START_DOCSTRING)
class BrookPreTrainedModel(PreTrainedModel):
    config_class = BrookConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["BrookDecoderLayer"]
    _skip_keys_device_placement = "past_key_values"
    _supports_flash_attn_2 = True
    _supports_cache_class = True

    def _init_weights(self, module):
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=std)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=std)
            if module.padding_idx is not None:
                module.weight.data[module.padding_idx].zero_()


class BrookModel(BrookPreTrainedModel):
    def __init__(self, config: BrookConfig):
        super().__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            [BrookDecoderLayer(config, layer_idx) for layer_idx in range(config.num_hidden_layers)]
        )
        self._use_flash_attention_2 = config._attn_implementation == "flash_attention_2"
        self.norm = BrookRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        # Initialize weights and apply final processing
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    @add_start_docstrings_to_model_forward("Inputs")
    def forward(
        self,
        input_ids: torch.LongTensor = None,
        attention_mask: Optional[torch.Tensor] = None,
        position_ids: Optional[torch.LongTensor] = None,
        past_key_values: Optional[List[torch.FloatTensor]] = None,
        inputs_embeds: Optional[torch.FloatTensor] = None,
        use_cache: Optional[bool] = None,
        output_attentions: Optional[bool] = None,
        output_hidden_states: Optional[bool] = None,
        return_dict: Optional[bool] = None,
    ) -> Union[Tuple, BaseModelOutputWithPast]:
        output_attentions = output_attentions if output_attentions is not None else self.config.output_attentions
        output_hidden_states = (
            output_hidden_states if output_hidden_states is not None else self.config.output_hidden_states
        )
        use_cache = use_cache if use_cache is not None else self.config.use_cache
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict

        batch_size, seq_length = input_ids.shape[:2]
        if self.gradient_checkpointing and self.training:
            if use_cache:
                logger.warning_once(
                    "`use_cache=True` is incompatible with gradient checkpointing. Setting `use_cache=False`"
                )
                use_cache = False
        past_key_values_length = 0
        if use_cache:
            use_legacy_cache = not isinstance(past_key_values, Cache)
            if use_legacy_cache:
                past_key_values = DynamicCache.from_legacy_cache(past_key_values)
            past_key_values_length = past_key_values.get_usable_length(seq_length)
        if position_ids is None:
            position_ids = torch.arange(
                past_key_values_length, seq_length + past_key_values_length, device=input_ids.device
            ).unsqueeze(0)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        attention_mask = _prepare_4d_causal_attention_mask(
            attention_mask, (batch_size, seq_length), inputs_embeds, past_key_values_length
        )
        hidden_states = inputs_embeds
        all_hidden_states = () if output_hidden_states else None
        all_self_attns = () if output_attentions else None
        next_decoder_cache = None
        for decoder_layer in self.layers:
            if output_hidden_states:
                all_hidden_states += (hidden_states,)
            if self.gradient_checkpointing and self.training:
                layer_outputs = self._gradient_checkpointing_func(
                    decoder_layer.__call__,
                    hidden_states,
                    attention_mask,
                    position_ids,
                    past_key_values,
                    output_attentions,
                    use_cache,
                )
            else:
                layer_outputs = decoder_layer(
                    hidden_states, attention_mask=attention_mask, position_ids=position_ids,
                    past_key_value=past_key_values, output_attentions=output_attentions, use_cache=use_cache,
                )
            hidden_states = layer_outputs[0]
            if use_cache:
                next_decoder_cache = layer_outputs[2 if output_attentions else 1]
            if output_attentions:
                all_self_attns += (layer_outputs[1],)
        hidden_states = self.norm(hidden_states)
        if output_hidden_states:
            all_hidden_states += (hidden_states,)
        next_cache = None
        if use_cache:
            next_cache = next_decoder_cache.to_legacy_cache() if use_legacy_cache else next_decoder_cache
        if not return_dict:
            return tuple(v for v in [hidden_states, next_cache, all_hidden_states, all_self_attns] if v is not None)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states,
            past_key_values=next_cache,
            hidden_states=all_hidden_states,
            attentions=all_self_attns,
        )


class BrookForCausalLM(BrookPreTrainedModel):
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(self, config):
        super().__init__(config)
        self.model = BrookModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        self.lm_head = new_embeddings

    def set_decoder(self, decoder):
        self.model = decoder

    def get_decoder(self):
        return self.model

    @replace_return_docstrings(output_type=CausalLMOutputWithPast, config_class=_CONFIG_FOR_DOC)
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None,
                labels=None, use_cache=None, output_attentions=None, output_hidden_states=None, return_dict=None):
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, use_cache=use_cache, output_attentions=output_attentions,
            output_hidden_states=output_hidden_states, return_dict=return_dict,
        )
        logits = self.lm_head(outputs[0]).float()
        loss = None
        if labels is not None:
            shift_logits = logits[..., :-1, :].contiguous().view(-1, self.config.vocab_size)
            loss = CrossEntropyLoss()(shift_logits, labels[..., 1:].contiguous().view(-1))
        if not return_dict:
            return ((loss,) if loss is not None else ()) + (logits,) + outputs[1:]
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states, attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, **kwargs):
        if past_key_values is not None:
            input_ids = input_ids[:, past_key_values[0][0].shape[2] :]
        return {"input_ids": input_ids, "past_key_values": past_key_values, "attention_mask": attention_mask}

    @staticmethod
    def _reorder_cache(past_key_values, beam_idx):
        return tuple(tuple(past.index_select(0, beam_idx) for past in layer) for layer in past_key_values)
'''

DECODER_LAYER = {
    **{"self_attn.q_proj.weight": (8, 8), "self_attn.k_proj.weight": (4, 8), "self_attn.v_proj.weight": (4, 8)},
    **{"self_attn.o_proj.weight": (8, 8), "mlp.gate_proj.weight": (12, 8), "mlp.up_proj.weight": (12, 8)},
    **{"mlp.down_proj.weight": (8, 12), "input_layernorm.weight": (8,), "post_attention_layernorm.weight": (8,)},
}
DECODER_WEIGHTS = {
    "model.embed_tokens.weight": (13, 8),
    **{f"model.layers.{layer}.{name}": shape for layer in range(2) for name, shape in DECODER_LAYER.items()},
    "model.norm.weight": (8,),
    "lm_head.weight": (13, 8),
}
DECODER_CONFIG = {
    "architectures": ["BrookForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_brook.BrookConfig",
        "AutoModel": "modeling_brook.BrookModel",
        "AutoModelForCausalLM": "modeling_brook.BrookForCausalLM",
    },
    **{"model_type": "brook", "vocab_size": 13, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "hidden_act": "silu"},
    **{"initializer_range": 0.02, "rms_norm_eps": 1e-06, "rope_scaling": None, "use_cache": True},
    **{"bos_token_id": 1, "eos_token_id": 2, "pretraining_tp": 1, "tie_word_embeddings": False},
    **{"torch_dtype": "float32", "transformers_version": "4.36.2"},
}

# A decoder of 2025: types for keywords, decorators for outputs, ties by name, layers that checkpoint themselves -----

MODERN_MODELING = """
from collections.abc import Callable
from typing import Optional, Union

import torch
from torch import nn

from transformers.activations import ACT2FN
from transformers.generation import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, auto_docstring, can_return_tuple, logging

from .configuration_rill import RillConfig
from .mixing_rill import Mixer

logger = logging.get_logger(__name__)


class RillLayer(GradientCheckpointingLayer):
    def __init__(self, config: RillConfig, layer_idx: int):
        super().__init__()
        self.mixer = Mixer(config, layer_idx)
        self.act = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        return hidden_states + self.act(self.mixer(hidden_states))


@auto_docstring
class RillPreTrainedModel(PreTrainedModel):
    config: RillConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["RillLayer"]
    _can_compile_fullgraph = True


@auto_docstring
class RillModel(RillPreTrainedModel):
    def __init__(self, config: RillConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([RillLayer(config, i) for i in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False
        self.post_init()

    @auto_docstring
    def forward(
        self, input_ids: Optional[torch.LongTensor] = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPast:
        hidden_states = self.embed_tokens(input_ids)
        for layer in self.layers[: self.config.num_hidden_layers]:
            hidden_states = layer(hidden_states, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states)


@auto_docstring
class RillForCausalLM(RillPreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = RillModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        input_ids: Optional[torch.LongTensor] = None,
        labels: Optional[torch.LongTensor] = None,
        logits_to_keep: Union[int, torch.Tensor] = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        outputs: BaseModelOutputWithPast = self.model(input_ids=input_ids, **kwargs)
        slice_indices = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, slice_indices, :])
        return CausalLMOutputWithPast(logits=logits, past_key_values=outputs.past_key_values)


__all__ = ["RillForCausalLM", "RillModel", "RillPreTrainedModel"]
"""
MODERN_FILES = {
    "configuration_rill.py": """
from transformers import PretrainedConfig


class RillConfig(PretrainedConfig):
    model_type = "rill"
    attribute_map = {"num_layers": "num_hidden_layers", "d_model": "hidden_size"}
    base_model_tp_plan = {"layers.*.mixer.proj": "colwise"}

    def __init__(self, vocab_size=100, hidden_size=16, num_hidden_layers=2, hidden_act="gelu_pytorch_tanh",
                 pad_token_id=0, tie_word_embeddings=True, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.hidden_act = hidden_act
        super().__init__(pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **kwargs)


__all__ = ["RillConfig"]
""",
    "modeling_rill.py": MODERN_MODELING,
    "mixing_rill.py": """
import torch
from torch import nn

from .configuration_rill import RillConfig


class Mixer(nn.Module):
    def __init__(self, config: RillConfig, layer_idx: int):
        super().__init__()
        self.layer_idx = layer_idx
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # the mean of all tokens up to each one
        counts = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.proj(x.cumsum(1) / counts[None, :, None])
""",
}
MODERN_CONFIG = {
    "architectures": ["RillForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_rill.RillConfig",
        "AutoModelForCausalLM": "modeling_rill.RillForCausalLM",
    },
    **{"dtype": "float32", "hidden_act": "gelu_pytorch_tanh", "hidden_size": 6, "model_type": "rill"},
    **{"num_hidden_layers": 2, "pad_token_id": 0, "tie_word_embeddings": True, "transformers_version": "5.0.0"},
    "vocab_size": 11,
}
MODERN_WEIGHTS = {
    "model.embed_tokens.weight": (11, 6),
    **{f"model.layers.{n}.mixer.proj.{k}": s for n in range(2) for k, s in {"weight": (6, 6), "bias": (6,)}.items()},
}

# One file that registers itself, with a nested configuration and an optional package ----------------------------------

VISION_FILE = """
import math
import copy
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import is_vision_available, is_torch_available, is_timm_available
import torch
from torch import nn

assert transformers.__version__ >= "4.30"

try:
    from xformers.ops import memory_efficient_attention
    HAS_XFORMERS = True
except ImportError:
    HAS_XFORMERS = False

if is_vision_available():
    from PIL import Image


class StemConfig(PretrainedConfig):
    model_type = "dune_stem"

    def __init__(self, channels=3, width=16, patch=4, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.width = width
        self.patch = patch


class DuneConfig(PretrainedConfig):
    model_type = "dune"
    is_composition = True

    def __init__(self, stem_config=None, depth=2, **kwargs):
        super().__init__(**kwargs)
        if stem_config is None:
            stem_config = {}
        self.stem_config = StemConfig(**stem_config) if isinstance(stem_config, dict) else stem_config
        self.depth = depth

    def to_dict(self):
        output = super().to_dict()
        output["stem_config"] = self.stem_config.to_dict()
        output["model_type"] = self.__class__.model_type
        return output


class Stem(PreTrainedModel):
    config_class = StemConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.conv = nn.Conv2d(config.channels, config.width, kernel_size=config.patch, stride=config.patch)
        self.norm = nn.BatchNorm2d(config.width)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, pixel_values):
        return torch.relu(self.norm(self.conv(pixel_values)))


class DuneModel(transformers.PreTrainedModel):
    config_class = DuneConfig
    main_input_name = "pixel_values"

    def __init__(self, config: DuneConfig):
        super().__init__(config)
        self.stem = Stem(config.stem_config)
        self.blocks = nn.ModuleList(
            nn.Conv2d(config.stem_config.width, config.stem_config.width, 3, padding=1) for _ in range(config.depth)
        )
        self.classifier = nn.Linear(config.stem_config.width, config.num_labels)
        self.loss = nn.CrossEntropyLoss()
        self.post_init()

    def _init_weights(self, module):
        pass

    @torch.no_grad()
    def predict(self, pixel_values):
        return self(pixel_values).logits.argmax(-1)

    def forward(self, pixel_values, labels=None, return_dict=True, **kwargs):
        x = self.stem(pixel_values)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        logits = self.classifier(x.mean((-2, -1)))
        loss = None if labels is None else self.loss(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


AutoConfig.register("dune", DuneConfig)
AutoModel.register(DuneConfig, DuneModel)
AutoModelForImageClassification.register(DuneConfig, DuneModel)
"""
VISION_CONFIG = {
    "architectures": ["DuneModel"],
    "auto_map": {
        "AutoConfig": "modeling_dune.DuneConfig",
        "AutoModelForImageClassification": "modeling_dune.DuneModel",
    },
    "depth": 1,
    "id2label": {"0": "cat", "1": "dog", "2": "hen"},
    "label2id": {"cat": 0, "dog": 1, "hen": 2},
    "model_type": "dune",
    "stem_config": {"channels": 3, "model_type": "dune_stem", "patch": 2, "width": 5},
    "torch_dtype": "float32",
    "transformers_version": "4.40.1",
}
VISION_WEIGHTS = {
    **{"stem.conv.weight": (5, 3, 2, 2), "stem.conv.bias": (5,), "stem.norm.weight": (5,), "stem.norm.bias": (5,)},
    **{"stem.norm.running_mean": (5,), "stem.norm.running_var": (5,)},
    **{"blocks.0.weight": (5, 5, 3, 3), "blocks.0.bias": (5,), "classifier.weight": (3, 5), "classifier.bias": (3,)},
}


class WildVision(Wild):
    """Variances are positive, and the number of batches is a count."""

    def tensors(self) -> dict[str, torch.Tensor]:
        found = super().tensors()
        found["stem.norm.running_var"] = found["stem.norm.running_var"].abs() + 0.5
        return found | {"stem.norm.num_batches_tracked": torch.tensor(7)}


WILD = {
    "encoder of 2020": Wild(
        ENCODER_FILES,
        ENCODER_CONFIG,
        {
            **ENCODER_WEIGHTS,
            "pooler.weight": (8, 8),
            "pooler.bias": (8,),
        },
        inputs=ENCODER_INPUTS,
    ),
    "its masked head, tied": Wild(
        ENCODER_FILES,
        ENCODER_CONFIG,
        {f"pebble.{name}": shape for name, shape in ENCODER_WEIGHTS.items()},
        auto_class="AutoModelForMaskedLM",
        inputs=ENCODER_INPUTS,
    ),
    "decoder of 2023": Wild(
        {"configuration_brook.py": DECODER_CONFIGURATION, "modeling_brook.py": DECODER_MODELING},
        DECODER_CONFIG,
        DECODER_WEIGHTS,
        auto_class="AutoModelForCausalLM",
        inputs=ENCODER_INPUTS,
    ),
    "decoder of 2025": Wild(
        MODERN_FILES,
        MODERN_CONFIG,
        MODERN_WEIGHTS,
        auto_class="AutoModelForCausalLM",
        inputs={"input_ids": IDS},
    ),
    "one file for images": WildVision(
        {"modeling_dune.py": VISION_FILE},
        VISION_CONFIG,
        VISION_WEIGHTS,
        auto_class="AutoModelForImageClassification",
        inputs={"pixel_values": (2, 3, 6, 6)},
    ),
}
