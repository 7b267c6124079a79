"""What every preprocessing class has in common: settings that are checked, printed, saved as JSON and found again."""

import copy
import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from maquette.configuration.schema import MISSING, FaultError, Field, Schema, takes_any_keyword
from maquette.errors import (
    ConfigurationError,
    FileFormatError,
    SaveError,
    UnknownFieldError,
    did_you_mean,
    edit_distance,
)
from maquette.hub.sources import Source, open_source, require, take_source_options
from maquette.pretrained.mixin import PretrainedMixin
from maquette.storage.json_files import read_json, to_json
from maquette.storage.json_values import decode_floats, encode_floats, own_copy, refuse, to_plain
from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction

logger = logging.getLogger(__name__)

Method = TypeVar("Method", bound=Callable[..., Any])

FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
BOOKKEEPING = ("auto_map", "code_requirements", "processor_class")  # keys of a file that are no settings


def hands_on_to(name: str) -> Callable[[Method], Method]:
    """Declare that a method passes every keyword to another one, whose signature then says what both take."""

    def mark(method: Method) -> Method:
        method.hands_on_to = name  # type: ignore[attr-defined]
        return method

    return mark


class PreprocessorMeta(type):
    """Looks at every instance once its constructor, whoever wrote it, is through."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made._finish()
        return made


class PreprocessingMixin(PretrainedMixin, metaclass=PreprocessorMeta):
    """Base of image processors and feature extractors.

    Settings are annotated class attributes with defaults, whose types are checked, or arguments of a hand-written
    `__init__(self, size=24, **kwargs)` that stores each under its own name and passes the rest to `super().__init__`.
    Override `validate` for what concerns several settings at once.

    Class attributes:
        _section: what the class is: `"image_processor"` or `"feature_extractor"`.
        _quiet: settings that are printed only where they are not the default; all are saved.
    """

    _section: ClassVar[str] = ""
    _quiet: ClassVar[frozenset[str]] = frozenset()
    _merges_into: ClassVar[tuple[str, ...]] = (PROCESSOR_FILE,)
    _schema_cache: ClassVar[Schema]

    def __init__(self, **kwargs: Any) -> None:
        schema = self._schema()
        if unknown := [name for name in kwargs if name not in schema.annotated]:
            raise UnknownFieldError(self._unknown(unknown))
        for name, field in schema.annotated.items():
            if name in kwargs:
                setattr(self, name, kwargs[name])
            elif field.has_default:
                self.__dict__[name] = field.fresh_default()
            else:
                raise ConfigurationError(f"{type(self).__name__} needs {name}: it has no default.")

    def validate(self) -> None:
        """Check what concerns several settings at once: override it, and raise ValueError with the reason."""

    def _finish(self) -> None:
        self.__dict__.setdefault("_extra", {})
        lost = [n for n, field in self._schema().fields.items() if field.by_hand and n not in self.__dict__]
        if lost:
            raise ConfigurationError(
                f"{type(self).__name__}.__init__ takes {', '.join(lost)} and does not keep what it got. Store every "
                f"argument under its own name: self.{lost[0]} = {lost[0]}."
            )
        self._validated()
        self.__dict__["_is_made"] = True

    def _validated(self) -> None:
        try:
            self.validate()
        except ConfigurationError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"{type(self).__name__}: {error}") from None

    # Settings --------------------------------------------------------------------------------------------------

    @classmethod
    def _schema(cls) -> Schema:
        if "_schema_cache" not in vars(cls):
            cls._schema_cache = Schema.read(cls, PreprocessingMixin)
        return cls._schema_cache

    @classmethod
    def _settings(cls) -> dict[str, Field]:
        """Give the settings that the constructor takes."""
        fields = cls._schema().fields
        if takes_any_keyword(cls.__init__):
            return fields
        return {name: field for name, field in fields.items() if name in inspect.signature(cls.__init__).parameters}

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        """Give a setting's value as it is stored.

        Raises:
            ConfigurationError: it does not fit the declared type.
        """
        try:
            return cls._schema().fields[name].check(own_copy(value))
        except FaultError as failure:
            raise failure.as_error(cls.__name__, field=name) from failure.__cause__

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._schema().annotated:
            self._set(name, self._checked(name, value))
        elif "_is_made" in self.__dict__ and not name.startswith("_") and not hasattr(self, name):
            raise UnknownFieldError(self._unknown([name]))
        else:
            object.__setattr__(self, name, value)

    def _set(self, name: str, value: Any) -> None:
        """Set a checked value; one that does not go with the others changes nothing."""
        before = dict(self.__dict__)
        self.__dict__[name] = value
        if "_is_made" in before:
            try:
                self._validated()
            except ConfigurationError:
                self.__dict__.update(before)
                raise

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._extra:
            return self._extra[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{self._suggest(name)}")

    @classmethod
    def _suggest(cls, name: str) -> str:
        return did_you_mean(name, cls._schema().fields)

    @classmethod
    def _unknown(cls, names: list[str]) -> str:
        return "\n".join(f"{cls.__name__} has no setting {name!r}.{cls._suggest(name)}" for name in names)

    # Dictionaries and JSON -------------------------------------------------------------------------------------

    @classmethod
    def _type_key(cls) -> str:
        return f"{cls._section}_type"

    def to_dict(self) -> dict[str, Any]:
        """Give every setting as plain data, with the class's name and what else came in the file.

        Raises:
            SaveError: naming a value that JSON cannot hold.
        """
        settings = {name: self.__dict__[name] for name in self._schema().fields if name in self.__dict__}
        kept = {name: value for name, value in self._kept.items() if value}
        content = {**self._extra, **settings, **kept, self._type_key(): type(self).__name__}
        return {name: to_plain(value, name, refuse) for name, value in content.items()}

    def to_json_string(self) -> str:
        """Give the text of the file: sorted, indented by two."""
        return to_json(encode_floats(self.to_dict()))

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the text of `to_json_string` to a file of any name."""
        path = user_path(json_file_path)
        with Transaction(path.parent) as transaction:
            transaction.write(path.name, self.to_json_string())

    def __repr__(self) -> str:
        fields = self._schema().fields
        shown = {n: v for n, v in self.to_dict().items() if n not in self._quiet or v != _plain(fields[n].default)}
        ordered = {name: shown[name] for name in sorted(shown, key=self._printed_as)}
        return f"{type(self).__name__} {json.dumps(encode_floats(ordered), indent=2, ensure_ascii=False)}"

    @classmethod
    def _printed_as(cls, name: str) -> str:
        """Override to have a setting printed where another name would stand."""
        return name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreprocessingMixin) and type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    # Reading ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], **overrides: Any) -> Self:
        """Make one from what a file holds: unknown keys are kept, `overrides` are checked as code is."""
        return cls._read(content, overrides, "the given dictionary")

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Make one from a JSON file of any name."""
        return cls._read(read_json(user_path(json_file)), {}, str(json_file))

    @classmethod
    def _read(cls, content: Mapping[str, Any], overrides: Mapping[str, Any], place: str) -> Self:
        if unknown := [name for name in overrides if name not in cls._settings()]:
            raise UnknownFieldError(cls._unknown(unknown))
        content = cls._translated(decode_floats(dict(content)))
        known = {name: value for name, value in content.items() if name in cls._settings()}
        try:
            made: Self = cls(**{**known, **overrides})
        except ConfigurationError as error:
            raise type(error)(f"{place}: {error}") from None
        rest = {n: v for n, v in content.items() if n not in known and n != cls._type_key()}
        made._kept.update({name: rest.pop(name) for name in BOOKKEEPING if name in rest})
        made._extra.update(rest)
        cls._report_near(rest, place)
        return made

    @classmethod
    def _translated(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Override to read files of other versions: gives the content as this class would have written it."""
        return content

    @classmethod
    def _report_near(cls, names: Mapping[str, Any], place: str) -> None:
        for name in names:
            near = next((known for known in cls._settings() if edit_distance(name, known) == 1), None)
            if near and (place, name) not in _reported:
                _reported.add((place, name))
                logger.warning("%s: the unknown key %r is kept as it is; is %r meant?", place, name, near)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        return_unused_kwargs: bool = False,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read the settings from a folder, a JSON file, or a repository of the Hub.

        Args:
            pretrained_model_name_or_path: what to read.
            return_unused_kwargs: give `(made, unused)`, the keywords that are no settings, instead of raising.
            trust_remote_code: accepted for the sake of code that passes it everywhere; this class is already code.
            kwargs: settings to override, and `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download` for where to read from.

        Raises:
            MissingFileError, FileFormatError, ConfigurationError: with the file, the key, and what to do.
        """
        options = take_source_options(kwargs)
        unused = (
            {name: kwargs.pop(name) for name in kwargs.keys() - cls._settings().keys()} if return_unused_kwargs else {}
        )
        with open_source(pretrained_model_name_or_path, **options) as source:
            made = cls.from_source(source, **kwargs)
        return (made, unused) if return_unused_kwargs else made

    @classmethod
    def from_source(cls, source: Source, **overrides: Any) -> Self:
        """Read the settings from a source that is already open."""
        content, place = read_preprocessor_file(source, cls._section)
        return cls._read(content, overrides, place)

    # Writing ---------------------------------------------------------------------------------------------------

    def _write_to(self, transaction: Transaction) -> None:
        from maquette.remote_code.bundling import pack_code

        saved = copy.deepcopy(self)
        pack_code(type(self), saved, transaction)
        text = saved._verified()
        file, content = transaction.folder / PROCESSOR_FILE, {}
        if file.is_file():  # of a processor, whose part this may be
            content = read_json(file)
        if self._section in content:
            transaction.write(PROCESSOR_FILE, to_json({**content, self._section: json.loads(text)}))
        else:
            transaction.write(FILE, text)

    def _verified(self) -> str:
        """Give the file's text, having seen that it reads back as this."""
        text = self.to_json_string()
        again = self._read(json.loads(text), {}, type(self).__name__)
        if again != self:
            theirs, mine = again.to_dict(), self.to_dict()
            changed = sorted(n for n in {*mine, *theirs} if mine.get(n, MISSING) != theirs.get(n, MISSING))
            raise SaveError(f"{type(self).__name__} would not read back as it is: {', '.join(changed)} would change.")
        return text


def read_preprocessor_file(source: Source, section: str) -> tuple[dict[str, Any], str]:
    """Read the settings of a source's image processor or feature extractor; gives them and the place for messages.

    They stand in a file of their own, or as a section of the processor's file.
    """
    if source.config_name != "config.json":  # a file was named
        return read_json(require(source, source.config_name), label=source.label), source.label
    if path := source.find(PROCESSOR_FILE):
        place = f"{source.label}/{PROCESSOR_FILE}"
        part = read_json(path, label=place).get(section)
        if isinstance(part, dict):
            return part, f"{place}, {section}"
        if part is not None:
            raise FileFormatError(f"{place}: {section} must be an object, {{…}}, not {part!r}.")
    return read_json(require(source, FILE), label=f"{source.label}/{FILE}"), f"{source.label}/{FILE}"


_reported: set[tuple[str, str]] = set()


def _plain(value: Any) -> Any:
    return to_plain(value, "", lambda other, _: repr(other))
