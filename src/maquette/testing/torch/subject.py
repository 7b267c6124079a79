"""A torch model under examination, and how two of its states or outputs are compared."""

import contextlib
import copy
import dataclasses
import inspect
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from maquette.testing.report import Fault, Unchecked, describe

Tensors = dict[str, torch.Tensor]
SEED, OTHER_SEED = 1, 2


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


def flatten(value: Any, name: str = "") -> Tensors:
    """Name every tensor in what a model returns: `logits`, `hidden_states.0`; the empty name for a tensor alone."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = vars(value).items()
    else:
        return {}
    start = f"{name}." if name else ""
    return {key: tensor for part, item in items for key, tensor in flatten(item, f"{start}{part}").items()}


def run(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Tensors:
    """Give every tensor that the model returns for a copy of the inputs, without gradients."""
    with torch.no_grad():
        return snapshot(flatten(model(**snapshot(inputs))))


# Comparing -------------------------------------------------------------------------------------------------------


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors have the same type, shape and values to the last bit; NaN equals NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    """Tell whether two tensors differ by at most `tolerance` times the largest value of the first."""
    if one.shape != other.shape or not (one.is_floating_point() or one.is_complex()):
        return same(one, other)
    finite = one.isfinite()
    if not same(one[~finite], other[~finite].to(one.dtype)):
        return False
    largest = one[finite].abs().max() if finite.any() else torch.zeros(())
    gap = (one[finite] - other[finite].to(one.dtype)).abs()
    return bool((gap <= tolerance * largest.clamp(min=1e-30)).all())


def rounding(tensor: torch.Tensor) -> float:
    """Give the difference that alignment in memory alone can make: the order of a sum's terms depends on it."""
    if not tensor.is_floating_point():
        return 0.0
    return torch.finfo(tensor.dtype).eps * (16 if tensor.element_size() >= 4 else 2)


def contrast(one: torch.Tensor, other: torch.Tensor) -> str:
    """Put into words how two tensors differ."""
    if one.dtype != other.dtype:
        return f"{other.dtype} instead of {one.dtype}"
    if one.shape != other.shape:
        return f"of shape {tuple(other.shape)} instead of {tuple(one.shape)}"
    gap = (one.double() - other.double()).abs().max() if not one.is_complex() else (one - other).abs().max()
    return f"different by up to {float(gap):.3g}"


def compare(expected: Tensors, found: Tensors, tolerance: float | None = None) -> dict[str, str]:
    """Say, name by name, how tensors differ: in nothing, or up to the tolerance (None: up to rounding)."""
    wrong = dict.fromkeys(expected.keys() - found.keys(), "missing")
    wrong |= dict.fromkeys(found.keys() - expected.keys(), "new")
    for name in expected.keys() & found.keys():
        allowed = rounding(expected[name]) if tolerance is None else tolerance
        if not (close(expected[name], found[name], allowed) and expected[name].dtype == found[name].dtype):
            wrong[name] = contrast(expected[name], found[name])
    return dict(sorted(wrong.items()))


def in_words(wrong: Mapping[str, str]) -> str:
    """List differences of outputs in one line."""
    return ", ".join(f"{f'`{name}`' if name else 'the output'} is {how}" for name, how in wrong.items())


