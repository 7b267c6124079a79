"""What Flax models are made of besides `flax.linen`: activations by name, attention, masks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from maquette.modeling.activation_names import Activations

gelu, gelu_tanh = partial(jax.nn.gelu, approximate=False), partial(jax.nn.gelu, approximate=True)

FLAX_ACT2FN: Activations[Callable[[Array], Array]] = Activations(
    {
        "gelu": gelu,
        "gelu_new": gelu_tanh,
        "gelu_fast": gelu_tanh,
        "gelu_pytorch_tanh": gelu_tanh,
        "gelu_python": gelu,
        "gelu_10": lambda x: gelu(x).clip(-10, 10),
        "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
        "relu": jax.nn.relu,
        "relu2": lambda x: jnp.square(jax.nn.relu(x)),
        "relu6": jax.nn.relu6,
        "leaky_relu": jax.nn.leaky_relu,
        "elu": jax.nn.elu,
        "selu": jax.nn.selu,
        "silu": jax.nn.silu,
        "swish": jax.nn.silu,
        "mish": jax.nn.mish,
        "hardswish": jax.nn.hard_swish,
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus,
        "linear": lambda x: x,
    }
)


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, dropout: nn.Dropout | None = None, train: bool = False
) -> tuple[Array, Array]:
    """Let every token attend to the real tokens of its own row (Vaswani et al. 2017, equation 1).

    Args:
        q, k, v: `(batch, length, heads, width)`; queries may be fewer than keys.
        mask: `(batch, keys)`, not 0 at real tokens; unless given, all are. A row without any attends to all.
        dropout: applied to attention weights.
        train: whether it is.

    Returns:
        The attended values `(batch, queries, heads, width)`, and the weights `(batch, heads, queries, keys)`.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        allowed = mask.astype(bool)[:, None, None, :]
        allowed = allowed | ~allowed.any(-1, keepdims=True)
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores)
    if dropout is not None:
        weights = dropout(weights, deterministic=not train)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v), weights


def fill_padding(x: Array, mask: Array | None, *, fill: Any = 0.0) -> Array:
    """Put one value at padding, as outputs have it: `x` is `(batch, length, …)`, `mask` `(batch, length)` or None."""
    if mask is None:
        return x
    return jnp.where(mask.astype(bool).reshape(*mask.shape, *(1,) * (x.ndim - 2)), x, jnp.asarray(fill, x.dtype))


def take_firsts(x: Array, mask: Array | None) -> Array:
    """Pick from `(batch, length, …)` each row's first real token, `(batch, 1, …)`."""
    if mask is None:
        return x[:, :1]
    firsts = mask.astype(bool).argmax(1)
    return jnp.take_along_axis(x, firsts.reshape(-1, *(1,) * (x.ndim - 1)), axis=1)


def split_heads(x: Array, heads: int) -> Array:
    """Divide the last axis among heads: `(…, heads · width)` to `(…, heads, width)`."""
    return x.reshape(*x.shape[:-1], heads, -1)


def join_heads(x: Array) -> Array:
    """Put heads side by side again: `(…, heads, width)` to `(…, heads · width)`."""
    return x.reshape(*x.shape[:-2], -1)


def real_positions(input_ids: Array, mask: Array | None) -> Array:
    """Count for each token the real ones before it in its row: `(batch, length)`, `(1, length)` without a mask."""
    if mask is None:
        return jnp.arange(input_ids.shape[1])[None]
    return jnp.maximum(mask.astype(bool).astype(jnp.int32).cumsum(1) - 1, 0)


def rotate(x: Array, positions: Array, *, theta: float = 10_000.0) -> Array:
    """Turn each pair of numbers, one from either half of a head's state, by its position (Su et al. 2021).

    Args:
        x: `(batch, length, heads, width)`, of an even width.
        positions: `(batch, length)` or `(1, length)`.
        theta: the pairs' frequencies go down from 1 to nearly 1 / `theta`.
    """
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies  # (batch, length, 1, half)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    one, other = x[..., :half], x[..., half:]
    return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def zero_row(initializer: Callable[..., Array], row: int | None) -> Callable[..., Array]:
    """Initialise a matrix with zeros in one row, as torch does with the embedding of padding; None: in no row."""

    def initialise(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        fresh = initializer(key, shape, dtype)
        return fresh if row is None else jnp.where(jnp.arange(shape[0])[:, None] == row, 0, fresh)

    return initialise


class VocabularyScores(nn.Module):
    """Scores every entry of a vocabulary: a linear layer whose weight is `(vocab_size, dim)`, as embeddings are.

    Attributes:
        vocab_size: how many entries.
        tied: the weight is that of the input embeddings given in the call; else the layer has one of its own.
        stddev: standard deviation of a fresh weight.
        use_bias: whether each entry has a bias.
    """

    vocab_size: int
    tied: bool = True
    stddev: float = 0.02
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array, embeddings: nn.Embed) -> Array:
        if self.tied:
            scores = embeddings.attend(x)
        else:
            shape = (self.vocab_size, x.shape[-1])
            scores = x @ self.param("embedding", nn.initializers.normal(self.stddev), shape).T
        return scores + self.param("bias", nn.initializers.zeros, (self.vocab_size,)) if self.use_bias else scores
