"""Convolutions as torch defines them, one multiplication after the other: `(batch, channels, *space)`."""

import itertools

import numpy as np

Array = np.ndarray


def convolve(x: Array, weight: Array, bias: Array | float = 0.0, *, stride: int = 1, groups: int = 1) -> Array:
    """Give a convolution without padding; the weight is `(out, in / groups, *space)`."""
    sizes = [(size - k) // stride + 1 for size, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
    found = np.zeros((len(x), len(weight), *sizes))
    inner, outer = weight.shape[1], len(weight) // groups
    for out in range(len(weight)):
        channels = x[:, out // outer * inner :][:, :inner]
        for place in itertools.product(*map(range, sizes)):
            window = tuple(slice(p * stride, p * stride + k) for p, k in zip(place, weight.shape[2:], strict=True))
            product = channels[(..., *window)] * weight[out]
            found[(slice(None), out, *place)] = product.reshape(len(x), -1).sum(1)
    return found + _beside(bias, x.ndim)


def convolve_transposed(x: Array, weight: Array, bias: Array | float = 0.0, *, stride: int = 1) -> Array:
    """Give a transposed convolution without padding; the weight is `(in, out, *space)`."""
    sizes = [(size - 1) * stride + k for size, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
    found = np.zeros((len(x), weight.shape[1], *sizes))
    for place in itertools.product(*map(range, x.shape[2:])):
        window = tuple(slice(p * stride, p * stride + k) for p, k in zip(place, weight.shape[2:], strict=True))
        found[(..., *window)] += np.tensordot(x[(..., *place)], weight, axes=1)
    return found + _beside(bias, x.ndim)


def _beside(bias: Array | float, axes: int) -> Array:
    """Give a number for each channel the axes of the others."""
    return np.reshape(bias, (1, -1, *(1,) * (axes - 2)))
