"""Models made of models: parts that are handed over, or made of the configurations inside of the model's own."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from maquette.errors import ConfigurationError, InputError
from maquette.modeling.heads import find_width
from maquette.modeling.torch import PreTrainedModel


def take_part(owner: Any, name: str, given: Any, make: Callable[[Any], Any], *, field: str = "") -> Any:
    """Give a part of a model: the one that is handed over, or a fresh one; the two share its configuration.

    Args:
        owner: the model, whose configuration has that of the part.
        name: of the part.
        given: a model, or None.
        make: makes a model of a configuration.
        field: of the configuration; the part's name unless given.

    Raises:
        InputError: something else than a model, or one of another configuration.
    """
    config = getattr(owner.config, field or name)
    if given is None:
        return make(config)
    if not isinstance(given, PreTrainedModel):
        raise InputError(f"{type(owner).__name__}: {name} has to be a PreTrainedModel, not a {type(given).__name__}.")
    if given.config.model_type != config.model_type:
        raise InputError(
            f"{type(owner).__name__}: {name} is a {type(given).__name__} ({given.config.model_type!r}), and "
            f"config.{field or name} is of {config.model_type!r}: leave the configuration out, or give the part's own."
        )
    owner.config.__dict__[field or name] = given.config
    return given


def check_reads(owner: Any, name: str, part: Any, inputs: Iterable[str]) -> None:
    """Refuse a part that reads something else, or scores a vocabulary.

    Raises:
        InputError: naming it.
    """
    wanted = tuple(inputs)
    if part.main_input_name not in wanted:
        raise InputError(
            f"{type(owner).__name__}: {name} is a {type(part).__name__}, which reads {part.main_input_name}; what "
            f"belongs there reads {' or '.join(wanted)}."
        )
    if part.get_output_embeddings() is not None:
        raise InputError(
            f"{type(owner).__name__}: {name} is a {type(part).__name__}, which scores a vocabulary; give the base "
            f"model without its head."
        )


def width_of(owner: Any, name: str, config: Any) -> int:
    """Give the width of a part's states.

    Raises:
        ConfigurationError: its configuration does not say it under a usual name.
    """
    if (found := find_width(config)) is None:
        raise ConfigurationError(
            f"{type(owner).__name__}: the {name}'s {type(config).__name__} does not say how wide states are: give it "
            'hidden_size, or an alias, aliases = {"hidden_size": "my_name"}.'
        )
    return found


def rest_pooler(part: Any) -> None:
    """Leave out of training what makes one vector of a row, where nothing reads that."""
    if isinstance(pooler := getattr(part, "pooler", None), nn.Module):
        pooler.requires_grad_(False)


def sort_keywords(kwargs: dict[str, Any], *parts: str) -> tuple[dict[str, Any], ...]:
    """Tell keywords that begin with a part's name (`encoder_dtype=…`) from the others, which come last."""
    found = [{n.removeprefix(f"{part}_"): v for n, v in kwargs.items() if n.startswith(f"{part}_")} for part in parts]
    rest = {n: v for n, v in kwargs.items() if not n.startswith(tuple(f"{part}_" for part in parts))}
    return (*found, rest)
