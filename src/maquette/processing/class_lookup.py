"""Which class a folder's tokenizer, image processor, feature extractor or processor is of.

It is decided in this order: what the user registered, the folder's own code (`auto_map`) if the caller trusts it, the
class that the file names, the model entry.
"""

from collections.abc import Mapping
from typing import Any

from maquette.configuration import PretrainedConfig, read_config_file
from maquette.errors import MissingFileError, UnknownNameError, did_you_mean
from maquette.hub.sources import Source
from maquette.processing.settings import FILE, PROCESSOR_FILE, read_preprocessor_file
from maquette.registry import (
    PREPROCESSOR_AUTO_CLASSES,
    card_for,
    cards,
    registered_class,
    registered_classes,
    registered_config,
)
from maquette.remote_code.loading import load_remote_class
from maquette.storage.json_files import read_json

# What the registry knows the two kinds of tokenizers by.
SLOW, FAST = "AutoTokenizer", "AutoTokenizer, fast"
# Where the class stands, if the file of its own does not say it: image processors of vision models were called feature
# extractors once, and a folder without a processor's name may have only one part.
OTHERWISE = {
    "AutoFeatureExtractor": ("AutoImageProcessor",),
    "AutoProcessor": ("AutoTokenizer", "AutoImageProcessor", "AutoFeatureExtractor"),
}


def find_tokenizer_classes(
    source: Source, config: PretrainedConfig | None, trust: bool | str | None = None, *, use_fast: bool = True
) -> tuple[Any, Any]:
    """Find the Python and the Rust class: registered, the folder's own code, what the tokenizer's file says, the card.

    Of the folder's own classes, only the one that is wanted is loaded.
    """
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
    for auto_map in (saved.get("auto_map"), content.get("auto_map")):
        if own := _own_tokenizer_class(source, auto_map, trust, use_fast):
            return own
    name = str(saved.get("tokenizer_class") or content.get("tokenizer_class") or "").removesuffix("Fast")
    for card in cards():
        kinds = [reference.partition(":")[2].removesuffix("Fast") for reference in card.tokenizer if reference]
        if name in kinds or (not name and card.model_type == model_type and kinds):
            slow, fast = (card.load(reference) if reference else None for reference in card.tokenizer)
            return slow, fast
    if source.find("tokenizer.json"):  # whatever class the folder was saved from, this file is the whole tokenizer
        from maquette.text.tokenization_fast import PreTrainedTokenizerFast

        return None, PreTrainedTokenizerFast
    known = [reference.partition(":")[2] for card in cards() for reference in card.tokenizer if reference]
    raise UnknownNameError(
        f"{source.label!r} does not say which tokenizer it is for: its tokenizer_class is {name or None!r} and its "
        f"model_type {model_type or None!r}.{did_you_mean(name, known)} Load it with the class itself, or register "
        "one: AutoTokenizer.register(ConfigClass, TokenizerClass)."
    )


def _own_tokenizer_class(source: Source, auto_map: Any, trust: Any, use_fast: bool) -> tuple[Any, Any] | None:
    """Load the class of a folder's own code that its map names for AutoTokenizer, as `[python, rust]` or as one."""
    whole = {"AutoTokenizer": auto_map} if isinstance(auto_map, list) else auto_map  # as Transformers wrote it once
    named = whole.get("AutoTokenizer") if isinstance(whole, Mapping) else None
    if not named:
        return None
    slow, fast = [*named, None][:2] if isinstance(named, list) else (named, None)
    chosen = (fast or slow) if use_fast else (slow or fast)
    home = getattr(source, "source", source)  # code lies beside the other files, not in a second tokenizer's folder
    found = load_remote_class(home, whole, "AutoTokenizer", trust=trust, reference=chosen)
    return (None, found) if chosen is fast else (found, None)


