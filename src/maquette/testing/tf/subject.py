"""A Keras model under examination, on whichever backend Keras runs."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from maquette.modeling.tf import walk
from maquette.testing.arrays.saving import ties_of
from maquette.testing.arrays.subject import ArrayObservation, Arrays, ArraySubject, arrays_in, snapshot
from maquette.testing.report import Fault

BACKEND = keras.backend.backend()


def on_backend() -> Any:
    """Give what is done differently on Keras' backend: `on_tensorflow`, or `on_jax`."""
    return importlib.import_module(f"maquette.testing.tf.on_{BACKEND}")


def call(model: Any, inputs: Mapping[str, Any], **options: Any) -> Any:
    """Give what a model returns for arguments by name."""
    return model(**inputs, **options)


def set_threads(count: int) -> None:
    """Leave threads to Keras' backend, which reads them from the environment."""


class Observation(ArrayObservation):
    """What can be seen of a Keras model."""

    @classmethod
    def of(cls, model: Any, inputs: Mapping[str, Any]) -> "Observation":
        return cls(snapshot(model.state_arrays()), arrays_in(call(model, inputs)), ties_of(model))


class Subject(ArraySubject):
    """A Keras model under examination."""

    observation = Observation
    foreign = frozenset({"torch"} if BACKEND == "tensorflow" else {"torch", "tensorflow"})
    method = "call"
    training = "training"

    def make(self, config: Any, seed: int) -> Any:
        return self.model_class(config)

    def from_config(self, config: Any, seed: int, *, dtype: str | None = None) -> Any:
        return self.model_class.from_config(config, dtype=dtype)

    def call(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        return call(model, inputs)

    def compiled(self, model: Any, inputs: Mapping[str, Any]) -> Arrays:
        return arrays_in(on_backend().compute_compiled(model, inputs))

    def paths(self, model: Any) -> list[tuple[tuple[str, ...], Any]]:
        return list(walk(model, ()))

    def strays(self, model: Any) -> Iterator[Fault]:
        """Find variables that no path of public attributes leads to."""
        saved = {id(variable) for _, variable in self.paths(model)}
        for variable in model.weights:
            if id(variable) not in saved:
                yield Fault(
                    f"the variable `{variable.path}` lies in `{'.'.join(_find(model, variable))}`, where an underscore "
                    "in front keeps it from being saved",
                    "call the attribute by a name that begins with a letter",
                )
        known = {id(variable) for variable in model.variables}
        for variable in variables_read(model, self.inputs):
            if id(variable) not in known:
                yield Fault(
                    f"{self.method} computes with the variable `{variable.path}`, which lies in no attribute (in a "
                    "closure, say, or a global), so it is neither trained nor saved",
                    "keep it, or the layer that has it, in an attribute",
                )


def _find(layer: keras.Layer, variable: Any) -> list[str]:
    """Give the attributes that lead to a variable, or to the list or dictionary that it is in."""
    for name, value in vars(layer).items():
        if name in _INTERNAL or name.startswith("_self_"):
            continue
        if value is variable:
            return [name]
        for inner in keras.tree.flatten(value) if isinstance(value, list | tuple | dict) else [value]:
            if isinstance(inner, keras.Layer) and any(one is variable for one in inner.weights):
                return [name, *_find(inner, variable)]
    return []


# Where Keras keeps layers and variables itself; TensorFlow does so too, under names that begin with _self_.
_INTERNAL = frozenset({*vars(keras.Model()), *vars(keras.Layer())})


def variables_read(model: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """List the variables whose values a run of the model asks for."""
    with _Reading() as scope:
        call(model, inputs)
    return list(scope.read.values())


class _Reading(keras.StatelessScope):
    """A scope in which Keras asks for every variable's value, and changes none."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, Any] = {}

    def get_current_value(self, variable: Any) -> Any:
        self.read[id(variable)] = variable
        return super().get_current_value(variable)
