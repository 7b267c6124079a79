"""Checks of what makes a model the same model again: constructing, names, saving and loading, another vocabulary."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from maquette.checkpoint.axes import torch_name
from maquette.testing.arrays.subject import Arrays, ArraySubject, inexact, snapshot
from maquette.testing.comparison import compare, list_names
from maquette.testing.report import Fault, NotApplicableError, Unchecked

GROWTH = 3


def check_names(subject: ArraySubject) -> Iterator[Fault]:
    """Every variable is saved, under a name of its own, which is the path of attributes to it."""
    yield from subject.strays(subject.model)
    first: dict[str, Any] = {}
    for path, variable in subject.paths(subject.model):
        name = torch_name(path)
        other = first.setdefault(name, variable)
        if other is not variable:
            yield Fault(
                f"two variables are called `{name}` in files, so one of them is lost",
                "rename the attribute of one: kernel, embeddings, gamma and scale are all called weight there, beta is "
                "called bias, and underscores behind a name are dropped",
            )


def check_ties(subject: ArraySubject) -> Iterator[Fault | Unchecked]:
    """Tied weights are one weight, are saved once, and are one again when loaded."""
    model, saved = subject.model, subject.model.state_arrays()
    ties, declared = ties_of(model), model._ties()
    if not ties and not declared:
        raise NotApplicableError(f"{subject.name} uses no weight under two names")
    for name, source in declared.items():
        if source not in saved:
            yield Fault(
                f"`_tied_weights_keys` ties `{name}` to `{source}`, which is no weight", subject.observation.tie
            )
        if name in saved and not any(name in group and source in group for group in ties):
            yield Fault(
                f"`{name}` and `{source}` are two weights, though `_tied_weights_keys` and the configuration's "
                "tie_word_embeddings tie them",
                "compute with the one weight in both places, or take the pair out of `_tied_weights_keys`",
            )
    if ties and not subject.loads:
        yield Unchecked("reload", "the model cannot be loaded")
        return
    for names in ties:
        if names not in ties_of(subject.reloaded):
            yield Fault(
                f"{list_names(names)} are one weight, but no longer after saving and loading", subject.observation.tie
            )


def ties_of(model: Any) -> list[list[str]]:
    """Group the names of variables that are one and the same."""
    groups: dict[int, list[str]] = {}
    for path, variable in model._variables().items():
        groups.setdefault(id(variable), []).append(torch_name(path))
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)


# Vocabulary ------------------------------------------------------------------------------------------------------

KEEP = "leave resizing to resize_token_embeddings, and take the number of entries from config.vocab_size"


def check_resizing(subject: ArraySubject) -> Iterator[Fault | Unchecked]:
    """A larger vocabulary keeps every row, works, and reloads; back at the old size the model is the old one."""
    size = getattr(subject.config, "vocab_size", None)
    if size is None:
        raise NotApplicableError(f"{subject.name} has no vocabulary")
    before = snapshot(subject.model.state_arrays())
    model = subject.build().resize_token_embeddings(size + GROWTH)
    after = model.state_arrays()
    if all(after[name].shape == array.shape for name, array in before.items() if name in after):
        raise NotApplicableError(f"no weight of {subject.name} has a row for every entry of the vocabulary")
    yield from _check_rows(before, after, size)
    if model.config.vocab_size != size + GROWTH:
        yield Fault(f"config.vocab_size is {model.config.vocab_size} after resizing to {size + GROWTH}", KEEP)
    inputs = _with_new_token(subject, size)
    outputs = subject.run(model, inputs)
    for name, array in subject.outputs.items():
        if name.endswith("logits") and array.shape[-1:] == (size,) and outputs[name].shape[-1] != size + GROWTH:
            found = outputs[name].shape[-1]
            yield Fault(f"`{name}` still scores {found} entries of a vocabulary of {size + GROWTH}", KEEP)
    yield from subject.reload_faults("resizing", model, inputs, "resizing the vocabulary, saving and loading")
    for name, difference in compare(before, model.resize_token_embeddings(size).state_arrays(), 0.0).items():
        yield Fault(f"`{name}` is {difference} after resizing the vocabulary there and back", KEEP)


def _check_rows(before: Arrays, after: Arrays, size: int) -> Iterator[Fault]:
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            yield Fault(f"`{name}` is gone after resizing the vocabulary", KEEP)
        elif compare({name: old}, {name: new[: len(old)] if new.ndim else new}, 0.0):
            yield Fault(f"`{name}` does not keep its first {size} rows when the vocabulary grows", KEEP)


def _with_new_token(subject: ArraySubject, size: int) -> Arrays:
    """Put the last of the new tokens into the inputs, where those are token ids."""
    inputs = snapshot(subject.inputs)
    tokens = inputs.get(subject.model_class.main_input_name)
    if tokens is not None and not inexact(tokens):
        np.ravel(tokens)[0] = size + GROWTH - 1
    return inputs
