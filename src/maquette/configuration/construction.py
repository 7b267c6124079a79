"""How a configuration comes to be: what its class declares, and its constructor framed by checks."""

import contextlib
import contextvars
import dataclasses
import logging
import re
from collections.abc import Collection, Iterator
from typing import Any, ClassVar, dataclass_transform

from maquette.configuration.schema import (
    LABEL_FIELDS,
    Fault,
    FaultError,
    Field,
    Schema,
    declared_names,
    parameters,
    settle_labels,
    takes_any_keyword,
)
from maquette.configuration.values import as_read
from maquette.errors import ConfigurationError, MaquetteError, did_you_mean, edit_distance
from maquette.storage.json_values import decode_floats, own_copy

logger = logging.getLogger(__name__)

# What old checkpoints keep in config.json though it belongs to generation: known, kept as it came, never defaulted.
_GENERATION = """
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens use_cache
"""
GENERATION_FIELDS = frozenset(_GENERATION.split())
CARRIED = GENERATION_FIELDS | {"quantization_config"}  # known in every config.json, and no field of a model
# What a file says of itself rather than of the model; no part of the values that make two configurations equal.
_VERSIONS = ("code_requirements", "maquette_version", "transformers_version")
BOOKKEEPING = ("auto_map", *_VERSIONS, "_name_or_path", "_commit_hash")

_place: contextvars.ContextVar[tuple[str | None, str]] = contextvars.ContextVar("place", default=(None, ""))
_reported: set[tuple[str, str]] = set()


