"""What a model's `forward` takes, read from its signature, and from the models inside where that takes any name."""

import inspect
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from torch import nn

SPANS = ("start_positions", "end_positions")
ITEMS = "num_items_in_batch"  # a model that takes it divides the sum of its losses by it


class Interface(NamedTuple):
    """What a model's `forward` takes: names, those it needs, those that are labels, and whether it takes any name."""

    model: str
    names: tuple[str, ...]
    needed: tuple[str, ...]
    labels: tuple[str, ...]
    takes_any: bool

    @classmethod
    def of(cls, model: nn.Module, label_names: Sequence[str] | None, *, is_judged: bool = False) -> "Interface":
        """Read it from the signature, and where that has `**kwargs`, from those of the models that these reach.

        Labels are `labels` where any name is taken or the loss comes from outside. A model takes any column only where
        no signature names one.
        """
        own, *inner = _signatures(model)
        while not _named(own) and inner:  # a wrapper that only hands on
            own, *inner = inner
        named = [*_named(own), *(p for signature in inner for p in _named(signature))]
        names = tuple(dict.fromkeys(p.name for p in named))
        needed = tuple(p.name for p in _named(own) if p.default is p.empty and p.name != ITEMS)
        is_open = any(p.kind is p.VAR_KEYWORD for p in own)
        found = (_find_labels(_named(own)), _find_labels(named), ["labels"] if is_open or is_judged else [])
        labels = label_names or next(filter(None, found), [])
        takes_any = is_open and not {*names} - {*labels}
        return cls(type(model).__name__, names, needed, tuple(labels), takes_any)


def _find_labels(named: list[inspect.Parameter]) -> list[str]:
    return list(dict.fromkeys(p.name for p in named if "label" in p.name or p.name in SPANS))


def _named(signature: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _signatures(model: nn.Module, depth: int = 5) -> Iterator[list[inspect.Parameter]]:
    """Give the parameters of a model's `forward`, then those of the models that its `**kwargs` reach."""
    found = list(inspect.signature(model.forward).parameters.values())
    yield found
    if depth and any(p.kind is p.VAR_KEYWORD for p in found):
        if getattr(model, "base_model", None) is model:  # a head that inherits its base model, and runs its `forward`
            for base in [base for base in type(model).__mro__ if "forward" in vars(base)][1:]:
                yield list(inspect.signature(vars(base)["forward"]).parameters.values())[1:]
        for inner in _find_inner(model):
            yield from _signatures(inner, depth - 1)


def _find_inner(model: nn.Module) -> list[nn.Module]:
    """Find what a wrapper wraps, or a head's base model; otherwise the direct children that are no layers of torch."""
    if callable(get := getattr(model, "get_base_model", None)):  # peft
        return [cast(nn.Module, get())]
    for name in ("_orig_mod", "base_model"):  # torch.compile; PreTrainedModel
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and inner is not model:
            return [inner]
    return [child for child in model.children() if not type(child).__module__.startswith("torch.nn.")]
