"""Two models run on the same inputs: the first module whose output differs, and by how much."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import InputError
from maquette.modeling.provenance import tensors_in


@dataclass(frozen=True)
class Divergence:
    """What was found when two models ran on the same inputs.

    Attributes:
        compared: how many modules both have under the same name, and ran.
        first: the one whose output was the first to differ; None where none does.
        kind: its class.
        most: the largest difference of two numbers there.
        scale: the largest number of the first model there.
        what: where it is no number that differs: the shapes, or how many tensors come out.
        last: the largest difference in what the two models give in the end.
        inputs_equal: whether what came into that module was equal, within the tolerance.
        only: modules that ran in one of the two only.
    """

    compared: int
    first: str | None = None
    kind: str = ""
    most: float = 0.0
    scale: float = 0.0
    what: str = ""
    last: float = 0.0
    inputs_equal: bool = True
    only: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@dataclass
class _Call:
    module: nn.Module
    takes: list[Tensor]
    gives: list[Tensor]


def find_divergence(
    one: nn.Module, other: nn.Module, inputs: Mapping[str, Tensor], *, tolerance: float = 1e-5
) -> Divergence:
    """Run two torch models, whoever wrote them, and compare what their modules give, in the order in which they end.

    Modules are compared under the same name; the name under which a head keeps its base model is left away.

    Args:
        one, other: are put into evaluation mode while they run.
        inputs: what both take, by name.
        tolerance: how far numbers may lie apart, as a share of the largest of the first model's.

    Raises:
        InputError: a model does not take these inputs, or no module has the same name in both.
    """
    first, end = _record(one, inputs)
    second, other_end = _record(other, inputs)
    both = [name for name in first if name in second]
    if not both:
        named = " and ".join(f"{', '.join([*calls][:4])}, …" for calls in (first, second))
        raise InputError(f"No module that ran has the same name in both: {named}")
    only = tuple(name for name in first if name not in second), tuple(name for name in second if name not in first)
    last = max((_apart(a, b)[0] for a, b in zip(end, other_end, strict=False) if a.shape == b.shape), default=0.0)
    for name in both:
        what, most, scale = _compare(first[name].gives, second[name].gives, tolerance)
        if what or most:
            came = _compare(first[name].takes, second[name].takes, tolerance)
            kind = type(first[name].module).__name__
            return Divergence(len(both), name, kind, most, scale, what, last, not (came[0] or came[1]), only)
    what, most, scale = _compare(end, other_end, tolerance)
    if what or most:
        return Divergence(len(both), "", type(one).__name__, most, scale, what, last, True, only)
    return Divergence(len(both), last=last, only=only)


def _record(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[dict[str, _Call], list[Tensor]]:
    """Give for each module its first call, in the order in which they end, and what the model gives."""
    calls: dict[str, _Call] = {}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    handles = [
        module.register_forward_hook(_note(calls, name.removeprefix(prefix)), with_kwargs=True)
        for name, module in model.named_modules()
        if name and f"{name}." != prefix
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            output = model(**{name: value.clone() for name, value in inputs.items()})
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{type(model).__name__} does not run on these inputs: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return calls, _tensors(output)


def _note(calls: dict[str, _Call], name: str) -> Callable[..., None]:
    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if name not in calls:
            given = [tensor.detach().clone() for tensor in tensors_in((args, kwargs))]
            calls[name] = _Call(module, given, [tensor.detach().clone() for tensor in _tensors(output)])

    return note


def _tensors(output: Any) -> list[Tensor]:
    return tensors_in(list(output.values()) if isinstance(output, Mapping) else output)


def _compare(mine: list[Tensor], theirs: list[Tensor], tolerance: float) -> tuple[str, float, float]:
    """Say in what two lists differ: in words, or by how much and of how much."""
    if not mine or not theirs:
        return "", 0.0, 0.0
    if mine[0].shape != theirs[0].shape:
        return f"{tuple(mine[0].shape)} and {tuple(theirs[0].shape)}", 0.0, 0.0
    most, scale = _apart(mine[0], theirs[0])
    return ("", most, scale) if not most <= tolerance * max(scale, 1e-30) else ("", 0.0, scale)


def _apart(mine: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Give the largest difference, and the largest number of the first; infinite where one alone is no number."""
    if not mine.numel():
        return 0.0, 0.0
    one, other = mine.double().cpu(), theirs.double().cpu()
    apart = (one - other).abs().masked_fill((one == other) | (one.isnan() & other.isnan()), 0.0)
    return float(apart.nan_to_num(nan=torch.inf, posinf=torch.inf).max()), float(one.abs().nan_to_num().max())
