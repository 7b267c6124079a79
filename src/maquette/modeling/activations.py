"""Activation functions by the names that configurations use."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from maquette.modeling.activation_names import Activations

Activation = Callable[[Tensor], Tensor]


def gelu_10(x: Tensor) -> Tensor:
    """Compute GELU, cut off at -10 and 10 for the sake of quantised models."""
    return functional.gelu(x).clamp(-10, 10)


def quick_gelu(x: Tensor) -> Tensor:
    """Compute the sigmoid approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""
    return x * torch.sigmoid(1.702 * x)


def relu_squared(x: Tensor) -> Tensor:
    """Compute the square of ReLU (So et al. 2021, section 4)."""
    return functional.relu(x).square()


def linear(x: Tensor) -> Tensor:
    """Give what came."""
    return x


gelu_tanh = partial(functional.gelu, approximate="tanh")

ACT2FN: Activations[Activation] = Activations(
    {
        "gelu": functional.gelu,
        "gelu_new": gelu_tanh,
        "gelu_fast": gelu_tanh,
        "gelu_pytorch_tanh": gelu_tanh,
        "gelu_python": functional.gelu,
        "gelu_10": gelu_10,
        "quick_gelu": quick_gelu,
        "relu": functional.relu,
        "relu2": relu_squared,
        "relu6": functional.relu6,
        "leaky_relu": functional.leaky_relu,
        "elu": functional.elu,
        "selu": functional.selu,
        "silu": functional.silu,
        "swish": functional.silu,
        "mish": functional.mish,
        "hardswish": functional.hardswish,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softplus": functional.softplus,
        "linear": linear,
    }
)
