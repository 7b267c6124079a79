"""Checks of what training with Keras needs: a loss, gradients everywhere, batch statistics, and `fit`."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from maquette.checkpoint.axes import torch_name
from maquette.testing.arrays.subject import arrays_in, finite, reached, running, snapshot
from maquette.testing.basics import loss_faults
from maquette.testing.choices import judge_reach
from maquette.testing.comparison import compare, flatten, in_words
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.tf.subject import Subject, call, on_backend


def check_loss(subject: Subject) -> Iterator[Fault]:
    """With labels, `call` returns by key a loss that is one finite number, and logits."""
    yield from loss_faults(
        subject, lambda: call(subject.model, {**subject.inputs, **subject.labels}), _check_loss_value
    )


def _check_loss_value(loss: Any) -> Iterator[Fault]:
    if tuple(loss.shape):
        yield Fault(f"the loss is a tensor of shape {tuple(loss.shape)}, not one number", "take its mean")
    elif not finite(value := arrays_in(loss)[""]):
        yield Fault(f"the loss is {value}", "initialise every weight, and check that the labels are in range")


# Gradients -------------------------------------------------------------------------------------------------------


def check_gradients(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Every trainable variable receives a gradient, in evaluation mode or in training, and a finite one."""
    model = subject.build()
    names = [_name_of(subject, model, variable) for variable in model.trainable_variables]
    if not names:
        raise NotApplicableError(f"{subject.name} has no trainable variables")
    found = _differentiate(subject, model)
    yield from judge_reach(
        names,
        found,
        lambda seed: _differentiate(subject, subject.vary(seed)).keys(),
        what="the variable",
        fix="call does not use it, or stops the gradient on the way; remove it, or make it with trainable=False",
    )
    for name, gradient in found.items():
        if not finite(gradient):
            yield Fault(f"the gradient of `{name}` is not finite", "avoid 0/0, log(0) and sqrt(0)")


def _name_of(subject: Subject, model: Any, variable: Any) -> str:
    return next((torch_name(path) for path, one in subject.paths(model) if one is variable), variable.path)


def _differentiate(subject: Subject, model: Any) -> dict[str, Any]:
    """Name the gradients that are there, in evaluation mode or, where that leaves some out, in training."""
    found: dict[str, Any] = {}
    names = [_name_of(subject, model, variable) for variable in model.trainable_variables]
    for training in (False, True):
        if found.keys() != set(names):
            given = {**subject.inputs, **subject.labels}
            gradients = on_backend().differentiate(model, given, training=training, total=total)
            found = {name: one for name, one in zip(names, gradients, strict=True) if reached(one)} | found
    return found


def total(output: Any) -> Any:
    """Give the loss, or where there is none a weighted sum of all outputs."""
    if isinstance(output, Mapping) and output.get("loss") is not None:
        return ops.sum(output["loss"])
    rng = np.random.default_rng(4)
    floats = [
        x for x in flatten(output).values() if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
    ]
    return sum(ops.sum(x * ops.cast(rng.standard_normal(tuple(x.shape)), x.dtype)) for x in floats)


# Statistics ------------------------------------------------------------------------------------------------------


def check_statistics(subject: Subject) -> Iterator[Fault]:
    """Running statistics of batches follow the batches in training; `determinism` sees that they rest otherwise."""
    before = running(subject.model)
    if not before:
        raise NotApplicableError(f"{subject.name} keeps no statistics of batches")
    model = subject.build()
    call(model, subject.inputs, training=True)
    for name in before.keys() - compare(before, running(model), 0.0).keys():
        yield Fault(
            f"`{name}` does not change in training",
            "give BatchNormalization no training=False of its own; Keras hands it down",
        )


# fit -------------------------------------------------------------------------------------------------------------


def check_fit(subject: Subject) -> Iterator[Fault | Unchecked]:
    """A user's `compile` and `fit` train the model, with metrics, and what `save` writes then, Keras loads again."""
    model = subject.build()
    before = snapshot(model.state_arrays())
    options, targets = _lesson(subject)
    if "metrics" not in options:
        yield Unchecked("metrics", "there are no labels and logits of the kind that Keras' metrics compare")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras' own, of older calls of numpy and of variables without a gradient
        try:
            model.compile(optimizer=keras.optimizers.SGD(0.1), **options)
            history = model.fit(subject.inputs, targets, verbose=0).history
        except Exception as error:
            yield Fault(f"fit fails, {describe(error)}", "leave train_step to the base, and compute with keras.ops")
            return
        for name, values in history.items():
            if not np.isfinite(values[0]):
                yield Fault(f"after one step of fit, `{name}` is {values[0]}", "fix what makes the loss so")
        if not compare(before, model.state_arrays(), 0.0):
            yield Fault(
                "one step of fit changes no weight",
                "compute the loss from the output, and leave train_step to the base",
            )
        yield from _check_archive(subject, model)


def _lesson(subject: Subject) -> tuple[dict[str, Any], Any]:
    """Choose what to compile a model with, and what it is to learn: its own labels, or all outputs to be zero."""
    labels = dict(subject.labels)
    if "labels" in labels:
        logits = next((array.shape for name, array in subject.outputs.items() if name.endswith("logits")), ())
        kinds = {logits[:-1]: "sparse_categorical_accuracy", logits: "mse"}
        metric = kinds.get(labels["labels"].shape) if len(labels) == 1 else None
        return {"metrics": [metric]} if metric else {}, labels["labels"] if len(labels) == 1 else labels
    if labels or "loss" in subject.outputs:  # a loss of its own, of the inputs alone
        return {}, labels or None
    zeros = {name: np.zeros_like(array) for name, array in subject.outputs.items()}
    if len(zeros) == 1:
        return {"loss": "mse", "metrics": ["mse"]}, next(iter(zeros.values()))
    if any("." in name for name in zeros):
        raise NotApplicableError(f"{subject.name} takes no labels, and returns more than a loss can be named for")
    return {"loss": dict.fromkeys(zeros, "mse"), "metrics": dict.fromkeys(zeros, "mse")}, zeros


def _check_archive(subject: Subject, model: Any) -> Iterator[Fault]:
    file = subject.folder / "trained.keras"
    try:
        model.save(file)
        again = keras.models.load_model(file)
        found = arrays_in(call(again, snapshot(subject.inputs)))
    except Exception as error:
        yield Fault(
            f"the model cannot be saved by Keras and loaded again, {describe(error)}",
            "leave get_config and from_config to the base, and take all else from the configuration",
        )
        return
    if wrong := compare(arrays_in(call(model, snapshot(subject.inputs))), found):
        yield Fault(
            f"after fit, saved by Keras and loaded again, {in_words(wrong)}",
            "all that the model computes with has to be a variable, or follow from the configuration",
        )
