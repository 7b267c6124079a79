"""The same numbers in every framework that a model has: its weights and inputs, computed by the others' classes."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from maquette.registry import PREFIXES, cards
from maquette.testing.comparison import Value, compare, flatten, in_words
from maquette.testing.halves import half_of
from maquette.testing.processes import fresh_process
from maquette.testing.report import Fault, NotApplicableError, Unchecked
from maquette.testing.subject import SEED, Subject

MEND = (
    "compare layer by layer; the usual causes are the epsilon of norms (1e-3 in Keras, 1e-6 in Flax, 1e-5 in torch), "
    "another kind of gelu, and the padding of strided convolutions"
)


def check_frameworks(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Classes of other frameworks give the same numbers for what this one saves, its loss included."""
    others = [*map(_reference, subject.counterparts), *_on_the_card(subject.model_class)]
    if not others:
        raise NotApplicableError(
            "no class of another framework is known; pass counterparts=[…], or put both on one card"
        )
    model, given = subject.vary(SEED), {**subject.inputs, **subject.labels}
    place = subject.folder / "frameworks"
    model.save_pretrained(place)
    expected = _arrays(subject.call(model, given))
    subject.observation.save_file(given, place / "inputs")
    save = {"folder": str(place), "inputs": str(place / "inputs"), "optional": list(subject.labels)}
    for module, name in others:
        if missing := _not_installed(name):
            yield Unchecked(name, f"{missing} is not installed")
            continue
        with fresh_process(_framework_of(name)) as process:
            job = {"half": None, "module": module, "class": name, "saves": {"counterpart": save}}
            seen = process.do(job, place / f"{name}.json")["counterpart"]
        yield from _compare(subject, name, expected, seen)


def _compare(subject: Subject, name: str, expected: dict[str, Any], seen: dict[str, Any]) -> Iterator[Fault]:
    if error := seen.get("error"):
        yield Fault(
            f"{name} does not compute with what {subject.name} saves: {error}",
            "give layers the same names and shapes, and arguments the same names, in every framework",
        )
        return
    found: dict[str, Any] = subject.observation.load_file(seen["file"])
    if seen["left_out"] or not subject.labels:  # without labels there is no loss to compare
        expected, found = ({n: x for n, x in one.items() if n != "loss"} for one in (expected, found))
    if wrong := compare(expected, _arrays(found), subject.tolerance):
        yield Fault(f"{name} gives other numbers for the same weights and inputs: {in_words(wrong)}", MEND)


def _arrays(output: Any) -> dict[str, "np.ndarray[Any, Any]"]:
    """Give the numbers of outputs in types that all frameworks have."""
    found = {name: Value.of(tensor).array for name, tensor in flatten(output).items()}
    return {name: array.astype(np.float64 if array.dtype.kind == "f" else np.int64) for name, array in found.items()}


def _reference(counterpart: Any) -> tuple[str, str]:
    if isinstance(counterpart, str):
        module, _, name = counterpart.partition(":")
        return module, name
    return counterpart.__module__, counterpart.__qualname__


def _on_the_card(model_class: Any) -> list[tuple[str, str]]:
    """Find the classes that a model entry has under the same task in other frameworks."""
    own = half_of(model_class)
    for card in cards():
        for auto_class, reference in card.models_in(own).items():
            if (f"{card.package}.{reference.partition(':')[0]}", model_class.__name__) == (
                model_class.__module__,
                reference.partition(":")[2],
            ):
                task = auto_class.removeprefix(PREFIXES[own])
                found = {half: card.models_in(half).get(prefix + task) for half, prefix in PREFIXES.items()}
                places = [ref.partition(":") for half, ref in found.items() if ref and half != own]
                return [(f"{card.package}.{module}", name) for module, _, name in places]
    return []


def _framework_of(name: str) -> str:
    return next((half for half, prefix in PREFIXES.items() if prefix and name.startswith(prefix)), "torch")


def _not_installed(name: str) -> str:
    keras = ("keras", os.environ.get("KERAS_BACKEND", "tensorflow"))
    packages = {"torch": ("torch",), "tf": keras, "flax": ("flax",)}[_framework_of(name)]
    return next((package for package in packages if find_spec(package) is None), "")
