"""Between numpy and the frameworks: the only file that knows all of them, and it imports none before it is asked to."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maquette.errors import MissingPackageError, UnknownNameError, did_you_mean

# What `return_tensors` may say, and the module each answer needs.
FRAMEWORKS = {"np": "numpy", "pt": "torch", "tf": "tensorflow", "jax": "jax.numpy"}
SYNONYMS = {"numpy": "np", "torch": "pt", "pytorch": "pt", "tensorflow": "tf", "flax": "jax"}
EXTRAS = {"pt": "torch", "tf": "tf", "jax": "flax"}


_watchers: list[Callable[[Any], None]] = []
_containers: list[Any] = []


def watch_containers(register: Callable[[Any], None]) -> None:
    """Have `register` called for every class that holds arrays, those that exist and those to come.

    Such a class has `items`, and `_rebuild(names, values)`, which makes one of what somebody put in the values' place.
    """
    _watchers.append(register)
    for cls in _containers:
        register(cls)


def add_container(cls: Any) -> None:
    """Tell every framework's pytrees of a class that holds arrays."""
    _containers.append(cls)
    for register in _watchers:
        register(cls)


def check_framework(name: Any) -> str:
    """Give the short name of a framework, or say which there are.

    Raises:
        UnknownNameError: with the nearest of "np", "pt", "tf" and "jax".
    """
    text = name if type(name) is str else str(getattr(name, "value", name))
    if text in FRAMEWORKS:
        return text
    if text in SYNONYMS:
        return SYNONYMS[text]
    raise UnknownNameError(
        f"return_tensors={name!r}: no such kind of tensor.{did_you_mean(text, [*FRAMEWORKS, *SYNONYMS])} "
        f"There are: {', '.join(map(repr, FRAMEWORKS))}."
    )


def to_tensor(array: "np.ndarray[Any, Any]", framework: str) -> Any:
    """Give a numpy array as a tensor of a framework; memory is shared where the framework can.

    Args:
        array: of any shape. jax holds integers in 32 bits unless its 64-bit mode is on, and so does the result then.
        framework: "np", "pt", "tf" or "jax".

    Raises:
        MissingPackageError: the framework is not installed; the message has the command that installs it.
    """
    name = check_framework(framework)
    module = np if name == "np" else _framework(name)
    return _MAKERS[name](module, array)


def _framework(name: str) -> Any:
    if (module := sys.modules.get(FRAMEWORKS[name])) is not None:
        return module
    try:
        return importlib.import_module(FRAMEWORKS[name])
    except ImportError:
        raise MissingPackageError(
            f"return_tensors={name!r} needs {FRAMEWORKS[name].partition('.')[0]}, which is not installed. "
            f"Run: pip install 'maquette[{EXTRAS[name]}]', or ask for \"np\"."
        ) from None


def _torch_tensor(torch: Any, array: "np.ndarray[Any, Any]") -> Any:
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _jax_array(jnp: Any, array: "np.ndarray[Any, Any]") -> Any:
    if array.dtype == np.int64 and not sys.modules["jax"].config.jax_enable_x64:
        array = array.astype(np.int32)
    return jnp.asarray(array)


_MAKERS: dict[str, Callable[[Any, Any], Any]] = {
    "np": lambda _, array: array,
    "pt": _torch_tensor,
    "tf": lambda tf, array: tf.constant(array),
    "jax": _jax_array,
}


def framework_of(value: Any) -> str | None:
    """Tell which framework a tensor is of, or None for what is no tensor; imports nothing."""
    if isinstance(value, np.ndarray):
        return "np"
    roots = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    if "torch" in roots and hasattr(value, "detach"):
        return "pt"
    if "tensorflow" in roots and hasattr(value, "numpy"):
        return "tf"
    return "jax" if roots & {"jax", "jaxlib"} and hasattr(value, "__array__") else None


def to_numpy(value: Any) -> Any:
    """Give tensors as numpy arrays, also inside lists and mappings; gradients and devices are left behind.

    A list of numbers or of equal tensors becomes one array; one of rows of different lengths stays a list of arrays.
    """
    framework = framework_of(value)
    if framework == "np":
        return value
    if framework == "pt":
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if framework == "tf":
        return value.numpy()
    if isinstance(value, Mapping):
        return {key: to_numpy(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(item, list | tuple) or framework_of(item) for item in value):
        rows = [to_numpy(item) for item in value]
        same = len({getattr(row, "shape", None) for row in rows}) == 1
        return np.stack(rows) if same and not isinstance(rows[0], list) else rows
    return np.asarray(value)


def move(value: Any, device: Any, *, non_blocking: bool = False) -> Any:
    """Put a torch tensor on a device; anything else stays what and where it is."""
    return value.to(device, non_blocking=non_blocking) if framework_of(value) == "pt" else value
