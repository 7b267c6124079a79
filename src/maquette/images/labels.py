"""From the numbers that a classifier gives to names with probabilities."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maquette.batch.tensors import to_numpy
from maquette.errors import InputError


def name_classes(outputs: Any, top_k: int | None = 5, *, id2label: Any = None) -> list[list[dict[str, Any]]]:
    """Give for each image its likeliest classes, the likeliest first: `[{"label": "cat", "score": 0.9}, …]`.

    Args:
        outputs: what a model gave, or its logits, (images, classes) or (classes,), of any framework.
        top_k: how many classes; None for all.
        id2label: a dictionary from a class's number to its name, or a configuration that has one; without it a class
            is called `LABEL_3`.

    Raises:
        InputError: logits of another shape, or with NaN; `top_k` below 1.
    """
    logits = _logits(outputs)
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k={top_k}: at least one class must be asked for, or None for all.")
    names = getattr(id2label, "id2label", id2label) or {}
    return [_name_row(row, logits.shape[1] if top_k is None else top_k, names) for row in softmax(logits)]


def _logits(outputs: Any) -> "np.ndarray[Any, Any]":
    found = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    logits = np.asarray(to_numpy(found), dtype=np.float64) if found is not None else np.empty(0)
    logits = logits[None] if logits.ndim == 1 else logits
    if logits.ndim != 2 or not logits.shape[1]:
        raise InputError(f"Logits of the shape (images, classes) are needed, and these have {logits.shape}.")
    if np.isnan(logits).any():
        raise InputError(f"Logits of image {int(np.isnan(logits).any(1).argmax())} are NaN.")
    return logits


def softmax(logits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Turn the last axis into probabilities."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _name_row(row: "np.ndarray[Any, Any]", count: int, names: Mapping[Any, str]) -> list[dict[str, Any]]:
    best = np.argsort(-row, kind="stable")[:count]
    return [{"label": names.get(int(i), f"LABEL_{i}"), "score": float(row[i])} for i in best]
