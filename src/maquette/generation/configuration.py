"""`GenerationConfig`: how texts are continued, checked, printed and saved as `generation_config.json`."""

import copy
import json
import logging
import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from maquette.configuration.schema import Fault, FaultError, Field, annotated_fields, attempt
from maquette.errors import (
    ConfigurationError,
    MissingAttributeError,
    SaveError,
    UnknownFieldError,
    bullets,
    did_you_mean,
    edit_distance,
)
from maquette.generation import SETTINGS_FILE
from maquette.generation.setting_rules import (
    DEFAULTS,
    LEAST,
    LENGTHS,
    NEW_TOKENS,
    OUTPUTS,
    as_ids,
    check_finite,
    list_faults,
    list_ineffective,
)
from maquette.generation.settings import Settings
from maquette.hub.sources import Source, open_source, require, take_source_options
from maquette.pretrained.mixin import PretrainedMixin
from maquette.storage.json_files import read_json, to_json
from maquette.storage.json_values import decode_floats, encode_floats, own_copy, refuse, to_plain
from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction
from maquette.storage.version import __version__

logger = logging.getLogger(__name__)

BOOKKEEPING = ("maquette_version", "transformers_version", "_from_model_config", "_commit_hash")
UNSAVED = ("compile_config",)  # about the machine at hand; Transformers does not read files that hold it
GENERATE_ARGUMENTS = frozenset(
    {"logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model", "streamer", "tokenizer"}
    | {"negative_prompt_ids", "negative_prompt_attention_mask", "synced_gpus"}
)
# Of a model's configuration, parts that may hold the settings of the part that generates.
DECODERS = ("decoder", "generator", "text_config")


