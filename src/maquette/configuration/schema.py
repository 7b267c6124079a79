"""What a configuration class declares, read from its annotations or its constructor, and whether values fit it."""

import collections.abc as abc
import copy
import dataclasses
import enum
import inspect
import math
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union

import msgspec

from maquette.errors import ConfigurationError, UnknownFieldError, bullets, did_you_mean

MISSING: Any = inspect.Parameter.empty  # no default, or no type, was declared
LABEL_FIELDS = ("num_labels", "id2label", "label2id")
# Names that annotations and signatures may have without declaring a field.
NOT_FIELDS = frozenset(
    {"self", "model_type", "aliases", "attribute_map", "auto_map", "name_or_path", "torch_dtype", *LABEL_FIELDS}
)
ARRAYS: dict[Any, type] = {
    **{kind: kind for kind in (list, tuple, set, frozenset)},
    **dict.fromkeys((abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    abc.Set: set,
}
LABEL_KINDS: dict[str, Any] = {
    "num_labels": Annotated[int, msgspec.Meta(ge=0)] | None,
    "id2label": dict[int, str] | None,
    "label2id": dict[str, int | Annotated[str, msgspec.Meta(pattern=r"^-?\d+$")]] | None,
}
Convert = Callable[[type, Any], Any]


class Fault(NamedTuple):
    """One thing that is wrong: where (`.text.layers[2]`), why, and whether it is a name that does not exist."""

    path: str
    reason: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.path.removeprefix('.')}: {self.reason}" if self.path else self.reason


class FaultError(ValueError):
    """Everything that is wrong with a value, on its way to the one error that says it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults

    @classmethod
    def single(cls, reason: str) -> "FaultError":
        return cls(Fault("", reason))

    def under(self, path: str) -> Iterator[Fault]:
        """Give the faults as they are seen from outside the value at `path`."""
        return (fault._replace(path=path + fault.path) for fault in self.faults)

    def as_error(self, name: str, *, field: str = "", place: str = "") -> ConfigurationError:
        """Phrase the error for the class `name`, or its `field`, and for the file `place` that is being read."""
        start = f"{place}: " if place else ""
        lines = sorted({str(fault) for fault in self.under(f".{field}" if field else "")})
        if len(lines) > 1:
            message = f"{start}{name} cannot be made:{bullets(lines)}"
        else:
            message = start + (lines[0] if lines[0].startswith(f"{name} ") else f"{name} cannot be made: {lines[0]}")
        kind = UnknownFieldError if any(fault.unknown for fault in self.faults) else ConfigurationError
        return kind(message)


def attempt(faults: list[Fault], path: str, check: Callable[..., Any], *given: Any) -> Any:
    """Give what a check gives; what it finds wrong joins the `faults`, as of the value at `path`."""
    try:
        return check(*given)
    except FaultError as failure:
        faults += failure.under(path)


def refuse(kind: type, value: Any) -> Any:
    """Refuse a value: it is no plain data, and there is no way to make a `kind` of it."""
    raise FaultError.single(f"Expected {kind.__name__}, got {type(value).__name__} (found {_show(value)})")


# What a class declares -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, the type and the default that are declared, if any are, and who declares it."""

    name: str
    annotation: Any = MISSING
    default: Any = MISSING
    by_hand: bool = False
    """Whether it is an argument of a hand-written constructor, rather than an annotated attribute."""
    own: bool = True
    """Whether the architecture declares it, rather than the base of all configurations."""

    @property
    def has_default(self) -> bool:
        return self.default is not MISSING

    def fresh_default(self) -> Any:
        """Give the default as a value of its own, so that no two configurations share a list."""
        if isinstance(self.default, dataclasses.Field):
            factory = self.default.default_factory
            return copy.deepcopy(self.default.default) if factory is dataclasses.MISSING else factory()
        return copy.deepcopy(self.default)

    def check(self, value: Any, convert: Convert = refuse) -> Any:
        """Give the value as the declared type has it (a JSON list as a tuple, say); the default is always right.

        Args:
            value: what to check.
            convert: makes an instance of a class that is no plain data, or raises ValueError.

        Raises:
            FaultError: saying what was expected and what was found, without the field's own name.
        """
        if self.annotation is MISSING:
            return _check_like_default(value, self.default)
        try:
            return check_type(value, self.annotation, convert)
        except FaultError:
            if value is self.default:
                return value
            raise


@dataclasses.dataclass(slots=True)
class Schema:
    """What a class and its bases declare."""

    fields: dict[str, Field] = dataclasses.field(default_factory=dict)
    """All fields by name."""
    annotated: dict[str, Field] = dataclasses.field(default_factory=dict)
    """Those declared by annotations, which the base constructor fills in."""
    labels: bool = False
    """Whether a hand-written constructor takes one of `LABEL_FIELDS`, and so may have defaults of its own for them."""

    @classmethod
    def read(cls, owner: type, root: type) -> "Schema":
        """Read what `owner` and its bases declare, the most derived last; `root` is the base of all configurations."""
        schema = cls()
        for base in reversed([base for base in owner.__mro__ if base not in root.__mro__[1:]]):
            constructor = None if base is root else vars(base).get("__init__")
            by_hand = signature_fields(constructor) if constructor else []
            schema.labels |= bool(constructor and parameters(constructor).keys() & set(LABEL_FIELDS))
            declared = annotated_fields(base)
            schema._redefine(vars(base), except_for={*declared, *(field.name for field in by_hand)})
            for name, field in declared.items():
                schema.fields[name] = schema.annotated[name] = dataclasses.replace(field, own=base is not root)
            for field in by_hand:
                hint = declared[field.name].annotation if field.name in declared else field.annotation
                schema.fields[field.name] = dataclasses.replace(field, annotation=hint)
        return schema

    def _redefine(self, attributes: Mapping[str, Any], *, except_for: set[str]) -> None:
        """Take a class attribute that is named like a field of a base as its new default, or as what computes it."""
        for name in self.fields.keys() & attributes.keys() - except_for:
            value = attributes[name]
            if isinstance(value, types.FunctionType | classmethod) or (isinstance(value, property) and not value.fset):
                del self.fields[name]
                self.annotated.pop(name, None)
            elif not isinstance(value, property):
                field = dataclasses.replace(self.fields[name], default=value, by_hand=False, own=True)
                self.fields[name] = self.annotated[name] = field


def declared_names(cls: type) -> set[str]:
    """Name the fields that one class adds, without resolving a single type."""
    constructor = vars(cls).get("__init__")
    return {*_annotations(cls), *(parameters(constructor) if constructor else ())} - NOT_FIELDS


def annotated_fields(cls: type) -> dict[str, Field]:
    """Read the fields that a class declares as annotated attributes, without those of its bases."""
    names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    return {
        name: Field(name, _resolve(hint, {**names, cls.__name__: cls}), vars(cls).get(name, MISSING))
        for name, hint in _annotations(cls).items()
        if name not in NOT_FIELDS
    }


def signature_fields(constructor: Callable[..., Any]) -> list[Field]:
    """Read the fields that a hand-written constructor takes by name."""
    names = getattr(inspect.unwrap(constructor), "__globals__", {})
    return [
        Field(name, _resolve(p.annotation, names), p.default, by_hand=True)
        for name, p in parameters(constructor).items()
        if name not in NOT_FIELDS
    ]


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """List the parameters of a function that can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in named}


def takes_any_keyword(function: Callable[..., Any]) -> bool:
    """Tell whether a function ends in `**kwargs`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _annotations(cls: type) -> dict[str, Any]:
    hints = inspect.get_annotations(cls)
    return {name: hint for name, hint in hints.items() if not name.startswith("_") and not _is_classvar(hint)}


def _is_classvar(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.partition("[")[0].rpartition(".")[2] == "ClassVar"
    return hint is ClassVar or typing.get_origin(hint) is ClassVar


def _resolve(hint: Any, names: Mapping[str, Any]) -> Any:
    """Resolve an annotation; one that cannot be (a name imported for type checkers only) counts as undeclared."""
    if hint is MISSING:
        return MISSING
    holder = type("Holder", (), {"__annotations__": {"hint": hint}})
    try:
        return typing.get_type_hints(holder, dict(names), include_extras=True)["hint"]
    except Exception:
        return MISSING


# Whether values fit ----------------------------------------------------------------------------------------------


def check_type(value: Any, annotation: Any, convert: Convert) -> Any:
    """Give the value as an annotation has it, all the way down.

    Raises:
        FaultError: every place where it does not fit.
    """
    kind, arms = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind is Any:
        return value
    if kind is Annotated:
        return _check_constraints(check_type(value, arms[0], convert), arms[0], annotation.__metadata__)
    if kind in (Union, types.UnionType):
        return _check_union(value, arms, convert)
    if kind is Literal:
        return _check_choice(value, {arm: arm for arm in arms})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value if isinstance(value, kind) else _check_choice(value, {member.value: member for member in kind})
    if kind in ARRAYS:
        return _check_array(value, kind, arms, convert)
    if kind in (dict, abc.Mapping, abc.MutableMapping):
        return _check_mapping(value, arms or (Any, Any), convert)
    return _check_leaf(value, annotation, convert)


def _check_leaf(value: Any, annotation: Any, convert: Convert) -> Any:
    try:
        if hasattr(annotation, "to_diff_dict"):  # a configuration, to which msgspec would add nothing
            return convert(annotation, value)
        return msgspec.convert(value, annotation, dec_hook=convert, str_keys=True)
    except msgspec.ValidationError as error:
        raise _rephrased(error, value) from None
    except FaultError:
        raise
    except ValueError as error:
        raise FaultError.single(str(error)) from None
    except TypeError:  # a type that nobody can check: a callable, a TypeVar, …
        return value


def _rephrased(error: msgspec.ValidationError, value: Any) -> FaultError:
    text = str(error).replace("`", "")
    return FaultError.single(f"{text} (found {_show(value)})")


def _show(value: Any) -> str:
    return " ".join(reprlib.repr(value).split())


def _check_constraints(value: Any, base: Any, metadata: Iterable[Any]) -> Any:
    """Apply `msgspec.Meta` to the value's own type; in a union, to those of its types that the constraint is about."""
    constraints = [each for each in metadata if isinstance(each, msgspec.Meta)]
    if value is None or not constraints:
        return value
    try:
        msgspec.convert(value, Annotated[(type(value), *constraints)])
    except msgspec.ValidationError as error:
        raise _rephrased(error, value) from None
    except TypeError:
        if typing.get_origin(base) not in (Union, types.UnionType):
            raise
    return value


def _check_union(value: Any, arms: tuple[Any, ...], convert: Convert) -> Any:
    """Take the type that the value already has, or the first that it can be read as."""
    if type(value) in arms and not isinstance(value, dict):
        return value
    failures: list[FaultError] = []
    for arm in sorted(arms, key=lambda arm: _rank(arm, value)):
        try:
            return check_type(value, arm, convert)
        except FaultError as fault:
            if arm is not type(None):
                failures.append(fault)
    deepest = max(failures, key=lambda failure: max(len(fault.path) for fault in failure.faults))
    if len(failures) == 1 or any(fault.path for fault in deepest.faults):
        raise deepest
    raise FaultError.single("; or ".join(dict.fromkeys(map(str, failures))))


def _rank(arm: Any, value: Any) -> int:
    """Try for a dictionary first the configuration of its own model type, then any configuration."""
    if not isinstance(value, dict) or not hasattr(arm, "model_type"):
        return 2
    return 0 if arm.model_type and arm.model_type == value.get("model_type") else 1


def _check_choice(value: Any, choices: dict[Any, Any]) -> Any:
    for choice, meant in choices.items():
        if type(value) is type(choice) and value == choice:
            return meant
    texts = [choice for choice in choices if isinstance(choice, str)]
    near = "." + did_you_mean(value, texts) if isinstance(value, str) else ""
    found = f"Expected {' or '.join(map(repr, choices))}, got {_show(value)}"
    raise FaultError.single((found + near).removesuffix("."))


def _check_array(value: Any, kind: Any, arms: tuple[Any, ...], convert: Convert) -> Any:
    made = ARRAYS[kind]
    if not isinstance(value, list | tuple | set | frozenset if issubclass(made, set | frozenset) else list | tuple):
        refuse(made, value)
    if made is tuple and arms and arms[-1] is not Ellipsis and len(value) != len(arms):
        raise FaultError.single(f"Expected {len(arms)} items, got {len(value)} (found {_show(value)})")
    each = arms if made is tuple and arms and arms[-1] is not Ellipsis else [arms[0] if arms else Any] * len(value)
    faults: list[Fault] = []
    pairs = enumerate(zip(value, each, strict=True))
    items = [attempt(faults, f"[{index}]", check_type, item, arm, convert) for index, (item, arm) in pairs]
    if faults:
        raise FaultError(*faults)
    try:
        return made(items)
    except TypeError as error:
        raise FaultError.single(f"{error} (found {_show(value)})") from None


def _check_mapping(value: Any, arms: tuple[Any, ...], convert: Convert) -> Any:
    if hasattr(value, "to_diff_dict"):  # a configuration counts as the dictionary that it is saved as
        return value
    if not isinstance(value, Mapping):
        refuse(dict, value)
    faults: list[Fault] = []
    items = [attempt(faults, f"[{key!r}]", _check_entry, key, item, arms, convert) for key, item in value.items()]
    if faults:
        raise FaultError(*faults)
    return dict(items)


def _check_entry(key: Any, item: Any, arms: tuple[Any, ...], convert: Convert) -> tuple[Any, Any]:
    return _check_key(key, arms[0], convert), check_type(item, arms[1], convert)


def _check_key(key: Any, annotation: Any, convert: Convert) -> Any:
    """Check a dictionary's key, which JSON can only hold as a text: `"3"` is read as the number that is declared."""
    try:
        return check_type(key, annotation, convert)
    except FaultError:
        try:
            return msgspec.convert(key, annotation, strict=False)
        except (msgspec.ValidationError, TypeError):
            pass
        raise


def _check_like_default(value: Any, default: Any) -> Any:
    """Hold an undeclared field to its default's kind: no text for a number, no NaN for a count, a tuple for a tuple.

    More cannot be known without a declaration: None, structures, and a number where the default is `"auto"` pass.
    """
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(default, int | float):
        if isinstance(value, str):
            expected = "true or false" if isinstance(default, bool) else "a number"
            raise FaultError.single(f"Expected {expected} as in the default, {default!r}, got {value!r}")
        if isinstance(value, float) and isinstance(default, int) and not math.isfinite(value):
            raise FaultError.single(f"Expected a number as in the default, {default!r}, got {value!r}")
    return value


# Labels ----------------------------------------------------------------------------------------------------------


def settle_labels(
    num_labels: Any = None, id2label: Any = None, label2id: Any = None
) -> tuple[dict[int, str], dict[str, int]]:
    """Work out `id2label` and `label2id` from what is given of the three; two labels, unless told otherwise.

    Raises:
        FaultError: what is given is not what it should be, or contradicts itself.
    """
    given = {"num_labels": num_labels, "id2label": id2label, "label2id": label2id}
    faults: list[Fault] = []
    checked = [attempt(faults, f".{name}", check_type, given[name], kind, refuse) for name, kind in LABEL_KINDS.items()]
    if faults:
        raise FaultError(*faults)
    return _agree(*checked)


def _agree(
    num_labels: int | None, id2label: dict[int, str] | None, label2id: dict[str, int | str] | None
) -> tuple[dict[int, str], dict[str, int]]:
    indices = {label: int(index) for label, index in (label2id or {}).items()}
    if id2label is None and label2id is not None:
        id2label = {index: label for label, index in indices.items()}
        if len(id2label) != len(indices):
            raise FaultError(Fault(".label2id", "gives two labels the same number; each needs its own"))
    if id2label is None:
        id2label = {index: f"LABEL_{index}" for index in range(2 if num_labels is None else num_labels)}
    if num_labels is not None and num_labels != len(id2label):
        reason = f"is {num_labels}, but id2label names {len(id2label)} classes; give one of the two"
        raise FaultError(Fault(".num_labels", reason))
    inverse = {label: index for index, label in id2label.items()}
    if label2id is None:
        return id2label, inverse
    if indices.keys() != inverse.keys() or any(id2label.get(index) != label for label, index in indices.items()):
        raise FaultError(Fault(".label2id", "is not the inverse of id2label; give one of the two"))
    return id2label, indices
