"""Checks of what a model computes: finite numbers, the same every time and in every batch, in half precision too."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from maquette.testing.arrays.subject import ArraySubject, arrays_in, finite, inexact, snapshot
from maquette.testing.basics import batch_size
from maquette.testing.comparison import compare, example_of, in_words
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.subject import UNFIT

REPEATS = 3
EMPTY = np.empty(0)
CAST = "bring arrays that meet into one type, that of those at hand: x.dtype"


def check_determinism(subject: ArraySubject) -> Iterator[Fault]:
    """In evaluation mode one input always gives the same output, and nothing else changes."""
    model, expected = subject.model, subject.outputs
    before, given = snapshot(model.state_arrays()), snapshot(subject.inputs)
    for _ in range(REPEATS):
        if wrong := compare(expected, arrays_in(subject.call(model, given)), 0.0):
            yield Fault(
                f"two runs on one input differ in evaluation mode: {in_words(wrong)}",
                f"draw random numbers only where `{subject.training}` is true: leave that to Dropout layers",
            )
            break
    for name in compare(subject.inputs, given, 0.0):
        yield Fault(f"{subject.method} changes its input `{name}` in place", "work on a copy: x = x + 1")
    for name, difference in compare(before, model.state_arrays(), 0.0).items():
        yield Fault(
            f"`{name}` is {difference} after runs in evaluation mode",
            f"update running values only where `{subject.training}` is true",
        )


def check_batch(subject: ArraySubject) -> Iterator[Fault]:
    """A batch gives for each example what the example gives alone."""
    size = batch_size(subject.inputs)
    rows = {name for name, array in subject.outputs.items() if array.ndim and len(array) == size}
    if not rows:
        raise NotApplicableError(f"no output has a first dimension of {size}, the number of examples")
    for index in range(size):
        part = slice(index, index + 1)
        try:
            alone = subject.run(subject.model, {name: array[part] for name, array in subject.inputs.items()})
        except Exception as error:
            yield Fault(f"a batch of one fails, {describe(error)}", "avoid squeeze without an axis")
            return
        expected = {name: example_of(subject.outputs[name], index, alone.get(name, EMPTY)) for name in rows}
        if wrong := compare(expected, {name: alone[name] for name in rows & alone.keys()}, subject.tolerance):
            yield Fault(
                f"example {index} alone gives another output than in a batch of {size}: {in_words(wrong)}",
                "let no operation mix the first axis, such as statistics over a batch in evaluation mode",
            )
            return


def check_padding(subject: ArraySubject) -> Iterator[Fault]:
    """What stands where the attention mask hides it changes nothing for the others."""
    name = subject.model_class.main_input_name
    tokens = subject.inputs.get(name)
    if "attention_mask" not in subject.parameters or tokens is None:
        raise NotApplicableError(f"{subject.method} takes no attention_mask beside its main input")
    if inexact(tokens) or tokens.ndim < 2 or tokens.shape[-1] < 2:
        raise NotApplicableError(f"`{name}` does not hold token ids, two or more in a row")
    mask = subject.inputs.get("attention_mask", np.ones_like(tokens)).copy()
    mask[..., -1] = 0
    hidden = {**subject.inputs, "attention_mask": mask}
    other = {**hidden, name: np.concatenate([tokens[..., :-1], tokens[..., :1]], axis=-1)}
    if np.array_equal(hidden[name], other[name]):
        raise NotApplicableError(f"every row of `{name}` ends as it begins; give one that does not")
    length = tokens.shape[-1]
    expected, found = (
        {key: _cut(array, length) for key, array in subject.run(subject.model, given).items()}
        for given in (hidden, other)
    )
    if wrong := compare(expected, found, subject.tolerance):
        yield Fault(
            f"another token in a place that attention_mask hides changes the others' outputs: {in_words(wrong)}",
            "give the mask to attention, and leave hidden places out of means and sums over the length",
        )


def _cut(array: "np.ndarray[Any, Any]", length: int) -> "np.ndarray[Any, Any]":
    """Leave out the last entry of every axis, besides the first, that may be the length."""
    for axis in range(1, array.ndim):
        if array.shape[axis] == length:
            array = np.delete(array, -1, axis)
    return array


def check_half_precision(subject: ArraySubject) -> Iterator[Fault | Unchecked]:
    """In bfloat16 the model runs, gives finite numbers, and keeps its type when it is saved and loaded."""
    try:
        model = subject.rebuild(dtype="bfloat16")
    except Exception as error:
        yield Fault(f"there is no model in bfloat16, {describe(error)}", CAST)
        return
    for name, array in model.state_arrays().items():
        if inexact(array) and str(array.dtype) != "bfloat16":
            yield Fault(
                f"`{name}` is {array.dtype} in a model of bfloat16",
                "make variables without naming a type, so that they have the model's",
            )
    kind = next((array.dtype for array in model.state_arrays().values() if str(array.dtype) == "bfloat16"), None)
    if kind is None:
        raise NotApplicableError(f"{subject.name} has no weights of a floating-point type")
    inputs = {name: array.astype(kind) if inexact(array) else array for name, array in subject.inputs.items()}
    try:
        outputs = subject.run(model, inputs)
    except Exception as error:
        yield Fault(f"{subject.method} fails in bfloat16, {describe(error)}", CAST)
        return
    for name, array in outputs.items():
        if not finite(array):
            fix = "take constants from the type at hand, and compute what overflows in float32"
            yield Fault(f"the output `{name}` is not finite in bfloat16", fix)
    if not subject.survives_saving:
        yield Unchecked("saving", UNFIT)
        return
    yield from subject.reload_faults("half_precision", model, inputs, "saving and loading in bfloat16")


def check_compile(subject: ArraySubject) -> Iterator[Fault]:
    """Compiled by its framework, the model gives what it gives operation by operation."""
    try:
        found = subject.compiled(subject.model, subject.inputs)
    except Exception as error:
        yield Fault(
            f"compiling fails, {describe(error)}",
            "let Python decide by shapes and the configuration, never by values: where(…) instead of `if`",
        )
        return
    if wrong := compare(subject.outputs, found, subject.tolerance):
        yield Fault(f"compiled, {in_words(wrong)}", f"keep Python side effects, counters say, out of {subject.method}")
