"""What a configuration class declares: its fields, read from annotations or from a constructor's signature."""

import copy
import dataclasses
import inspect
import math
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Union

import msgspec

MISSING: Any = inspect.Parameter.empty  # no default was declared
SKIPPED = {"self", "model_type", "aliases", "attribute_map"}
SCALARS = (bool, int, float, str)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a configuration: its name, the type it declares (`Any` where it declares none), its default."""

    name: str
    annotation: Any = Any
    default: Any = MISSING

    def fresh_default(self) -> Any:
        """Give the default as a value of its own, so that no two configurations share a list."""
        if isinstance(self.default, dataclasses.Field):
            factory = self.default.default_factory
            return copy.deepcopy(self.default.default) if factory is dataclasses.MISSING else factory()
        return copy.deepcopy(self.default)

    @property
    def required(self) -> bool:
        return self.default is MISSING

    def check(self, value: Any, convert: Callable[[type, Any], Any]) -> Any:
        """Give the value as the declared type has it (a JSON list as a tuple, say), or raise what is wrong with it.

        Raises:
            ValueError: says what was expected and what was found, without the field's name.
        """
        if self.annotation is Any:
            return _check_like_default(value, self.default)
        return _check_type(value, self.annotation, convert)


def annotated_fields(cls: type) -> dict[str, Field]:
    """Read the fields that a class declares as annotated attributes, without those of its bases."""
    hints = _hints(cls)
    return {
        name: Field(name, hints.get(name, Any), cls.__dict__.get(name, MISSING))
        for name in inspect.get_annotations(cls)
        if name not in SKIPPED and not name.startswith("_") and typing.get_origin(hints.get(name)) is not ClassVar
    }


def signature_fields(function: Callable[..., Any]) -> dict[str, Field]:
    """Read the fields that a hand-written constructor takes by name."""
    hints = _hints(function)
    return {
        p.name: Field(p.name, hints.get(p.name, Any), p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in SKIPPED
    }


def takes_any_keyword(function: Callable[..., Any]) -> bool:
    """Tell whether a constructor ends in `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _hints(owner: Any) -> dict[str, Any]:
    """Resolve annotations; what cannot be resolved (a name imported for type checkers only) counts as undeclared."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:
        raw = inspect.get_annotations(owner)
        return {name: Any if isinstance(hint, str) else hint for name, hint in raw.items()}


def _check_type(value: Any, annotation: Any, convert: Callable[[type, Any], Any]) -> Any:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return _check_union(value, typing.get_args(annotation), convert)
    try:
        return msgspec.convert(value, annotation, dec_hook=convert, str_keys=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"{str(error).replace('`', '')} (found {reprlib.repr(value)})") from error
    except TypeError:  # a type that msgspec does not know how to check: a callable, a TypeVar, …
        return value


def _check_union(value: Any, arms: tuple[Any, ...], convert: Callable[[type, Any], Any]) -> Any:
    if any(type(value) is arm for arm in arms):
        return value
    faults = []
    for arm in arms:
        try:
            return _check_type(value, arm, convert)
        except ValueError as fault:
            if arm is not type(None):
                faults.append(str(fault))
    raise ValueError("; or ".join(dict.fromkeys(faults)))


def _check_like_default(value: Any, default: Any) -> Any:
    """Hold an undeclared field to its default's kind: a number is no text, and no NaN where a count belongs.

    Structures and None pass: without a declaration nobody can know that they are wrong.
    """
    if isinstance(value, SCALARS) and isinstance(default, SCALARS):
        if isinstance(value, str) is not isinstance(default, str):
            expected = "a text" if isinstance(default, str) else "a number" if type(default) is not bool else "true or false"
            raise ValueError(f"Expected {expected} as in the default, {default!r}, not {value!r}")
        if isinstance(value, float) and not math.isfinite(value) and isinstance(default, int):
            raise ValueError(f"Expected a number as in the default, {default!r}, not {value!r}")
    return value
