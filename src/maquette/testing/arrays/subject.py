"""A model whose weights are numpy arrays by their names in files: `state_arrays()`."""

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from maquette.batch.tensors import to_numpy
from maquette.checkpoint.axes import torch_name
from maquette.testing import subject
from maquette.testing.comparison import flatten
from maquette.testing.labels import label_names, make_labels
from maquette.testing.subject import SEED

Arrays = dict[str, "np.ndarray[Any, Any]"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the random numbers of a seed, from Python and numpy; afterwards both go on as before."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def snapshot(tensors: Mapping[str, Any]) -> Arrays:
    """Copy tensors of any framework to numpy, so that later changes do not reach them."""
    return {name: np.array(to_numpy(tensor)) for name, tensor in tensors.items()}


def arrays_in(output: Any) -> Arrays:
    """Name every tensor in what a model returns."""
    return snapshot(flatten(output))


def inexact(array: Any) -> bool:
    """Tell whether an array holds floating-point numbers, of which numpy counts bfloat16 as unknown."""
    return array.dtype.kind in "fV"


def finite(value: Any) -> bool:
    """Tell whether all numbers of an array are finite."""
    return not inexact(value) or bool(np.isfinite(value.astype(np.float32)).all())


def reached(gradient: Any) -> bool:
    """Tell whether a gradient is there: JAX gives zeros where nothing leads to a variable."""
    return gradient is not None and bool(np.any(gradient))


def running(model: Any) -> Arrays:
    """Name the running statistics of batches among a model's weights."""
    return snapshot({n: a for n, a in model.state_arrays().items() if n.endswith((".running_mean", ".running_var"))})


class ArrayObservation(subject.Observation):
    """What can be seen of a model: its weights under the names of files, ties, and what it gives for an input."""

    parts = ("weight", "weights")
    tie = "leave tying to the model's __init__ (setup in Flax) and `_tied_weights_keys`, and loading to from_pretrained"
    hidden = (
        "all that the model computes with has to be a variable, or follow from the configuration; a random array that "
        "is kept as a plain attribute is drawn anew"
    )

    @staticmethod
    def save_file(tensors: Arrays, file: Path) -> None:
        save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, file)

    @staticmethod
    def load_file(file: Path) -> Arrays:
        tensors: Arrays = load_file(file)
        return tensors

    @staticmethod
    def fix(difference: str) -> str:
        if difference in ("new", "missing"):
            return "make the same variables, under the same names, for the same configuration"
        if " instead of " in difference and "shape" not in difference:
            return "leave types to save_pretrained and from_pretrained"
        return "leave saving and loading to the base class, and assign variables nowhere else"


class ArraySubject(subject.Subject):
    """What the checks of both halves ask of a model.

    Class attributes:
        training: the argument that turns training on.
    """

    observation: ClassVar[type[ArrayObservation]]
    fit = "make the same variables, under the same names, from the configuration that is saved"
    making, values = "the constructor, or the first run on `dummy_inputs`,", "arrays"
    drawing = "in initialisers"
    training: ClassVar[str]
    seeded, finite = staticmethod(seeded), staticmethod(finite)

    # Hooks -----------------------------------------------------------------------------------------------------

    def make(self, config: Any, seed: int) -> Any:
        """Construct a model as the constructor does, not through `from_config`."""
        raise NotImplementedError

    def from_config(self, config: Any, seed: int, *, dtype: str | None = None) -> Any:
        """Construct a model through `from_config`."""
        raise NotImplementedError

    def run(self, model: Any, inputs: Mapping[str, Any]) -> Arrays:
        """Give the arrays that the model returns in evaluation mode, in the way that is fastest."""
        return arrays_in(self.call(model, snapshot(inputs)))

    def compiled(self, model: Any, inputs: Mapping[str, Any]) -> Arrays:
        """Give the arrays that the model returns when its framework compiles it."""
        raise NotImplementedError

    def paths(self, model: Any) -> list[tuple[tuple[str, ...], Any]]:
        """List the path and the variable of everything that is saved, several of one path too."""
        raise NotImplementedError

    def strays(self, model: Any) -> Iterator[Any]:
        """Find faults of names that only this framework has."""
        raise NotImplementedError

    # What follows ----------------------------------------------------------------------------------------------

    def build(self, seed: int = SEED) -> Any:
        with seeded(seed):
            return self.make(copy.deepcopy(self.config), seed)

    def rebuild(self, *, dtype: str | None = None) -> Any:
        with seeded(SEED):
            return self.from_config(copy.deepcopy(self.config), SEED, dtype=dtype)

    def state(self, model: Any) -> Arrays:
        arrays: Arrays = model.state_arrays()
        return arrays

    def vary(self, seed: int) -> Any:
        rng, arrays, model = np.random.default_rng(seed), {}, self.build(seed)
        for path, variable in model._variables().items():
            old = np.asarray(variable)
            if inexact(old) and not torch_name(path).endswith((".running_mean", ".running_var")):
                arrays[path] = old + rng.standard_normal(old.shape) * (0.1 * old.astype(np.float64).std() + 0.01)
        return model._with_arrays(arrays)

    @cached_property
    def inputs(self) -> Arrays:
        """The inputs of the model by name."""
        return snapshot(self.model.dummy_inputs if self.given_inputs is None else self.given_inputs)

    @cached_property
    def outputs(self) -> Arrays:
        """What the model gives for the inputs, operation by operation."""
        return arrays_in(self.call(self.model, snapshot(self.inputs)))

    @cached_property
    def labels(self) -> Arrays:
        """The labels of the caller, or random ones that fit the logits; none where the model takes none."""
        given, names = self.given_labels, label_names(self.parameters, self.given_labels)
        if names and given is not None:
            return snapshot(given if isinstance(given, Mapping) else {"labels": given})
        outputs = {name: array.astype(np.float32) for name, array in self.outputs.items()}
        return make_labels(names, outputs, self.config, model_name=self.name)
