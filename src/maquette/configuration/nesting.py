"""Of which class a configuration inside of another one is, where that is not known by its model type alone."""

import contextlib
import typing
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from maquette.errors import RemoteCodeError, UnknownNameError, UntrustedCodeError
from maquette.hub.sources import Source
from maquette.registry import config_class_for, registered_config
from maquette.remote_code.parts import find_parts

Key = tuple[str, str]  # a model type, and what the part's auto_map names for AutoConfig
_known: ContextVar[Mapping[Key, Any]] = ContextVar("known", default={})  # noqa: B039 - never changed


def _key(model_type: Any, auto_map: Any) -> Key:
    return str(model_type), str(auto_map.get("AutoConfig", "") if isinstance(auto_map, Mapping) else "")


def nested_class(kind: Any, content: Mapping[str, Any], base: Any) -> Any:
    """Pick the class of a nested configuration: the declared one, or the one of its model type that derives from it.

    Args:
        kind: the class that the field declares.
        content: what stands for the configuration in a file.
        base: the class that any configuration derives from; a field of that kind has to know the model type.
    """
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type in ("", kind.model_type):
        return kind
    try:
        found = _known.get().get(_key(model_type, content.get("auto_map"))) or config_class_for(model_type)
    except UnknownNameError:
        if kind is base:
            raise
        return kind
    return found if issubclass(found, kind) else kind


@contextlib.contextmanager
def _knowing(classes: Mapping[Key, Any]) -> Iterator[None]:
    token = _known.set({**_known.get(), **classes})
    try:
        yield
    finally:
        _known.reset(token)


def parts_of(config: Any) -> contextlib.AbstractContextManager[None]:
    """Have parts that are read meanwhile be of the classes that those of this configuration are of."""
    parts = (part.config for part in find_parts(config))
    return _knowing({_key(one.model_type, one.auto_map): type(one) for one in parts})


def parts_in(
    source: Source, content: Mapping[str, Any], fields: Mapping[str, Any], trust: bool | str | None
) -> contextlib.AbstractContextManager[None]:
    """Have parts that are read meanwhile be of the classes that a checkpoint's own code has for them.

    Args:
        source: the checkpoint.
        content: what its file holds.
        fields: of the class that reads it; other keys stay data.
        trust: `trust_remote_code` as the caller gave it.

    Raises:
        UntrustedCodeError: the caller did not approve the code; the part is named.
        RemoteCodeError: it cannot be imported, or its map names something else; the part is named.
    """
    found: dict[Key, Any] = {}
    for name, field in fields.items():
        for path, part in _bringing_code(content.get(name), name):
            if part["model_type"] not in _declared(field.annotation) and not registered_config(part["model_type"]):
                found[_key(part["model_type"], part["auto_map"])] = _load(source, path, part, trust)
    return _knowing(found)


def _load(source: Source, path: str, part: Mapping[str, Any], trust: bool | str | None) -> Any:
    from maquette.remote_code.loading import load_remote_class  # most configurations bring no code

    try:
        return load_remote_class(source, part["auto_map"], "AutoConfig", trust=trust)
    except (UntrustedCodeError, RemoteCodeError) as error:
        raise type(error)(f"{path} (model type {part['model_type']!r}): {error}") from error.__cause__


def _bringing_code(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict):
        auto_map = value.get("auto_map")
        if isinstance(value.get("model_type"), str) and isinstance(auto_map, Mapping) and "AutoConfig" in auto_map:
            yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if name != "auto_map":
            yield from _bringing_code(item, f"{path}.{name}")


def _declared(annotation: Any) -> set[str]:
    """Name the model types of the classes that a field is declared with."""
    inner = set().union(*(_declared(arm) for arm in typing.get_args(annotation)))
    return inner | {getattr(annotation, "model_type", None) or ""} if isinstance(annotation, type) else inner
