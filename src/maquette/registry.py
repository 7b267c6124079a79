"""Which architectures there are: model entries, packages that bring some, and what the user registered.

Nothing here enumerates models. An entry is the `CARD` of `maquette/models/<name>/__init__.py`, or comes by the entry
point group `maquette.models` of an installed package; classes are named as `"module:Class"` and imported when asked
for. A folder whose models have several model types has one for each: `CARDS`.
"""

import functools
import importlib
import logging
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from maquette.errors import UnknownNameError, did_you_mean

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "maquette.models"

TASKS = [
    "PreTraining",
    "CausalLM",
    "MaskedLM",
    "Seq2SeqLM",
    "SequenceClassification",
    "QuestionAnswering",
    "TableQuestionAnswering",
    "VisualQuestionAnswering",
    "DocumentQuestionAnswering",
    "TokenClassification",
    "MultipleChoice",
    "NextSentencePrediction",
    "TextEncoding",
    "ImageClassification",
    "ZeroShotImageClassification",
    "ImageSegmentation",
    "SemanticSegmentation",
    "UniversalSegmentation",
    "InstanceSegmentation",
    "ObjectDetection",
    "ZeroShotObjectDetection",
    "DepthEstimation",
    "NormalEstimation",
    "PointmapEstimation",
    "PoseEstimation",
    "ImageMatting",
    "ImageToImage",
    "MaskedImageModeling",
    "MaskGeneration",
    "KeypointDetection",
    "KeypointMatching",
    "TextRecognition",
    "TableRecognition",
    "VideoClassification",
    "ImageTextToText",
    "MultimodalLM",
    "Vision2Seq",
    "AudioClassification",
    "AudioFrameClassification",
    "AudioXVector",
    "AudioTokenization",
    "CTC",
    "RNNT",
    "TDT",
    "SpeechSeq2Seq",
    "TextToSpectrogram",
    "TextToWaveform",
    "TimeSeriesPrediction",
    "Decision",
]
# What the names of a framework's classes begin with.
PREFIXES = {"torch": "", "tf": "TF", "flax": "Flax"}
TORCH_AUTO_CLASSES = ("AutoModel", *(f"AutoModelFor{task}" for task in TASKS), "AutoBackbone")
MODEL_AUTO_CLASSES = tuple(prefix + name for prefix in PREFIXES.values() for name in TORCH_AUTO_CLASSES)
# What turns raw data into a model's inputs, and the field of a card that names it.
PREPROCESSOR_AUTO_CLASSES = {
    "AutoImageProcessor": "image_processor",
    "AutoFeatureExtractor": "feature_extractor",
    "AutoProcessor": "processor",
}
AUTO_CLASSES = ("AutoConfig", *MODEL_AUTO_CLASSES, *PREPROCESSOR_AUTO_CLASSES)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What an architecture's folder says of itself: names only, nothing is imported to read it.

    Args:
        package: the folder's package, `__name__`; the other names are relative to it.
        model_type: the name in `config.json`.
        config: the configuration, as `"module:Class"`.
        models: for each AutoClass the class it loads.
        tokenizer: the Python tokenizer and the Rust one; None where there is none of a kind.
        image_processor, feature_extractor, processor: what prepares images, sounds, or several kinds of data for it.
        exports: further public classes, such as the common base of the heads.
        tiny: the fields of the smallest useful configuration; the conformance kit builds every model from it.
    """

    package: str
    model_type: str
    config: str
    models: Mapping[str, str] = field(default_factory=dict)
    tokenizer: tuple[str | None, str | None] = (None, None)
    image_processor: str | None = None
    feature_extractor: str | None = None
    processor: str | None = None
    exports: tuple[str, ...] = ()
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def load(self, reference: str) -> Any:
        """Import the class that `"module:Class"` names."""
        module, _, name = reference.partition(":")
        return getattr(importlib.import_module(f"{self.package}.{module}"), name)

    def models_in(self, framework: str) -> dict[str, str]:
        """Give what `models` has for "torch", "tf" or "flax"."""
        names = {PREFIXES[framework] + name for name in TORCH_AUTO_CLASSES}
        return {auto_class: reference for auto_class, reference in self.models.items() if auto_class in names}

    def public(self) -> dict[str, str]:
        """Map each public class name to its reference."""
        preprocessors = (self.image_processor, self.feature_extractor, self.processor)
        references = (self.config, *self.models.values(), *self.tokenizer, *preprocessors, *self.exports)
        return {reference.partition(":")[2]: reference for reference in references if reference}


ModelCard = ModelEntry  # what packages may know it as; elsewhere a model card is a repository's README


@functools.cache
def built_in_cards() -> dict[str, ModelEntry]:
    """Read the cards of `maquette.models`, by model type."""
    folder = importlib.import_module("maquette.models").__path__
    found = (importlib.import_module(f"maquette.models.{module.name}") for module in pkgutil.iter_modules(folder))
    return {card.model_type: card for module in found for card in cards_of(module)}


def cards_of(found: Any) -> tuple[ModelEntry, ...]:
    """Give the cards of a folder: itself where it is one, otherwise what it calls `CARDS`, or `CARD`."""
    if isinstance(found, ModelEntry | tuple | list):
        return tuple(found) if isinstance(found, tuple | list) else (found,)
    return tuple(found.CARDS) if hasattr(found, "CARDS") else (found.CARD,)


@functools.cache
def installed_cards() -> dict[str, ModelEntry]:
    """Read the cards that installed packages declare under the entry point group `maquette.models`."""
    from importlib.metadata import entry_points

    cards: dict[str, ModelEntry] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found = cards_of(point.load())
        except Exception as error:  # a broken package must not take the others down
            logger.warning("The entry point %r (%s) cannot be loaded: %s", point.name, point.value, error)
            continue
        for card in found:
            if card.model_type in built_in_cards():
                logger.warning("The entry point %r is passed over: %r is built in.", point.name, card.model_type)
            else:
                cards[card.model_type] = card
    return cards


def card_for(model_type: str) -> ModelEntry | None:
    """Find the card of a model type among the built-in and the installed ones."""
    return built_in_cards().get(model_type) or installed_cards().get(model_type)


def cards() -> Iterator[ModelEntry]:
    """Go through all cards, the built-in ones first."""
    yield from built_in_cards().values()
    yield from installed_cards().values()


# What the user registered ----------------------------------------------------------------------------------------

_configs: dict[str, type] = {}
_classes: dict[str, dict[type, type]] = {}
_bundled: dict[tuple[str, str], type] = {}


def register_config(model_type: str, config_class: type, *, exist_ok: bool = False) -> None:
    """Have `AutoConfig` know a model type; the user's class comes before a built-in one of the same type.

    Raises:
        UnknownNameError: the class has another `model_type`, or the type was registered for another class.
    """
    if getattr(config_class, "model_type", None) != model_type:
        raise UnknownNameError(
            f"AutoConfig.register({model_type!r}, {config_class.__name__}): the class has "
            f"model_type = {getattr(config_class, 'model_type', None)!r}. Make the two equal."
        )
    _refuse_another(_configs.get(model_type), config_class, f"AutoConfig, {model_type!r}", exist_ok)
    if model_type not in _configs and model_type in built_in_cards():
        logger.warning(
            "%r is also a built-in model type; from now on it means your %s.", model_type, config_class.__name__
        )
    _configs[model_type] = config_class


def register_class(auto_class: str, config_class: type, target: type, *, exist_ok: bool = False) -> None:
    """Have an AutoClass build `target` for configurations of `config_class`."""
    declared = getattr(target, "config_class", None)
    if declared is not None and not _same(declared, config_class):
        raise UnknownNameError(
            f"{auto_class}.register({config_class.__name__}, {target.__name__}): {target.__name__}.config_class is "
            f"{declared.__name__}. Register it for that one, or set config_class."
        )
    known = _classes.setdefault(auto_class, {})
    earlier = next((key for key in known if _same(key, config_class)), config_class)
    _refuse_another(known.get(earlier), target, f"{auto_class}, {config_class.__name__}", exist_ok)
    known.pop(earlier, None)
    known[config_class] = target


def _refuse_another(earlier: type | None, new: type, place: str, exist_ok: bool) -> None:
    """Allow a class to be registered again (a notebook cell run twice), but not silently replaced by another."""
    if earlier is not None and not exist_ok and not _same(earlier, new):
        raise UnknownNameError(
            f"{place}: {earlier.__module__}.{earlier.__name__} is registered already. Pass exist_ok=True to replace it "
            f"with {new.__module__}.{new.__name__}."
        )


def _same(one: type, other: type) -> bool:
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def registered_config(model_type: str) -> type | None:
    """Give the configuration class that the user registered for a model type."""
    return _configs.get(model_type)


def registered_class(auto_class: str, config_class: type) -> type | None:
    """Give the class that the user registered with an AutoClass for a configuration class."""
    return _classes.get(auto_class, {}).get(config_class)


def registered_classes(auto_class: str) -> list[type]:
    """List the classes that the user registered with an AutoClass."""
    return list(_classes.get(auto_class, {}).values())


def config_class_for(model_type: str) -> type:
    """Find the configuration class of a model type, the user's first.

    Raises:
        UnknownNameError: naming the nearest known types.
    """
    if found := _configs.get(model_type):
        return found
    if card := card_for(model_type):
        return cast(type, card.load(card.config))
    raise unknown_model_type(model_type)


def unknown_model_type(model_type: Any) -> UnknownNameError:
    """Phrase the error for an unknown model type."""
    known = sorted({*_configs, *(card.model_type for card in cards())})
    return UnknownNameError(
        f"Unknown model type {model_type!r}.{did_you_mean(str(model_type), known)} "
        + (f"Known are: {', '.join(known)}. " if known else "")
        + "An architecture of your own is made known with AutoConfig.register(model_type, ConfigClass)."
    )


def support_table() -> str:
    """Say in a Markdown table which architectures there are, with how many tasks, and with which preprocessing."""
    rows = [
        "| model type | tasks in torch | Keras | Flax | Python tokenizer | fast tokenizer | other preprocessing |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for card in cards():
        others = [getattr(card, section) for section in PREPROCESSOR_AUTO_CLASSES.values()]
        kinds = [*card.tokenizer, *filter(None, others)] if any(others) else [*card.tokenizer, None]
        names = [f"`{reference.partition(':')[2]}`" if reference else "no" for reference in kinds]
        tasks = " | ".join(_tasks_in(card, framework) for framework in PREFIXES)
        rows.append(f"| {card.model_type} | {tasks} | {names[0]} | {names[1]} | {', '.join(names[2:])} |")
    return "\n".join(rows)


def _tasks_in(card: ModelEntry, framework: str) -> str:
    """List the tasks a card has a model for; those of another framework that are torch's are not said again."""
    torch, prefix = card.models_in("torch"), PREFIXES[framework]
    found = [name.removeprefix(prefix) for name in card.models_in(framework)]
    if framework != "torch" and set(found) == set(torch):
        return "the same"
    return ", ".join(name.removeprefix("AutoModelFor").replace("AutoModel", "base model") for name in found) or "no"


def known_auto_class(name: str) -> str:
    """Check the name of an AutoClass, of any framework, whose classes can go along with a save."""
    if name == "AutoTokenizer":
        return name
    if name not in AUTO_CLASSES:
        raise UnknownNameError(f"There is no AutoClass {name!r}.{did_you_mean(name, AUTO_CLASSES)}")
    return name


def remember_bundled_class(cls: type) -> None:
    """Note a class whose code goes along with saves; a class that was defined again takes its own place."""
    _bundled[cls.__module__, cls.__qualname__] = cls


def bundled_tokenizers() -> list[Any]:
    """List the tokenizer classes whose code goes along with saves."""
    return [cls for cls in _bundled.values() if getattr(cls, "_auto_class", None) == "AutoTokenizer"]


def bundled_classes(config_class: type) -> list[type]:
    """List the classes whose code goes along with a configuration: its own, and those of models made for it."""
    return [
        cls
        for cls in _bundled.values()
        if _same(cls, config_class) or _same(getattr(cls, "config_class", None) or type(None), config_class)
    ]
