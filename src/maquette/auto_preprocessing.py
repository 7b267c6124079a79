"""AutoClasses for what prepares data: tokenizers, image processors, feature extractors, and processors of several.

Which class it is, is decided as for models: what the user registered, the folder's own code if the caller trusts it,
the class that the file names, the model cards.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from maquette.configuration import PretrainedConfig, read_config_file
from maquette.errors import MissingFileError, UnknownNameError, did_you_mean
from maquette.files import SOURCE_OPTIONS, Source, open_source
from maquette.preprocessing import FILE, PROCESSOR_FILE, read_preprocessor_file
from maquette.pretrained import read_json
from maquette.registry import (
    card_for,
    cards,
    register_class,
    registered_class,
    registered_classes,
    registered_config,
)
from maquette.remote_code import load_remote_class


class AutoTokenizer:
    """Loads the tokenizer of any architecture, the fast kind where there is one."""

    def __init__(self) -> NoReturn:
        raise TypeError("AutoTokenizer is not made, it finds: use AutoTokenizer.from_pretrained(name_or_path).")

    @staticmethod
    def register(
        config_class: type[PretrainedConfig],
        slow_tokenizer_class: type | None = None,
        fast_tokenizer_class: type | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Have AutoTokenizer load tokenizers of your own for configurations of `config_class`.

        Raises:
            UnknownNameError: no class is given, or one is registered and `exist_ok` is False.
        """
        kinds = {SLOW: slow_tokenizer_class, FAST: fast_tokenizer_class}
        if not any(kinds.values()):
            raise UnknownNameError("AutoTokenizer.register takes slow_tokenizer_class, fast_tokenizer_class, or both.")
        for kind, tokenizer_class in kinds.items():
            if tokenizer_class is not None:
                register_class(kind, config_class, tokenizer_class, exist_ok=exist_ok)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *inputs: Any,
        use_fast: bool = True,
        config: PretrainedConfig | None = None,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a tokenizer as the class it was saved from, or as its architecture's.

        Args:
            pretrained_model_name_or_path: a folder, or a repository of the Hub.
            use_fast: take the Rust kind where there is one; False takes the Python kind where there is one.
            config: decides the class where the folder does not say.
            trust_remote_code: accepted for the sake of code that passes it everywhere.
            inputs, kwargs: as in the tokenizer's own `from_pretrained`.

        Raises:
            UnknownNameError: nobody knows the tokenizer's class, nor the model type.
        """
        options = {name: kwargs.pop(name) for name in SOURCE_OPTIONS & kwargs.keys()}
        with open_source(pretrained_model_name_or_path, **options) as source:
            slow, fast = _tokenizer_classes(source, config)
            tokenizer_class: Any = (fast or slow) if use_fast else (slow or fast)
            return tokenizer_class.from_source(source, *inputs, **kwargs)


def _tokenizer_classes(source: Source, config: PretrainedConfig | None) -> tuple[Any, Any]:
    """Find the Python and the Rust class: what the user registered, what the tokenizer's file says, the card."""
    content = {} if config is not None or source.find("config.json") is None else read_config_file(source)[0]
    model_type = config.model_type if config is not None else content.get("model_type") or ""
    config_class = type(config) if config is not None else registered_config(model_type)
    if config_class and (found := (registered_class(SLOW, config_class), registered_class(FAST, config_class))) != (
        None,
        None,
    ):
        return found
    path = source.find("tokenizer_config.json")
    saved = read_json(path, label=f"{source.label}/tokenizer_config.json") if path else {}
    name = str(saved.get("tokenizer_class") or content.get("tokenizer_class") or "").removesuffix("Fast")
    for card in cards():
        kinds = [reference.partition(":")[2].removesuffix("Fast") for reference in card.tokenizer if reference]
        if name in kinds or (not name and card.model_type == model_type and kinds):
            slow, fast = (card.load(reference) if reference else None for reference in card.tokenizer)
            return slow, fast
    if source.find("tokenizer.json") and name in GENERIC_TOKENIZERS:
        from maquette.text.tokenization_fast import PreTrainedTokenizerFast

        return None, PreTrainedTokenizerFast
    known = [reference.partition(":")[2] for card in cards() for reference in card.tokenizer if reference]
    raise UnknownNameError(
        f"{source.label!r} does not say which tokenizer it is for: its tokenizer_class is {name or None!r} and its "
        f"model_type {model_type or None!r}.{did_you_mean(name, known)} Load it with the class itself, or register "
        "one: AutoTokenizer.register(ConfigClass, TokenizerClass)."
    )


