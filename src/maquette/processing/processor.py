"""Processors: tokenizer, image processor and feature extractor, in any combination, as one object and one folder."""

import copy
import inspect
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from maquette.batch.features import BatchFeature
from maquette.configuration.schema import FaultError, Field, Schema
from maquette.errors import ConfigurationError, FileFormatError, InputError, SaveError, UnknownFieldError, did_you_mean
from maquette.hub.sources import CONFIG_NAME, Source, open_source, take_source_options
from maquette.pretrained.mixin import PretrainedMixin
from maquette.processing.chat_media import collect_media, name_images
from maquette.processing.parts import DATA, Part, declared_parts, load_part, of_kind, part_class
from maquette.processing.settings import PROCESSOR_FILE, PreprocessingMixin
from maquette.remote_code.package import package_of
from maquette.storage.json_files import read_json, to_json
from maquette.storage.json_values import encode_floats, refuse, to_plain
from maquette.storage.transaction import Subtransaction, Transaction
from maquette.text.chat_templates import choose_template, find_templates, has_media, write_templates

OWN_OPTIONS = {"images_kwargs": "image_processor", "text_kwargs": "tokenizer", "audio_kwargs": "feature_extractor"}
COUNTED = {"max_length", "truncation", "pad_to_multiple_of"}  # in tokens for one part, in samples for another
TEMPLATE = "chat_template"
NOT_SETTINGS = ("processor_class", "auto_map")