# What a model was, and is after loading ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """All that can be seen of a model from outside: its tensors, its ties, its mode, and what it gives for an input."""

    state: Tensors
    outputs: Tensors
    ties: list[list[str]]
    training: bool = False

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> "Observation":
        """Look at a model."""
        state, training = snapshot(state_of(model)), model.training
        return cls(state, run(model, inputs), ties_of(model), training)

    def write(self, file: Path) -> None:
        """Keep the tensors in a file."""
        named = {f"state/{name}": tensor for name, tensor in self.state.items()}
        save_file(named | {f"outputs/{name}": tensor for name, tensor in self.outputs.items()}, file)

    @classmethod
    def read(cls, file: Path, ties: list[list[str]], training: bool) -> "Observation":
        """Read the tensors from a file."""
        tensors = load_file(file)
        state, outputs = (
            {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
            for start in ("state/", "outputs/")
        )
        return cls(state, outputs, ties, training)

    def without(self, names: Iterable[str]) -> "Observation":
        """Leave some parameters or buffers out of sight."""
        return dataclasses.replace(self, state={name: t for name, t in self.state.items() if name not in names})

    def faults(self, found: "Observation", how: str, tolerance: float | None = None) -> Iterator[Fault]:
        """Say in what another observation differs; outputs may differ by the tolerance (None: by rounding)."""
        yield from self.state_faults(found, how)
        for names in self.ties:
            if names not in found.ties and not set(names) & (self.state.keys() - found.state.keys()):
                listed = " and ".join(f"`{name}`" for name in names)
                yield Fault(f"{listed} are one parameter, but no longer after {how}", TIE)
        yield from self.output_faults(found, how, tolerance)

    def state_faults(self, found: "Observation", how: str, *, ignoring: Iterable[str] = ()) -> Iterator[Fault]:
        """Name the parameters and buffers that differ."""
        for name, difference in self.differing(found).items():
            if name not in ignoring:
                yield Fault(f"`{name}` is {difference} after {how}", _mend(difference))

    def output_faults(self, found: "Observation", how: str, tolerance: float | None = None) -> Iterator[Fault]:
        """Name the outputs that differ, where no parameter or buffer explains it."""
        if found.training:
            yield Fault(f"the model is in training mode after {how}", "leave `from_pretrained` and `train` to the base")
        if not self.differing(found) and (wrong := compare(self.outputs, found.outputs, tolerance)):
            yield Fault(f"all parameters and buffers are the same after {how}, but {in_words(wrong)}", HIDDEN)

    def differing(self, found: "Observation") -> dict[str, str]:
        """Say how parameters and buffers differ, to the last bit."""
        return compare(self.state, found.state, 0.0)


TIE = "tie them in __init__ or tie_weights, by assigning the one parameter to both places"
UNFIT = "the model as it is does not survive saving; mend that first"
FIT = "make the constructor build, from the configuration that is saved, the same parameters under the same names"
HIDDEN = (
    "what `forward` uses has to be a parameter, a buffer, or computed from the configuration; a random tensor kept as "
    "a plain attribute is drawn anew: use self.register_buffer(name, tensor)"
)


def _mend(difference: str) -> str:
    if difference == "new":
        return "do not register parameters or buffers only while loading"
    if difference == "missing":
        return "register it in __init__, under the same name for the same configuration"
    if " instead of torch." in difference:
        return "leave types to save_pretrained and from_pretrained; a tensor that is cast has to come back as it was"
    return (
        "save it (a parameter, or register_buffer with persistent=True), or compute it in __init__ from the "
        "configuration alone, without random numbers"
    )


# The subject -----------------------------------------------------------------------------------------------------


@dataclass
class Save:
    """A folder that a model was saved to, and what the model was."""

    folder: Path
    inputs: Tensors
    expected: Observation
    reloads: bool = False


class Subject:
    """What the checks share: the class, one instance in evaluation mode, inputs, outputs, and the saves so far."""

    def __init__(
        self,
        model_class: Any,
        config: Any,
        *,
        folder: Path,
        inputs: Mapping[str, Any] | None,
        labels: Any,
        heads_to_prune: Mapping[int, Iterable[int]] | None,
        tolerance: float,
    ) -> None:
        self.model_class, self.config, self.folder, self.tolerance = model_class, config, folder, tolerance
        self.given_inputs, self.given_labels, self.heads_to_prune = inputs, labels, heads_to_prune
        self.saves: dict[str, Save] = {}
        self.afresh: dict[str, dict[str, Any]] | None = None  # what a fresh process found in them

    @property
    def name(self) -> str:
        return str(self.model_class.__name__)

    def build(self, seed: int = SEED) -> Any:
        """Construct the model with the random numbers of a seed, in evaluation mode."""
        with seeded(seed):
            model = self.model_class(copy.deepcopy(self.config)).eval()
        if any(is_lazy(tensor) for tensor in [*model.parameters(), *model.buffers()]):
            with seeded(seed), torch.no_grad():
                model(**snapshot(self._inputs_for(model)))
        return model

    @cached_property
    def model(self) -> Any:
        """One instance for the checks that change nothing."""
        return self.build()

    def _inputs_for(self, model: Any) -> Tensors:
        return snapshot(model.dummy_inputs if self.given_inputs is None else self.given_inputs)

    @cached_property
    def inputs(self) -> Tensors:
        """The inputs of `forward` by name."""
        return self._inputs_for(self.model)

    @cached_property
    def outputs(self) -> Tensors:
        """What the model gives for the inputs."""
        return run(self.model, self.inputs)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of `forward`."""
        return inspect.signature(self.model_class.forward).parameters

    def save(self, name: str, model: Any, inputs: Mapping[str, torch.Tensor]) -> Save:
        """Save a model and remember what it is; the fresh process will look at it too."""
        folder = self.folder / "saves" / name
        model.save_pretrained(folder)
        self.saves[name] = Save(folder, snapshot(inputs), Observation.of(model, inputs))
        return self.saves[name]

    def reload(self, save: Save) -> Any:
        """Load a save while other random numbers are drawn than when it was made."""
        with seeded(OTHER_SEED):
            return self.model_class.from_pretrained(save.folder)

    def reload_faults(
        self, name: str, model: Any, inputs: Mapping[str, torch.Tensor], how: str
    ) -> Iterator[Fault | Unchecked]:
        """Save a changed model, load it, and say what differs; pointless where the unchanged one does not reload."""
        if not self.survives_saving:
            yield Unchecked("saving", UNFIT)
            return
        save = self.save(name, model, inputs)
        try:
            faults = list(save.expected.faults(Observation.of(self.reload(save), inputs), how))
        except Exception as error:
            faults = [Fault(f"there is no model after {how}: {describe(error)}", FIT)]
        save.reloads = not faults
        yield from faults

    @cached_property
    def plain_save(self) -> Save:
        """The model as it is, saved."""
        return self.save("plain", self.model, self.inputs)

    @cached_property
    def reloaded(self) -> Any:
        """The model as it comes back from its save."""
        loaded = self.reload(self.plain_save)
        faults = self.plain_save.expected.faults(Observation.of(loaded, self.inputs), "saving and loading")
        self.plain_save.reloads = not any(True for _ in faults)
        return loaded

    @cached_property
    def loads(self) -> bool:
        """Tell whether the save of the model as it is can be loaded at all."""
        try:
            return self.reloaded is not None
        except Exception:  # the check `reload` tells of it
            return False

    @property
    def survives_saving(self) -> bool:
        """Tell whether the model as it is comes back from its save as it was."""
        return self.loads and self.plain_save.reloads
