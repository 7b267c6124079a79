"""What is looked at: a model on the meta device, found from a class, a configuration, a folder or a repository."""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import maquette
from maquette.configuration import PretrainedConfig, read_config_file
from maquette.errors import (
    ConfigurationError,
    InputError,
    MaquetteError,
    UnknownNameError,
    UntrustedCodeError,
    did_you_mean,
)
from maquette.hub.sources import SOURCE_OPTIONS, Source, open_source
from maquette.modeling.deferred import Deferred
from maquette.modeling.provenance import is_lazy
from maquette.modeling.weights import as_dtype
from maquette.registry import TORCH_AUTO_CLASSES, card_for
from maquette.storage.paths import user_path
from maquette.workshop.targets import CLASS, open_target
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
        UnknownNameError: it is no floating-point type.
    """
    try:
        return as_dtype(SHORT.get(dtype, dtype) if isinstance(dtype, str) else dtype)
    except ValueError:
        raise UnknownNameError(
            f"dtype={dtype!r} is no type of weights.{did_you_mean(str(dtype), SHORT)} Give one of "
            f"{', '.join(SHORT)}, or a floating-point type as torch calls it."
        ) from None


def find_subject(
    target: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    dtype: Any = None,
    trust: bool | str | None = None,
    **places: Any,
) -> Subject:
    """Find what a caller means, and build it without memory for its weights.

    Args:
        target: a folder, a `config.json` or a repository; `"module:Class"`; a configuration; a class, or a model.
        settings: fields of the configuration to change.
        auto_class: the AutoClass that says which model of a configuration is meant; unless given, what the file says,
            or the base model.
        dtype: of its weights; unless given, what the configuration says.
        trust: what `trust_remote_code` is elsewhere.
        places: where to read from, as `from_pretrained` takes them.

    Raises:
        MissingFileError, UnknownNameError, ConfigurationError: there is none, or nothing of it can be seen.
    """
    if auto_class is not None and auto_class not in TORCH_AUTO_CLASSES:
        raise UnknownNameError(f"torch has no AutoClass {auto_class!r}.{did_you_mean(auto_class, TORCH_AUTO_CLASSES)}")
    if wrong := sorted(places.keys() - SOURCE_OPTIONS):
        raise TypeError(f"xray has no option {wrong[0]!r}.{did_you_mean(wrong[0], SOURCE_OPTIONS)}")
    if isinstance(target, nn.Module):
        return Subject(type(target).__name__, shadow(target, read_dtype(dtype)))
    if isinstance(target, str) and CLASS.fullmatch(target) and not os.path.lexists(user_path(target)):
        target = open_target(target, settings=settings).model_class
    if isinstance(target, type):
        return _of_class(target, dict(settings or {}), dtype)
    if isinstance(target, PretrainedConfig):
        finder = getattr(maquette, auto_class or _head_of(target.model_type, target.architectures))
        found = finder._find(None, target, None)
        return Subject(found.__name__, build(found, target._changed(dict(settings or {}), "the configuration"), dtype))
    if not isinstance(target, str | os.PathLike):
        raise TypeError(
            "xray looks at a folder, a repository, a class, a configuration or a model, not at a "
            f"{type(target).__name__}."
        )
    read_dtype(dtype)
    path = user_path(target)
    if path.is_file() and path.suffix not in (".json", ".safetensors"):
        raise InputError(f"{str(target)!r} is no model: give a folder, its config.json, a repository, or module:Class.")
    with open_source(target, **places) as source:
        return _read(source, settings or {}, auto_class, dtype, trust)


def _of_class(target: type, settings: dict[str, Any], dtype: Any) -> Subject:
    """Build a class from its defaults, or from its card's smallest configuration where it has none for some field."""
    if not issubclass(target, nn.Module):
        raise InputError(f"{target.__name__} is no torch module: xray looks at models in torch.")
    config_class, notes = getattr(target, "config_class", None), []
    try:
        config = config_class(**settings) if config_class else None
    except ConfigurationError:
        opened = open_target(target, settings=settings)  # whose error is the user's
        config = opened.config
        notes.append(f"{type(config).__name__} has no defaults for all of its fields: this is its smallest one.")
    return Subject(target.__name__, build(target, config, dtype), notes=notes)


def _read(
    source: Source, settings: Mapping[str, Any], auto_class: str | None, dtype: Any, trust: bool | str | None
) -> Subject:
    found = Subject(source.label, weights=read_weights(source))
    try:
        content, _ = read_config_file(source)
        finder = getattr(maquette, auto_class or _head_in(content))
        model_class = finder._find(source, None, trust)
        try:
            config = model_class._load_config(source, None, dict(settings), trust=trust)
        except TypeError as error:  # of a field that there is not
            raise error if isinstance(error, MaquetteError) else ConfigurationError(str(error)) from None
        found.model = build(model_class, config, dtype or config.dtype)
    except UntrustedCodeError:
        found.notes.append(
            "It brings code that was not approved, and none of it ran: only its files were looked at. What it can do: "
            f"maquette trust {source.label}"
        )
    except MaquetteError as error:
        if found.weights is None or settings or auto_class:  # what was asked for is not there
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


def shadow(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Copy a model onto the meta device; what it is tied to stays tied."""
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        if not is_lazy(tensor):
            copied: Any = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = (
                nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
            )
    found = copy.deepcopy(model, memo)
    return found if dtype is None else found.to(dtype)
