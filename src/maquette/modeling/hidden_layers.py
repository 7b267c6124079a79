"""Layers that torch does not know of, as they lie in a plain list or dictionary: they would be lost in a save."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch import nn

from maquette.modeling.provenance import walk

CONTAINERS = (list, tuple, dict)
MOST = 256  # entries of one container that are looked at


def find_hidden(model: Any, *, into_models: bool) -> list[str]:
    """Name attributes that hold layers or parameters which are nowhere registered; `_names` say that it is meant.

    Args:
        model: where to look.
        into_models: also in the models inside, which look for themselves when they are made.
    """
    modules = walk(model)
    inside = tuple(
        start for start, module in modules[1:] if not into_models and hasattr(type(module), "save_pretrained")
    )
    found = [
        (start + name, value)
        for start, module in modules
        if not start.startswith(inside)
        for name, value in vars(module).items()
        if name[0] != "_" and isinstance(value, CONTAINERS) and value
    ]
    if not found:
        return []
    known = {id(module) for module in model.modules()} | {id(parameter) for parameter in model.parameters()}
    return [name for name, value in found if any(id(part) not in known for part in _parts(value, depth=3))]


def say_hidden(model: str, names: Iterable[str]) -> str:
    """Phrase it."""
    return (
        f"{model} keeps layers in plain lists or dictionaries, of which torch knows nothing: {', '.join(names)}. They "
        "are not saved, not moved to a device, and no optimizer gets their parameters. Use nn.ModuleList, "
        "nn.ModuleDict or nn.ParameterList; where it is meant, begin the attribute's name with an underscore."
    )


def _parts(value: Any, *, depth: int) -> Iterator[Any]:
    if isinstance(value, nn.Module | nn.Parameter):
        yield value
    elif isinstance(value, CONTAINERS) and depth:
        for part in islice(value.values() if isinstance(value, dict) else value, MOST):
            yield from _parts(part, depth=depth - 1)
