"""What is looked at: a model on the meta device, found from a class, a configuration, a folder or a repository."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import maquette
from maquette.configuration import PretrainedConfig, read_config_file
from maquette.errors import MaquetteError, UnknownNameError, UntrustedCodeError, did_you_mean
from maquette.hub.sources import Source, open_source
from maquette.modeling.deferred import Deferred
from maquette.modeling.weights import as_dtype
from maquette.registry import TORCH_AUTO_CLASSES, card_for
from maquette.workshop.xray.files import Weights, read_weights

SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "half": "float16", "float": "float32"}


@dataclass
class Subject:
    """A model without memory, as far as it may be seen, and the files it lies in.

    Attributes:
        label: what it is called.
        model: None where its code may not run, or is not known.
        weights: what the headers of its files say.
        notes: what could not be seen, and why.
    """

    label: str
    model: nn.Module | None = None
    weights: Weights | None = None
    notes: list[str] = field(default_factory=list)


def read_dtype(dtype: Any) -> torch.dtype | None:
    """Read a type of numbers, in the short spelling too: "bf16".

    Raises:
        ValueError: it is no floating-point type.
    """
    return as_dtype(SHORT.get(dtype, dtype) if isinstance(dtype, str) else dtype)


def find_subject(
    target: Any, *, head: str | None = None, dtype: Any = None, trust: bool | str | None = None, **options: Any
) -> Subject:
    """Find what a caller means, and build it without memory for its weights.

    Args:
        target: a folder, a `config.json` or a repository; a configuration; a model's class, or a model.
        head: the AutoClass that says which model of a configuration is meant; unless given, what the file says, or the
            base model.
        dtype: of its weights; unless given, what the configuration says.
        trust: what `trust_remote_code` is elsewhere.
        options: where to read from, as `from_pretrained` takes them.

    Raises:
        MissingFileError, UnknownNameError, ConfigurationError: there is none, or nothing of it can be seen.
    """
    if head is not None and head not in TORCH_AUTO_CLASSES:
        raise UnknownNameError(f"torch has no AutoClass {head!r}.{did_you_mean(head, TORCH_AUTO_CLASSES)}")
    if isinstance(target, nn.Module):
        return Subject(type(target).__name__, target)
    if isinstance(target, type) and issubclass(target, nn.Module):
        config_class = getattr(target, "config_class", None)
        return Subject(target.__name__, build(target, config_class() if config_class else None, dtype))
    if isinstance(target, PretrainedConfig):
        auto_class = getattr(maquette, head or _head_of(target.model_type, target.architectures))
        found = auto_class._find(None, target, None)
        return Subject(found.__name__, build(found, target, dtype))
    if not isinstance(target, str | os.PathLike):
        raise TypeError(
            "xray looks at a folder, a repository, a configuration, a model or its class, not at a "
            f"{type(target).__name__}."
        )
    with open_source(target, **options) as source:
        return _read(source, head, dtype, trust)


def _read(source: Source, head: str | None, dtype: Any, trust: bool | str | None) -> Subject:
    found = Subject(source.label, weights=read_weights(source))
    try:
        content, _ = read_config_file(source)
        auto_class = getattr(maquette, head or _head_in(content))
        model_class = auto_class._find(source, None, trust)
        config = model_class._load_config(source, None, {})
        found.model = build(model_class, config, dtype or config.dtype)
    except UntrustedCodeError:
        found.notes.append(
            "It brings code that was not approved, and none of it ran: only its files were looked at. What the code can "
            f"do: maquette trust {source.label}"
        )
    except MaquetteError as error:
        if found.weights is None:
            raise
        found.notes.append(f"Only its files were looked at, as there is no model to build: {error}")
    return found


def _head_in(content: Mapping[str, Any]) -> str:
    """Give the AutoClass of the class that a file says it was saved from."""
    names = content.get("architectures")
    wanted = names if isinstance(names, list) else []
    maps = content.get("auto_map")
    if isinstance(maps, Mapping) and maps:
        own = {name: str(maps[name]).rpartition(".")[2] for name in maps if name in TORCH_AUTO_CLASSES}
        return next((name for name, cls in own.items() if cls in wanted), next(iter(own), "AutoModel"))
    return _head_of(str(content.get("model_type", "")), wanted)


def _head_of(model_type: str, architectures: Any) -> str:
    wanted = (architectures or [""])[0]
    card = card_for(model_type)
    models = card.models_in("torch") if card else {}
    return next((name for name, reference in models.items() if reference.endswith(f":{wanted}")), "AutoModel")


def build(model_class: Any, config: Any, dtype: Any) -> nn.Module:
    """Run a constructor on the meta device."""
    kind = read_dtype(dtype)
    with torch.device("meta"), Deferred():  # fills of new memory are noted, and not done
        if hasattr(model_class, "from_config") and config is not None:
            made: nn.Module = model_class.from_config(config, dtype=kind)
            return made
        model: nn.Module = model_class()
        return model if kind is None else model.to(kind)
