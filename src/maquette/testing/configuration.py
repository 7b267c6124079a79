"""`check_config`: whether a configuration keeps what it promises."""

import copy
import inspect
import json
import pickle
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from maquette.configuration import PretrainedConfig
from maquette.errors import ConfigurationError, UnknownNameError, did_you_mean
from maquette.testing.report import Check, Fault, NotApplicableError, Report, Unchecked, describe, run_checks

STORE_EACH = (
    "store every argument of __init__ under its own name (self.dim = dim) and pass **kwargs to super().__init__"
)
DECLARE = (
    "JSON has only lists, and keys of text: declare the field's type, dict[int, str] say, to have it converted back"
)
KEYWORD = inspect.Parameter.KEYWORD_ONLY
# Names that annotations and signatures may have without declaring a field; labels belong to all configurations.
NOT_FIELDS = {"self", "extra", "model_type", "aliases", "attribute_map", "num_labels", "id2label", "label2id"}
ABSENT: Any = object()


def check_config(
    config_class: type[PretrainedConfig],
    config: PretrainedConfig | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
    only: Iterable[str] | None = None,
) -> Report:
    """Learn everything that is wrong with a configuration at once, or have it in writing that nothing is.

    Args:
        config_class: the configuration.
        config: an instance to examine; unless given, the one with all defaults.
        values: for fields that accept few values, another one than `config` has: `{"block_type": "basic"}`. Other
            fields are changed by trial.
        skip: `{check: reason}` for checks to leave out; the report carries the reason.
        only: names of checks, to run these alone.

    Raises:
        ConformanceError: lists every fault and how to fix it.
        UnknownNameError: `skip` or `only` name no check, or `values` no field.
        ConfigurationError: there is no instance with all defaults, and none was given.
    """
    if config is None:
        try:
            config = config_class()
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}\nGive check_config an instance as its second argument.") from None
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(config_class, config, values or {}, Path(folder))
        return run_checks(config_class.__name__, CHECKS, subject, skip=skip, only=only)