class ProcessorMixin(PretrainedMixin):
    """Base of processors: give it parts, and it calls each with its data, and saves and loads all as one folder.

    Say which parts there are in any of these ways; what is left out may be any class of the kind that the name says.

        class Reader(ProcessorMixin):
            image_processor: ViTImageProcessor
            tokenizer: PreTrainedTokenizerBase

        class Reader(ProcessorMixin):
            attributes = ["image_processor", "tokenizer"]
            tokenizer_class = ("DistilBertTokenizer", "DistilBertTokenizerFast")

        class Reader(ProcessorMixin):
            def __init__(self, image_processor, tokenizer, patches=4):
                super().__init__(image_processor, tokenizer)
                self.patches = patches

    Other annotated attributes, and other arguments of the constructor, are settings: they are saved, too.
    """

    _default_auto_class = "AutoProcessor"
    attributes: ClassVar[list[str]] = []
    _schema_cache: ClassVar[dict[str, Field]]
    _parts_cache: ClassVar[dict[str, Part]]

    def __init__(self, *parts: Any, **kwargs: Any) -> None:
        names = list(self._parts())
        if len(parts) > len(names):
            raise ConfigurationError(f"{type(self).__name__} takes {len(names)} parts, not {len(parts)}: {names}.")
        given = dict(zip(names, parts, strict=False))
        if doubled := given.keys() & kwargs.keys():
            raise ConfigurationError(f"{type(self).__name__} got {', '.join(sorted(doubled))} twice.")
        given |= kwargs
        if unknown := [name for name in given if name not in {*names, *self._fields(), TEMPLATE}]:
            raise UnknownFieldError(self._unknown(unknown))
        for name, part in self._parts().items():
            if name not in given and not part.optional:
                raise ConfigurationError(f"{type(self).__name__} needs {name}. Its parts are: {', '.join(names)}.")
            setattr(self, name, given.pop(name, None))
        self._take_settings(given)

    def _take_settings(self, given: Mapping[str, Any]) -> None:
        for name, field in self._fields().items():
            if name in given:
                setattr(self, name, given[name])
            elif not field.by_hand and not field.has_default:
                raise ConfigurationError(f"{type(self).__name__} needs {name}: it has no default.")
            elif not field.by_hand:
                setattr(self, name, field.fresh_default())
        if given.get(TEMPLATE) is not None:
            self.__dict__[TEMPLATE] = given[TEMPLATE]

    # What the class declares

    @classmethod
    def _read_schema(cls) -> None:
        fields = Schema.read(cls, ProcessorMixin).fields
        cls._parts_cache = declared_parts(cls, fields)
        cls._schema_cache = {name: field for name, field in fields.items() if name not in cls._parts_cache}

    @classmethod
    def _parts(cls) -> dict[str, Part]:
        if "_parts_cache" not in vars(cls):
            cls._read_schema()
        return cls._parts_cache

    @classmethod
    def _fields(cls) -> dict[str, Field]:
        """Give the settings: what the class declares that is no part."""
        cls._parts()
        return cls._schema_cache

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Name the parts."""
        return list(cls._parts())

    @classmethod
    def _unknown(cls, names: list[str]) -> str:
        known = {*cls._parts(), *cls._fields(), TEMPLATE}
        return "\n".join(
            f"{cls.__name__} has no part or setting {name!r}.{did_you_mean(name, known)} Its parts are: "
            f"{', '.join(cls._parts())}."
            for name in names
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if part := self._parts().get(name):
            part.check(value, type(self).__name__)
        elif field := self._fields().get(name):
            try:
                value = field.check(value)
            except FaultError as failure:
                raise failure.as_error(type(self).__name__, field=name) from None
        object.__setattr__(self, name, value)

    def _kept_part(self, name: str) -> Any:
        if name not in self.__dict__:
            raise ConfigurationError(
                f"{type(self).__name__}.__init__ does not keep its part {name}: call super().__init__ with it."
            )
        return self.__dict__[name]

    # The call

    def __call__(self, images: Any = None, text: Any = None, *, audio: Any = None, **options: Any) -> Any:
        """Give each part its data; what they give comes as one batch.

        Args:
            images, text, audio: data for the image processor, the tokenizer and the feature extractor.
            options: each goes to every part that takes it; `images_kwargs`, `text_kwargs` and `audio_kwargs` are for
                one part alone.

        Raises:
            InputError: there is no data, or none of the parts is for it, or two parts give values of one name.
            UnknownFieldError: no part takes a keyword; with the nearest that one does.
        """
        results = self._process(images=images, text=text, audio=audio, options=options)
        if len(results) == 1:
            return next(iter(results.values()))
        data: dict[str, Any] = {}
        for name, result in results.items():
            if clash := sorted(data.keys() & result.keys()):
                raise InputError(
                    f"{type(self).__name__}: {name} gives {clash[0]!r}, and another part gave it before. Turn one off "
                    f"through its own options, or write a __call__ that names them apart."
                )
            data.update(result)
        return BatchFeature(data)

    def _process(self, *, options: Mapping[str, Any], **data: Any) -> dict[str, Any]:
        """Call the part for each kind of data that is given; gives the results by the part's name, the text's first."""
        own = dict(of_kind(self._parts()))
        given = {kind: value for kind, keyword in DATA.items() if (value := data.get(keyword)) is not None}
        if not given:
            wanted = [DATA[kind] for kind in own]
            raise InputError(f"{type(self).__name__} was given nothing to process. Pass {' or '.join(wanted)}.")
        for kind in given:
            if kind not in own or self._kept_part(own[kind]) is None:
                raise InputError(f"{type(self).__name__} has no {kind}, so it cannot take {DATA[kind]}.")
        shares = self._share(options, {kind: own[kind] for kind in given}, "__call__")
        order = sorted(given, key=lambda kind: kind != "tokenizer")
        return {own[kind]: self._kept_part(own[kind])(given[kind], **shares[kind]) for kind in order}

    def _share(self, options: Mapping[str, Any], used: Mapping[str, str], method: str) -> dict[str, dict[str, Any]]:
        """Decide which part gets which option.

        Args:
            options: as the caller gave them.
            used: the parts that are called, their names by kind.
            method: what is called: `"__call__"` or `"pad"`.
        """
        own = {kind: name for kind, name in of_kind(self._parts()) if self.__dict__.get(name) is not None}
        shares: dict[str, dict[str, Any]] = {
            kind: dict(options.get(key) or {}) for key, kind in OWN_OPTIONS.items() if kind in own
        }
        for name in used.values():
            if not hasattr(self._kept_part(name), method):
                raise InputError(
                    f"{type(self).__name__}: its {name}, {type(self._kept_part(name)).__name__}, has no {method}()."
                )
        able = {kind: part for kind, name in own.items() if hasattr(part := self._kept_part(name), method)}
        takes = {kind: _keywords(part, method) for kind, part in able.items()}
        for name, value in options.items():
            if name in OWN_OPTIONS:
                continue
            takers = [kind for kind, (known, _) in takes.items() if name in known]
            takers = takers or [kind for kind, (_, is_open) in takes.items() if is_open]
            if not takers:
                raise UnknownFieldError(self._nobody_takes(name, method, takes, own))
            takers = [kind for kind in takers if kind in used and name not in shares[kind]]
            if name in COUNTED and len(takers) > 1:
                raise InputError(_ambiguous(name, value, [own[kind] for kind in takers], takers))
            for kind in takers:
                shares[kind][name] = value
        return shares

    def _nobody_takes(self, name: str, method: str, takes: Mapping[str, Any], own: Mapping[str, str]) -> str:
        lines = "".join(f"\n  - {own[kind]} takes {', '.join(sorted(known))}" for kind, (known, _) in takes.items())
        near = did_you_mean(name, {*OWN_OPTIONS}.union(*(known for known, _ in takes.values())))
        what = "the call" if method == "__call__" else f"{method}()"
        return f"{type(self).__name__}: {what} takes no {name!r}.{near}{lines}"

    # Decoding

    def _tokenizer(self) -> Any:
        name = dict(of_kind(self._parts())).get("tokenizer")
        if name is None or self._kept_part(name) is None:
            raise InputError(f"{type(self).__name__} has no tokenizer, so it cannot decode.")
        return self._kept_part(name)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Turn ids into a text, as the tokenizer's `decode` does."""
        return self._tokenizer().decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """Turn rows of ids into texts, as the tokenizer's `batch_decode` does."""
        return self._tokenizer().batch_decode(*args, **kwargs)

    def apply_chat_template(
        self, conversation: Any, chat_template: str | None = None, *, tokenize: bool = False, **options: Any
    ) -> Any:
        """Turn a conversation into its text, or with `tokenize=True` into ids, as the tokenizer's method does.

        The processor's own template comes before the tokenizer's. Images and sounds in messages become their marks in
        the text. With `tokenize=True` they are loaded (images from an address, a path, base64 or an object; sounds are
        arrays), and the processor is called with them and the text: what it gives is given, `pixel_values` and all.

        Args:
            conversation, chat_template, tokenize: as in the tokenizer's method.
            options: as there; `processor_kwargs` are for the processor's call.

        Raises:
            InputError: what a message holds cannot be loaded, or no part takes it.
        """
        tokenizer, own = self._tokenizer(), self.__dict__.get(TEMPLATE)
        conversation = name_images(conversation)
        if own is not None:
            chat_template = choose_template(own, chat_template, options.get("tools"), type(self).__name__)
        if tokenize and has_media(conversation):
            return self._encode_with_media(conversation, chat_template, options)
        options.pop("processor_kwargs", None)
        options = {"return_dict": False, **options} if tokenize else options
        return tokenizer.apply_chat_template(conversation, chat_template=chat_template, tokenize=tokenize, **options)

    def _encode_with_media(self, conversation: Any, chat_template: str | None, options: dict[str, Any]) -> Any:
        """Call the processor with the text of a conversation, and with what its messages hold."""
        if wrong := [name for name in ("return_assistant_tokens_mask", "sanitize_control_tokens") if options.get(name)]:
            raise InputError(f"{wrong[0]}=True goes with texts only, and a message holds an image or a sound.")
        batched = isinstance(conversation[0], list | tuple)
        own = {name: options.pop(name) for name in OWN_OPTIONS if name in options}
        own |= options.pop("processor_kwargs", None) or {}
        for_text: dict[str, Any] = {
            name: options.pop(name) for name in ("padding", "truncation", "max_length") if name in options
        }
        for_text |= options.pop("tokenizer_kwargs", None) or {}
        tensors, whole = options.pop("return_tensors", None), options.pop("return_dict", True)
        tokenizer = self._tokenizer()
        text = tokenizer.apply_chat_template(conversation, chat_template=chat_template, tokenize=False, **options)
        begin = tokenizer.bos_token
        if begin is not None and (text[0] if batched else text).startswith(begin):
            for_text.setdefault("add_special_tokens", False)
        found = [collect_media(messages) for messages in (conversation if batched else [conversation])]
        part: Any = self.__dict__.get(dict(of_kind(self._parts())).get("image_processor", ""))
        if hasattr(part, "fetch_images"):
            found = [one._replace(images=part.fetch_images(one.images)) for one in found]
        images, sounds = ([item for one in found for item in one[kind]] for kind in (0, 1))
        if batched and type(self).__call__ is not ProcessorMixin.__call__:  # one that knows which are whose
            images = [one.images for one in found] if images else []
        given = {name: value for name, value in (("images", images), ("audio", sounds)) if value}
        more = own | {"text_kwargs": {**for_text, **own.get("text_kwargs", {})}}
        output = self(text=text, **given, **more, **({} if tensors is None else {"return_tensors": tensors}))
        return output if whole else output["input_ids"]

    @property
    def model_input_names(self) -> list[str]:
        """What the parts give for a model."""
        parts = (self.__dict__.get(name) for name in self._parts())
        return list(dict.fromkeys(name for part in parts if part is not None for name in part.model_input_names))

    # Printing and saving

    def to_dict(self) -> dict[str, Any]:
        """Give the content of `processor_config.json`: the parts but tokenizers, and the settings.

        Raises:
            SaveError: naming a value that JSON cannot hold.
        """
        parts = {name: self._kept_part(name) for name, part in self._parts().items() if part.kind != "tokenizer"}
        return self._content({name: part.to_dict() for name, part in parts.items() if part is not None})

    def _content(self, sections: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in self._fields() if name != TEMPLATE]
        if lost := [name for name in names if name not in self.__dict__]:
            raise SaveError(
                f"{type(self).__name__}.__init__ takes {', '.join(lost)} and does not keep what it got. Store every "
                f"argument under its own name: self.{lost[0]} = {lost[0]}."
            )
        settings = {name: to_plain(self.__dict__[name], name, refuse) for name in names}
        kept = {name: value for name, value in self._kept.items() if value}
        extra = self.__dict__.get("_extra", {})
        return {**extra, **settings, **kept, **sections, "processor_class": type(self).__name__}

    def to_json_string(self) -> str:
        """Give the text of `processor_config.json`: sorted, indented by two."""
        return to_json(encode_floats(self.to_dict()))

    def __repr__(self) -> str:
        parts = "\n".join(f"- {name}: {self.__dict__.get(name)!r}" for name in self._parts())
        return f"{type(self).__name__}:\n{parts}\n\n{self.to_json_string().rstrip()}"

    def _write_to(self, transaction: Transaction) -> None:
        saved = copy.copy(self)
        saved.__dict__["_kept"] = dict(self._kept)
        parts = {
            name: copy.deepcopy(self._kept_part(name))
            for name, part in self._parts().items()
            if part.kind != "tokenizer"
        }
        parts = {name: part for name, part in parts.items() if part is not None}
        _pack(transaction, saved, *parts.values())
        for name, part in self._parts().items():
            if part.kind == "tokenizer" and self._kept_part(name) is not None:
                place = transaction if name == "tokenizer" else Subtransaction(transaction, name)
                self._kept_part(name)._write_to(place)
        sections = {name: json.loads(part._verified()) for name, part in parts.items()}
        transaction.write(PROCESSOR_FILE, to_json(encode_floats(saved._content(sections))))
        template = self.__dict__.get(TEMPLATE)
        if template is not None:
            write_templates(transaction, template)

    # Loading

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a processor with all its parts from a folder, or from a repository of the Hub.

        Args:
            pretrained_model_name_or_path: what to read.
            trust_remote_code: True, or `"sha256:…"`, to run code that parts bring along.
            kwargs: settings to override, of the processor or of every part that has one of that name; and `revision`,
                `subfolder`, `token`, `cache_dir`, `local_files_only`, `force_download` for where to read from.

        Raises:
            MissingFileError, FileFormatError, ConfigurationError: with the file, the part, and what to do.
            UnknownFieldError: neither the processor nor a part has a setting of that name.
        """
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            return cls.from_source(source, trust_remote_code=trust_remote_code, **kwargs)

    @classmethod
    def from_source(cls, source: Source, *, trust_remote_code: bool | str | None = None, **overrides: Any) -> Self:
        """Load a processor from a source that is already open."""
        if source.config_name != CONFIG_NAME:
            raise FileFormatError(f"{source.label!r} is a file; a processor is a whole folder. Give the folder.")
        package = package_of(cls)
        if package is not None and package.identity == source.identity and not trust_remote_code:
            trust_remote_code = True  # the class itself is code of this folder, approved as a whole
        path = source.find(PROCESSOR_FILE)
        content = read_json(path, label=f"{source.label}/{PROCESSOR_FILE}") if path else {}
        shares = cls._share_overrides(source, content, overrides, trust_remote_code)
        parts = {
            name: load_part(part, source, cls, trust=trust_remote_code, overrides=shares[name])
            for name, part in cls._parts().items()
            if not (part.optional and _is_absent(part, source, content))
        }
        settings = {name: content[name] for name in cls._fields() if name in content} | shares[""]
        if templates := find_templates(source):
            settings.setdefault(TEMPLATE, templates)
        return cls._assemble(parts, settings, content)

    @classmethod
    def _assemble(cls, parts: Mapping[str, Any], settings: dict[str, Any], content: Mapping[str, Any]) -> Self:
        takes = inspect.signature(cls.__init__).parameters
        is_open = any(one.kind is one.VAR_KEYWORD for one in takes.values())
        template = None if is_open or TEMPLATE in takes else settings.pop(TEMPLATE, None)
        made = cls(**parts, **settings)
        if template is not None:
            made.__dict__[TEMPLATE] = template
        known = {*cls._parts(), *cls._fields(), *NOT_SETTINGS, TEMPLATE}
        made.__dict__["_extra"] = {name: value for name, value in content.items() if name not in known}
        if isinstance(content.get("auto_map"), Mapping):
            made.auto_map = dict(content["auto_map"])
        return made

    @classmethod
    def _share_overrides(
        cls, source: Source, content: Mapping[str, Any], overrides: Mapping[str, Any], trust: bool | str | None
    ) -> dict[str, dict[str, Any]]:
        """Give the overrides that each part takes, by its name; the processor's own under an empty one."""
        shares: dict[str, dict[str, Any]] = {"": {}, **{name: {} for name in cls._parts()}}
        if not overrides:
            return shares
        known: dict[str, set[str]] = {"": {*cls._fields(), TEMPLATE}}
        for name, part in cls._parts().items():
            if not (part.optional and _is_absent(part, source, content)):
                found = part_class(part, source, cls, trust=trust)
                is_tokenizer = part.kind == "tokenizer"
                known[name] = set(found._known_arguments() if is_tokenizer else found._settings())
        for keyword, value in overrides.items():
            takers = [name for name, names in known.items() if keyword in names]
            if not takers:
                near = did_you_mean(keyword, set().union(*known.values()))
                raise UnknownFieldError(f"{cls.__name__}: neither it nor a part has a setting {keyword!r}.{near}")
            for name in takers:
                shares[name][keyword] = value
        return shares


