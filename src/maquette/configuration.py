"""`PretrainedConfig`: everything needed to build a model, checked, printed and saved."""

import contextlib
import contextvars
import copy
import functools
import inspect
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, dataclass_transform

from maquette.errors import ConfigurationError, SaveError, UnknownFieldError, bullets, did_you_mean, edit_distance
from maquette.files import SOURCE_OPTIONS, Source, open_source, require
from maquette.pretrained import PretrainedMixin, read_json, to_json
from maquette.schema import Field, annotated_fields, signature_fields, takes_any_keyword
from maquette.transaction import Transaction
from maquette.version import __version__

logger = logging.getLogger(__name__)

# What old checkpoints keep in config.json though it belongs to generation: known, kept as it came, never defaulted.
GENERATION_FIELDS = frozenset(
    "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k "
    "top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
    "bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id "
    "forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens "
    "begin_suppress_tokens use_cache layer_norm_eps initializer_factor".split()
)
LABEL_FIELDS = ("num_labels", "id2label", "label2id")
# Keys of a file that are not arguments of the constructor.
BOOKKEEPING = ("model_type", "auto_map", "maquette_version", "transformers_version", "_name_or_path", "_commit_hash")

_reading: contextvars.ContextVar[str | None] = contextvars.ContextVar("reading", default=None)
_reported: set[tuple[str, str]] = set()