@contextlib.contextmanager
def reading(place: str, note: str = "") -> Iterator[None]:
    """Have configurations that are made meanwhile keep unknown names, as from the file `place`, which errors name.

    An empty `place` reads without reporting what looks odd; errors add the `note` to it.
    """
    token = _place.set((place, note))
    try:
        yield
    finally:
        _place.reset(token)


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class ConfigMeta(type):
    """Frames every construction with checks: what a constructor sets after `super().__init__` only its caller sees."""

    def __call__(cls, /, *args: Any, extra: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        return construct(cls, kwargs, args=args, extra=extra).config


class Declared:
    """What a configuration class declares; types are resolved at the first use, as they may name later classes."""

    _root: ClassVar[Any]  # the base of all configurations
    _aliases: ClassVar[dict[str, str]] = {}
    _label_defaults: ClassVar[dict[str, Any]] = {}
    _schema_cache: ClassVar[Schema]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = dict(vars(cls))
        cls._aliases = {**cls._aliases, **own.get("aliases", {}), **own.get("attribute_map", {})}
        if Declared in cls.__bases__:
            cls._root = cls
        else:
            cls._refuse_mistakes()
            cls._move_defaults({name: value for name, value in own.items() if not is_property(cls, name)})

    @classmethod
    def _move_defaults(cls, own: dict[str, Any]) -> None:
        """Take class attributes that are named like labels or aliases as new defaults, so that they hide nothing."""
        if labels := {name: own[name] for name in LABEL_FIELDS if name in own}:
            cls._label_defaults = labels
        aliases = {name: own[name] for name in cls._aliases if name in own and name not in declared_names(cls)}
        for name, value in aliases.items():
            setattr(cls, cls._aliases[name], value)
        for name in (*labels, *aliases):
            delattr(cls, name)

    @classmethod
    def _refuse_mistakes(cls) -> None:
        """Refuse what only the author of the class can fix."""
        constructor, own = vars(cls).get("__init__"), declared_names(cls)
        if constructor and not takes_any_keyword(constructor):
            raise TypeError(
                f"{cls.__name__}.__init__ must end in **kwargs and pass them on, super().__init__(**kwargs): a saved "
                "configuration has more fields than the ones it names itself."
            )
        if taken := sorted(n for n in own if is_method(cls._root, n) or is_property(cls._root, n)):
            names = ", ".join(taken)
            raise TypeError(f"{cls.__name__} names a field like a method of every configuration: {names}. Rename it.")
        known = {name for base in cls.__mro__ for name in declared_names(base)}
        wrong = [name for name in vars(cls).get("aliases", {}).values() if name not in known and cls._is_generated()]
        if wrong:
            raise TypeError(f"{cls.__name__}.aliases names no field: {wrong[0]!r}.{did_you_mean(wrong[0], known)}")

    @classmethod
    def _is_generated(cls) -> bool:
        """Tell whether no constructor is written by hand."""
        return cls.__init__ is cls._root.__init__

    @classmethod
    def _whole_schema(cls) -> Schema:
        if "_schema_cache" not in vars(cls):
            cls._schema_cache = Schema.read(cls, cls._root)
        return cls._schema_cache

    @classmethod
    def _schema(cls) -> dict[str, Field]:
        """Give every field by name."""
        return cls._whole_schema().fields

    @classmethod
    def _own_fields(cls) -> set[str]:
        """Name the fields that are the architecture's own."""
        return {name for name, field in cls._schema().items() if field.own}

    @classmethod
    def _names(cls) -> set[str]:
        """Give every name that the constructor takes."""
        return {*cls._schema(), *cls._aliases, *LABEL_FIELDS}

    @classmethod
    def _canonical(cls, name: str) -> str:
        """Give the field that a name stands for."""
        return name if name in cls._schema() else cls._aliases.get(name, name)


class Construction:
    """One configuration in the making: what was asked for, what its constructor did with that, and what is wrong."""

    def __init__(self, cls: Any, given: dict[str, Any], *, extra: Any = None, computed: Collection[str] = ()) -> None:
        """Prepare to call the constructor.

        Args:
            cls: the configuration class.
            given: its arguments by name; names of aliases and of bookkeeping may be among them.
            extra: foreign keys to carry.
            computed: names to leave as the constructor works them out, whatever `given` says.
        """
        self.cls, self.computed = cls, computed
        self.place, self.note = _place.get()
        self.early: list[Fault] = []
        self.extra = self._take_extra(extra)
        self.kept = self._take_bookkeeping(given)
        self.given = self._by_field({name: value for name, value in given.items() if name not in self.kept})
        self.twice: dict[str, Any] = {}  # what the class's own code passes on as well
        self.edited: set[str] = set()  # what a file says differently from what the constructor worked out
        self._start()

    def _start(self) -> None:
        self.config = self.cls.__new__(self.cls)
        self.config.__dict__.update(_making=self, _extra={}, _derived={}, _kept={}, _lost=())
        self.faults = list(self.early)
        self.defaulted: set[str] = set()  # fields that the base constructor filled in
        self.rest: dict[str, Any] = {}  # what reached it without being a field
        self.complete = False

    def run(self, args: tuple[Any, ...] = ()) -> Any:
        """Make the configuration.

        Raises:
            FaultError: everything that is wrong with what was given.
        """
        args = self._name_positional(args)
        self._fill_in()
        doubts = self._doubts()
        self._call(args, doubts)
        self._settle_rest()
        self._settle_extra()
        self._settle_bookkeeping()
        self._check_values(doubts)
        if self.faults:
            raise FaultError(*self.faults)
        del self.config.__dict__["_making"]
        try:
            self.config.validate()
        except ValueError as error:
            raise FaultError.single(str(error)) from None
        except Exception as error:
            self._explain(error, {})
            raise
        return self.config

    # Before the constructor ------------------------------------------------------------------------------------

    def _take_extra(self, extra: Any) -> dict[str, Any]:
        if extra is None or (isinstance(extra, dict) and all(isinstance(name, str) for name in extra)):
            return extra or {}
        self.early.append(Fault(".extra", f"must be a dictionary with texts as keys, not {extra!r}"))
        return {}

    def _take_bookkeeping(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = {name: given[name] for name in (*BOOKKEEPING, "model_type", "name_or_path") if name in given}
        if not isinstance(kept.get("auto_map") or {}, dict):
            self.early.append(Fault(".auto_map", f"must map AutoClasses to classes, not be {kept['auto_map']!r}"))
        found, own = kept.get("model_type", self.cls.model_type), self.cls.model_type
        if not isinstance(found, str):
            self.early.append(Fault(".model_type", f"must be a text such as {own or 'my-model'!r}, not {found!r}"))
        elif own and found != own:
            self._report(f"the model type {found!r}", f"is read as {self.cls.__name__} ({own!r})")
        return kept

    def _by_field(self, given: dict[str, Any]) -> dict[str, Any]:
        """Name the arguments as their fields are named, not as their aliases are."""
        resolved: dict[str, Any] = {}
        for name, value in given.items():
            field = self.cls._canonical(name)
            if not isinstance(name, str):
                self.early.append(Fault("", f"{name!r} is no name of a field: names are texts"))
            elif field in resolved and resolved[field] != value:
                reason = f"is given twice, as {resolved[field]!r} and, by the name of {name!r}, as {value!r}"
                self.early.append(Fault(f".{field}", reason))
            else:
                resolved[field] = value
        return resolved

    def _name_positional(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Give positional arguments their names; arguments that do not fit are left for the call to refuse."""
        declared = parameters(self.cls.__init__).values()
        names = [p.name for p in declared if p.kind is p.POSITIONAL_OR_KEYWORD][1 : len(args) + 1]
        if len(names) < len(args) or self.given.keys() & names:
            return args
        self.given |= zip(names, args, strict=True)
        return ()

    def _fill_in(self) -> None:
        """Give a hand-written constructor what it cannot know: a subclass's new defaults, the number of labels."""
        names = parameters(self.cls.__init__)
        for name, field in self.cls._whole_schema().annotated.items():
            if name in names and not self.cls._schema()[name].by_hand and field.has_default:
                self.given.setdefault(name, field.fresh_default())
        if "torch_dtype" in names and "dtype" in self.given and "dtype" not in names:
            self.given["torch_dtype"] = self.given.pop("dtype")
        labels = self.given.get("id2label") or self.given.get("label2id")
        if self.cls._whole_schema().labels and self.given.get("num_labels") is None and isinstance(labels, dict):
            self.given["num_labels"] = len(labels)

    def _doubts(self) -> dict[str, FaultError]:
        """Check the arguments before the class's own code runs: it may fix them, but should it fail, they say why."""
        doubts: dict[str, FaultError] = {}
        if self.cls._is_generated() and self.cls.__post_init__ is self.cls._root.__post_init__:
            return doubts
        for name in self.given.keys() & self.cls._schema().keys():
            try:
                self.cls._checked(name, own_copy(self.given[name]))
            except FaultError as failure:
                doubts[name] = failure
        return doubts

    # The constructor -------------------------------------------------------------------------------------------

    def _call(self, args: tuple[Any, ...], doubts: dict[str, FaultError]) -> None:
        refused = {"self", "extra"} & self.given.keys()  # keys of a file that cannot be arguments
        while True:
            names = self.given.keys() - self.twice.keys() - refused
            try:
                self.config.__init__(*args, **{name: self.given[name] for name in self.given if name in names})
                break
            except Exception as error:
                name = _passed_twice(error)
                if name not in names:
                    self._explain(error, doubts)
                    raise
                self.twice[name] = self.given[name]
                self._start()
        self.rest |= {name: self.given[name] for name in refused}
        if not self.complete:
            hint = " (fields need no @dataclass)" if "__dataclass_fields__" in vars(self.cls) else ""
            raise TypeError(f"{self.cls.__name__}.__init__ must call super().__init__(**kwargs){hint}.")

    def _explain(self, error: Exception, doubts: dict[str, FaultError]) -> None:
        """Say what was wrong with the arguments rather than how the class's code stumbled over it."""
        doubtful = [fault for name, failure in doubts.items() for fault in failure.under(f".{name}")]
        if self.faults or doubtful:
            raise FaultError(*self.faults, *doubtful) from None
        expected = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
        if self.place is not None and isinstance(error, expected) and not isinstance(error, MaquetteError):
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise FaultError.single(text) from error

    def receive(self, arguments: dict[str, Any], extra: dict[str, Any] | None) -> None:
        """Do the work of the base constructor: set every field, and keep apart what is none."""
        config, schema = self.config, self.cls._schema()
        self.extra = {**self.extra, **self._take_extra(extra)}
        self._receive_labels({name: arguments.pop(name) for name in LABEL_FIELDS if name in arguments})
        for name in [name for name in arguments if self.cls._canonical(name) in schema]:
            setattr(config, name, arguments.pop(name))
        for name, field in self.cls._whole_schema().annotated.items():
            if name not in config.__dict__ and field.has_default and not is_property(self.cls, name):
                config.__dict__[name] = field.fresh_default()
                self.defaulted.add(name)
        for name in arguments.keys() - (self.given.keys() - self.twice.keys()):  # what the class itself says
            setattr(config, name, arguments.pop(name))
        config._extra |= own_copy(arguments)
        self.rest = arguments
        if takes_any_keyword(config.__post_init__):
            config.__post_init__(**arguments)
        else:
            config.__post_init__()
        self.complete = True

    def _receive_labels(self, labels: dict[str, Any]) -> None:
        labels = {name: value for name, value in labels.items() if value is not None}
        if self.place is not None and labels.keys() & self.given.keys() - {"num_labels"}:
            labels = {name: value for name, value in labels.items() if name in self.given}  # a file has the last word
        if labels or "id2label" not in self.config.__dict__:
            self.set_labels(**(labels or self.cls._label_defaults))

    def set_labels(self, **labels: Any) -> None:
        """Set what is said of the labels, or note what is wrong with it."""
        try:
            id2label, label2id = settle_labels(**labels)
        except FaultError as failure:
            self.faults += failure.faults
        else:
            self.config.__dict__.update(id2label=id2label, label2id=label2id)

    # After the constructor -------------------------------------------------------------------------------------

    def _settle_rest(self) -> None:
        """Decide on what no field took: worked out by the class's own code, foreign, or a mistake."""
        config, cls = self.config, self.cls
        for name, value in {**self.rest, **self.twice}.items():
            if name in self.twice or name in config._derived:
                config._extra.pop(name, None)
                self._reconcile(name, value)
            elif is_method(cls, name):
                reason = f"the key {name!r} is the name of a method of {cls.__name__}, so it cannot be read; rename it"
                self.faults.append(Fault("", reason))
            elif self.place is None and name not in CARRIED:
                reason = f"{cls.__name__} has no field {name!r}.{config._suggest(name)}"
                self.faults.append(Fault("", f"{reason} To carry a key of your own, pass extra={{…}}.", unknown=True))
            else:
                config._extra[name] = own_copy(value)
                self._report_near(name)

    def _reconcile(self, name: str, value: Any) -> None:
        """Settle which counts, where the class's own code sets what is given too: the file; code is told."""
        stored = getattr(self.config, name, None)
        if self.config._same(stored, value) or name in self.computed:
            return
        verdict = f"{stored!r} by the code of {self.cls.__name__}"
        if self.place is None:
            self.faults.append(Fault(f".{name}", f"is set to {verdict}, so it cannot be given as {value!r}"))
        else:
            self._report(f"{name!r} is {value!r}, which counts,", f"though it is worked out as {verdict}")
            self.edited.add(name)
            setattr(self.config, name, value)

    def _settle_extra(self) -> None:
        config, cls = self.config, self.cls
        for name in self.extra:
            if name in {*cls._names(), *BOOKKEEPING, *config._derived, "model_type"}:
                self.faults.append(Fault(".extra", f"{name!r} is a field: give it as an argument"))
            elif is_method(cls, name):
                self.faults.append(Fault(".extra", f"{name!r} is the name of a method of {cls.__name__}; rename it"))
        config._extra.update(own_copy(self.extra))

    def _settle_bookkeeping(self) -> None:
        kept = {name: value for name, value in self.kept.items() if value and name != "maquette_version"}
        found = kept.pop("model_type", "")
        if not self.cls.model_type and found:
            self.config.model_type = found
        if "name_or_path" in kept:
            kept["_name_or_path"] = kept.pop("name_or_path")
        self.config._kept.update(kept)

    def _check_values(self, doubts: dict[str, FaultError]) -> None:
        """Check what the constructor stored; what it made of an argument that was right is its own business."""
        values = self.config.__dict__
        for name, field in self.cls._schema().items():
            if name in values:
                try:
                    values[name] = self.cls._checked(name, values[name])
                except FaultError as failure:
                    if name in doubts or not field.by_hand:
                        self.faults += failure.under(f".{name}")
        missing = [
            name
            for name in self.cls._whole_schema().annotated
            if name not in values and not is_property(self.cls, name)
        ]
        self.faults += [Fault(f".{name}", "needs a value") for name in missing]
        values["_derived"] = {name: name in self.given for name in self.config._derived}
        values["_lost"] = tuple(sorted(name for name in self.cls._schema() if self._is_lost(name)))

    def _is_lost(self, name: str) -> bool:
        """Tell whether the constructor takes an argument and does not store it, so that no file could hold it."""
        unset = name not in self.config.__dict__ or name in self.defaulted
        return unset and self.cls._schema()[name].by_hand and not is_property(self.cls, name)

    # Reports ---------------------------------------------------------------------------------------------------

    def _report_near(self, name: str) -> None:
        """Say that a file's unknown key looks like a misspelt field."""
        known = sorted(field for field in self.cls._names() if abs(len(field) - len(name)) <= 1)
        near = next((field for field in known if edit_distance(name, field) == 1), None)
        if near and name not in CARRIED:
            self._report(f"the unknown key {name!r}", f"is kept as it is; is {near!r} meant?")

    def _report(self, what: str, verdict: str) -> None:
        place = "the arguments" if self.place is None else self.place
        if place and (place, what) not in _reported:
            _reported.add((place, what))
            logger.warning("%s: %s %s", place, what, verdict)


def construct(cls: Any, given: dict[str, Any], *, args: tuple[Any, ...] = (), **options: Any) -> Construction:
    """Make a configuration and tell how it went.

    Raises:
        ConfigurationError: everything that is wrong, with the file that is being read.
    """
    making = Construction(cls, given, **options)
    try:
        making.run(args)
    except FaultError as failure:
        place = f"{making.place or ''}{making.note}"
        raise failure.as_error(cls.__name__, place=place) from failure.__cause__
    return making


def rebuild(cls: Any, content: dict[str, Any], overrides: dict[str, Any], place: str) -> tuple[Any, dict[str, Any]]:
    """Make a configuration from the content of a file, with what the caller gives in place of some of it.

    What the constructor works out follows the overrides, unless it was edited before it was saved.

    Args:
        cls: the configuration class.
        content: what the file holds.
        overrides: what to give instead, or besides.
        place: the file's name for messages.

    Returns:
        The configuration, and the overrides that are no fields of it.
    """
    if not isinstance(content, dict):
        raise ConfigurationError(f"{place}: Expected a dictionary, got {type(content).__name__}.")
    content, plain = decode_floats(content), None
    with reading(place), contextlib.suppress(*[ValueError] if overrides else []):  # which may fix it
        plain = construct(cls, content)
    if plain and not overrides:
        return plain.config, {}
    derived = plain.config._derived if plain else {}
    known = {*cls._names(), *content, *CARRIED, *derived, "extra", "name_or_path"}
    used = {name: _merged(plain, name, value, place) for name, value in overrides.items() if name in known}
    extra = used.pop("extra", None)
    replaced = {cls._canonical(name) for name in used}
    replaced |= set(LABEL_FIELDS) if replaced & set(LABEL_FIELDS) else set()
    kept = {name: value for name, value in content.items() if cls._canonical(name) not in replaced}
    follows = {*derived, *plain.twice} - plain.edited - used.keys() if plain else set()
    with reading(place, f" with {', '.join(used)} given" if used else ""):
        config = construct(cls, kept | used, extra=extra, computed=follows).config
    return config, {name: value for name, value in overrides.items() if name not in known}


def _merged(plain: Construction | None, name: str, value: Any, place: str) -> Any:
    """Take a dictionary that is given for a nested configuration as what to change in it."""
    current = getattr(plain.config, name, None) if plain else None
    if isinstance(value, dict) and isinstance(current, Declared):
        nested: Any = current
        return as_read(nested._changed(value, f"{place}, {name}"), name)
    return value


def is_method(cls: type, name: str) -> bool:
    """Tell whether a name is taken by something to call."""
    return callable(getattr(cls, name, None))


def is_property(cls: type, name: str) -> bool:
    """Tell whether a class says with functions what reading and setting a name does."""
    return isinstance(getattr(cls, name, None), property)


def _passed_twice(error: Exception) -> str | None:
    """Name the argument that the class's own code passes on besides what it was given: `f(x=1, **kwargs)`.

    Python's message is the only place that says it: kwargs cannot hold a name for `kwargs.pop` and not for the call.
    """
    if not isinstance(error, TypeError):
        return None
    found = re.search(r"got multiple values for keyword argument '(\w+)'", str(error))
    return found[1] if found else None
