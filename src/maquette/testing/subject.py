"""A model under examination, of any framework: what it was before it was saved, and what it is when it is loaded."""

import contextlib
import dataclasses
import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from maquette.testing.comparison import compare, in_words, list_names
from maquette.testing.report import Check, Fault, Report, Unchecked, describe, run_checks

SEED, OTHER_SEED = 1, 2
UNFIT = "the model as it is does not survive saving; fix that first"


# What a model was, and is after loading ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """All that can be seen of a model from outside: its tensors, its ties, its mode, and what it gives for an input.

    Class attributes:
        parts: what the tensors of the state are called in the framework, one of them and all.
        tie, hidden: how to fix ties, and outputs that nothing in the state explains.
    """

    state: dict[str, Any]
    outputs: dict[str, Any]
    ties: list[list[str]]
    training: bool = False

    parts: ClassVar[tuple[str, str]]
    tie: ClassVar[str]
    hidden: ClassVar[str]

    @classmethod
    def of(cls, model: Any, inputs: Mapping[str, Any]) -> Self:
        """Look at a model."""
        raise NotImplementedError

    @staticmethod
    def save_file(tensors: dict[str, Any], file: Path) -> None:
        """Write tensors of the framework to a safetensors file."""
        raise NotImplementedError

    @staticmethod
    def load_file(file: Path) -> dict[str, Any]:
        """Read tensors of the framework from a safetensors file."""
        raise NotImplementedError

    @staticmethod
    def fix(difference: str) -> str:
        """Say how a difference of the state is fixed."""
        raise NotImplementedError

    def write(self, file: Path) -> None:
        """Keep the tensors in a file."""
        named = {f"state/{name}": tensor for name, tensor in self.state.items()}
        self.save_file(named | {f"outputs/{name}": tensor for name, tensor in self.outputs.items()}, file)

    @classmethod
    def read(cls, file: Path, ties: list[list[str]], training: bool) -> Self:
        """Read the tensors from a file."""
        tensors = cls.load_file(file)
        state, outputs = (
            {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
            for start in ("state/", "outputs/")
        )
        return cls(state, outputs, ties, training)

    def without(self, names: Iterable[str]) -> Self:
        """Leave some of the state out of sight."""
        return dataclasses.replace(self, state={name: t for name, t in self.state.items() if name not in names})

    def faults(self, found: "Observation", how: str, tolerance: float | None = None) -> Iterator[Fault]:
        """Say in what another observation differs; outputs may differ by the tolerance (None: by rounding)."""
        yield from self.state_faults(found, how)
        for names in self.ties:
            if names not in found.ties and not set(names) & (self.state.keys() - found.state.keys()):
                yield Fault(f"{list_names(names)} are one {self.parts[0]}, but no longer after {how}", self.tie)
        yield from self.output_faults(found, how, tolerance)

    def state_faults(self, found: "Observation", how: str, *, ignoring: Iterable[str] = ()) -> Iterator[Fault]:
        """Name what differs in the state."""
        for name, difference in self.differing(found).items():
            if name not in ignoring:
                yield Fault(f"`{name}` is {difference} after {how}", self.fix(difference))

    def output_faults(self, found: "Observation", how: str, tolerance: float | None = None) -> Iterator[Fault]:
        """Name the outputs that differ, where nothing in the state explains it."""
        if found.training:
            yield Fault(f"the model is in training mode after {how}", "leave `from_pretrained` and `train` to the base")
        if not self.differing(found) and (wrong := compare(self.outputs, found.outputs, tolerance)):
            yield Fault(f"all {self.parts[1]} are the same after {how}, but {in_words(wrong)}", self.hidden)

    def differing(self, found: "Observation") -> dict[str, str]:
        """Say how the states differ, to the last bit."""
        return compare(self.state, found.state, 0.0)


# The subject -----------------------------------------------------------------------------------------------------


@dataclass
class Save:
    """A folder that a model was saved to, and what the model was."""

    folder: Path
    inputs: dict[str, Any]
    expected: Observation
    reloads: bool = False


class Subject:
    """What the checks share: the class, one instance in evaluation mode, inputs, outputs, and the saves so far.

    Class attributes:
        observation: how the framework's models are looked at.
        foreign: frameworks that loading such a model must not import.
        fit: how to fix a model that cannot be loaded.
        making, method: what constructs and what computes, as the framework calls it.
        values: what goes in and out.
        drawing: where random numbers should be drawn.
    """

    observation: ClassVar[type[Observation]]
    foreign: ClassVar[frozenset[str]] = frozenset()
    fit: ClassVar[str]
    making: ClassVar[str] = "the constructor"
    method: ClassVar[str]
    values: ClassVar[str]
    drawing: ClassVar[str]
    inputs: Any
    outputs: Any
    labels: Any

    def __init__(
        self,
        model_class: Any,
        config: Any,
        *,
        folder: Path,
        inputs: Mapping[str, Any] | None,
        labels: Any,
        heads_to_prune: Mapping[int, Iterable[int]] | None,
        counterparts: Sequence[type | str],
        tolerance: float,
    ) -> None:
        self.model_class, self.config, self.folder, self.tolerance = model_class, config, folder, tolerance
        self.given_inputs, self.given_labels, self.heads_to_prune = inputs, labels, heads_to_prune
        self.counterparts = counterparts
        self.saves: dict[str, Save] = {}
        self.afresh: dict[str, dict[str, Any]] = {}  # what a fresh process found in them, by how it loaded them

    # Hooks -----------------------------------------------------------------------------------------------------

    @staticmethod
    def seeded(seed: int) -> contextlib.AbstractContextManager[None]:
        """Draw the random numbers of a seed; afterwards all generators go on as before."""
        raise NotImplementedError

    def build(self, seed: int = SEED) -> Any:
        """Construct the model with the random numbers of a seed, in evaluation mode."""
        raise NotImplementedError

    def rebuild(self, *, dtype: Any = None) -> Any:
        """Construct the model through `from_config`, with the random numbers that `build` has."""
        raise NotImplementedError

    def vary(self, seed: int) -> Any:
        """Construct a model whose weights are none of the zeros and ones that initialisation likes."""
        raise NotImplementedError

    def call(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """Give what the model returns in evaluation mode, operation by operation."""
        raise NotImplementedError

    def state(self, model: Any) -> dict[str, Any]:
        """Name the values of everything that makes the model what it is."""
        raise NotImplementedError

    def unsaved(self, model: Any) -> Iterable[str]:
        """Name what of the state files do not hold."""
        return ()

    @staticmethod
    def finite(value: Any) -> bool:
        """Tell whether all numbers of an output are finite."""
        raise NotImplementedError

    @staticmethod
    def threads() -> int:
        """Say how many threads the framework computes with; 0 where it does not tell."""
        return 0

    # Saves -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self.model_class.__name__)

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the method that computes."""
        return inspect.signature(getattr(self.model_class, self.method)).parameters

    @cached_property
    def model(self) -> Any:
        """One instance for the checks that change nothing."""
        return self.build()

    def save(self, name: str, model: Any, inputs: Mapping[str, Any]) -> Save:
        """Save a model and remember what it is; the fresh process will look at it too."""
        folder = self.folder / "saves" / name
        model.save_pretrained(folder)
        self.saves[name] = Save(folder, dict(inputs), self.observation.of(model, inputs))
        return self.saves[name]

    def reload(self, save: Save) -> Any:
        """Load a save while other random numbers are drawn than when it was made."""
        with self.seeded(OTHER_SEED):
            return self.model_class.from_pretrained(save.folder)

    def reload_faults(self, name: str, model: Any, inputs: Mapping[str, Any], how: str) -> Iterator[Fault | Unchecked]:
        """Save a changed model, load it, and say what differs; pointless where the unchanged one does not reload."""
        if not self.survives_saving:
            yield Unchecked("saving", UNFIT)
            return
        save = self.save(name, model, inputs)
        try:
            faults = list(save.expected.faults(self.observation.of(self.reload(save), inputs), how))
        except Exception as error:
            faults = [Fault(f"there is no model after {how}: {describe(error)}", self.fit)]
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
        faults = self.plain_save.expected.faults(self.observation.of(loaded, self.inputs), "saving and loading")
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


