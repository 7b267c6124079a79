"""What the Keras half of the conformance kit does where Keras runs on TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def compute_compiled(model: Any, inputs: Mapping[str, Any]) -> Any:
    """Give what a model returns under `tf.function`, the number of examples left open."""
    spec = {name: tf.TensorSpec([None, *array.shape[1:]], array.dtype) for name, array in inputs.items()}
    return tf.function(lambda given: model(**given), input_signature=[spec])(dict(inputs))


def differentiate(
    model: Any, given: Mapping[str, Any], *, training: bool, total: Callable[[Any], Any]
) -> "list[np.ndarray[Any, Any] | None]":
    """Give the gradient of every trainable variable, None where nothing leads to it; `total` sums outputs up."""
    with tf.GradientTape() as tape:
        value = total(model(**given, training=training))
    gradients = tape.gradient(value, [variable.value for variable in model.trainable_variables])
    return [None if one is None else np.array(tf.convert_to_tensor(one)) for one in gradients]
