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


class Predictions(tuple[Any, ...]):
    """Several outputs of a model, in order and by name: `found[0]`, `found["logits"]` and `found.logits` are the same.

    For numpy, and for methods of arrays, they are the `logits` where there are some: what measures scores alone need
    not care what else a model gives.
    """

    _names: tuple[str, ...]

    def __new__(cls, named: Mapping[str, Any]) -> "Predictions":
        made = super().__new__(cls, named.values())
        made._names = tuple(named)
        return made

    def __getnewargs__(self) -> tuple[dict[str, Any]]:
        return (dict(zip(self._names, self, strict=True)),)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._names.index(key) if key in self._names else key)

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__.get("_names", ())
        if name in names:
            return self[name]
        if "logits" in names and not name.startswith("_"):
            return getattr(self["logits"], name)
        raise AttributeError(f"There are {', '.join(names)} among the predictions, and no {name!r}.")

    def __array__(self, dtype: Any = None, copy: Any = None) -> "np.ndarray[Any, Any]":
        return np.asarray(self["logits"] if "logits" in self._names else tuple(self), dtype)


class EvalPrediction(NamedTuple):
    """What `compute_metrics` gets: scores and labels of the whole data set, as arrays; tuples where there are several.

    `predictions` has the names of the model's outputs then. Sequences of different lengths are padded with -100.
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
    """Find what is predicted: a tensor, several with their names, or None; without numbers for a whole batch."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        named = {name: value for name, value in outputs.items() if name not in {*KEPT_ON_THE_WAY, *ignored}}
    else:
        named = {str(n): value for n, value in enumerate(outputs[1:] if read_loss(outputs) is not None else outputs)}
    named = {name: value for name, value in named.items() if _holds_tensors(value)}
    named = {name: value for name, value in named.items() if not _is_number(value)} or named
    if len(named) < 2:
        return next(iter(named.values()), None)
    return Predictions(named) if isinstance(outputs, Mapping) else tuple(named.values())


def read_scalars(outputs: Any) -> dict[str, Tensor]:
    """Find the numbers that a model gives for a whole batch beside the loss, such as `aux_loss`."""
    if not isinstance(outputs, Mapping):
        return {}
    numbers = {n: v for n, v in outputs.items() if n != "loss" and (_is_number(v) or type(v) in (int, float))}
    return {name: torch.as_tensor(value).detach() for name, value in numbers.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping | tuple | list):
        return any(map(_holds_tensors, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, Tensor)


def _alike(value: Any, items: Iterable[Any]) -> Any:
    """Give items as what held their like: a plain tuple, or predictions with names."""
    return Predictions(dict(zip(value._names, items, strict=True))) if isinstance(value, Predictions) else tuple(items)


def map_tensors(value: Any, function: Any) -> Any:
    """Apply a function to every tensor of a tensor, a tuple, a dictionary or nothing; what is no tensor is left out."""
    if isinstance(value, Mapping):
        return {name: map_tensors(item, function) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return _alike(value, (map_tensors(item, function) for item in value))
    return function(value) if isinstance(value, Tensor) else None


def to_array(tensor: Tensor) -> "np.ndarray[Any, Any]":
    """Bring a tensor to numpy, which has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def join(parts: Sequence[Any]) -> Any:
    """Put the predictions of all batches together; arrays of different lengths are padded with -100."""
    first = next((part for part in parts if part is not None), None)
    if isinstance(first, tuple):
        return _alike(first, (join([part[place] for part in parts]) for place in range(len(first))))
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
