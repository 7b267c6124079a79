"""`PretrainedConfig`: everything needed to build a model, checked, printed and saved."""

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from maquette.configuration.construction import (
    BOOKKEEPING,
    CARRIED,
    ConfigMeta,
    Construction,
    Declared,
    is_method,
    is_property,
    reading,
    rebuild,
)
from maquette.configuration.construction import GENERATION_FIELDS as GENERATION_FIELDS
from maquette.configuration.nesting import nested_class, parts_in, parts_of
from maquette.configuration.schema import LABEL_FIELDS, FaultError, settle_labels
from maquette.configuration.values import as_read, compared, is_plain, saved, shown
from maquette.configuration.view import show_configuration
from maquette.errors import (
    ConfigurationError,
    MissingAttributeError,
    MissingFileError,
    SaveError,
    UnknownFieldError,
    did_you_mean,
)
from maquette.hub.sources import Source, open_source, require, take_source_options
from maquette.pretrained.mixin import PretrainedMixin
from maquette.storage.json_files import read_json, to_json
from maquette.storage.json_values import dtype_name, encode_floats, own_copy, to_plain
from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction
from maquette.storage.version import __version__


class PretrainedConfig(Declared, PretrainedMixin, metaclass=ConfigMeta):
    """Everything needed to build a model: checked when made, saved as `config.json`, equal by value.

    Write one either way. With annotated attributes, the constructor comes from them:

        class MyConfig(PretrainedConfig):
            model_type = "my-model"
            dim: Annotated[int, msgspec.Meta(gt=0)] = 64

    or with a constructor of your own that passes `**kwargs` on; the fields come from its signature. Declared types are
    checked, in code and from files; rules between fields go into `validate()`, and what is worked out from annotated
    fields into `__post_init__()`. An unknown name in code raises; an unknown key in a *file* is kept and written back.
    To carry a key of your own, pass `extra={"key": value}`.

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
    _aliases: ClassVar[dict[str, str]] = {"torch_dtype": "dtype"}
    _bare_cache: ClassVar[dict[str, Any]]

    architectures: list[str] | None = None
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    dtype: str | dict[str, Any] | None = None
    attn_implementation: str | dict[str, Any] | None = None
    output_hidden_states: bool | None = False
    output_attentions: bool | None = False
    return_dict: bool | None = True
    torchscript: bool = False
    tie_word_embeddings: bool = True
    tie_encoder_decoder: bool = False
    is_encoder_decoder: bool = False
    is_decoder: bool = False
    add_cross_attention: bool = False
    cross_attention_hidden_size: int | None = None
    chunk_size_feed_forward: int = 0
    pruned_heads: dict[int, list[int]] = {}  # noqa: RUF012 - a field's default: every configuration gets its own
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
    if TYPE_CHECKING:  # arguments of every constructor that are stored otherwise
        extra: dict[str, Any] = {}
        num_labels: int = 2
        id2label: dict[int, str] = {}
        label2id: dict[str, int] = {}

    def __init__(self, *, extra: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self._making.receive(kwargs, extra)

    def __post_init__(self, **kwargs: Any) -> None:
        """Work out what follows from the fields; override it, and pass `**kwargs` on, the names that are no fields."""
        self._making.rest = kwargs

    def validate(self) -> None:
        """Check what concerns several fields at once: override it, and raise ValueError with the reason."""

    # Attributes ------------------------------------------------------------------------------------------------

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        """Give a field's value as it is stored, or raise FaultError."""
        if name == "dtype":
            value = dtype_name(value)
        elif name == "pruned_heads" and value is None:
            value = {}
        return cls._schema()[name].check(value, _convert)

    def __setattr__(self, name: str, value: Any) -> None:
        name, value = self._canonical(name), own_copy(value)
        if name in LABEL_FIELDS:
            self._set_label(name, value)
        elif name.startswith("_") or name == "model_type" or is_property(type(self), name):
            object.__setattr__(self, name, value)
        elif name in self._schema():
            self.__dict__[name] = self._stored(name, value)
        elif is_method(type(self), name):
            raise UnknownFieldError(f"{name!r} is a method of {type(self).__name__}; choose another name.")
        elif "_making" in self.__dict__ or name in self._derived:
            self._derived.setdefault(name, False)
            self.__dict__[name] = value
        elif name in self._extra or name in CARRIED:
            self._extra[name] = value
        else:
            raise UnknownFieldError(f"{type(self).__name__} has no field {name!r}.{self._suggest(name)}")

    def _stored(self, name: str, value: Any) -> Any:
        """Check an assignment; while the configuration is being made, only see that it shares no default."""
        field = self._schema()[name]
        if "_making" in self.__dict__:
            self._making.defaulted.discard(name)
            return field.fresh_default() if value is field.default else value
        try:
            return self._checked(name, value)
        except FaultError as failure:
            raise failure.as_error(type(self).__name__, field=name) from failure.__cause__

    def _set_label(self, name: str, value: Any) -> None:
        if name == "num_labels" and value == len(self.__dict__.get("id2label", ())):
            return
        if "_making" in self.__dict__:
            self._making.set_labels(**{name: value})
            return
        try:
            id2label, label2id = settle_labels(**{name: value})
        except FaultError as failure:
            raise failure.as_error(type(self).__name__) from failure.__cause__
        self.__dict__.update(id2label=id2label, label2id=label2id)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        if name in self._extra:
            return self._extra[name]
        if (field := self._canonical(name)) != name:
            return getattr(self, field)
        kind = type(self).__name__
        raise MissingAttributeError(lambda: f"{kind} has no attribute {name!r}.{self._suggest(name)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._aliases, *self._extra]

    def _suggest(self, name: str) -> str:
        """Say what an unknown name was probably meant to be."""
        if hasattr(type(self), name) and not is_property(type(self), name):
            kind = type(getattr(type(self), name)).__name__
            return f" It is an attribute of the class; annotate it there, {name}: {kind} = …, to make it a field."
        return did_you_mean(name, {*self._names(), *self._extra, *self._derived} - {name})

    def __iter__(self) -> Iterator[str]:
        """Go through the names of all values, so that `"dim" in config` tells whether there is one."""
        return (name for name in self._plain(lambda value, _: value) if name not in BOOKKEEPING)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._canonical(name) in [*self]

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set several attributes, all of them or, where one is wrong, none."""
        changed = self if "_making" in self.__dict__ else copy.deepcopy(self)
        for name, value in config_dict.items():
            setattr(changed, name, value)
        self.__dict__.update(changed.__dict__)

    if not TYPE_CHECKING:

        @property
        def extra(self) -> Mapping[str, Any]:
            """The keys that are carried without being fields, as they came."""
            return MappingProxyType(self._extra)

        @property
        def num_labels(self) -> int:
            """How many classes there are: the length of `id2label`, which follows when this is set."""
            return len(self.id2label)

    @property
    def sub_configs(self) -> dict[str, type["PretrainedConfig"]]:
        """The fields that hold configurations of their own, with the classes of these."""
        found = {name: self.__dict__.get(name) for name in self._schema()}
        return {name: type(value) for name, value in found.items() if isinstance(value, PretrainedConfig)}

    @property
    def use_return_dict(self) -> bool | None:
        """Whether models return a `ModelOutput` unless told otherwise in the call."""
        return self.return_dict

    @property
    def _attn_implementation(self) -> Any:
        return self.attn_implementation or "eager"

    @_attn_implementation.setter
    def _attn_implementation(self, value: Any) -> None:
        self.attn_implementation = value

    @property
    def name_or_path(self) -> str:
        """Where the configuration was read from; empty where it was made in code."""
        return str(self._kept.get("_name_or_path", ""))

    @name_or_path.setter
    def name_or_path(self, value: str) -> None:
        self._kept["_name_or_path"] = str(value)

    _name_or_path = name_or_path  # transformers asks by this name too

    def get(self, name: str, default: Any = None) -> Any:
        """Give a field, or `default` where there is none of that name."""
        return getattr(self, name) if name in self else default

    # Dictionaries and JSON -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Give every field, label, extra and derived value as plain data that JSON can hold.

        Raises:
            SaveError: naming a value that JSON cannot hold.
        """
        return self._plain(saved)

    def to_diff_dict(self) -> dict[str, Any]:
        """Give what is written to files: the class's own fields, and the common ones that differ from their default."""
        return self._differing(self.to_dict())

    def to_json_string(self, *, use_diff: bool = True) -> str:
        """Give the text of `config.json`: sorted, indented by two; with `use_diff=False`, every common field too."""
        return to_json(encode_floats(self.to_diff_dict() if use_diff else self.to_dict()))

    def to_json_file(self, json_file_path: str | os.PathLike[str], *, use_diff: bool = True) -> None:
        """Write the text of `config.json` to a file of any name."""
        path = user_path(json_file_path)
        if path.is_dir():
            raise SaveError(f"Cannot write to {str(path)!r}: it is a folder. Give a file, or use save_pretrained.")
        with Transaction(path.parent) as transaction:
            transaction.write(path.name, self._verified(self.to_json_string(use_diff=use_diff)))

    def _plain(self, other: Callable[[Any, str], Any]) -> dict[str, Any]:
        """Give all values as plain data, and what is none as `other` has it."""
        schema, derived = self._schema(), self._derived.items()
        names = [name for name in schema if name in self.__dict__ or is_property(type(self), name)]
        names += [name for name, given in derived if name in self.__dict__ and (given or is_plain(self.__dict__[name]))]
        values = {name: getattr(self, name) for name in (*names, "id2label", "label2id", "model_type")}
        kept = {name: value for name, value in self._kept.items() if value}
        values |= {**self._extra, **kept, "maquette_version": __version__}
        return {name: to_plain(value, name, other) for name, value in values.items()}

    def _nested(self, other: Callable[[Any, str], Any]) -> dict[str, Any]:
        """Give what stands for it in the file of a configuration that holds it."""
        if other is not shown:
            self._refuse_lost()
        values = self._differing(self._plain(other))
        return {name: value for name, value in values.items() if name != "maquette_version"}

    def _differing(self, full: dict[str, Any]) -> dict[str, Any]:
        """Leave out common fields that read back as they are without being written."""
        common, bare = PretrainedConfig._bare_values(), self._bare_values()
        own = {*self._own_fields(), "maquette_version"}
        if self._label_defaults or self._whole_schema().labels:
            own |= {"id2label", "label2id"}
        usual = {n for n, v in full.items() if n in common and v == common[n] and v == bare.get(n, v)}
        return {n: v for n, v in full.items() if n in own or n not in {*usual, "_name_or_path", "_commit_hash"}}

    @classmethod
    def _bare_values(cls) -> dict[str, Any]:
        """Give the values of a configuration made without arguments, if it can be: constructors set common fields."""
        if "_bare_cache" not in vars(cls):
            cls._bare_cache = {}
            with contextlib.suppress(Exception), reading(""):
                cls._bare_cache = cls().to_dict()
        return cls._bare_cache

    def _content(self) -> dict[str, Any]:
        """Give what makes two configurations equal."""
        content: dict[str, Any] = encode_floats(self._plain(compared))
        return {name: value for name, value in content.items() if name not in BOOKKEEPING}

    @staticmethod
    def _same(one: Any, other: Any) -> bool:
        return bool(to_plain(one, "", shown) == to_plain(other, "", shown))

    def diff(self, other: "PretrainedConfig") -> dict[str, tuple[Any, Any]]:
        """Give the fields in which two configurations differ, as `{name: (mine, theirs)}`; None stands for absent."""
        mine, theirs = self._content(), other._content()
        return {
            name: (mine.get(name), theirs.get(name))
            for name in sorted({*mine, *theirs})
            if name not in mine or name not in theirs or mine[name] != theirs[name]
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PretrainedConfig) and type(self) is type(other) and not self.diff(other)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __replace__(self, **fields: Any) -> Self:
        changed: Self = self._changed(fields, "the given configuration")
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__} {to_json(encode_floats(self._differing(self._plain(shown)))).rstrip()}"

    _repr_html_ = show_configuration

    # Reading ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *, return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """Make a configuration from what a file holds: unknown keys are kept, `overrides` are checked as code is."""
        return cls._read(config_dict, overrides, "the given dictionary", return_unused_kwargs)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Make a configuration from a JSON file of any name."""
        path = user_path(json_file)
        if not path.is_file():
            near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise MissingFileError(f"There is no file {str(path)!r}.{did_you_mean(path.name, near)}")
        config: Self = cls._read(read_json(path), {}, str(path), False)
        return config

    @classmethod
    def _read(cls, content: dict[str, Any], overrides: dict[str, Any], place: str, return_unused: bool) -> Any:
        config, unused = rebuild(cls, content, overrides, place)
        if unused and not return_unused:
            names = {*cls._names(), *content}
            faults = (f"{cls.__name__} has no field {name!r}.{did_you_mean(name, names)}" for name in unused)
            raise UnknownFieldError("\n".join(faults))
        return (config, unused) if return_unused else config

    def _changed(self, overrides: dict[str, Any], place: str, *, return_unused: bool = False) -> Any:
        """Give a configuration with other values, made as from a file that holds what this one does."""
        own = copy.deepcopy(self)
        if not overrides:
            return (own, {}) if return_unused else own
        self._refuse_lost()
        content = own._plain(as_read)
        with parts_of(own):
            own._refuse_difference(self._read(content, {}, place, False))
            return self._read(content, overrides, place, return_unused)

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
            trust_remote_code: True, or `"sha256:…"`, to run the code that comes with configurations inside of this one;
                this class itself is already code.
            kwargs: fields to override, and `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download` for where to read from.

        Raises:
            MissingFileError, FileFormatError, ConfigurationError: with the file, the key, and what to do.
        """
        kwargs.pop("_from_auto", None)  # transformers' loaders pass it
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            trust = trust_remote_code
            return cls.from_source(source, kwargs, return_unused_kwargs=return_unused_kwargs, trust_remote_code=trust)

    @classmethod
    def from_source(
        cls,
        source: Source,
        overrides: dict[str, Any],
        *,
        return_unused_kwargs: bool = False,
        trust_remote_code: bool | str | None = None,
    ) -> Any:
        """Read the configuration of a source that is already open, so that it is of one commit with the weights."""
        content, place = read_config_file(source)
        content["_name_or_path"] = source.label
        with parts_in(source, content, cls._schema(), trust_remote_code):
            return cls._read(content, overrides, place, return_unused_kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the file's content without making a configuration; gives it with the keywords that were not used."""
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            return read_config_file(source)[0], kwargs

    # Writing ---------------------------------------------------------------------------------------------------

    def _write_to(self, transaction: Transaction) -> None:
        from maquette.remote_code.bundling import pack_code

        config = copy.deepcopy(self)
        pack_code(type(self), config, transaction)
        config._write_file(transaction)

    def _write_file(self, transaction: Transaction) -> None:
        """Stage `config.json`, having seen that it reads back as what it is."""
        transaction.write("config.json", self._verified(self.to_json_string()))

    def _verified(self, text: str) -> str:
        """Give the text of a file back, having seen that it reads back as this configuration."""
        self._refuse_lost()
        try:
            with parts_of(self):
                again = self._read(json.loads(text), {}, "", False)
        except ConfigurationError as error:
            raise SaveError(f"{type(self).__name__} could not be read back: {error}") from None
        self._refuse_difference(again)
        return text

    def _refuse_difference(self, again: Self) -> None:
        if again != self:
            names = ", ".join(sorted(again.diff(self)))
            raise SaveError(
                f"{type(self).__name__} would not read back as it is: {names} would change. Have __init__ store "
                "what it is given, and declare the types of what JSON has no word for (a nested configuration, a "
                "dictionary whose keys are numbers)."
            )

    def _refuse_lost(self) -> None:
        if self._lost:
            first = self._lost[0]
            raise SaveError(
                f"{type(self).__name__}.__init__ takes {', '.join(self._lost)} and does not keep what it got. Store "
                f"every argument under its own name (self.{first} = {first}), or pass it to super().__init__."
            )


def read_config_file(source: Source) -> tuple[dict[str, Any], str]:
    """Read the configuration file of a source; gives its content and its name for messages."""
    path = require(source, source.config_name)
    is_file = Path(source.label).name == source.config_name
    place = source.label if is_file else f"{source.label}/{source.config_name}"
    return read_json(path, label=place), place


def _convert(kind: Any, value: Any) -> Any:
    """Turn a dictionary into the nested configuration that a field declares, a text into the path."""
    declared, found = ((cls.__module__, cls.__qualname__) for cls in (kind, type(value)))
    if isinstance(value, kind) or declared == found:  # by its name too: a notebook's cell may have run again
        return value
    if issubclass(kind, PretrainedConfig) and isinstance(value, dict):
        return Construction(nested_class(kind, value, PretrainedConfig), value).run()
    if issubclass(kind, os.PathLike) and isinstance(value, str):
        return kind(value)
    raise ValueError(f"Expected {kind.__name__}, got {type(value).__name__}")


PreTrainedConfig = PretrainedConfig
