"""Layers and functions over torch that Transformers' models share."""

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maquette.modeling.activations import ACT2FN
from maquette.modeling.layers.linear import Conv1D as Conv1D

ALL_LAYERNORM_LAYERS = [nn.LayerNorm]
gelu, silu = nn.functional.gelu, nn.functional.silu


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def get_activation(name: str) -> nn.Module:
    """Give an activation function as a module."""
    return _Function(ACT2FN[name])


class GELUActivation(_Function):
    """GELU (Hendrycks and Gimpel 2016)."""

    def __init__(self, use_gelu_python: bool = False) -> None:
        super().__init__(ACT2FN["gelu"])


class NewGELUActivation(_Function):
    """GELU's approximation by tanh."""

    def __init__(self) -> None:
        super().__init__(ACT2FN["gelu_new"])


class QuickGELUActivation(_Function):
    """GELU's approximation by a sigmoid."""

    def __init__(self) -> None:
        super().__init__(ACT2FN["quick_gelu"])


class SiLUActivation(_Function):
    """SiLU."""

    def __init__(self) -> None:
        super().__init__(ACT2FN["silu"])


class GradientCheckpointingLayer(nn.Module):
    """A layer that keeps no activations while its model is trained with gradient checkpointing."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.gradient_checkpointing and self.training and self._gradient_checkpointing_func is not None:
            return self._gradient_checkpointing_func(functools.partial(super().__call__, **kwargs), *args)
        return super().__call__(*args, **kwargs)


def apply_chunking_to_forward(
    forward_fn: Callable[..., Tensor], chunk_size: int, chunk_dim: int, *input_tensors: Tensor
) -> Tensor:
    """Run a function piece by piece along one axis, to save memory; 0 runs it at once."""
    if chunk_size <= 0:
        return forward_fn(*input_tensors)
    pieces = zip(*(torch.split(tensor, chunk_size, dim=chunk_dim) for tensor in input_tensors), strict=True)
    return torch.cat([forward_fn(*piece) for piece in pieces], dim=chunk_dim)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Give torch's, with the order of the axes said."""
    return torch.meshgrid(*tensors, indexing=indexing or "ij")


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python's, numpy's and torch's random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
