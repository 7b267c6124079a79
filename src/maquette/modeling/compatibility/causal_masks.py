"""Masks as decoders since release 4.53 ask for them, and attention by name, as those since 4.48 call it.

Masks are `(batch, 1, queries, keys)` and are added to scores, whichever way of attention reads them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Allowed = Callable[..., Tensor]  # (row, head, query, key), broadcast against each other, to what may be looked at


def create_causal_mask(config: Any = None, **given: Any) -> Tensor:
    """Give the mask for keys that are real and not behind the query.

    Args:
        config: of the model; not looked at here.
        given: `inputs_embeds` (or `input_embeds`) `(batch, queries, dim)`; `attention_mask` `(batch, keys)`, or a mask
            of four axes, which is given back; `past_key_values`; `cache_position` `(queries,)`; functions that allow
            more or less, `or_mask_function` and `and_mask_function`.
    """
    return _make(given, lambda row, head, query, key: key <= query)


def create_sliding_window_causal_mask(config: Any, **given: Any) -> Tensor:
    """Give the mask for keys that are besides within `config.sliding_window` of the query, itself included."""
    window = config.sliding_window
    return _make(given, lambda row, head, query, key: (key <= query) & (key > query - window))


def create_bidirectional_mask(config: Any = None, **given: Any) -> Tensor:
    """Give the mask for keys that are real."""
    return _make(given, lambda row, head, query, key: (key == key) & (query == query))


def _make(given: dict[str, Any], allowed: Allowed) -> Tensor:
    vectors = given.get("inputs_embeds")
    vectors = given["input_embeds"] if vectors is None else vectors
    mask, past, places = (given.get(name) for name in ("attention_mask", "past_key_values", "cache_position"))
    if mask is not None and mask.ndim == 4:
        return mask  # type: ignore[no-any-return]
    (batch, queries), device = vectors.shape[:2], vectors.device
    seen = 0 if past is None else int(past.get_seq_length())
    keys = seen + queries
    if past is not None and hasattr(past, "get_mask_sizes"):
        keys = past.get_mask_sizes(queries if places is None else places, 0)[0]
    query = (torch.arange(seen, seen + queries, device=device) if places is None else places)[None, None, :, None]
    key = torch.arange(keys, device=device)[None, None, None]
    row, head = torch.arange(batch, device=device)[:, None, None, None], torch.zeros(1, 1, 1, 1, dtype=torch.long)
    found = allowed(row, head.to(device), query, key)
    if (more := given.get("or_mask_function")) is not None:
        found = found | more(row, head.to(device), query, key)
    if (fewer := given.get("and_mask_function")) is not None:
        found = found & fewer(row, head.to(device), query, key)
    found = found.expand(batch, 1, queries, keys)
    if mask is not None:
        real = torch.zeros(batch, keys, dtype=torch.bool, device=device)
        real[:, : mask.shape[1]] = mask[:, :keys].bool()
        found = found & real[:, None, None]
    hidden = torch.zeros(found.shape, dtype=vectors.dtype, device=device)
    return hidden.masked_fill(~found, torch.finfo(vectors.dtype).min)


def sdpa_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend, `(batch, heads, length, width)` to `(batch, length, heads, width)`; causally where there is no mask."""
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) if groups > 1 else each for each in (key, value))
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
    elif is_causal if is_causal is not None else getattr(module, "is_causal", True):
        places = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        attention_mask = places.tril(key.shape[2] - query.shape[2])
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attention_mask, dropout_p=dropout, scale=scaling
    )
    return out.transpose(1, 2).contiguous(), None


class AttentionInterface(dict[str, Any]):
    """Ways of attention by name; "eager" is the model's own."""

    def get_interface(self, attn_implementation: str | None, default: Any) -> Any:
        """Give the way that a configuration names, or the model's own."""
        return self.get(attn_implementation or "eager", default)

    def register(self, key: str, value: Any) -> None:
        """Add a way of one's own."""
        self[key] = value


ALL_ATTENTION_FUNCTIONS = AttentionInterface(sdpa=sdpa_attention_forward)


def slice_logits_to_keep(hidden_states: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """Take the places for which logits are wanted: the last, or those named, `(places,)` or `(batch, places)`."""
    if isinstance(logits_to_keep, int):
        return hidden_states[:, -logits_to_keep:]
    if logits_to_keep.ndim < 2:
        return hidden_states[:, logits_to_keep]
    if logits_to_keep.dtype == torch.bool:
        return hidden_states[logits_to_keep]
    return hidden_states.gather(1, logits_to_keep[..., None].expand(-1, -1, hidden_states.shape[-1]))
