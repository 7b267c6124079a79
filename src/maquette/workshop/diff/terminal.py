"""What `maquette diff` writes in a terminal."""

import math
import re
from collections.abc import Iterator

from maquette.workshop.diff.outputs import Divergence
from maquette.workshop.diff.survey import Difference
from maquette.workshop.diff.weights import Apart, WeightDifference

MOST = 20  # lines of one kind
FEW = 5  # names in a line
Line = tuple[str, str]


def show_lines(found: Difference) -> Iterator[Line]:
    """Write all that differs, and in the end whether anything does."""
    yield "bold", f"{found.first} and {found.second}"
    if found.configuration:
        yield "red", f"configuration: {_fields(len(found.configuration))}"
        rows = [f"{name}: {one!r} → {other!r}" for name, (one, other) in found.configuration.items()]
        yield from _some(rows)
    if found.code:
        yield "red", "code"
        yield from _some([f"{name}: {what}" for name, what in found.code.items()])
    if found.weights is not None:
        yield from _weights(found.weights)
    if found.tokenizers:
        yield "red", "tokenizers"
        yield from _some(found.tokenizers)
    if found.outputs is not None:
        yield from _outputs(found.outputs)
    yield from (("yellow", f"note: {note}") for note in found.notes)
    unseen = " in what could be compared" if found.notes else ""
    yield ("red", "They differ.") if found.differs else ("green", f"No difference was found{unseen}.")


def _fields(count: int) -> str:
    return f"{count} field differs" if count == 1 else f"{count} fields differ"


def _some(rows: list[str]) -> Iterator[Line]:
    yield from (("", f"  {row}") for row in rows[:MOST])
    if len(rows) > MOST:
        yield "", f"  … and {len(rows) - MOST:,} more; --json lists all"


def _weights(found: WeightDifference) -> Iterator[Line]:
    if not found.differs:
        yield (
            "green",
            f"weights: all {found.compared:,} tensors are equal" if found.compared else "weights: same headers",
        )
        return
    yield "red", "weights"
    for side, names in (("first", found.only_first), ("second", found.only_second)):
        yield from _some([f"only in the {side}: {name}" for name in names])
    yield from _some([f"{name}: {one} and {other}" for name, (one, other) in found.shapes.items()])
    yield from _some([f"{name}: {one} and {other}" for name, (one, other) in found.types.items()])
    if found.apart:
        equal = found.compared - len(found.apart)
        yield "", f"  {len(found.apart):,} of {found.compared:,} tensors have other values, {equal:,} are equal:"
        yield from _some([f"{each.name}: {_say_apart(each)}" for each in found.apart])
        if layers := sorted({int(n) for each in found.apart for n in re.findall(r"\.(\d+)\.", each.name)[:1]}):
            yield "", f"  in the layers {', '.join(map(str, layers))}"


def _outputs(found: Divergence) -> Iterator[Line]:
    if found.first is None:
        yield "green", f"outputs: equal in all {found.compared:,} modules, at most {found.last:.3g} apart in the end"
        if found.not_numbers:
            yield "yellow", "  both give values that are no numbers (NaN), which count as equal"
        yield from _only_in_one(found)
        return
    name = (found.first or "the whole model") + (f", call {found.call}," if found.call > 1 else "")
    how = found.what or f"{found.most:.3g} apart, of {found.scale:.3g} at most"
    yield "red", f"outputs: {name} ({found.kind}) is the first of {found.compared:,} modules that differs: {how}"
    came = {True: "what came into it is equal; ", False: "what came into it differs already; ", None: ""}
    yield "", f"  {came[found.inputs_equal]}in the end, the models are {found.last:.3g} apart"
    yield from _only_in_one(found)


def _only_in_one(found: Divergence) -> Iterator[Line]:
    reasons = ("as they ran in the first only", "as they ran in the second only", "as the two arrange them otherwise")
    for reason, names in zip(reasons, (*found.only, found.unlike), strict=True):
        if names:
            shown = ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")
            yield "", f"  not compared, {reason}: {len(names):,} of the modules: {shown}"


def _say_apart(found: Apart) -> str:
    if math.isinf(found.most):
        return "infinite, or no number, in one of the two only"
    share = f"{found.share:.2%} of its norm" if found.share < math.inf else "from all zeros"
    return f"at most {found.most:.3g} apart, {share}"
