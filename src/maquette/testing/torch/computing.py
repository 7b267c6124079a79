"""Checks of what a model computes: the same every time, for every batch, in half precision, compiled and exported."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everyone writes it

from maquette.testing.basics import batch_size
from maquette.testing.comparison import close, compare, example_of, in_words, same
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe
from maquette.testing.subject import UNFIT, Save
from maquette.testing.torch.subject import (
    Observation,
    Subject,
    Tensors,
    flatten,
    non_persistent,
    run,
    snapshot,
    state_of,
)

REPEATS = 5


# Where two runs part ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call of a submodule, and what it returned."""

    name: str
    kind: str
    outputs: Tensors


def trace(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[Tensors, list[Call]]:
    """Run a model and note what every submodule returns, in the order in which they finish."""
    calls: list[Call] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: calls.append(Call(name, type(module).__name__, snapshot(flatten(output))))

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        return run(model, inputs), calls
    finally:
        for hook in hooks:
            hook.remove()


def first_parting(one: list[Call], other: list[Call], agree: Callable[[torch.Tensor, torch.Tensor], bool]) -> str:
    """Name the submodule whose output is the first that two runs do not agree on."""
    for mine, theirs in zip(one, other, strict=False):
        if mine.name != theirs.name or mine.outputs.keys() != theirs.outputs.keys():
            break
        if not all(agree(tensor, theirs.outputs[name]) for name, tensor in mine.outputs.items()):
            return f"first in `{mine.name}` ({mine.kind})"
    return "in the model's own forward"


# Checks ----------------------------------------------------------------------------------------------------------


def check_determinism(subject: Subject) -> Iterator[Fault]:
    """In evaluation mode one input always gives the same output, and nothing else changes."""
    model, inputs = subject.build(), subject.inputs
    given = snapshot(inputs)
    with torch.no_grad():
        model(**given)  # the first run may make what later ones find, a table of positions say
    before = snapshot(state_of(model))
    run(model, inputs)
    for name in compare(snapshot(inputs), given, 0.0):
        yield Fault(f"forward changes its input `{name}` in place", "work on a copy: x = x + 1 instead of x += 1")
    for name, difference in compare(before, state_of(model), 0.0).items():
        yield Fault(
            f"`{name}` is {difference} after a run in evaluation mode",
            "update running values only where self.training is True",
        )
    outputs, calls = trace(model, inputs)
    for _ in range(REPEATS):
        again, repeated = trace(model, inputs)
        if wrong := compare(outputs, again, 0.0):
            where = first_parting(calls, repeated, same)
            yield Fault(
                f"two runs on one input differ in evaluation mode, {where}: {in_words(wrong)}",
                "draw random numbers only where self.training is True; F.dropout needs training=self.training",
            )
            return


def check_batch(subject: Subject) -> Iterator[Fault]:
    """A batch gives for each example what the example gives alone."""
    inputs, size = subject.inputs, batch_size(subject.inputs)
    outputs, calls = trace(subject.model, inputs)
    rows = {name for name, tensor in outputs.items() if tensor.ndim and tensor.shape[0] == size}
    if not rows:
        raise NotApplicableError(f"no output has a first dimension of {size}, the number of examples")
    for index in range(size):
        try:
            alone, single = trace(subject.model, {name: tensor[index : index + 1] for name, tensor in inputs.items()})
        except Exception as error:
            yield Fault(f"a batch of one fails, {describe(error)}", "avoid squeeze() without a dimension")
            return
        expected = {name: example_of(outputs[name], index, alone.get(name, outputs[name])) for name in rows}
        if wrong := compare(expected, {name: alone[name] for name in rows & alone.keys()}, subject.tolerance):
            where = first_parting(calls, single, _row_agrees(index, size, subject.tolerance))
            yield Fault(
                f"example {index} alone gives another output than in a batch of {size}, {where}: {in_words(wrong)}",
                "let no operation mix the first dimension, such as statistics over a batch in evaluation mode",
            )
            return


def _row_agrees(index: int, size: int, tolerance: float) -> Callable[[torch.Tensor, torch.Tensor], bool]:
    def agrees(batch: torch.Tensor, alone: torch.Tensor) -> bool:
        row = example_of(batch, index, alone) if batch.ndim and batch.shape[0] == size else alone
        return row.shape != alone.shape or close(row, alone, tolerance)  # where no example is a row, nothing to compare

    return agrees


def check_padding(subject: Subject) -> Iterator[Fault]:
    """Tokens that the attention mask hides change nothing for the others."""
    tokens = subject.inputs.get(subject.model_class.main_input_name)
    if "attention_mask" not in subject.parameters or tokens is None:
        raise NotApplicableError("forward takes no attention_mask beside its main input")
    if tokens.is_floating_point() or tokens.ndim < 2:
        raise NotApplicableError(f"`{subject.model_class.main_input_name}` does not hold token ids")
    mask = subject.inputs.get("attention_mask", torch.ones_like(tokens))
    shorter = {**subject.inputs, "attention_mask": mask}
    longer = {name: F.pad(t, (0, 1)) if t.shape == tokens.shape else t for name, t in shorter.items()}
    expected, found = run(subject.model, shorter), run(subject.model, longer)
    cut = {name: _cut(tensor, expected.get(name, tensor)) for name, tensor in found.items()}
    if wrong := compare(expected, cut, subject.tolerance):
        yield Fault(
            f"one more token, which attention_mask hides, changes the others' outputs: {in_words(wrong)}",
            "give the mask to attention, and leave hidden places out of means and sums over the length",
        )


def _cut(longer: torch.Tensor, shorter: torch.Tensor) -> torch.Tensor:
    """Leave out the last entry of every dimension that one token more made longer by one."""
    if longer.ndim == shorter.ndim:
        for dim, size in enumerate(shorter.shape):
            if longer.shape[dim] == size + 1:
                longer = longer.narrow(dim, 0, size)
    return longer


def check_half_precision(subject: Subject) -> Iterator[Fault | Unchecked]:
    """In bfloat16 the model runs, gives finite numbers, and keeps its type when it is saved and loaded."""
    model = subject.rebuild(dtype=torch.bfloat16)
    inputs = {name: t.bfloat16() if t.is_floating_point() else t for name, t in subject.inputs.items()}
    try:
        outputs = run(model, inputs)
    except Exception as error:
        fix = "make new tensors in the type of those at hand: torch.ones(…, dtype=x.dtype), mask.to(x.dtype)"
        yield Fault(f"forward fails in bfloat16, {describe(error)}", fix)
        return
    for name, tensor in outputs.items():
        if not subject.finite(tensor):
            yield Fault(
                f"the output `{name}` is not finite in bfloat16",
                "take constants from torch.finfo(x.dtype), and compute what overflows in float32",
            )
    if subject.survives_saving:
        yield from _check_half_reload(subject, subject.save("half_precision", model, inputs))
    else:
        yield Unchecked("saving", UNFIT)


def _check_half_reload(subject: Subject, save: Save) -> Iterator[Fault]:
    """Buffers that are not saved may come back in the type that the constructor gives them; all else is as it was."""
    loaded, how = subject.reload(save), "saving and loading in bfloat16"
    before, after = save.expected.state, state_of(loaded)
    uncast = {n for n in non_persistent(loaded) & before.keys() & after.keys() if before[n].dtype != after[n].dtype}
    try:
        found = Observation.of(loaded, save.inputs)
    except Exception as error:
        names = ", ".join(f"`{name}`" for name in sorted(uncast)) or "none"
        fix = (
            f"cast buffers that are not saved (of another type now: {names}) where they are used: self.name.to(x.dtype)"
        )
        yield Fault(f"forward fails after {how}, {describe(error)}", fix)
        return
    faults = list(save.expected.without(uncast).faults(found.without(uncast), how, 0.05 if uncast else None))
    save.reloads = not faults and not uncast
    yield from faults


def check_compile(subject: Subject) -> Iterator[Fault]:
    """`torch.compile` agrees with the plain run.

    The backend is "eager": what is examined is whether the model's Python can be captured, not torch's code generation.
    """
    torch._dynamo.reset()
    try:
        with _quiet():
            compiled: Any = torch.compile(subject.build(), backend="eager")
            found = run(compiled, subject.inputs)
    except Exception as error:
        yield Fault(f"torch.compile fails, {describe(error)}", CAPTURE)
        return
    finally:
        torch._dynamo.reset()
    if wrong := compare(subject.outputs, found, subject.tolerance):
        yield Fault(f"compiled, {in_words(wrong)}", "keep Python side effects, counters say, out of forward")


def check_export(subject: Subject) -> Iterator[Fault]:
    """`torch.export` captures the model whole, and the program agrees with the plain run."""
    try:
        model = subject.build()
        run(model, subject.inputs)  # what the first run alone does is not part of the program
        with _quiet():
            program = torch.export.export(model, (), snapshot(subject.inputs), strict=False)
            found = run(program.module(), subject.inputs)
    except Exception as error:
        yield Fault(f"torch.export fails, {describe(error)}", CAPTURE)
        return
    if wrong := compare(subject.outputs, found, subject.tolerance):
        yield Fault(f"the exported program differs, {in_words(wrong)}", "keep Python side effects out of forward")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch says of its own code, and the pages that it prints and logs before it raises."""
    level, said = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


CAPTURE = (
    "let Python decide by shapes and the configuration, never by values in tensors: torch.where instead of `if`, no "
    ".item() or .tolist() in forward"
)
