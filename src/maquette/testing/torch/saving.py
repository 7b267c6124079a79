"""Checks of what makes a model the same model again: constructing, saving and loading, copying."""

import copy
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors import safe_open
from torch.nn.utils.parametrize import is_parametrized

from maquette.testing.comparison import compare, in_words, list_names
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.subject import OTHER_SEED
from maquette.testing.torch.subject import (
    Observation,
    Subject,
    non_persistent,
    plain_tensors,
    run,
    seeded,
    state_of,
    ties_of,
)


def check_ties(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Tied parameters are one parameter, are saved once, and are one again when loaded."""
    faults = [*_undeclared_ties(subject.model), *_broken_promise(subject.model)]
    yield from faults
    ties = ties_of(subject.model)
    if not ties and not faults:
        raise NotApplicableError(f"{subject.name} uses no parameter under two names")
    if ties and not subject.loads:
        yield Unchecked("reload", "the model cannot be loaded")
        return
    saved = _saved_names(subject) if ties else set()
    for names in ties:
        listed = list_names(names)
        if (count := len(saved & set(names))) != 1:
            yield Fault(f"{listed} are one parameter, but saved {count} times", "leave saving to save_pretrained")
        if names not in ties_of(subject.reloaded):
            yield Fault(f"{listed} are one parameter, but no longer after saving and loading", Observation.tie)


def _undeclared_ties(model: Any) -> Iterator[Fault]:
    """Find different parameters that lie in the same memory, which loading cannot restore."""
    places: dict[tuple[Any, ...], tuple[int, str]] = {}
    for name, parameter in model.named_parameters():
        place = (parameter.untyped_storage()._cdata, parameter.storage_offset(), parameter.shape)
        first = places.setdefault(place, (id(parameter), name))
        if parameter.numel() and first[0] != id(parameter):
            yield Fault(f"`{first[1]}` and `{name}` share memory without being one parameter", Observation.tie)


def _broken_promise(model: Any) -> Iterator[Fault]:
    """Find embeddings that the configuration wants tied and that are not."""
    output = model.get_output_embeddings()
    if output is None or not model.config.tie_word_embeddings:
        return
    if getattr(output, "weight", None) is not getattr(model.get_input_embeddings(), "weight", None):
        yield Fault(
            "the configuration has tie_word_embeddings=True, but input and output embeddings are two parameters",
            "leave tie_weights to the base class, or set tie_word_embeddings = False in the configuration",
        )


def _saved_names(subject: Subject) -> set[str]:
    names: set[str] = set()
    for file in subject.plain_save.folder.glob("*.safetensors"):
        with safe_open(file, framework="np") as handle:
            names |= set(handle.keys())
    return names


def check_buffers(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Buffers that are not saved come back as they were, and every tensor is a parameter or a buffer."""
    buffers, plain = non_persistent(subject.model), plain_tensors(subject.build())
    if not plain and not any(True for _ in subject.model.buffers()):
        raise NotApplicableError(f"{subject.name} has no buffers")
    for name in plain:
        yield Fault(
            f"`{name}` holds a tensor that is neither parameter nor buffer, so it is not saved and does not move to "
            "another device or type with the model",
            "register it in __init__: self.register_buffer(name, tensor), with persistent=False if it is computed",
        )
    if not subject.loads:
        yield Unchecked("reload", "the model cannot be loaded")
        return
    before, after = state_of(subject.model), state_of(subject.reloaded)
    expected, found = ({name: t for name, t in state.items() if name in buffers} for state in (before, after))
    for name, difference in compare(expected, found, 0.0).items():
        yield Fault(
            f"the non-persistent buffer `{name}` is {difference} after saving and loading",
            "compute it from the configuration alone, without random numbers, or save it: persistent=True",
        )


def check_deepcopy(subject: Subject) -> Iterator[Fault]:
    """A deep copy gives the same outputs and shares no memory with the original."""
    model = subject.build()
    again = copy.deepcopy(model)
    yield from _copy_faults(subject, again, "copy.deepcopy")
    memory = {tensor.untyped_storage()._cdata: name for name, tensor in state_of(model).items() if tensor.numel()}
    for name, tensor in state_of(again).items():
        if tensor.numel() and tensor.untyped_storage()._cdata in memory:
            yield Fault(f"`{name}` of a deep copy is the original's", "leave `__deepcopy__` to torch")


def check_pickle(subject: Subject) -> Iterator[Fault]:
    """A pickled model gives the same outputs."""
    if "<locals>" in subject.model_class.__qualname__:
        raise NotApplicableError(f"pickle finds classes by name, and {subject.name} is defined inside a function")
    model = subject.build()
    if wrapped := [name for name, module in model.named_modules() if is_parametrized(module)]:
        raise NotApplicableError(f"torch cannot pickle parametrised modules, such as `{wrapped[0]}`")
    try:
        with seeded(OTHER_SEED):
            again = pickle.loads(pickle.dumps(model))  # noqa: S301 - pickled right here
    except Exception as error:
        culprits = list(_unpicklable(model)) or [f"the model cannot be pickled, {describe(error)}"]
        fix = "keep functions without a name (lambda), open files and locks out of the model; use a module or a method"
        yield from (Fault(culprit, fix) for culprit in culprits)
        return
    yield from _copy_faults(subject, again, "pickle")


def _copy_faults(subject: Subject, again: Any, how: str) -> Iterator[Fault]:
    if wrong := compare(subject.outputs, run(again, subject.inputs)):
        yield Fault(
            f"after {how}, {in_words(wrong)}", "keep all of a model's state in parameters, buffers and attributes"
        )
    for names in ties_of(subject.model):
        if names not in ties_of(again):
            listed = list_names(names)
            yield Fault(
                f"{listed} are one parameter, but no longer after {how}", "leave __deepcopy__ and __reduce__ to torch"
            )


def _unpicklable(model: torch.nn.Module) -> Iterator[str]:
    """Name the attributes that cannot be pickled."""
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for key, part in value.items() if isinstance(value, Mapping) else [(None, value)]:
                try:
                    pickle.dumps(part)
                except Exception as error:
                    path = ".".join(filter(None, (prefix, name))) + (f"[{key!r}]" if key is not None else "")
                    yield f"`{path}` cannot be pickled, {describe(error)}"
