"""Masks `(batch, 1, queries, keys)` to be added to scores: 0 where attention may look, the least number elsewhere."""

from typing import Any

import torch
from torch import Tensor


def _prepare_4d_attention_mask(mask: Tensor, dtype: torch.dtype, tgt_len: int | None = None) -> Tensor:
    """Give the mask for keys that are real, from 1 and 0, `(batch, keys)`."""
    batch, keys = mask.shape
    hidden = (mask == 0)[:, None, None, :].expand(batch, 1, tgt_len or keys, keys)
    return torch.zeros(hidden.shape, dtype=dtype, device=mask.device).masked_fill(hidden, torch.finfo(dtype).min)


def _prepare_4d_causal_attention_mask(
    attention_mask: Tensor | None,
    input_shape: Any,
    inputs_embeds: Tensor,
    past_key_values_length: int,
    sliding_window: int | None = None,
) -> Tensor:
    """Give the mask for keys that are real and not behind the query, nor further before it than the window."""
    batch, queries = input_shape[0], input_shape[-1]
    keys = queries + past_key_values_length
    place = torch.arange(keys, device=inputs_embeds.device)
    distance = place[past_key_values_length:, None] - place[None, :]  # (queries, keys)
    hidden = distance < 0 if sliding_window is None else (distance < 0) | (distance >= sliding_window)
    hidden = hidden[None, None].expand(batch, 1, queries, keys)
    if attention_mask is not None:
        hidden = hidden | (attention_mask == 0)[:, None, None, :].to(hidden.device)
    zeros = torch.zeros(hidden.shape, dtype=inputs_embeds.dtype, device=inputs_embeds.device)
    return zeros.masked_fill(hidden, torch.finfo(inputs_embeds.dtype).min)


_prepare_4d_attention_mask_for_sdpa = _prepare_4d_attention_mask
_prepare_4d_causal_attention_mask_for_sdpa = _prepare_4d_causal_attention_mask
