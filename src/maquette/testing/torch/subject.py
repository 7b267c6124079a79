"""A torch model under examination."""

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from maquette.testing import comparison, subject
from maquette.testing.labels import label_names, make_labels
from maquette.testing.subject import SEED

Tensors = dict[str, torch.Tensor]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the random numbers of a seed, from Python, numpy and torch; afterwards all three go on as before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


# Tensors of models, and of what they return ----------------------------------------------------------------------


def is_lazy(tensor: torch.Tensor) -> bool:
    """Tell whether a parameter waits for the first input to have a shape."""
    return isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)


def state_of(model: nn.Module) -> Tensors:
    """Name every parameter and every buffer, the non-persistent ones too, tied ones under each name."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.detach() for name, tensor in named if not is_lazy(tensor)}


def snapshot(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Copy tensors, so that later changes in place do not reach them."""
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def non_persistent(model: nn.Module) -> set[str]:
    """Name the buffers that are not saved."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name in module._non_persistent_buffers_set
    }


def ties_of(model: nn.Module) -> list[list[str]]:
    """Group the names of parameters that are one and the same."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return sorted(sorted(names) for names in groups.values() if len(names) > 1)


def plain_tensors(model: nn.Module) -> list[str]:
    """Name the attributes that hold tensors without being parameters or buffers."""
    registered = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules")
        and any(id(tensor) not in registered for tensor in flatten(value).values())
    ]


flatten = partial(comparison.flatten, leaf=lambda value: isinstance(value, torch.Tensor))


def run(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """Give every tensor that the model returns for a copy of the inputs, without gradients."""
    with torch.no_grad():
        return snapshot(flatten(model(**snapshot(inputs))))


# The subject -----------------------------------------------------------------------------------------------------


class Observation(subject.Observation):
    """What can be seen of a torch model: parameters and buffers, ties, its mode, and what it gives for an input."""

    parts = ("parameter", "parameters and buffers")
    tie = "tie them in __init__ or tie_weights, by assigning the one parameter to both places"
    hidden = (
        "what `forward` uses has to be a parameter, a buffer, or computed from the configuration; a random tensor kept "
        "as a plain attribute is drawn anew: use self.register_buffer(name, tensor)"
    )

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> "Observation":
        """Look at a model."""
        state, training = snapshot(state_of(model)), model.training
        return cls(state, run(model, inputs), ties_of(model), training)

    @staticmethod
    def save_file(tensors: Tensors, file: Path) -> None:
        save_file(tensors, file)

    @staticmethod
    def load_file(file: Path) -> Tensors:
        tensors: Tensors = load_file(file)
        return tensors

    @staticmethod
    def fix(difference: str) -> str:
        if difference == "new":
            return "do not register parameters or buffers only while loading"
        if difference == "missing":
            return "register it in __init__, under the same name for the same configuration"
        if " instead of torch." in difference:
            return (
                "leave types to save_pretrained and from_pretrained; a tensor that is cast has to come back as it was"
            )
        return (
            "save it (a parameter, or register_buffer with persistent=True), or compute it in __init__ from the "
            "configuration alone, without random numbers"
        )


class Subject(subject.Subject):
    """A torch model under examination."""

    observation = Observation
    fit = "make the constructor build, from the configuration that is saved, the same parameters under the same names"
    method, values, drawing = "forward", "tensors", "from torch's default generator"
    seeded = staticmethod(seeded)
    threads = staticmethod(torch.get_num_threads)

    def build(self, seed: int = SEED) -> Any:
        with seeded(seed):
            return self._filled(self.model_class(copy.deepcopy(self.config)).eval(), seed)

    def rebuild(self, *, dtype: Any = None) -> Any:
        with seeded(SEED):
            model = self.model_class.from_config(copy.deepcopy(self.config), dtype=dtype).eval()
        return self._filled(model, SEED) if dtype is None else model

    def _filled(self, model: Any, seed: int) -> Any:
        """Have parameters that wait for the first input get their shapes and values."""
        if any(is_lazy(tensor) for tensor in [*model.parameters(), *model.buffers()]):
            with seeded(seed), torch.no_grad():
                model(**snapshot(self._inputs_for(model)))
        return model

    def state(self, model: Any) -> Tensors:
        return state_of(model)

    def unsaved(self, model: Any) -> set[str]:
        return non_persistent(model)

    @staticmethod
    def finite(value: torch.Tensor) -> bool:
        return bool(value.isfinite().all())

    def vary(self, seed: int) -> Any:
        model = self.build(seed)
        with seeded(seed), torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter += torch.randn_like(parameter) * (0.1 * parameter.std(correction=0) + 0.01)
        return model

    def call(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        with torch.no_grad():
            return model(**{name: t.clone() if isinstance(t, torch.Tensor) else t for name, t in inputs.items()})

    def _inputs_for(self, model: Any) -> Tensors:
        inputs = model.dummy_inputs if self.given_inputs is None else self.given_inputs
        if inputs is None:
            raise NotImplementedError(
                f"{type(model).__name__} does not say what it takes: override `dummy_inputs`, or pass inputs={{…}}."
            )
        return snapshot(inputs)

    @cached_property
    def inputs(self) -> Tensors:
        """The inputs of `forward` by name."""
        return self._inputs_for(self.model)

    @cached_property
    def outputs(self) -> Tensors:
        """What the model gives for the inputs."""
        return run(self.model, self.inputs)

    @cached_property
    def labels(self) -> Tensors:
        """The labels of the caller, or random ones that fit the logits; none where `forward` takes none."""
        given, names = self.given_labels, label_names(self.parameters, self.given_labels)
        if names and given is not None:
            return snapshot(given if isinstance(given, Mapping) else {"labels": given})
        outputs = {name: tensor.float().numpy() for name, tensor in self.outputs.items()}
        made = make_labels(names, outputs, self.config, model_name=self.name)
        return {name: torch.from_numpy(array) for name, array in made.items()}


set_threads = torch.set_num_threads
