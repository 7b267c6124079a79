"""From the numbers that a classifier gives to scores, and to the labels that they belong to."""

from typing import Any

import numpy as np

from maquette.errors import InputError, UnknownNameError, did_you_mean

FUNCTIONS = ("softmax", "sigmoid", "none")
Scores = np.ndarray[Any, Any]


def check_function(name: str | None) -> str | None:
    """Give the name of a function on logits in small letters.

    Raises:
        UnknownNameError: there is no such function.
    """
    if name is None:
        return None
    text = str(getattr(name, "value", name)).lower()
    if text not in FUNCTIONS:
        raise UnknownNameError(
            f"function_to_apply={name!r}: no such function.{did_you_mean(text, FUNCTIONS)} "
            f"There are: {', '.join(map(repr, FUNCTIONS))}."
        )
    return text


def check_count(top_k: int | None) -> int | None:
    """Refuse a number of answers below 1."""
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise InputError(f"top_k={top_k!r}: at least one answer must be asked for, or None for all.")
    return top_k


def usual_function(config: Any, *, one_label: str = "sigmoid") -> str:
    """Say what turns a model's logits into scores: what its problem asks for; `one_label` where it has one label."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "none"
    if problem == "multi_label_classification":
        return "sigmoid"
    if problem == "single_label_classification" or config.num_labels > 1:
        return "softmax"
    return one_label


def softmax(logits: Scores) -> Scores:
    """Turn the last axis into probabilities."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def apply_function(name: str, logits: Scores) -> Scores:
    """Turn logits into scores."""
    if name == "none":
        return logits
    if name == "softmax":
        return softmax(logits)
    with np.errstate(over="ignore"):  # e^x of a logit below -88: 1/(1 + infinity) is 0, as it should be
        return np.asarray(1 / (1 + np.exp(-logits)))


def rank(scores: Scores, names: Any, top_k: int | None = None) -> list[dict[str, Any]]:
    """Give labels with their scores, the best first."""
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": names.get(int(i), f"LABEL_{i}"), "score": float(scores[i])} for i in best]
