"""Labels for a model's head, made to fit its logits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray, whose types numpy gives differently from version to version
LABELS = ("labels",)
POSITIONS = ("start_positions", "end_positions")


def label_names(parameters: Mapping[str, Any], given: Any) -> tuple[str, ...]:
    """Name the parameters of a model that take labels: those that the caller gives, or the usual ones it has."""
    if isinstance(given, Mapping):
        return tuple(given)
    return next((names for names in (LABELS, POSITIONS) if set(names) <= parameters.keys()), ())


def make_labels(
    names: tuple[str, ...], outputs: Mapping[str, Array], config: Any, *, model_name: str
) -> dict[str, Any]:
    """Make random labels that fit the logits among outputs; none where there are no logits.

    Args:
        names: of the parameters that take labels.
        outputs: what the model gives without labels.
        config: says which problem is solved, and which entry is CTC's blank.
        model_name: ends in `ForCTC` where a text is to be told.
    """
    logits = [array for name, array in outputs.items() if name.rpartition(".")[2].endswith("logits")]
    if not logits or not names:
        return {}
    rng = np.random.default_rng(3)
    if names == POSITIONS:
        return {name: rng.integers(logits[0].shape[-1], size=logits[0].shape[:1]) for name in names}
    if model_name.endswith("ForCTC"):  # a text shorter than the frames, without the blank
        classes, blank = logits[0].shape[-1], config.pad_token_id or 0
        return {"labels": (rng.integers(classes - 1, size=(len(logits[0]), 2)) + blank + 1) % classes}
    return {"labels": _labels_for(logits[0], config.problem_type, rng)}


def _labels_for(logits: Array, problem_type: str | None, rng: np.random.Generator) -> Array:
    """Fit logits of shape (batch, classes), (batch, length, classes) or (batch, classes, height, width)."""
    if problem_type == "multi_label_classification":
        return rng.integers(2, size=logits.shape).astype(np.float32)
    if logits.ndim < 2 or logits.shape[1] == 1 == logits.shape[-1] or problem_type == "regression":
        numbers = rng.standard_normal(logits.shape).astype(np.float32)
        return numbers[..., 0] if logits.shape[-1:] == (1,) else numbers
    if logits.ndim == 4:
        return rng.integers(logits.shape[1], size=(logits.shape[0], *logits.shape[2:]))
    return rng.integers(logits.shape[-1], size=logits.shape[:-1])
