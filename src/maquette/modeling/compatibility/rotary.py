"""Rotary frequencies as code written for Transformers asks for them: by the kind of scaling, from a configuration."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maquette.modeling.layers.rotary import RotaryEmbedding

KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")


def _frequencies(kind: str, config: Any, device: Any = None, seq_len: Any = None, **more: Any) -> tuple[Tensor, float]:
    """Give frequencies, `(width / 2,)`, and what cosines and sines are multiplied with."""
    said = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if more.get("layer_type") is not None:
        said = said[more["layer_type"]]
    parameters = {"rope_theta": getattr(config, "rope_theta", None) or 10_000.0, **said, "rope_type": kind}
    parameters.setdefault("partial_rotary_factor", getattr(config, "partial_rotary_factor", None) or 1.0)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    most = getattr(config, "max_position_embeddings", None)
    rotary = RotaryEmbedding(width, parameters, max_position_embeddings=most)
    length = torch.tensor(1 if seq_len is None else int(seq_len))
    found = rotary._choose_frequencies(length, length).flatten()
    return found[len(found) // 2 :].to(device), rotary.attention_factor


ROPE_INIT_FUNCTIONS: dict[str, Callable[..., tuple[Tensor, float]]] = {
    kind: functools.partial(_frequencies, kind) for kind in KINDS
}


def dynamic_rope_update(rope_forward: Any) -> Any:
    """Have frequencies that depend on the length of texts follow the longest of a batch, before a `forward`."""

    @functools.wraps(rope_forward)
    def wrapped(self: Any, x: Any, position_ids: Any, *args: Any, **kwargs: Any) -> Any:
        if str(self.rope_type) in ("dynamic", "longrope"):
            length = int(position_ids.max()) + 1
            found, self.attention_scaling = _frequencies(self.rope_type, self.config, x.device, seq_len=length)
            self.inv_freq = found
        return rope_forward(self, x, position_ids, *args, **kwargs)

    return wrapped
