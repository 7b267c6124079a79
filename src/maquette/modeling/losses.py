"""The losses of the usual heads, on torch tensors."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from maquette.modeling.problems import IGNORED, check_labels, check_places, choose_problem


def compute_classification_loss(logits: Tensor, labels: Tensor, *, problem_type: str | None = None) -> Tensor:
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
    whole = not labels.is_floating_point() and labels.dtype is not torch.bool
    kind = choose_problem(problem_type, num_labels=logits.shape[-1], whole=whole)
    check_labels(kind, tuple(labels.shape), tuple(logits.shape))
    if kind == "single_label_classification":
        return _compute_cross_entropy(logits, labels.flatten().long())
    labels = labels.to(logits.dtype).view_as(logits)
    return mse_loss(logits, labels) if kind == "regression" else binary_cross_entropy_with_logits(logits, labels)


def compute_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Give the cross-entropy over all places whose label is not -100.

    Args:
        logits: `(…, classes)`.
        labels: `(…)`.

    Raises:
        ValueError: the labels' shape does not fit.
    """
    check_places(tuple(labels.shape), tuple(logits.shape))
    return _compute_cross_entropy(logits.flatten(0, -2), labels.flatten().long())


def compute_span_loss(
    logits: tuple[Tensor, Tensor], places: tuple[Tensor | None, Tensor | None], mask: Tensor | None = None
) -> Tensor | None:
    """Give the mean cross-entropy of choosing the first and the last place of a span in each row.

    Without either place, there is no loss: None.

    Args:
        logits: of the first and of the last place, `(batch, length)` each.
        places: the two that are right, `(batch,)` or `(batch, 1)` each; those outside the input, or at padding, are
            left out.
        mask: `(batch, length)`, True at real tokens; unless given, all are.

    Raises:
        ValueError: one of the two places is missing.
    """
    if places[0] is None and places[1] is None:
        return None
    if places[0] is None or places[1] is None:
        raise ValueError("Only one of start_positions and end_positions was given: a loss needs both.")
    return (_place_loss(logits[0], places[0], mask) + _place_loss(logits[1], places[1], mask)) / 2


def _place_loss(logits: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
    places, length = places.flatten(), logits.shape[1]
    inside = (places >= 0) & (places < length)
    if mask is not None:
        inside &= mask.gather(1, places.clamp(0, length - 1)[:, None])[:, 0]
    return _compute_cross_entropy(logits, places.masked_fill(~inside, IGNORED))


def _compute_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Give the mean over rows whose label is not -100; 0 where there is none, which torch makes NaN of."""
    loss = cross_entropy(logits, labels, ignore_index=IGNORED)
    return torch.where((labels != IGNORED).any(), loss, 0.0)