# Examining -------------------------------------------------------------------------------------------------------


def examine_with(
    subject_class: type[Subject],
    checks: Iterable[Check],
    model_class: Any,
    config: Any,
    *,
    is_given: Callable[[Any], bool],
    skip: Mapping[str, str] | None,
    only: Iterable[str] | None,
    **options: Any,
) -> Report:
    """Put checks to a model of some framework; `maquette.testing.check_model` says the rest.

    Args:
        subject_class: how the framework's models are examined.
        checks: in the order in which they run.
        model_class, config, skip, only, options: as in `check_model`.
        is_given: tells whether a value is a tensor as inputs and labels have to be.

    Raises:
        TypeError: a configuration of another class, or inputs that are no tensors.
    """
    wanted = model_class._require_config_class()
    if not isinstance(config, wanted):
        raise TypeError(f"{model_class.__name__} is made from a {wanted.__name__}, not from a {type(config).__name__}.")
    for name in ("inputs", "labels"):
        _require_tensors(name, options[name], is_given)
    with tempfile.TemporaryDirectory() as folder, _own_approvals(folder), subject_class.seeded(0):
        subject = subject_class(model_class, config, folder=Path(folder), **options)
        return run_checks(model_class.__name__, checks, subject, skip=skip, only=only)


def _require_tensors(name: str, given: Any, is_given: Callable[[Any], bool]) -> None:
    if name == "inputs" and given is not None and not isinstance(given, Mapping):
        raise TypeError(f"inputs must be a dictionary by the names of the model's arguments, not a {_kind(given)}.")
    tensors = given.values() if isinstance(given, Mapping) else [] if given is None else [given]
    if wrong := [_kind(value) for value in tensors if not is_given(value)]:
        raise TypeError(
            f"{name} must be tensors of the model's framework by the names of its arguments; found a {wrong[0]}."
        )


def _kind(value: Any) -> str:
    return type(value).__name__


@contextlib.contextmanager
def _own_approvals(folder: str) -> Iterator[None]:
    """Keep the caller's record of approved code free of temporary folders."""
    before = os.environ.get("MAQUETTE_HOME")
    os.environ["MAQUETTE_HOME"] = str(Path(folder) / "maquette-home")
    try:
        yield
    finally:
        os.environ.pop("MAQUETTE_HOME")
        if before is not None:
            os.environ["MAQUETTE_HOME"] = before