class Subject:
    """A configuration under examination: its class, one instance, and values that differ from the instance's."""

    def __init__(
        self,
        config_class: type[PretrainedConfig],
        config: PretrainedConfig,
        values: Mapping[str, Any],
        folder: Path,
    ) -> None:
        self.config_class, self.config, self.values, self.folder = config_class, config, values, folder
        self.fields = own_fields(config_class)
        self.names = sorted(self.fields)
        if unknown := sorted(values.keys() - set(self.names)):
            hint = did_you_mean(unknown[0], self.names)
            raise UnknownNameError(f"values: {config_class.__name__} declares no field {unknown[0]!r}.{hint}")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that make such a configuration anew."""
        return {
            name: copy.deepcopy(value) for name in self.names if (value := self.get(self.config, name)) is not ABSENT
        }

    @staticmethod
    def get(config: PretrainedConfig, name: str) -> Any:
        """Read a field that may not be there."""
        return getattr(config, name, ABSENT)

    def make(self, **changes: Any) -> PretrainedConfig:
        """Construct the configuration again, with some fields changed."""
        return self.config_class(**{**self.arguments, **changes})

    @cached_property
    def changes(self) -> dict[str, Any]:
        """For every own field that can be changed alone, another value that the constructor accepts."""
        found = ((name, self._other_value(name)) for name in self.names)
        return {name: value for name, value in found if value is not ABSENT}

    def _other_value(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        value = self.get(self.config, name)
        for other in alternatives(None if value is ABSENT else value, self.fields[name].annotation):
            if plain(other) != plain(value) and self._accepts(name, other):
                return other
        return ABSENT

    def _accepts(self, name: str, value: Any) -> bool:
        try:
            self.make(**{name: copy.deepcopy(value)})
        except Exception:  # a value that the constructor refuses, whichever way
            return False
        return True


def own_fields(config_class: type[PretrainedConfig]) -> dict[str, inspect.Parameter]:
    """Read what a configuration and its bases declare by annotation or in `__init__`, beyond what all of them have."""
    fields: dict[str, inspect.Parameter] = {}
    for cls in reversed(config_class.__mro__):
        if not issubclass(cls, PretrainedConfig) or cls is PretrainedConfig:
            continue
        for name, annotation in inspect.get_annotations(cls).items():
            default = vars(cls).get(name, inspect.Parameter.empty)
            if "ClassVar" not in str(annotation) and not name.startswith("_"):
                fields[name] = inspect.Parameter(name, KEYWORD, default=default, annotation=_hints(cls).get(name, Any))
        if constructor := vars(cls).get("__init__"):
            hints = _hints(constructor)
            for name, parameter in inspect.signature(constructor).parameters.items():
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    fields[name] = parameter.replace(annotation=hints.get(name, Any))
    return {name: field for name, field in fields.items() if name not in NOT_FIELDS}


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError):  # types that only a type checker sees
        return {}


# Values ----------------------------------------------------------------------------------------------------------


def alternatives(value: Any, annotation: Any) -> Iterator[Any]:
    """Propose values of the same kind as `value`, the ones likeliest to be accepted first."""
    yield from _choices(annotation)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2, value // 2, value - 1, value + 8)
    elif isinstance(value, float):
        yield from (value / 2, value + 0.25, value * 2, 1.0)
    elif isinstance(value, str):
        yield value + "x"
    elif isinstance(value, list | tuple):
        yield from map(type(value), _other_lists(list(value)))
    elif isinstance(value, dict):
        yield {**value, "another": 1}
    elif value is None:
        yield from (1, 0.5, "x", [1], {"another": 1})


def _choices(annotation: Any) -> Iterator[Any]:
    """Find the values of every `Literal` in a type."""
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    else:
        for part in typing.get_args(annotation):
            yield from _choices(part)


def _other_lists(items: list[Any]) -> Iterator[list[Any]]:
    if items:
        yield from ([other, *items[1:]] for other in alternatives(items[0], Any))
        yield [*items, items[-1]]
        yield items[:-1]
    else:
        yield from ([1], ["x"])


def plain(value: Any) -> str:
    """Write a value in a form in which a tuple and a list, or a key 1 and a key "1", are equal."""
    return json.dumps(_with_text_keys(value), sort_keys=True, default=repr)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, PretrainedConfig):
        return _with_text_keys(value.to_dict())
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list | tuple) else value


def mutables(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Find what can be changed in place inside a value, with the path to it."""
    if isinstance(value, list | dict | set | bytearray | PretrainedConfig):
        yield name, value
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from mutables(item, f"{name}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from mutables(item, f"{name}[{key!r}]")
    elif isinstance(value, PretrainedConfig):
        for key, item in visible(value).items():
            yield from mutables(item, f"{name}.{key}")


def visible(config: PretrainedConfig) -> dict[str, Any]:
    """Give the attributes of a configuration that are not internal."""
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}


def shared(one: PretrainedConfig, other: PretrainedConfig) -> Iterator[str]:
    """Name what two configurations hold in common and either could change."""
    theirs = {id(value) for name, item in visible(other).items() for _, value in mutables(item, name)}
    for name, item in visible(one).items():
        yield from (path for path, value in mutables(item, name) if id(value) in theirs)


# Checks ----------------------------------------------------------------------------------------------------------


def differences(before: PretrainedConfig, after: PretrainedConfig, how: str) -> Iterator[Fault]:
    """Compare a configuration with what came back; `auto_map` may have been added for code that travels."""
    changed = {name: pair for name, pair in before.diff(after).items() if name != "auto_map"}
    for name, (mine, theirs) in changed.items():
        fix = DECLARE if plain(mine) == plain(theirs) else STORE_EACH
        yield Fault(f"`{name}` is {mine!r}, but {theirs!r} after {how}", fix)


def check_dictionary(subject: Subject) -> Iterator[Fault]:
    """`from_dict(to_dict())` gives the same, from the full dictionary and from the short one."""
    for full in (subject.config.to_dict(), subject.config.to_diff_dict()):
        yield from differences(subject.config, subject.config_class.from_dict(full), "to_dict and from_dict")


