"""What a head for classification learns, and whether labels fit it; said once for the losses of every framework."""

import math

from maquette.errors import UnknownNameError, did_you_mean

IGNORED = -100  # a label that says: not this place
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def choose_problem(problem_type: str | None, *, num_labels: int, whole: bool) -> str:
    """Give the problem type; unless given, one number means regression, whole numbers name one class each.

    Raises:
        UnknownNameError: no such problem type.
    """
    if problem_type is None:
        if num_labels == 1:
            return "regression"
        return "single_label_classification" if whole else "multi_label_classification"
    if problem_type not in PROBLEM_TYPES:
        raise UnknownNameError(
            f"problem_type={problem_type!r} is unknown.{did_you_mean(str(problem_type), PROBLEM_TYPES)}"
        )
    return problem_type


def check_labels(kind: str, labels: tuple[int, ...], logits: tuple[int, ...]) -> None:
    """Compare the shapes of labels and logits.

    Raises:
        ValueError: the labels' shape does not fit.
    """
    count = logits[0] if kind == "single_label_classification" else math.prod(logits)
    if math.prod(labels) != count:
        raise ValueError(
            f"labels of shape {labels} do not fit logits of shape {logits} for problem_type={kind!r}: give {count} of "
            "them, or set config.problem_type."
        )


def check_places(labels: tuple[int, ...], logits: tuple[int, ...]) -> None:
    """Compare the shapes of labels, one for every place, and logits.

    Raises:
        ValueError: the labels' shape does not fit.
    """
    if labels != logits[:-1]:
        raise ValueError(f"labels of shape {labels} do not fit logits of shape {logits}.")
