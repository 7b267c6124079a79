"""What Keras models are made of besides Keras' own layers: activations by name, attention, masks, tied scores.

Everything here computes with `keras.ops`, on whichever backend Keras runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from maquette.modeling.activation_names import Activations

gelu, gelu_tanh = partial(ops.gelu, approximate=False), partial(ops.gelu, approximate=True)

TF_ACT2FN: Activations[Callable[[Any], Any]] = Activations(
    {
        "gelu": gelu,
        "gelu_new": gelu_tanh,
        "gelu_fast": gelu_tanh,
        "gelu_pytorch_tanh": gelu_tanh,
        "gelu_python": gelu,
        "gelu_10": lambda x: ops.clip(gelu(x), -10, 10),
        "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),
        "relu": ops.relu,
        "relu2": lambda x: ops.square(ops.relu(x)),
        "relu6": ops.relu6,
        "leaky_relu": partial(ops.leaky_relu, negative_slope=0.01),
        "elu": ops.elu,
        "selu": ops.selu,
        "silu": ops.silu,
        "swish": ops.silu,
        "mish": lambda x: x * ops.tanh(ops.softplus(x)),
        "hardswish": lambda x: x * ops.relu6(x + 3) / 6,
        "tanh": ops.tanh,
        "sigmoid": ops.sigmoid,
        "softplus": ops.softplus,
        "linear": lambda x: x,
    }
)


def look_at(x: Any) -> "np.ndarray[Any, Any] | None":
    """Give the values of a tensor; None where they cannot be looked at, inside of `tf.function` and `jit`."""
    try:
        return np.asarray(x)
    except (NotImplementedError, TypeError):  # what TensorFlow raises there, and JAX
        return None


def lowest(x: Any) -> Any:
    """Give the least number of a tensor's type, a scalar tensor."""
    kind = keras.backend.standardize_dtype(x.dtype)
    return ops.cast({"float16": -65504.0, "bfloat16": -3.3895313892515355e38}.get(kind, np.finfo("float32").min), kind)


def attention(
    q: Any, k: Any, v: Any, mask: Any = None, *, dropout: keras.layers.Dropout | None = None
) -> tuple[Any, Any]:
    """Let every token attend to the real tokens of its own row (Vaswani et al. 2017, equation 1).

    Args:
        q, k, v: `(batch, length, heads, width)`; queries may be fewer than keys.
        mask: `(batch, keys)`, not 0 at real tokens; unless given, all are. A row without any attends to all.
        dropout: applied to attention weights while training.

    Returns:
        The attended values `(batch, queries, heads, width)`, and the weights `(batch, heads, queries, keys)`.
    """
    q, k, v = (ops.transpose(x, (0, 2, 1, 3)) for x in (q * q.shape[-1] ** -0.5, k, v))
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
    if mask is not None:
        allowed = ops.cast(mask, "bool")[:, None, None, :]
        allowed = ops.logical_or(allowed, ops.logical_not(ops.any(allowed, axis=-1, keepdims=True)))
        scores = ops.where(allowed, scores, lowest(scores))
    weights = ops.softmax(scores)
    if dropout is not None:
        weights = dropout(weights)
    return ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), weights


def fill_padding(x: Any, mask: Any, *, fill: Any = 0.0) -> Any:
    """Put one value at padding, as outputs have it: `x` is `(batch, length, …)`, `mask` `(batch, length)` or None."""
    if mask is None:
        return x
    real = ops.reshape(ops.cast(mask, "bool"), (*ops.shape(mask), *(1,) * (len(x.shape) - 2)))
    return ops.where(real, x, ops.cast(fill, x.dtype))


def take_firsts(x: Any, mask: Any) -> Any:
    """Pick from `(batch, length, …)` each row's first real token, `(batch, 1, …)`."""
    if mask is None:
        return x[:, :1]
    firsts = ops.argmax(ops.cast(ops.cast(mask, "bool"), "int32"), axis=1)
    return ops.take_along_axis(x, ops.reshape(firsts, (-1, *(1,) * (len(x.shape) - 1))), axis=1)


def split_heads(x: Any, heads: int) -> Any:
    """Divide the last axis among heads: `(…, heads · width)` to `(…, heads, width)`."""
    return ops.reshape(x, (*ops.shape(x)[:-1], heads, x.shape[-1] // heads))


def join_heads(x: Any) -> Any:
    """Put heads side by side again: `(…, heads, width)` to `(…, heads · width)`."""
    return ops.reshape(x, (*ops.shape(x)[:-2], x.shape[-2] * x.shape[-1]))


def real_positions(input_ids: Any, mask: Any) -> Any:
    """Count for each token the real ones before it in its row: `(batch, length)`, `(1, length)` without a mask."""
    if mask is None:
        return ops.arange(ops.shape(input_ids)[1])[None]
    real = ops.cast(ops.cast(mask, "bool"), "int32")
    return ops.maximum(ops.cumsum(real, axis=1) - 1, 0)


def rotate(x: Any, positions: Any, *, theta: float = 10_000.0) -> Any:
    """Turn each pair of numbers, one from either half of a head's state, by its position (Su et al. 2021).

    Args:
        x: `(batch, length, heads, width)`, of an even width.
        positions: `(batch, length)` or `(1, length)`.
        theta: the pairs' frequencies go down from 1 to nearly 1 / `theta`.
    """
    half = x.shape[-1] // 2
    frequencies = ops.convert_to_tensor(np.float32(theta) ** (-np.arange(half, dtype=np.float32) / half))
    angles = ops.cast(positions, "float32")[..., None, None] * frequencies  # (batch, length, 1, half)
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    one, other = x[..., :half], x[..., half:]
    return ops.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def zero_row(initializer: Any, row: int | None) -> Any:
    """Initialise a matrix with zeros in one row, as torch does with the embedding of padding; None: in no row."""

    def initialise(shape: Any, dtype: Any = None) -> Any:
        fresh = initializer(shape, dtype=dtype)
        return fresh if row is None else ops.where(ops.arange(shape[0])[:, None] == row, ops.zeros_like(fresh), fresh)

    return initialise


class VocabularyScores(keras.layers.Layer):
    """Scores every entry of a vocabulary: a linear layer whose weight is `(vocab_size, dim)`, as embeddings are.

    Args:
        vocab_size: how many entries.
        tied: the input embeddings whose weight serves here too; without, the layer has one of its own.
        stddev: standard deviation of a fresh weight.
        use_bias: whether each entry has a bias.
    """

    def __init__(
        self, vocab_size: int, tied: Any = None, *, stddev: float = 0.02, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vocab_size, self.stddev, self.use_bias = vocab_size, stddev, use_bias
        self._tied = (tied,)  # in a tuple, it stays the other layer's

    def build(self, shape: Any) -> None:
        if self._tied[0] is None:
            normal = keras.initializers.RandomNormal(stddev=self.stddev)
            self.embeddings = self.add_weight(shape=(self.vocab_size, shape[-1]), initializer=normal, name="embeddings")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        weight = self.embeddings if self._tied[0] is None else self._tied[0].embeddings
        scores = ops.matmul(x, ops.transpose(ops.cast(weight, x.dtype)))
        return scores + ops.cast(self.bias, x.dtype) if self.use_bias else scores