def check_json(subject: Subject) -> Iterator[Fault]:
    """The text and a file of any name read back as the same."""
    for use_diff in (True, False):
        content = json.loads(subject.config.to_json_string(use_diff=use_diff))
        yield from differences(subject.config, subject.config_class.from_dict(content), "to_json_string and from_dict")
    file = subject.folder / "any-name.json"
    subject.config.to_json_file(file)
    yield from differences(subject.config, subject.config_class.from_json_file(file), "to_json_file and from_json_file")


def check_folder(subject: Subject) -> Iterator[Fault]:
    """`save_pretrained` and `from_pretrained` give the same."""
    subject.config.save_pretrained(subject.folder / "saved")
    again = subject.config_class.from_pretrained(subject.folder / "saved")
    yield from differences(subject.config, again, "save_pretrained and from_pretrained")


def check_equality(subject: Subject) -> Iterator[Fault]:
    """Two of the same arguments are equal and show no difference."""
    one, other = subject.make(), subject.make()
    yield from differences(one, other, "constructing it again from the same arguments")
    if not one.diff(other) and one != other:
        yield Fault("two configurations with the same content are not equal", "leave `__eq__` to PretrainedConfig")


def check_deepcopy(subject: Subject) -> Iterator[Fault]:
    """A deep copy is equal and shares nothing."""
    again = copy.deepcopy(subject.config)
    yield from differences(subject.config, again, "copy.deepcopy")
    for path in shared(subject.config, again):
        yield Fault(f"`{path}` is one object in a configuration and its deep copy", "leave copying to PretrainedConfig")


def check_pickle(subject: Subject) -> Iterator[Fault]:
    """Pickling gives the same."""
    if "<locals>" in subject.config_class.__qualname__:
        raise NotApplicableError(
            f"pickle finds classes by name, and {subject.config_class.__name__} is inside a function"
        )
    try:
        again = pickle.loads(pickle.dumps(subject.config))  # noqa: S301 - pickled right here
    except Exception as error:
        yield Fault(f"a configuration cannot be pickled, {describe(error)}", "keep functions and open files out of it")
        return
    yield from differences(subject.config, again, "pickle")


def check_typos(subject: Subject) -> Iterator[Fault]:
    """A field's name with one wrong letter is refused, as an argument and as an attribute."""
    if not subject.names:
        raise NotApplicableError(f"{subject.config_class.__name__} declares no field of its own")
    for name in subject.names:
        typo, value = misspell(name, subject), subject.arguments.get(name)
        if _passes(subject.make, **{typo: value}):
            yield Fault(
                f"the constructor accepts `{typo}`, a misspelt `{name}`",
                "pass the **kwargs that __init__ does not know to super().__init__(**kwargs), which checks them",
            )
        if _passes(setattr, copy.deepcopy(subject.config), typo, value):
            yield Fault(
                f"the attribute `{typo}`, a misspelt `{name}`, can be set",
                "leave `__setattr__` to PretrainedConfig, which knows the fields",
            )


def misspell(name: str, subject: Subject) -> str:
    """Give a name one letter away that means nothing to the configuration."""
    wrong = (name + name[-1], name + "x", name + "q", "x" + name, "q" + name)
    return next(
        candidate for candidate in wrong if candidate not in subject.names and not hasattr(subject.config, candidate)
    )