@dataclass_transform(kw_only_default=True)
class ConfigMeta(type):
    """Frames every construction: aliases before the constructor, checks after it, whoever wrote the constructor."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        config: Any = cls.__new__(cls)  # type: ignore[call-overload]
        config.__dict__.update(_constructing=True, _extra={}, _derived={}, _kept={})
        config.__init__(*args, **cls._resolve_aliases(kwargs))  # type: ignore[attr-defined]
        config._finish()
        return config


class PretrainedConfig(PretrainedMixin, metaclass=ConfigMeta):
    """Everything needed to build a model: checked when made, saved as `config.json`, equal by value.

    Write one either way. With annotated attributes, the constructor comes from them:

        class MyConfig(PretrainedConfig):
            model_type = "my-model"
            dim: Annotated[int, msgspec.Meta(gt=0)] = 64

    or with a constructor of your own that passes `**kwargs` on; the fields come from its signature. Declared types are
    checked, in code and from files; rules between fields go into `validate()`. An unknown name in code raises; an
    unknown key in a *file* is kept and written back. To carry a key of your own, pass `extra={"key": value}`.

    Class attributes:
        model_type: the name AutoClasses know the architecture by.
        aliases: other names for fields, `{"hidden_size": "dim"}`: arguments and attributes alike.

    Raises:
        ConfigurationError: listing every field that is wrong. `UnknownFieldError` for names that do not exist.
    """

    model_type: ClassVar[str] = ""
    aliases: ClassVar[dict[str, str]] = {}
    _auto_class: ClassVar[str | None] = None
    _default_auto_class: ClassVar[str] = "AutoConfig"
    _aliases: ClassVar[dict[str, str]] = {}

    architectures: list[str] | None = None
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True
    torchscript: bool = False
    tie_word_embeddings: bool = True
    tie_encoder_decoder: bool = False
    is_encoder_decoder: bool = False
    is_decoder: bool = False
    add_cross_attention: bool = False
    cross_attention_hidden_size: int | None = None
    chunk_size_feed_forward: int = 0
    pruned_heads: dict[int, list[int]] = {}
    use_bfloat16: bool = False
    tf_legacy_loss: bool = False
    finetuning_task: str | None = None
    task_specific_params: dict[str, Any] | None = None
    tokenizer_class: str | None = None
    prefix: str | None = None
    bos_token_id: int | list[int] | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    sep_token_id: int | None = None
    decoder_start_token_id: int | list[int] | None = None

    def __init__(self, *, extra: dict[str, Any] | None = None, **kwargs: Any) -> None:
        labels = {name: kwargs.pop(name, None) for name in LABEL_FIELDS}
        annotated = self._annotated()
        missing = [f.name for f in annotated.values() if f.required and f.name not in {**kwargs, **self.__dict__}]
        if missing:
            raise ConfigurationError(f"{type(self).__name__} needs a value for {', '.join(map(repr, missing))}.")
        for name, field in annotated.items():
            if name in kwargs:
                setattr(self, name, kwargs.pop(name))
            elif name not in self.__dict__:
                setattr(self, name, field.fresh_default())
        self._set_labels(**labels)
        self._extra.update(extra or {})
        self._take_rest(kwargs)
        self.__dict__["_complete"] = True

    def validate(self) -> None:
        """Check what concerns several fields at once: override it, and raise ValueError with the reason."""

    # Construction ----------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._aliases = {**cls._aliases, **cls.__dict__.get("aliases", {}), **cls.__dict__.get("attribute_map", {})}
        constructor = cls.__dict__.get("__init__")
        if constructor and not takes_any_keyword(constructor):
            raise TypeError(
                f"{cls.__name__}.__init__ must end in **kwargs and pass them on, super().__init__(**kwargs): a saved "
                "configuration has more fields than the ones it names itself."
            )
        for alias in cls._aliases:
            if alias not in cls._schema() and not hasattr(cls, alias):
                setattr(cls, alias, _alias_property(cls._aliases[alias]))
        if taken := sorted(name for name in cls._own_fields() if callable(getattr(PretrainedConfig, name, None))):
            raise TypeError(f"{cls.__name__} names a field like a method of every configuration: {', '.join(taken)}.")

    @classmethod
    def _resolve_aliases(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        resolved = dict(kwargs)
        for alias, name in {"torch_dtype": "dtype", **cls._aliases}.items():
            if alias in resolved and alias not in cls._schema():
                if name in resolved and resolved[name] != resolved[alias]:
                    raise ConfigurationError(f"{cls.__name__} was given both {alias!r} and {name!r}, which are one field.")
                resolved[name] = resolved.pop(alias)
        return resolved

    def _take_rest(self, rest: dict[str, Any]) -> None:
        """Keep what a file brought that no field is named after; in code, refuse it."""
        rest = {name: value for name, value in rest.items() if name not in self._derived}
        methods = [name for name in {**rest, **self._extra} if callable(getattr(type(self), name, None))]
        if methods:
            raise ConfigurationError(
                f"{_place(self)}the key {methods[0]!r} is the name of a method of {type(self).__name__}, so it cannot "
                "be read as a value. Rename it."
            )
        unknown = [name for name in rest if name not in GENERATION_FIELDS]
        if unknown and _reading.get() is None:
            raise UnknownFieldError(
                "\n".join(f"{type(self).__name__} has no field {name!r}.{self._suggest(name)}" for name in unknown)
                + " To carry a key of your own, pass extra={…}."
            )
        for name in unknown:
            self._report(name)
        self._extra.update(rest)

    def _report(self, name: str) -> None:
        """Say once that a file's unknown key looks like a misspelt field."""
        near = [known for known in self._names() if edit_distance(name, known) == 1]
        place = _reading.get() or ""
        if near and (place, name) not in _reported:
            _reported.add((place, name))
            logger.warning("%s has the unknown key %r, kept as it is; is %r meant?", place, name, near[0])

    def _finish(self) -> None:
        """Check every field, then what the fields say together."""
        if not self.__dict__.pop("_complete", False):
            raise TypeError(f"{type(self).__name__}.__init__ must call super().__init__(**kwargs).")
        faults = []
        for name in self._schema().keys() & self.__dict__.keys():
            try:
                self.__dict__[name] = self._checked(name, self.__dict__[name])
            except ValueError as fault:
                faults.append(f"{name}: {fault}")
        if faults:
            raise ConfigurationError(f"{_place(self)}{type(self).__name__} cannot be made:{bullets(sorted(faults))}")
        self.__dict__["_derived"] = {name: copy.deepcopy(self.__dict__[name]) for name in self._derived}
        del self.__dict__["_constructing"]
        try:
            self.validate()
        except ConfigurationError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"{_place(self)}{error}") from error

    def _checked(self, name: str, value: Any) -> Any:
        if name == "dtype" and value is not None:
            value = str(value).removeprefix("torch.")
        return self._schema()[name].check(value, _convert)

    def _set_labels(self, num_labels: int | None, id2label: dict[Any, str] | None, label2id: dict[str, int] | None) -> None:
        """Keep the three ways of saying which classes there are in step."""
        if id2label is None and label2id is not None:
            id2label = {index: label for label, index in label2id.items()}
        if id2label is None:
            id2label = {index: f"LABEL_{index}" for index in range(2 if num_labels is None else num_labels)}
        id2label = {int(index): label for index, label in id2label.items()}
        if num_labels is not None and num_labels != len(id2label):
            raise ConfigurationError(
                f"{_place(self)}num_labels is {num_labels}, but id2label names {len(id2label)} classes. Give one of the two."
            )
        inverse = {label: index for index, label in id2label.items()}
        if label2id is not None and {k: int(v) for k, v in label2id.items()} != inverse and len(inverse) == len(id2label):
            raise ConfigurationError(f"{_place(self)}label2id is not the inverse of id2label. Give one of the two.")
        self.__dict__.update(id2label=id2label, label2id=inverse)

    # Attributes ------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if name in LABEL_FIELDS:
            self._set_labels(**{**dict.fromkeys(LABEL_FIELDS), name: value})
        elif name in self._schema():
            if "_constructing" in self.__dict__:  # checked when all are there; a default list is not shared
                self.__dict__[name] = copy.copy(value) if isinstance(value, list | dict | set) else value
            else:
                self.__dict__[name] = self._check_assignment(name, value)
        elif name.startswith("_") or name in self._derived or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif name in self._extra:
            self._extra[name] = value
        elif "_constructing" in self.__dict__:
            self._derived[name] = None
            object.__setattr__(self, name, value)
        elif name in GENERATION_FIELDS:
            self._extra[name] = value
        elif hasattr(type(self), name) and not callable(getattr(type(self), name)):
            object.__setattr__(self, name, value)
        else:
            raise UnknownFieldError(f"{type(self).__name__} has no field {name!r}.{self._suggest(name)}")

    def _check_assignment(self, name: str, value: Any) -> Any:
        try:
            return self._checked(name, value)
        except ValueError as fault:
            raise ConfigurationError(f"{type(self).__name__}.{name}: {fault}") from fault

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._extra:
            return self._extra[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{self._suggest(name)}")

    @property
    def extra(self) -> dict[str, Any]:
        """The keys that are carried without being fields, as they came."""
        return dict(self._extra)

    @property
    def num_labels(self) -> int:
        """How many classes there are: the length of `id2label`, which follows when this is set."""
        return len(self.id2label)

    @property
    def torch_dtype(self) -> str | None:
        """The older name of `dtype`."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: Any) -> None:
        self.dtype = value

    @property
    def use_return_dict(self) -> bool:
        """Whether models return a `ModelOutput` unless told otherwise in the call."""
        return self.return_dict

    @property
    def name_or_path(self) -> str:
        """Where the configuration was read from; empty where it was made in code."""
        return str(self._kept.get("_name_or_path", ""))

    @name_or_path.setter
    def name_or_path(self, value: str) -> None:
        self._kept["_name_or_path"] = value

    @property
    def auto_map(self) -> dict[str, Any]:
        """Which classes of the folder's own code the AutoClasses load; empty for built-in architectures."""
        return dict(self._kept.get("auto_map", {}))

    @auto_map.setter
    def auto_map(self, value: dict[str, Any]) -> None:
        self._kept["auto_map"] = dict(value)

    # What the class declares -----------------------------------------------------------------------------------

    @classmethod
    def _schema(cls) -> dict[str, Field]:
        """Every field by name, the class's own after those of all configurations."""
        if "_schema_cache" not in cls.__dict__:
            fields: dict[str, Field] = {}
            for base in reversed(cls.__mro__):
                if issubclass(base, PretrainedConfig):
                    fields.update(_declared(base))
            cls._schema_cache = {name: field for name, field in fields.items() if name not in LABEL_FIELDS}
        return cls._schema_cache

    @classmethod
    def _annotated(cls) -> dict[str, Field]:
        """The fields that the generated part of the constructor sets: those no hand-written constructor takes."""
        if "_annotated_cache" not in cls.__dict__:
            found: dict[str, Field] = {}
            for base in reversed(cls.__mro__):
                if issubclass(base, PretrainedConfig):
                    found.update(annotated_fields(base))
            cls._annotated_cache = found
        return cls._annotated_cache

    @classmethod
    def _own_fields(cls) -> set[str]:
        bases = [base for base in cls.__mro__ if issubclass(base, PretrainedConfig) and base is not PretrainedConfig]
        return {name for base in bases for name in _declared(base)} - set(LABEL_FIELDS)

    @classmethod
    def _names(cls) -> set[str]:
        return {*cls._schema(), *cls._aliases, *LABEL_FIELDS}

    def _suggest(self, name: str) -> str:
        return did_you_mean(name, {*self._names(), *self._extra, *self._derived})

    # Dictionaries and JSON -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Give every field, label, extra and derived value as plain data that JSON can hold."""
        values = {name: self.__dict__[name] for name in self._schema() if name in self.__dict__}
        values |= {name: self.__dict__[name] for name in self._derived if _is_plain(self.__dict__.get(name))}
        values |= {"id2label": self.id2label, "label2id": self.label2id, **self._extra, **self._kept}
        values |= {"model_type": type(self).model_type, "maquette_version": __version__}
        return {name: _plain(value, name) for name, value in values.items()}

    def to_diff_dict(self) -> dict[str, Any]:
        """Give what is written to files: the class's own fields, and the common ones that differ from their default."""
        own, full, common = self._own_fields(), self.to_dict(), PretrainedConfig().to_dict()
        if full["id2label"] == common["id2label"]:
            full.pop("id2label"), full.pop("label2id")
        if not type(self).model_type:
            full.pop("model_type")
        return {name: value for name, value in full.items() if name in own or name not in common or value != common[name]} | {
            "maquette_version": __version__
        }

    def to_json_string(self, *, use_diff: bool = True) -> str:
        """Give the text of `config.json`: sorted, indented by two; with `use_diff=False`, every common field too."""
        return to_json(self.to_diff_dict() if use_diff else self.to_dict())

    def to_json_file(self, json_file_path: str | os.PathLike[str], *, use_diff: bool = True) -> None:
        """Write the text of `config.json` to a file of any name."""
        path = Path(json_file_path)
        with Transaction(path.parent) as transaction:
            transaction.write(path.name, self.to_json_string(use_diff=use_diff))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """Make a configuration from what a file holds: unknown keys are kept, `overrides` are checked as code is."""
        return cls._read(dict(config_dict), overrides, "the given dictionary", return_unused_kwargs)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Make a configuration from a JSON file of any name."""
        config: Self = cls._read(read_json(Path(json_file)), {}, str(json_file), False)
        return config

    @classmethod
    def _read(cls, content: dict[str, Any], overrides: dict[str, Any], place: str, return_unused: bool) -> Any:
        kept = {name: content.pop(name) for name in BOOKKEEPING if name in content}
        cls._check_model_type(kept.pop("model_type", cls.model_type), place)
        kept.pop("maquette_version", None)
        known = {*cls._names(), *content, *GENERATION_FIELDS, "torch_dtype", "extra"}
        unused = {name: value for name, value in overrides.items() if name not in known}
        if unused and not return_unused:
            raise UnknownFieldError(
                "\n".join(f"{cls.__name__} has no field {name!r}.{did_you_mean(name, known)}" for name in unused)
            )
        used = {name: value for name, value in overrides.items() if name in known}
        with _while_reading(place):
            config = cls._rebuild(content, used)
        config._kept.update(kept)
        return (config, unused) if return_unused else config

    @classmethod
    def _rebuild(cls, content: dict[str, Any], overrides: dict[str, Any]) -> Self:
        """Construct from a file's content; what the constructor derives follows the overrides, later edits persist."""
        config = cls(**content)
        edited = {name: content[name] for name in config._derived if name in content and content[name] != config.__dict__[name]}
        if overrides:
            relabelled = LABEL_FIELDS if overrides.keys() & set(LABEL_FIELDS) else ()
            kept = {name: value for name, value in cls._resolve_aliases(content).items() if name not in relabelled}
            config = cls(**{**kept, **cls._resolve_aliases(overrides)})
        for name, value in edited.items():
            setattr(config, name, value)
        return config

    @classmethod
    def _check_model_type(cls, found: Any, place: str) -> None:
        if not isinstance(found, str):
            raise ConfigurationError(f"{place}: model_type must be a text such as {cls.model_type!r}, not {found!r}.")
        if cls.model_type and found != cls.model_type and (place, found) not in _reported:
            _reported.add((place, found))
            logger.warning("%s is of model type %r, read as %s (%r).", place, found, cls.__name__, cls.model_type)

    # Files -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        return_unused_kwargs: bool = False,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a configuration from a folder, a JSON file, or a repository of the Hub.

        Args:
            pretrained_model_name_or_path: what to read.
            return_unused_kwargs: give `(config, unused)`, the keywords that are no fields, instead of raising.
            trust_remote_code: accepted for the sake of code that passes it everywhere; this class is already code.
            kwargs: fields to override, and `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download` for where to read from.

        Raises:
            MissingFileError, FileFormatError, ConfigurationError: with the file, the key, and what to do.
        """
        options = {name: kwargs.pop(name) for name in SOURCE_OPTIONS & kwargs.keys()}
        with open_source(pretrained_model_name_or_path, **options) as source:
            return cls.from_source(source, kwargs, return_unused_kwargs=return_unused_kwargs)

    @classmethod
    def from_source(cls, source: Source, overrides: dict[str, Any], *, return_unused_kwargs: bool = False) -> Any:
        """Read the configuration of a source that is already open, so that it is of one commit with the weights."""
        content, place = read_config_file(source)
        content["_name_or_path"] = source.label
        return cls._read(content, overrides, place, return_unused_kwargs)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> tuple[dict[str, Any], Any]:
        """Read the file's content without making a configuration; gives it with the keywords that were not used."""
        options = {name: kwargs.pop(name) for name in SOURCE_OPTIONS & kwargs.keys()}
        with open_source(pretrained_model_name_or_path, **options) as source:
            return read_config_file(source)[0], kwargs

    def _write_to(self, transaction: Transaction) -> None:
        from maquette.travel import pack_code

        config = copy.deepcopy(self)
        pack_code(type(self), config, transaction)
        config._write_file(transaction)

    def _write_file(self, transaction: Transaction) -> None:
        """Stage `config.json`, having seen that it reads back as what it is."""
        content = self.to_diff_dict()
        content.pop("_name_or_path", None)
        again = type(self).from_dict(content)
        if again != self:
            lost = ", ".join(sorted(again.diff(self)))
            raise SaveError(
                f"{type(self).__name__} would not read back as it is: {lost} would change. Store every argument of "
                "__init__ under its own name (self.dim = dim) and pass **kwargs on."
            )
        transaction.write("config.json", to_json(content))

    # Comparison ------------------------------------------------------------------------------------------------

    def diff(self, other: "PretrainedConfig") -> dict[str, tuple[Any, Any]]:
        """Give the fields in which two configurations differ, as `{name: (mine, theirs)}`; None stands for absent."""
        mine, theirs = self._content(), other._content()
        return {
            name: (mine.get(name), theirs.get(name))
            for name in sorted({*mine, *theirs})
            if name not in mine or name not in theirs or mine[name] != theirs[name]
        }

    def _content(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if name not in BOOKKEEPING[2:]}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PretrainedConfig) and type(self) is type(other) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


