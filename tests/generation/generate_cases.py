"""Settings that both libraries are asked to generate with, and the model."""

from typing import Any

import torch

from maquette import LlamaConfig, LlamaForCausalLM

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [1, 4]]
CASES: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 4},
    {"num_beams": 4, "num_return_sequences": 2, "early_stopping": True},
    {"num_beams": 4, "num_return_sequences": 2, "early_stopping": "never"},
    {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 2.0},
    {"num_beams": 3, "num_return_sequences": 3, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.0},
    {"num_beams": 3, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    {"num_beams": 3, "bad_words_ids": [[3], [4, 5]], "suppress_tokens": [7], "num_return_sequences": 2},
]
CASES = [{"max_new_tokens": 9, **case} for case in CASES]
GREEDY: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2, "min_length": 8},
    {"bad_words_ids": [[3], [4, 5], [9]], "sequence_bias": [[[6], 2.0], [[10, 11], -5.0]]},
    {"suppress_tokens": [7, 8], "begin_suppress_tokens": [9, 12]},
    {"forced_eos_token_id": 2, "min_new_tokens": 5},
    {"exponential_decay_length_penalty": (2, 1.3), "renormalize_logits": True},
    {"eos_token_id": [2, 9, 13]},
    {"max_length": 10, "max_new_tokens": None},
    {"watermarking_config": {"bias": 20.0, "greenlist_ratio": 0.4}},
    {"watermarking_config": {"ngram_len": 3, "keys": [654, 400, 836, 123, 340]}, "min_new_tokens": 9},
    {"guidance_scale": 1.6},
    {"guidance_scale": 2.5, "negative_prompt_ids": [[4, 4, 9]], "repetition_penalty": 1.2},
]
GREEDY = [{"max_new_tokens": 9, **case} for case in GREEDY]


def make_llama() -> LlamaForCausalLM:
    """Make a tiny model whose end token comes now and then."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12.0)  # a sharp distribution
    return model
