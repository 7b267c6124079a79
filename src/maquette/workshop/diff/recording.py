"""What the modules of a model give when it runs: one record for every framework, as numpy arrays."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.workshop.diff.leaves import Array, Leaves, flatten, to_array


@dataclass
class Call:
    """One call of a module.

    Attributes:
        name: its path, without the name under which a head keeps its base model.
        number: which of the calls under this name, from 0.
        kind: the name of its class.
        origin: the class with its module.
        takes, gives: what came in and out.
    """

    name: str
    number: int
    kind: str
    origin: str
    takes: Leaves
    gives: Leaves


@dataclass
class Record:
    """One run of a model.

    Attributes:
        framework: "torch", "keras" or "flax".
        kind, origin: of the model's class.
        calls: in the order in which they ended, the innermost first.
        end: what the model gave.
        masks: which places of the inputs are no padding, by the input's name.
    """

    framework: str
    kind: str
    origin: str
    calls: list[Call] = field(default_factory=list)
    end: Leaves = field(default_factory=dict)
    masks: Leaves = field(default_factory=dict)


def record(model: Any, inputs: Mapping[str, Any]) -> Record:
    """Run a model of torch, Keras or Flax in evaluation mode, and note what its modules take and give.

    Random numbers are drawn from a fixed seed.

    Raises:
        InputError: it is no model of these, or does not run on the inputs.
    """
    framework = framework_of(model)
    recorder = importlib.import_module(f"maquette.workshop.diff.{framework}_recording")
    arrays = to_arrays(inputs)
    try:
        calls, end = recorder.run(model, arrays, flatten)
    except Exception as error:  # whatever the model, or its framework, says of them
        said = str(error).strip() or "no more was said"
        raise InputError(
            f"{type(model).__name__} does not run on these inputs: {type(error).__name__}: {said}"
        ) from error
    kind = type(model)
    about = {"kind": kind.__name__, "origin": f"{kind.__module__}.{kind.__qualname__}"}
    base = getattr(model, "base_model_prefix", "")
    return make_record(calls, base if isinstance(base, str) else "", end, arrays, framework=framework, **about)


def make_record(noted: Iterable[Any], base: str, end: Leaves, inputs: Mapping[str, Array], **about: Any) -> Record:
    """Put together what a recorder noted; `base` is the name under which a head keeps its base model."""
    made = [Call(*call) for call in noted if call[0] != base]
    names = {call.name for call in made}
    for call in made:
        short = call.name.removeprefix(f"{base}.")
        call.name = call.name if short in names else short
    return Record(calls=made, end=end, masks=find_masks(inputs), **about)


def to_arrays(inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Give inputs as numpy has them.

    Raises:
        InputError: one is nothing of numbers.
    """
    arrays = {}
    for name, value in inputs.items():
        array = to_array(value) if hasattr(value, "shape") else to_array(np.asarray(value))
        if array is None:
            raise InputError(f"{name!r} is no input that is compared: a tensor, or lists of numbers.")
        arrays[name] = array
    return arrays


def find_masks(inputs: Mapping[str, Array]) -> Leaves:
    """Pick those of the inputs that say which places are no padding: zeros and ones, of (batch, length)."""
    return {
        name: value.astype(bool)
        for name, value in inputs.items()
        if name.endswith("attention_mask") and value.ndim == 2 and not np.any((value != 0) & (value != 1))
    }


def framework_of(model: Any) -> str:
    """Tell of which framework a model is, by the classes that it derives from; none is imported.

    Raises:
        InputError: it is of none of them.
    """
    known = {"torch.nn.modules.module.Module": "torch", "flax.linen.module.Module": "flax"}
    for parent in type(model).__mro__:
        name = f"{parent.__module__}.{parent.__qualname__}"
        if name in known:
            return known[name]
        if name.startswith("keras.") and parent.__name__ == "Layer":
            return "keras"
    raise InputError(f"Models of torch, Keras and Flax are compared; this is a {type(model).__name__}.")