def read_config_file(source: Source) -> tuple[dict[str, Any], str]:
    """Read the configuration file of a source; gives its content and its name for messages."""
    path = require(source, source.config_name)
    place = f"{source.label}/{source.config_name}" if path.name in source.names() and not _names_file(source) else source.label
    return read_json(path, label=place), place


def _names_file(source: Source) -> bool:
    return source.label.endswith(source.config_name)


def _declared(cls: type) -> dict[str, Field]:
    """Read what one class adds: its annotated attributes, and the arguments of its own constructor."""
    constructor = cls.__dict__.get("__init__")
    by_hand = signature_fields(constructor) if constructor and cls is not PretrainedConfig else {}
    return {**annotated_fields(cls), **by_hand}


def _alias_property(name: str) -> property:
    return property(
        lambda self: getattr(self, name),
        lambda self, value: setattr(self, name, value),
        doc=f"Another name for `{name}`.",
    )


@contextlib.contextmanager
def _while_reading(place: str) -> Iterator[None]:
    token = _reading.set(place)
    try:
        yield
    finally:
        _reading.reset(token)


def _place(config: PretrainedConfig) -> str:
    return f"{place}: " if (place := _reading.get()) else ""


def _convert(kind: type, value: Any) -> Any:
    """Turn a file's dictionary into the nested configuration that a field declares."""
    if isinstance(kind, type) and issubclass(kind, PretrainedConfig) and isinstance(value, dict):
        if kind is PretrainedConfig and "model_type" in value:
            from maquette.registry import config_class_for

            kind = config_class_for(value["model_type"])
        return kind.from_dict(value)
    if isinstance(value, kind):
        return value
    raise ValueError(f"Expected {kind.__name__}, got {type(value).__name__}")


def _plain(value: Any, name: str) -> Any:
    """Turn a field's value into what JSON can hold, or say which field cannot be saved."""
    if value is None or isinstance(value, SCALAR_TYPES):
        return value
    if isinstance(value, PretrainedConfig):
        return {key: item for key, item in value.to_diff_dict().items() if key != "maquette_version"}
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _plain_key(key): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(item, name) for item in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "torch" and type(value).__name__ in {"dtype", "device"}:
        return str(value).removeprefix("torch.")
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a numpy scalar
        return value.item()
    raise SaveError(f"{name!r} is a {type(value).__name__}, which JSON cannot hold; store numbers, texts, lists or dictionaries.")


def _plain_key(key: Any) -> Any:
    return key if isinstance(key, int) else str(key)


def _is_plain(value: Any) -> bool:
    try:
        _plain(value, "")
    except SaveError:
        return False
    return True


SCALAR_TYPES = (bool, int, float, str)
PreTrainedConfig = PretrainedConfig
