"""Keras models as graphs of TensorFlow in a SavedModel, with free sizes."""

import inspect
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maquette.errors import InputError
from maquette.testing.comparison import flatten as flatten_values

Arrays = dict[str, "np.ndarray[Any, Any]"]
TOKENS, SAMPLES = 3, 400  # by how much texts and sounds grow where they are tried


def write_graph(model: Any, inputs: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Write a model as a SavedModel, and give calls of other sizes with what it makes of them.

    Args:
        model: a Keras model.
        inputs: to export with; unless given, its `dummy_inputs`.
        folder: for the SavedModel.

    Raises:
        InputError: Keras runs on another backend, or a graph cannot hold what the model does.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"A SavedModel holds graphs of TensorFlow, and Keras runs on {keras.backend.backend()}: set "
            "KERAS_BACKEND=tensorflow before Keras is imported."
        )
    example = _choose_inputs(model, inputs)
    free = {name: {0: "batch"} for name in example}
    sizes = [] if run(model, _grow(example, free, {"batch": 4})) is None else ["batch"]
    free = free if sizes else {name: {} for name in example}
    if lengths := _find_lengths(model, example):
        free = {name: {**axes, **({1: "length"} if name in lengths else {})} for name, axes in free.items()}
    specs = {
        name: tf.TensorSpec([None if axis in free[name] else size for axis, size in enumerate(x.shape)], x.dtype, name)
        for name, x in example.items()
    }

    def serve(**given: Any) -> dict[str, Any]:
        return flatten(model(**given, **({"training": False} if _takes_training(model) else {})))

    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        function = tf.function(serve, autograph=False)
        function.get_concrete_function(**specs)
        archive.add_endpoint("serve", function)
        archive.write_out(str(folder), verbose=False)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{type(model).__name__} cannot be written as a graph of TensorFlow: {first}") from error
    now = {size: example[name].shape[axis] for name, axes in free.items() for axis, size in axes.items()}
    step = SAMPLES if lengths and example[lengths[0]].dtype.kind == "f" else TOKENS
    larger = {size: 4 if size == "batch" else length + step for size, length in now.items()}
    smaller = {size: 1 if size == "batch" else length + 2 * step for size, length in now.items()}
    calls = [_pad_last(_grow(example, free, larger)), _grow(example, free, smaller)]
    return {
        "calls": calls,
        "expected": [run(model, call) for call in calls],
        "inputs": {n: [free[n].get(axis, size) for axis, size in enumerate(x.shape)] for n, x in example.items()},
        "versions": {name: version(name) for name in ("tensorflow_cpu", "tensorflow", "keras") if _is_there(name)},
    }


def run(model: Any, inputs: Mapping[str, Any]) -> Arrays | None:
    """Give every array that a model returns, by its name; None where it fails."""
    try:
        return {name: np.asarray(x) for name, x in flatten(model(**inputs)).items()}
    except Exception:
        return None


def flatten(output: Any) -> dict[str, Any]:
    """Name every tensor in what a model returns."""
    return {name.replace(".", "_") or "output": x for name, x in flatten_values(output, leaf=tf.is_tensor).items()}


def _choose_inputs(model: Any, given: Mapping[str, Any] | None) -> Arrays:
    inputs = {name: np.asarray(x) for name, x in (model.dummy_inputs if given is None else given).items()}
    ids = inputs.get("input_ids")
    if given is None and ids is not None and ids.ndim == 2 and "attention_mask" in _arguments(model):
        inputs.setdefault("attention_mask", np.ones_like(ids))
    return inputs


def _arguments(model: Any) -> Mapping[str, Any]:
    return inspect.signature(model.call).parameters


def _takes_training(model: Any) -> bool:
    return "training" in _arguments(model)


def _find_lengths(model: Any, example: Arrays) -> list[str]:
    """Name the inputs whose second axis counts tokens or samples, and may be longer."""
    names = [name for name, x in example.items() if x.ndim == 2 and x.shape[1] > 1]
    step = SAMPLES if names and example[names[0]].dtype.kind == "f" else TOKENS
    free = {name: {1: "length"} for name in names}
    longer = {"length": example[names[0]].shape[1] + step} if names else {}
    return names if names and run(model, _grow(example, free, longer)) is not None else []


def _grow(inputs: Arrays, free: Mapping[str, Mapping[int, str]], lengths: Mapping[str, int]) -> Arrays:
    """Give inputs of other sizes: what there is is repeated, and cut."""
    found = dict(inputs)
    for name, axes in free.items():
        for axis, size in axes.items():
            if size in lengths:
                x = found[name]
                repeated = np.concatenate([x] * -(-lengths[size] // x.shape[axis]), axis)
                found[name] = np.ascontiguousarray(np.take(repeated, range(lengths[size]), axis))
    return found


def _pad_last(inputs: Arrays) -> Arrays:
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.shape[1] < 4:
        return inputs
    mask = mask.copy()
    mask[-1, -2:] = 0
    return {**inputs, "attention_mask": mask}


def _is_there(name: str) -> bool:
    try:
        return bool(version(name))
    except Exception:
        return False