def _passes(action: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        action(*args, **kwargs)
    except (TypeError, ValueError, AttributeError):
        return False
    return True


def check_defaults(subject: Subject) -> Iterator[Fault]:
    """No list or dictionary belongs to two configurations."""
    required = [name for name in subject.names if subject.fields[name].default is inspect.Parameter.empty]
    one, other = (subject.config_class(**{name: subject.arguments[name] for name in required}) for _ in range(2))
    for path in shared(one, other):
        yield Fault(
            f"`{path}` is one object in every {subject.config_class.__name__}, so changing it in one changes all",
            "store a copy of it: copy.deepcopy(default)",
        )


def check_aliases(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Every alias reads, sets and constructs the field that it stands for."""
    aliases: dict[str, str] = {}
    for cls in reversed(subject.config_class.__mro__):
        aliases |= {**vars(cls).get("aliases", {}), **vars(cls).get("attribute_map", {})}
    if not aliases:
        raise NotApplicableError(f"{subject.config_class.__name__} has no aliases")
    for alias, name in aliases.items():
        fix = f"have aliases[{alias!r}] name a field that there is, and define nothing else called {alias}"
        value = subject.get(subject.config, name)
        if value is ABSENT or plain(subject.get(subject.config, alias)) != plain(value):
            yield Fault(f"the alias `{alias}` does not read `{name}`", fix)
        elif name in subject.changes:
            yield from _check_alias(subject, alias, name, fix)
        else:
            yield Unchecked(alias, f"no other value of {name} was accepted; give one, values={{{name!r}: …}}")


def _check_alias(subject: Subject, alias: str, name: str, fix: str) -> Iterator[Fault]:
    other = subject.changes[name]
    rest = {key: value for key, value in subject.arguments.items() if key != name}
    made, edited = subject.config_class(**rest, **{alias: copy.deepcopy(other)}), copy.deepcopy(subject.config)
    setattr(edited, alias, copy.deepcopy(other))
    for how, config in (("given to the constructor", made), ("set", edited)):
        if plain(getattr(config, name)) != plain(other):
            yield Fault(f"`{alias}={other!r}`, when {how}, leaves `{name}` at {getattr(config, name)!r}", fix)


def check_changes(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Every own field keeps another value, says so, and survives saving with it."""
    if not subject.names:
        raise NotApplicableError(f"{subject.config_class.__name__} declares no field of its own")
    for name in subject.names:
        if subject.get(subject.config, name) is ABSENT:
            yield Fault(f"the argument `{name}` is not kept", f"store it in __init__: self.{name} = {name}")
        elif name not in subject.changes:
            yield Unchecked(name, f"no other value was accepted; give one, values={{{name!r}: …}}")
        else:
            yield from _check_change(subject, name, subject.changes[name])


def _check_change(subject: Subject, name: str, value: Any) -> Iterator[Fault]:
    changed = subject.make(**{name: copy.deepcopy(value)})
    if plain(subject.get(changed, name)) == plain(getattr(subject.config, name)):
        yield Fault(
            f"`{name}` stays {getattr(changed, name)!r} when it is constructed with {value!r}",
            f"store the argument: self.{name} = {name}",
        )
        return
    if changed == subject.config or name not in changed.diff(subject.config):
        yield Fault(f"two configurations that differ in `{name}` count as equal", "leave `__eq__` to PretrainedConfig")
    yield from _check_round_trip(subject, changed, f"constructed with {name}={value!r}")
    edited = copy.deepcopy(subject.config)
    setattr(edited, name, copy.deepcopy(value))
    if plain(getattr(edited, name)) != plain(getattr(changed, name)):
        yield Fault(
            f"`{name}` is {getattr(edited, name)!r} when set to {value!r}, but {getattr(changed, name)!r} when "
            "constructed with it",
            STORE_EACH,
        )
    yield from _check_round_trip(subject, edited, f"with {name} set to {value!r}")


def _check_round_trip(subject: Subject, config: PretrainedConfig, how: str) -> Iterator[Fault]:
    yield from differences(config, subject.config_class.from_dict(config.to_diff_dict()), f"saving one {how}")


CHECKS = (
    Check("equality", check_equality),
    Check("dictionary", check_dictionary),
    Check("json", check_json),
    Check("folder", check_folder, needs=("dictionary",)),
    Check("deepcopy", check_deepcopy),
    Check("pickle", check_pickle),
    Check("typos", check_typos),
    Check("defaults", check_defaults),
    Check("aliases", check_aliases),
    Check("changes", check_changes),
)
