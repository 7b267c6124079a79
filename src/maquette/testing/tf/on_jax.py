"""What the Keras half of the conformance kit does where Keras runs on JAX."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def compute_compiled(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Give what a model returns under `jax.jit`."""

    def compute(trainable: Any, other: Any, given: Any) -> Any:
        return model.stateless_call(trainable, other, **given)[0]

    return jax.jit(compute)(*_values_of(model), dict(inputs))


def differentiate(
    model: Any, given: Mapping[str, Any], *, training: bool, total: Callable[[Any], Any]
) -> "list[np.ndarray[Any, Any] | None]":
    """Give the gradient of every trainable variable, zeros where nothing leads to it; `total` sums outputs up."""

    def compute(trainable: Any, other: Any, given: Any) -> Any:
        return total(model.stateless_call(trainable, other, **given, training=training)[0])

    return [np.array(one) for one in jax.jit(jax.grad(compute))(*_values_of(model), dict(given))]


def _values_of(model: Any) -> tuple[list[Any], list[Any]]:
    return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
