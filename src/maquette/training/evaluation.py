"""What models return, read the same from a dictionary, an output class or a tuple; predictions joined."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.modeling.problems import IGNORED

# What outputs keep beside their scores: large, and no prediction.
KEPT_ON_THE_WAY = ("loss", "hidden_states", "attentions", "past_key_values")


class EvalPrediction(NamedTuple):
    """What `compute_metrics` gets: scores and labels of the whole data set, as arrays; tuples where there are several.

    Sequences of different lengths are padded with -100.
    """

    predictions: Any
    label_ids: Any


class PredictionOutput(NamedTuple):
    """What `predict` gives: scores, labels (None where there are none), and metrics."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float]


class TrainOutput(NamedTuple):
    """What `train` gives: steps done, the mean loss of all of them, and `{"train_loss", "train_runtime", …}`."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


def read_loss(outputs: Any) -> Tensor | None:
    """Find the loss: `loss` of a dictionary or output, the first item of a tuple if it is one number."""
    if isinstance(outputs, Mapping):
        return outputs.get("loss")
    if isinstance(outputs, tuple | list):
        first = outputs[0] if outputs else None
        return first if isinstance(first, Tensor) and first.ndim == 0 else None
    return getattr(outputs, "loss", None)


def read_scores(outputs: Any, ignored: Iterable[str] = ()) -> Any:
    """Find what is predicted: a tensor, a tuple of several, or None; without numbers for a whole batch beside it."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        values = tuple(value for name, value in outputs.items() if name not in {*KEPT_ON_THE_WAY, *ignored})
    else:
        values = tuple(outputs[1:] if read_loss(outputs) is not None else outputs)
    values = tuple(value for value in values if not _is_number(value)) or values
    return None if not values else values[0] if len(values) == 1 else values


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0


def map_tensors(value: Any, function: Any) -> Any:
    """Apply a function to every tensor of a tensor, a tuple, a dictionary or nothing; what is no tensor is left out."""
    if isinstance(value, Mapping):
        return {name: map_tensors(item, function) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map_tensors(item, function) for item in value)
    return function(value) if isinstance(value, Tensor) else None


def to_array(tensor: Tensor) -> "np.ndarray[Any, Any]":
    """Bring a tensor to numpy, which has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def join(parts: Sequence[Any]) -> Any:
    """Put the predictions of all batches together; arrays of different lengths are padded with -100."""
    first = next((part for part in parts if part is not None), None)
    if isinstance(first, tuple):
        return tuple(join([part[place] for part in parts]) for place in range(len(first)))
    if isinstance(first, dict):
        return {name: join([part[name] for part in parts]) for name in first}
    if first is None:
        return None
    if first.ndim == 0:
        raise InputError("A prediction is one number for a whole batch; predictions have one row for each example.")
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    shape = (sum(map(len, parts)), *(max(part.shape[axis] for part in parts) for axis in range(1, first.ndim)))
    joined = np.full(shape, IGNORED, first.dtype)
    start = 0
    for part in parts:
        joined[(slice(start, start + len(part)), *map(slice, part.shape[1:]))] = part
        start += len(part)
    return joined
