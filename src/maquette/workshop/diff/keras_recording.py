"""What the layers of a Keras model give."""

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import keras
import numpy as np

from maquette.modeling.tf import layers_by_path


def run(model: keras.Layer, inputs: Mapping[str, Any], flatten: Callable[[Any], Any]) -> tuple[list[Any], Any]:
    """Run a model; gives the calls of its layers, under the names that their weights have, and what it gives itself."""
    calls: list[Any] = []
    names = {id(layer): path for path, layer in layers_by_path(model)}
    counts: dict[int, int] = {}
    plain = keras.Layer.__call__

    def note(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = plain(layer, *args, **kwargs)
        if path := names.get(id(layer)):
            kind, number = type(layer), counts.get(id(layer), 0)
            counts[id(layer)] = number + 1
            origin = f"{kind.__module__}.{kind.__qualname__}"
            takes, gives = flatten((*args, *kwargs.values())), flatten(output)
            calls.append((".".join(path), number, kind.__name__, origin, takes, gives))
        return output

    given = {name: _narrow(array) for name, array in inputs.items()}
    with mock.patch.object(keras.Layer, "__call__", note):
        end = flatten(model(**given, training=False))
    return calls, end


def _narrow(array: Any) -> Any:
    """Give numbers in 32 bits, as layers expect them."""
    return array.astype({"i": np.int32, "f": np.float32}[array.dtype.kind]) if array.dtype.kind in "if" else array
