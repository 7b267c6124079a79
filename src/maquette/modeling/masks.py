"""Masks that models of BERT's family ask their base class for."""

from typing import Any

import torch
from torch import Tensor


class MaskMixin:
    """Attention masks to be added to scores, and masks of heads, for a `PreTrainedModel`."""

    config: Any
    dtype: Any

    def get_extended_attention_mask(
        self, attention_mask: Tensor, input_shape: Any = None, device: Any = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Turn 1 and 0 into 0 and the least number, in a shape that scores `(batch, heads, queries, keys)` take.

        Args:
            attention_mask: `(batch, keys)`, or `(batch, queries, keys)`. For a decoder (`config.is_decoder`), a
                two-dimensional mask also hides what comes after each query.
            input_shape: `(batch, queries)`; unless given, there are as many queries as keys.
            device: not used; the mask stays where it is.
            dtype: the floating-point type; unless given, the model's.

        Raises:
            ValueError: the mask has another number of axes.
        """
        if attention_mask.ndim not in (2, 3):
            raise ValueError(
                f"An attention mask is (batch, keys) or (batch, queries, keys), not {tuple(attention_mask.shape)}."
            )
        whole = attention_mask[:, None, :] if attention_mask.ndim == 2 else attention_mask
        if attention_mask.ndim == 2 and self.config.is_decoder:
            keys = attention_mask.shape[1]
            queries = keys if input_shape is None else input_shape[1]
            seen = torch.ones(queries, keys, dtype=torch.bool, device=attention_mask.device).tril(keys - queries)
            whole = whole * seen
        return self.invert_attention_mask(whole, dtype)

    def invert_attention_mask(self, encoder_attention_mask: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Turn 1 and 0, `(batch, keys)` or `(batch, queries, keys)`, into 0 and the least number, for every head."""
        mask = encoder_attention_mask
        whole = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        kind = dtype or self.dtype
        return (1.0 - whole.to(kind)) * torch.finfo(kind).min

    def get_head_mask(
        self, head_mask: Tensor | None, num_hidden_layers: int, is_attention_chunked: bool = False
    ) -> Any:
        """Give a mask of heads for every layer, `(layers, 1, heads, 1, 1)`, or as many None.

        Args:
            head_mask: `(heads,)` for all layers alike, or `(layers, heads)`; None masks nothing.
            num_hidden_layers: how many layers there are.
            is_attention_chunked: add one more axis at the end.
        """
        if head_mask is None:
            return [None] * num_hidden_layers
        layers = head_mask.expand(num_hidden_layers, -1) if head_mask.ndim == 1 else head_mask
        mask = layers[:, None, :, None, None].to(self.dtype)
        return mask[..., None] if is_attention_chunked else mask
