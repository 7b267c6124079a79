"""The losses of the usual heads, for Keras models; `maquette.modeling.losses` has the same for torch."""

from typing import Any

import keras
from keras import ops

from maquette.modeling.problems import IGNORED, check_labels, check_places, choose_problem


def compute_classification_loss(logits: Any, labels: Any, *, problem_type: str | None = None) -> Any:
    """Compare scores for a whole input with its labels.

    Args:
        logits: `(batch, num_labels)`.
        labels: for regression `(batch,)` or `(batch, num_labels)`; for one class of several `(batch,)`, whole numbers,
            of which -100 is left out; for any number of classes `(batch, num_labels)`, each from 0 to 1.
        problem_type: "regression" (mean squared error), "single_label_classification" (cross-entropy) or
            "multi_label_classification" (binary cross-entropy); unless given, inferred.

    Raises:
        ValueError: the labels' shape does not fit.
        UnknownNameError: no such problem type.
    """
    labels = ops.convert_to_tensor(labels)
    whole = "int" in keras.backend.standardize_dtype(labels.dtype)
    kind = choose_problem(problem_type, num_labels=logits.shape[-1], whole=whole)
    shapes = tuple(labels.shape), tuple(logits.shape)
    if None not in (*shapes[0], *shapes[1]):  # a compiler may leave sizes open
        check_labels(kind, *shapes)
    if kind == "single_label_classification":
        return compute_cross_entropy(logits, ops.reshape(labels, (-1,)))
    labels = ops.reshape(ops.cast(labels, logits.dtype), ops.shape(logits))
    if kind == "regression":
        return ops.mean(ops.square(logits - labels))
    return ops.mean(ops.relu(logits) - logits * labels + ops.softplus(-ops.abs(logits)))


def compute_token_loss(logits: Any, labels: Any) -> Any:
    """Give the cross-entropy over all places whose label is not -100.

    Args:
        logits: `(…, classes)`.
        labels: `(…)`.

    Raises:
        ValueError: the labels' shape does not fit.
    """
    labels = ops.convert_to_tensor(labels)
    check_places(tuple(labels.shape), tuple(logits.shape))
    return compute_cross_entropy(ops.reshape(logits, (-1, logits.shape[-1])), ops.reshape(labels, (-1,)))


def compute_span_loss(logits: tuple[Any, Any], places: tuple[Any, Any], mask: Any = None) -> Any:
    """Give the mean cross-entropy of choosing the first and the last place of a span in each row.

    Without either place, there is no loss: None.

    Args:
        logits: of the first and of the last place, `(batch, length)` each.
        places: the two that are right, `(batch,)` or `(batch, 1)` each; those outside the input, or at padding, are
            left out.
        mask: `(batch, length)`, not 0 at real tokens; unless given, all are.

    Raises:
        ValueError: one of the two places is missing.
    """
    if places[0] is None and places[1] is None:
        return None
    if places[0] is None or places[1] is None:
        raise ValueError("Only one of start_positions and end_positions was given: a loss needs both.")
    first, last = (_place_loss(scores, place, mask) for scores, place in zip(logits, places, strict=True))
    return (first + last) / 2


def _place_loss(logits: Any, places: Any, mask: Any) -> Any:
    places, length = ops.reshape(ops.cast(places, "int32"), (-1,)), ops.shape(logits)[1]
    inside = ops.logical_and(places >= 0, places < length)
    if mask is not None:
        at = ops.take_along_axis(ops.cast(mask, "bool"), ops.clip(places, 0, length - 1)[:, None], axis=1)
        inside = ops.logical_and(inside, at[:, 0])
    return compute_cross_entropy(logits, ops.where(inside, places, IGNORED))


def compute_cross_entropy(logits: Any, labels: Any) -> Any:
    """Give the mean of `-log softmax(logits)[label]` over rows whose label is not -100; 0 where there is none.

    Args:
        logits: `(rows, classes)`.
        labels: `(rows,)`, whole numbers.
    """
    labels = ops.cast(labels, "int32")
    counted = ops.not_equal(labels, IGNORED)
    chosen = ops.take_along_axis(ops.log_softmax(logits), ops.where(counted, labels, 0)[:, None], axis=1)[:, 0]
    counted = ops.cast(counted, chosen.dtype)
    return -ops.sum(chosen * counted) / ops.maximum(ops.sum(counted), 1)


def compute_ctc_loss(
    logits: Any, labels: Any, frames: Any, *, blank: int, reduction: str = "mean", zero_infinity: bool = False
) -> Any:
    """Give the loss of writing labels at any frames, with blanks between (Graves et al. 2006), as torch counts it.

    Args:
        logits: `(batch, frames, classes)`.
        labels: `(batch, length)`, whole numbers; those below 0, and blanks, are left out.
        frames: `(batch,)`, how many frames of each row are real.
        blank: the class that writes nothing.
        reduction: "sum"; "mean" of each row's loss per label; "none" for one loss a row, `(batch,)`.
        zero_infinity: rows with too few frames for their labels have a loss of 0 instead of infinity.
    """
    labels, places = ops.cast(labels, "int32"), ops.arange(ops.shape(labels)[1])
    written = ops.logical_and(labels >= 0, ops.not_equal(labels, blank))
    order = ops.argsort(ops.where(written, places, places + ops.shape(labels)[1]), axis=1)
    labels, counts = ops.take_along_axis(labels, order, axis=1), ops.sum(ops.cast(written, "int32"), axis=1)
    labels = ops.where(places < counts[:, None], labels, blank)  # what is written comes first
    repeats = ops.logical_and(ops.equal(labels[:, 1:], labels[:, :-1]), places[1:] < counts[:, None])
    enough = frames >= counts + ops.sum(ops.cast(repeats, "int32"), axis=1)  # equal neighbours need a blank between
    lengths = ops.where(enough, counts, 0), ops.maximum(frames, 1)
    losses = ops.ctc_loss(labels, ops.cast(logits, "float32"), *lengths, mask_index=blank)
    losses = ops.where(ops.logical_and(enough, frames > 0), losses, 0.0)
    losses = losses if zero_infinity else ops.where(enough, losses, float("inf"))
    if reduction == "mean":
        losses = losses / ops.cast(ops.maximum(counts, 1), losses.dtype)
    return {"none": lambda x: x, "sum": ops.sum, "mean": ops.mean}[reduction](losses)