def _is_absent(part: Part, source: Source, content: Mapping[str, Any]) -> bool:
    """Tell whether a part that may be None was saved as that."""
    if part.kind != "tokenizer":
        return bool(content) and part.name not in content
    place = "" if part.name == "tokenizer" else f"{part.name}/"
    return source.find(f"{place}tokenizer_config.json") is None and source.find(f"{place}tokenizer.json") is None


def _pack(transaction: Transaction, *things: Any) -> None:
    """Stage the code that goes along with a processor and its parts, as one save's code.

    Raises:
        SaveError: two of them bring different files of one name.
    """
    from maquette.remote_code.bundling import pack_code

    for thing in things:
        pack_code(type(thing), thing, transaction)


def _keywords(part: Any, method: str) -> tuple[set[str], bool]:
    """Name the keywords that a part's method takes, and tell whether it takes any other.

    The name of a catch-all says what it is for: `unknown` refuses, `overrides` takes settings of the part.
    """
    function = getattr(type(part), method)
    function = getattr(type(part), getattr(function, "hands_on_to", method))
    parameters = list(inspect.signature(function).parameters.values())[2:]
    names = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    rest = next((one.name for one in parameters if one.kind is one.VAR_KEYWORD), "unknown")
    if rest == "overrides" and isinstance(part, PreprocessingMixin):
        return names | set(part._settings()), False
    return names, rest != "unknown"


def _ambiguous(name: str, value: Any, parts: list[str], kinds: list[str]) -> str:
    keys = [key for key, kind in OWN_OPTIONS.items() if kind in kinds]
    return (
        f"{name}={value!r} would count samples for one part and tokens for another ({' and '.join(parts)} take it). "
        f"Say which is meant: {' or '.join(f'{key}={{{name!r}: {value!r}}}' for key in keys)}."
    )