# What the registry knows the two kinds of tokenizers by; and class names that say no more than that there is a
# tokenizer.json (the peer's current and former ones).
SLOW, FAST = "AutoTokenizer", "AutoTokenizer, fast"
GENERIC_TOKENIZERS = {"", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"}


# Image processors, feature extractors, processors ------------------------------------------------------------------


class AutoPreprocessor:
    """What the AutoClasses for settings in JSON files share."""

    _section: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"{name} is not made, it finds: use {name}.from_pretrained(name_or_path).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: PretrainedConfig | None = None,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load it as the class it was saved from, or as its architecture's.

        Args:
            pretrained_model_name_or_path: a folder, a JSON file, or a repository of the Hub.
            config: decides the class where the folder does not say.
            trust_remote_code: True, or `"sha256:…"`, to run the code that comes with it, where it brings its own.
            kwargs: as in the class's own `from_pretrained`.

        Raises:
            UnknownNameError: nobody knows the class that the file names, nor the model type.
            UntrustedCodeError: it brings code and the caller did not trust it.
        """
        options = {name: kwargs.pop(name) for name in SOURCE_OPTIONS & kwargs.keys()}
        with open_source(pretrained_model_name_or_path, **options) as source:
            found = cls._find(source, config, trust_remote_code)
            return found.from_source(source, **kwargs)

    @classmethod
    def _find(cls, source: Source, config: PretrainedConfig | None, trust: bool | str | None) -> Any:
        content, described = cls._settings(source), _configuration(source, config)
        model_type = config.model_type if config is not None else described.get("model_type") or ""
        config_class = type(config) if config is not None else registered_config(str(model_type))
        if config_class and (found := registered_class(cls.__name__, config_class)):
            return found
        for auto_map in (content.get("auto_map"), described.get("auto_map")):
            if isinstance(auto_map, Mapping) and cls.__name__ in auto_map:
                return load_remote_class(source, auto_map, cls.__name__, trust=trust)
        name = cls._class_name(content)
        if found := cls._by_name(name):
            return found
        card = card_for(model_type) if isinstance(model_type, str) else None
        if not name and card and (reference := getattr(card, cls._section)):
            return card.load(reference)
        return cls._otherwise(source, name, model_type)

    @classmethod
    def _settings(cls, source: Source) -> dict[str, Any]:
        return read_preprocessor_file(source, cls._section)[0]

    @classmethod
    def _class_name(cls, content: Mapping[str, Any]) -> str:
        """Give the class that a file names."""
        return str(content.get(f"{cls._section}_type") or "")

    @classmethod
    def _by_name(cls, name: str) -> Any:
        """Find a class by the name that a file gives, which may be one of the peer's for the same settings."""
        known: dict[str, Any] = {found.__name__: found for found in registered_classes(cls.__name__)}
        if name in known:
            return known[name]
        plain = name.removesuffix("Fast").removesuffix("Pil")
        for card in cards():
            reference = getattr(card, cls._section)
            if reference and plain == reference.partition(":")[2]:
                return card.load(reference)
        return None

    @classmethod
    def _otherwise(cls, source: Source, name: str, model_type: Any) -> Any:
        references = (getattr(card, cls._section) for card in cards())
        known = [reference.partition(":")[2] for reference in references if reference]
        raise UnknownNameError(
            f"{source.label!r} does not say which {cls._section.replace('_', ' ')} it is for: its class is "
            f"{name or None!r} and its model_type {model_type or None!r}.{did_you_mean(name, known)} Load it with the "
            f"class itself, or register one: {cls.__name__}.register(ConfigClass, YourClass)."
        )


class AutoImageProcessor(AutoPreprocessor):
    """Loads the image processor of any architecture."""

    _section = "image_processor"

    @classmethod
    def register(
        cls, config_class: type[PretrainedConfig], image_processor_class: type, exist_ok: bool = False
    ) -> None:
        """Have AutoImageProcessor load a class of your own for configurations of `config_class`.

        Raises:
            UnknownNameError: one is registered and `exist_ok` is False.
        """
        register_class(cls.__name__, config_class, image_processor_class, exist_ok=exist_ok)

    @classmethod
    def _class_name(cls, content: Mapping[str, Any]) -> str:
        old = str(content.get("feature_extractor_type") or "").replace("FeatureExtractor", "ImageProcessor")
        return super()._class_name(content) or old


class AutoFeatureExtractor(AutoPreprocessor):
    """Loads the feature extractor of any architecture."""

    _section = "feature_extractor"

    @classmethod
    def register(
        cls, config_class: type[PretrainedConfig], feature_extractor_class: type, exist_ok: bool = False
    ) -> None:
        """Have AutoFeatureExtractor load a class of your own for configurations of `config_class`.

        Raises:
            UnknownNameError: one is registered and `exist_ok` is False.
        """
        register_class(cls.__name__, config_class, feature_extractor_class, exist_ok=exist_ok)

    @classmethod
    def _otherwise(cls, source: Source, name: str, model_type: Any) -> Any:
        """Give vision models, whose image processors were called feature extractors once, their image processor."""
        try:
            return AutoImageProcessor._find(source, None, None)
        except UnknownNameError:
            return super()._otherwise(source, name, model_type)


class AutoProcessor(AutoPreprocessor):
    """Loads the processor of any architecture, or the one part that prepares data for it where there is only one."""

    _section = "processor"

    @classmethod
    def register(cls, config_class: type[PretrainedConfig], processor_class: type, exist_ok: bool = False) -> None:
        """Have AutoProcessor load a class of your own for configurations of `config_class`.

        Raises:
            UnknownNameError: one is registered and `exist_ok` is False.
        """
        register_class(cls.__name__, config_class, processor_class, exist_ok=exist_ok)

    @classmethod
    def _settings(cls, source: Source) -> dict[str, Any]:
        """Read whichever file says the processor's class."""
        for name in (PROCESSOR_FILE, FILE, "tokenizer_config.json"):
            path = source.find(name)
            content = read_json(path, label=f"{source.label}/{name}") if path else {}
            auto_map = content.get("auto_map")
            if content.get("processor_class") or (isinstance(auto_map, Mapping) and cls.__name__ in auto_map):
                return content
        return {}

    @classmethod
    def _class_name(cls, content: Mapping[str, Any]) -> str:
        return str(content.get("processor_class") or "")

    @classmethod
    def _otherwise(cls, source: Source, name: str, model_type: Any) -> Any:
        """Load the only part there is, where the folder names no processor."""
        for part in () if name else (AutoImageProcessor, AutoFeatureExtractor):
            try:
                return part._find(source, None, None)
            except (MissingFileError, UnknownNameError):
                continue
        return super()._otherwise(source, name, model_type)


def _configuration(source: Source, config: PretrainedConfig | None) -> dict[str, Any]:
    if config is not None or source.config_name != "config.json" or source.find("config.json") is None:
        return {}
    return read_config_file(source)[0]