class GenerationConfig(Settings, PretrainedMixin):
    """How texts are continued: one setting each, checked where it is given, None where nothing is said.

    `docs/generation_settings.md` says what each does. What nobody sets is taken from the model's own file, then from
    `setting_rules.DEFAULTS`. An unknown name in code raises; an unknown key in a *file* is kept and written back. To
    carry a key of your own, pass `extra={"key": value}`.

    Raises:
        ConfigurationError: listing every setting that is wrong; `UnknownFieldError` for names that do not exist.
    """

    _default_auto_class: ClassVar[str] = "GenerationConfig"
    _fields_cache: ClassVar[dict[str, Field]]

    def __init__(self, *, extra: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._start(extra or {})
        self._refuse_unknown(settings)
        self._set_all(settings)
        self.__dict__["_given"] = frozenset(settings)
        self.validate()

    def _start(self, extra: Mapping[str, Any]) -> None:
        if taken := sorted(extra.keys() & {*self._fields(), *BOOKKEEPING}):
            raise ConfigurationError(f"GenerationConfig: extra holds {', '.join(taken)}: give settings as arguments.")
        self.__dict__.update(dict.fromkeys(self._fields()), _extra=own_copy(dict(extra)), _given=frozenset())

    # Settings --------------------------------------------------------------------------------------------------

    @classmethod
    def _fields(cls) -> dict[str, Field]:
        if "_fields_cache" not in vars(cls):
            declared = [annotated_fields(base) for base in reversed(cls.__mro__) if issubclass(base, Settings)]
            cls._fields_cache = {name: field for fields in declared for name, field in fields.items()}
        return cls._fields_cache

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        """Give a setting as it is stored.

        Raises:
            FaultError: it does not fit.
        """
        value = own_copy(value.to_dict() if hasattr(value, "to_dict") else value)
        if name == "sequence_bias" and isinstance(value, dict):
            value = [([*ids] if isinstance(ids, tuple | list) else ids, bias) for ids, bias in value.items()]
        if reason := check_finite(name, value):
            raise FaultError.single(reason)
        return cls._fields()[name].check(value)

    def _set_all(self, settings: Mapping[str, Any], *, place: str = "") -> None:
        faults: list[Fault] = []
        checked = {name: attempt(faults, f".{name}", self._checked, name, value) for name, value in settings.items()}
        if faults:
            raise FaultError(*faults).as_error(type(self).__name__, place=place)
        self.__dict__.update(checked)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fields():
            self._set_all({name: value})
            self.__dict__["_given"] = self._given | {name}
        elif name.startswith("_") or name == "auto_map":
            object.__setattr__(self, name, value)
        elif name in self._extra:
            self._extra[name] = own_copy(value)
        else:
            self._refuse_unknown([name])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python asks for when it copies
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        if name in self._extra:
            return self._extra[name]
        kind = type(self).__name__
        raise MissingAttributeError(lambda: f"{kind} has no attribute {name!r}.{did_you_mean(name, self._fields())}")

    @classmethod
    def _refuse_unknown(cls, names: Iterable[str], known: Iterable[str] = ()) -> None:
        unknown = sorted({*names} - {*cls._fields(), *known})
        if unknown:
            raise UnknownFieldError("\n".join(map(cls._say_unknown, unknown)))

    @classmethod
    def _say_unknown(cls, name: str) -> str:
        if name in GENERATE_ARGUMENTS:
            return f"{name!r} is no setting of {cls.__name__}: give it to generate itself."
        return f"{cls.__name__} has no setting {name!r}.{did_you_mean(name, cls._fields())}"

    @property
    def extra(self) -> Mapping[str, Any]:
        """The keys that are carried without being settings, as they came."""
        return MappingProxyType(self._extra)

    @classmethod
    def is_setting(cls, name: str) -> bool:
        """Tell whether a keyword of `generate` is one of these settings."""
        return name in cls._fields()

    def update(
        self, *, defaults_only: bool = False, allow_custom_entries: bool = False, **settings: Any
    ) -> dict[str, Any]:
        """Set several settings, all or, where one is wrong, none.

        Args:
            defaults_only: set only what is None so far.
            allow_custom_entries: carry unknown names, instead of refusing them.
            settings: the new values.

        Returns:
            Nothing that was not used: an empty dictionary, for code that asks.
        """
        custom = {name: settings.pop(name) for name in {*settings} - {*self._fields()} if allow_custom_entries}
        self._refuse_unknown(settings, self._extra)
        if defaults_only:
            settings = {name: value for name, value in settings.items() if getattr(self, name) is None}
        changed = copy.deepcopy(self)
        changed._extra.update(own_copy(custom), **{n: settings.pop(n) for n in [*settings] if n in self._extra})
        changed._set_all(settings)
        changed.__dict__["_given"] = self._given | settings.keys()
        changed.validate()
        self.__dict__.update(changed.__dict__)
        return {}

    def validate(self) -> None:
        """Check what concerns several settings at once, and say which of them have no effect.

        Raises:
            ConfigurationError: listing what cannot be done.
        """
        self._refuse_faults()
        self._report_ineffective()

    def _refuse_faults(self) -> None:
        if faults := [*list_faults(self)]:
            name = type(self).__name__
            raise ConfigurationError(f"{name}: {faults[0]}." if len(faults) == 1 else f"{name}:{bullets(faults)}")

    def _report_ineffective(self, *, inherited: bool = False) -> None:
        """Say, once, what is without effect; of what a file says, only where the caller did not choose otherwise."""
        found = [*list_ineffective(self)]
        said = [f for f in found if f.name in self._given or (inherited and f.cause not in {*self._given, f.name})]
        lines = [f"{f.name}={getattr(self, f.name)!r}, {f.reason}" for f in said]
        if lines and (text := bullets(lines) if len(lines) > 1 else f" {lines[0]}.") not in _reported:
            _reported.add(text)
            logger.warning("Without effect:%s", text)

    # Use -------------------------------------------------------------------------------------------------------

    def settle(self, *, below: "GenerationConfig | None" = None, **overrides: Any) -> Self:
        """Give the settings that count in one call, defaults filled in.

        Args:
            below: what counts where this says nothing, such as the model's own settings.
            overrides: what counts above all. A given `max_length` also puts aside a `max_new_tokens` that is only
                inherited, and `min_length` a `min_new_tokens`; and a least length that is only inherited is never above
                the greatest that is given.

        Raises:
            ConfigurationError: listing what cannot be done.
        """
        settled = copy.deepcopy(self)
        self._refuse_unknown(overrides, self._extra)
        settled._set_all({name: value for name, value in overrides.items() if name in self._fields()})
        given = self._given | overrides.keys()
        if below:
            unset = [name for name in self._fields() if getattr(settled, name) is None and name not in given]
            settled.__dict__.update({name: copy.deepcopy(getattr(below, name)) for name in unset})
        for length, new in LENGTHS:
            level = overrides if overrides.keys() & {length, new} else self._given
            if length in level and new not in level and getattr(settled, length) is not None:
                settled.__dict__[new] = None
        for least, most in LEAST:
            low, high = getattr(settled, least), getattr(settled, most)
            if most in given and least not in given and None not in (low, high) and low > high:
                logger.warning("%s=%s of the model is more than %s=%s, which counts here.", least, low, most, high)
                settled.__dict__[least] = high
        settled.__dict__["_given"] = given | (below._given if below else frozenset())
        settled._refuse_faults()
        settled._report_ineffective(inherited=True)
        settled.__dict__.update({name: value for name, value in DEFAULTS.items() if getattr(settled, name) is None})
        if settled.max_length is None and settled.max_new_tokens is None:
            logger.warning(
                "Neither max_new_tokens nor max_length says how long texts may get: %d new tokens.", NEW_TOKENS
            )
            settled.__dict__["max_new_tokens"] = NEW_TOKENS
        return settled

    def end_tokens(self, *others: Any) -> tuple[int, ...]:
        """Give the ids that end a text: what code says here, or the union of what all say.

        Args:
            others: what else has `eos_token_id`: the tokenizer, the model's configuration.
        """
        sources = [self] if "eos_token_id" in self._given else [self, *others]
        found = (as_ids(getattr(source, "eos_token_id", None)) for source in sources)
        return tuple(dict.fromkeys(each for ids in found for each in ids))

    # Dictionaries and JSON -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Give every setting as plain data, those that are None too, and what else came in the file.

        Raises:
            SaveError: naming a value that JSON cannot hold.
        """
        values = {name: self.__dict__[name] for name in self._fields()}
        content = {**self._extra, **values, **self._kept, "maquette_version": __version__}
        return {name: to_plain(value, name, refuse) for name, value in content.items()}

    def to_diff_dict(self) -> dict[str, Any]:
        """Give what is written to files: everything that is set."""
        return {name: value for name, value in self.to_dict().items() if value is not None}

    def to_json_string(self, *, use_diff: bool = True) -> str:
        """Give the text of `generation_config.json`: sorted, indented by two."""
        content = self.to_diff_dict() if use_diff else self.to_dict()
        return to_json(encode_floats({name: value for name, value in content.items() if name not in UNSAVED}))

    def to_json_file(self, json_file_path: str | os.PathLike[str], *, use_diff: bool = True) -> None:
        """Write the text of `generation_config.json` to a file of any name."""
        path = user_path(json_file_path)
        with Transaction(path.parent) as transaction:
            transaction.write(path.name, self.to_json_string(use_diff=use_diff))

    def _content(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_diff_dict().items() if name not in BOOKKEEPING}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.to_diff_dict().items() if name != "maquette_version"}
        return f"{type(self).__name__} {to_json(encode_floats(shown)).rstrip()}"

    # Reading ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **overrides: Any) -> Self:
        """Make one from what a file holds: unknown keys are kept, `overrides` are checked as code is."""
        return cls._from_content(config_dict, overrides, "the given dictionary")

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Make one from a JSON file of any name."""
        return cls._from_content(read_json(user_path(json_file)), {}, str(json_file))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name: str | os.PathLike[str],
        config_file_name: str | None = None,
        *,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Read the settings from a folder, a JSON file, or a repository of the Hub.

        Args:
            pretrained_model_name: what to read.
            config_file_name: the file's name, where it is not `generation_config.json`.
            return_unused_kwargs: give `(config, unused)`, the keywords that are no settings, instead of raising.
            kwargs: settings to override, and `revision`, `subfolder`, `token`, `cache_dir`, `local_files_only`,
                `force_download` for where to read from.

        Raises:
            MissingFileError, FileFormatError, ConfigurationError: with the file, the key, and what to do.
        """
        options = take_source_options(kwargs)
        unused = {name: kwargs.pop(name) for name in [*kwargs] if return_unused_kwargs and not cls.is_setting(name)}
        with open_source(pretrained_model_name, **options) as source:
            config = cls.from_source(source, kwargs, file=config_file_name)
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def from_source(cls, source: Source, overrides: Mapping[str, Any], *, file: str | None = None) -> Self:
        """Read the settings of a source that is already open."""
        named = source.config_name if source.config_name != "config.json" else None
        place = source.label if named and not file else f"{source.label}/{file or SETTINGS_FILE}"
        path = require(source, file or named or SETTINGS_FILE)
        return cls._from_content(read_json(path, label=place), overrides, place)

    @classmethod
    def from_model_config(cls, model_config: Any) -> Self:
        """Take the settings that an older model's configuration holds, or that of its text decoder."""
        content = model_config if isinstance(model_config, Mapping) else model_config.to_dict()
        part: Mapping[str, Any] = next((content[n] for n in DECODERS if isinstance(content.get(n), Mapping)), {})
        found = {**_without_none(part), **_without_none(content)}
        usual = {**DEFAULTS, "max_length": NEW_TOKENS}  # which releases before 4.27 wrote out
        settings = {n: v for n, v in found.items() if n in cls._fields() and v != usual.get(n)}
        if any(settings.get(name) for name in OUTPUTS):
            settings["return_dict_in_generate"] = True
        return cls._from_content(settings, {}, "the configuration")

    @classmethod
    def _from_content(cls, content: Mapping[str, Any], overrides: Mapping[str, Any], place: str) -> Self:
        cls._refuse_unknown(overrides, content)
        content = dict(decode_floats(dict(content)))
        config = cls.__new__(cls)
        config._start({n: v for n, v in content.items() if n not in cls._fields() and n not in BOOKKEEPING})
        config._kept.update({name: content[name] for name in ("transformers_version",) if name in content})
        config._report_near(place)
        config._set_all({n: v for n, v in content.items() if n in cls._fields() and n not in overrides}, place=place)
        if overrides:
            config.update(**overrides)
        return config

    def _report_near(self, place: str) -> None:
        for name in self._extra:
            near = next((known for known in self._fields() if edit_distance(name, known) == 1), None)
            if near and f"{place} {name}" not in _reported:
                _reported.add(f"{place} {name}")
                logger.warning("%s: the unknown key %r is kept as it is; is %r meant?", place, name, near)

    # Writing ---------------------------------------------------------------------------------------------------

    def _write_to(self, transaction: Transaction, config_file_name: str = SETTINGS_FILE) -> None:
        """Stage the file, having seen that it reads back as this; whatever could be read can be written."""
        text = self.to_json_string()
        again = self._from_content(json.loads(text), {}, "")
        mine, theirs = ({n: v for n, v in each._content().items() if n not in UNSAVED} for each in (self, again))
        if mine != theirs:
            changed = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
            raise SaveError(f"{type(self).__name__} would not read back as it is: {', '.join(changed)} would change.")
        transaction.write(config_file_name, text)


_reported: set[str] = set()


def _without_none(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}
