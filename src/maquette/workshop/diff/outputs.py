"""Two models run on the same inputs: the first module whose output differs, and by how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.workshop.diff.comparison import Gap, Rules, compare, compare_arrays
from maquette.workshop.diff.recording import Call, Record, record


@dataclass(frozen=True)
class Divergence:
    """What was found when two models ran on the same inputs.

    Attributes:
        compared: how many calls of modules there are under the same name in both.
        first: the module whose output was the first to differ, "" for the whole model; None where none does.
        kind: its class.
        call: which of its calls it was, from 1.
        most: the largest difference of two numbers there.
        scale: the largest number there.
        what: where it is no number that differs: the shapes, or how many tensors come out.
        last: the largest difference in what the two models give in the end.
        inputs_equal: whether what came into that module was equal, within the tolerance; None where the two do not
            take alike, as of an image with its border.
        only: modules that ran in one of the two only.
        unlike: modules whose outputs are arranged in ways that do not compare, as of a table looked up otherwise.
        not_numbers: whether what they give in the end holds NaN; in the same places these count as equal.
    """

    compared: int
    first: str | None = None
    kind: str = ""
    call: int = 1
    most: float = 0.0
    scale: float = 0.0
    what: str = ""
    last: float = 0.0
    inputs_equal: bool | None = True
    only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    unlike: tuple[str, ...] = ()
    not_numbers: bool = False


def find_divergence(one: Any, other: Any, inputs: Mapping[str, Any], *, tolerance: float = 1e-5) -> Divergence:
    """Run two models, whoever wrote them, and compare what their modules give, in the order in which they end.

    Modules are compared under the same name, call by call; the name under which a head keeps its base model is left
    away. Names of Keras and Flax models are read as their weights' are.

    Args:
        one, other: models of torch, Keras or Flax. They run in evaluation mode, with the same random numbers.
        inputs: what both take, by name.
        tolerance: how far numbers may lie apart, as a share of the largest of the two.

    Raises:
        InputError: a model does not take these inputs, or no module has the same name in both.
    """
    return compare_records(record(one, inputs), record(other, inputs), tolerance=tolerance)


def compare_records(one: Record, other: Record, *, tolerance: float = 1e-5) -> Divergence:
    """Compare two runs.

    Raises:
        InputError: no module has the same name in both.
    """
    mine, theirs = ({(call.name, call.number): call for call in each.calls} for each in (one, other))
    both = [key for key in mine if key in theirs]
    if not both:
        named = " and ".join(f"{', '.join([each.name for each in side.calls][:4])}, …" for side in (one, other))
        raise InputError(f"No module that ran has the same name in both: {named}")
    facts: dict[str, Any] = {"unlike": (), "compared": len(both), "only": (_only(mine, theirs), _only(theirs, mine))}
    facts["last"] = compare(one.end, other.end, _rules(one, other, one, other, 0.0)).most
    facts["not_numbers"] = any(np.isnan(each).any() for each in one.end.values() if each.dtype.kind in "fc")
    for key in both:
        a, b = mine[key], theirs[key]
        rules = _rules(one, other, a, b, tolerance)
        gap = compare(a.gives, b.gives, rules)
        if gap.unlike:
            facts["unlike"] = (*facts["unlike"], a.name)
        if gap:
            equal = _are_inputs_equal(a, b, rules)
            return _found(facts, gap, first=a.name, kind=a.kind, call=a.number + 1, inputs_equal=equal)
    if gap := compare(one.end, other.end, _rules(one, other, one, other, tolerance)):
        return _found(facts, gap, first="", kind=one.kind)
    return Divergence(**facts)


def _found(facts: Mapping[str, Any], gap: Gap, **about: Any) -> Divergence:
    return Divergence(**facts, **about, most=gap.most, scale=gap.scale, what=gap.what)


def _only(mine: Mapping[tuple[str, int], Call], theirs: Mapping[tuple[str, int], Call]) -> tuple[str, ...]:
    """Name modules, and further calls of modules, that one of the two has alone."""
    names = {name for name, _ in theirs}
    missing = [key for key in mine if key not in theirs]
    return tuple(name if name not in names else f"{name} (call {number + 1})" for name, number in missing)


def _rules(one: Record, other: Record, a: Call | Record, b: Call | Record, tolerance: float) -> Rules:
    frameworks = {one.framework, other.framework}
    return Rules(
        tolerance,
        same=len(frameworks) == 1 and one.origin == other.origin and a.origin == b.origin,
        layouts=len(frameworks) == 2 and "torch" in frameworks,
        whole=a is one,
        masks=one.masks,
    )


def _are_inputs_equal(a: Call, b: Call, rules: Rules) -> bool | None:
    """Compare what came into two modules: all of it, or what comes first, as others may hand on what they like."""
    if rules.same:
        return not compare(a.takes, b.takes, rules)
    if not a.takes or not b.takes:
        return None
    gap = compare_arrays(next(iter(a.takes.values())), next(iter(b.takes.values())), rules)
    return None if gap.what else not gap