def find_class(auto_class: str, source: Source, config: PretrainedConfig | None, trust: bool | str | None) -> Any:
    """Find the class of what an AutoClass loads from a source.

    Args:
        auto_class: a key of `PREPROCESSOR_AUTO_CLASSES`, or `"AutoTokenizer"`.
        source: the folder or repository.
        config: decides where the folder does not say.
        trust: `trust_remote_code` as the caller gave it.

    Raises:
        UnknownNameError: neither the class that the file names nor the model type is known.
        UntrustedCodeError: it is the folder's own code, and the caller did not trust it.
    """
    if auto_class == "AutoTokenizer":
        slow, fast = find_tokenizer_classes(source, config, trust)
        return fast or slow
    content, described = _settings(auto_class, source), _configuration(source, config)
    model_type = config.model_type if config is not None else described.get("model_type") or ""
    config_class = type(config) if config is not None else registered_config(str(model_type))
    if config_class and (found := registered_class(auto_class, config_class)):
        return found
    for auto_map in (content.get("auto_map"), described.get("auto_map")):
        if isinstance(auto_map, Mapping) and auto_class in auto_map:
            return load_remote_class(source, auto_map, auto_class, trust=trust)
    name = class_name(auto_class, content)
    if found := class_by_name(auto_class, name):
        return found
    card = card_for(model_type) if isinstance(model_type, str) else None
    if not name and card and (reference := getattr(card, PREPROCESSOR_AUTO_CLASSES[auto_class])):
        return card.load(reference)
    for other in () if auto_class == "AutoProcessor" and name else OTHERWISE.get(auto_class, ()):
        try:
            return find_class(other, source, config, trust)
        except (MissingFileError, UnknownNameError):
            continue
    raise _unknown_class(auto_class, source, name, model_type)


def class_name(auto_class: str, content: Mapping[str, Any]) -> str:
    """Give the class that a file names, an image processor's older name as the one of today."""
    if auto_class == "AutoProcessor":
        return str(content.get("processor_class") or "")
    name = content.get(f"{PREPROCESSOR_AUTO_CLASSES[auto_class]}_type")
    if not name and auto_class == "AutoImageProcessor":
        name = str(content.get("feature_extractor_type") or "").replace("FeatureExtractor", "ImageProcessor")
    return str(name or "")


def class_by_name(auto_class: str, name: str) -> Any:
    """Find a class by the name that a file gives, which may be one from Transformers for the same settings; or None."""
    registered: dict[str, Any] = {found.__name__: found for found in registered_classes(auto_class)}
    if name in registered:
        return registered[name]
    plain = name.removesuffix("Fast").removesuffix("Pil")
    for card in cards():
        reference = getattr(card, PREPROCESSOR_AUTO_CLASSES[auto_class])
        if reference and plain == reference.partition(":")[2]:
            return card.load(reference)
    return None


def _settings(auto_class: str, source: Source) -> dict[str, Any]:
    """Read the file that says the class."""
    if auto_class != "AutoProcessor":
        try:
            return read_preprocessor_file(source, PREPROCESSOR_AUTO_CLASSES[auto_class])[0]
        except MissingFileError:
            if source.find(PROCESSOR_FILE) is None:
                raise
            return {}  # a processor without such a part
    for name in (PROCESSOR_FILE, FILE, "tokenizer_config.json"):
        path = source.find(name)
        content = read_json(path, label=f"{source.label}/{name}") if path else {}
        auto_map = content.get("auto_map")
        if content.get("processor_class") or (isinstance(auto_map, Mapping) and auto_class in auto_map):
            return content
    return {}


def _unknown_class(auto_class: str, source: Source, name: str, model_type: Any) -> UnknownNameError:
    section = PREPROCESSOR_AUTO_CLASSES[auto_class]
    known = [reference.partition(":")[2] for card in cards() if (reference := getattr(card, section))]
    return UnknownNameError(
        f"{source.label!r} does not say which {section.replace('_', ' ')} it is for: its class is {name or None!r} and "
        f"its model_type {model_type or None!r}.{did_you_mean(name, known)} Load it with the class itself, or register "
        f"one: {auto_class}.register(ConfigClass, YourClass)."
    )


def _configuration(source: Source, config: PretrainedConfig | None) -> dict[str, Any]:
    if config is not None or source.config_name != "config.json" or source.find("config.json") is None:
        return {}
    return read_config_file(source)[0]
