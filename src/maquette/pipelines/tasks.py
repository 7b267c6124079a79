"""Which tasks there are, and `pipeline`, which finds everything that one needs."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

from maquette.auto import models as auto_models
from maquette.auto import preprocessors
from maquette.errors import InputError, UnknownNameError, did_you_mean
from maquette.hub.sources import take_source_options
from maquette.pipelines.base import Pipeline

# Each task, in the order in which a model's class is looked up, and the class for it.
TASKS = {
    "text-classification": "text_classification:TextClassificationPipeline",
    "zero-shot-classification": "text_classification:ZeroShotClassificationPipeline",
    "token-classification": "token_classification:TokenClassificationPipeline",
    "question-answering": "question_answering:QuestionAnsweringPipeline",
    "text-generation": "text_generation:TextGenerationPipeline",
    "fill-mask": "text_tokens:FillMaskPipeline",
    "image-classification": "images:ImageClassificationPipeline",
    "zero-shot-image-classification": "images:ZeroShotImageClassificationPipeline",
    "audio-classification": "sounds:AudioClassificationPipeline",
    "automatic-speech-recognition": "sounds:AutomaticSpeechRecognitionPipeline",
    "feature-extraction": "text_tokens:FeatureExtractionPipeline",
    "image-feature-extraction": "images:ImageFeatureExtractionPipeline",
}
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
# What loads each part that a pipeline needs.
LOADERS = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
    "processor": "AutoProcessor",
}
PIXELS = "pixel_values"


def task_class(task: str) -> type[Pipeline]:
    """Give the pipeline of a task.

    Raises:
        UnknownNameError: there is none, with the nearest name.
    """
    name = ALIASES.get(task, task)
    if name not in TASKS:
        known = [*TASKS, *ALIASES]
        raise UnknownNameError(
            f"There is no pipeline for {task!r}.{did_you_mean(str(task), known)} There are: {', '.join(known)}."
        )
    module, _, class_name = TASKS[name].partition(":")
    found: type[Pipeline] = getattr(importlib.import_module(f"maquette.pipelines.{module}"), class_name)
    return found


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    trust_remote_code: bool | str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: type[Pipeline] | None = None,
    **options: Any,
) -> Any:
    """Make an object that takes texts, images or sounds as they are, and gives answers in plain Python.

    Args:
        task: what to do, such as "fill-mask"; unless given, what the model was made for.
        model: a folder, a repository of the Hub, or a model.
        config: decides the model's class, and is used instead of the one beside the weights.
        tokenizer, feature_extractor, image_processor, processor: objects, or where to load them from; unless given,
            they come from where the model came from.
        revision, token: of the repository, as in `from_pretrained`; so may be `cache_dir`, `subfolder` and the others.
        use_fast: take the Rust kind of tokenizer where there is one.
        device: where the model is to be: "cuda:0", 0, or -1 for the CPU. Unless given, a model that is loaded here
            goes to a GPU if there is one.
        device_map, dtype, model_kwargs: as in the model's `from_pretrained`.
        trust_remote_code: True, or `"sha256:…"`, to run the code that comes with it, where it brings its own.
        pipeline_class: a class of your own, instead of the task's.
        options: `batch_size`, and the task's own, for every call.

    Raises:
        UnknownNameError: there is no such task, or it cannot be told from the model.
        InputError: there is no model, or a part that it needs is nowhere.
    """
    if model is None:
        raise InputError("pipeline() needs a model: pipeline('fill-mask', model='a-folder-or-repository').")
    places = take_source_options(options) | {n: v for n, v in (("revision", revision), ("token", token)) if v}
    how: dict[str, Any] = {**places, "trust_remote_code": trust_remote_code}
    is_name = isinstance(model, str | os.PathLike)
    if is_name and (config is None or isinstance(config, str | os.PathLike)):
        configurations: Any = auto_models.AutoConfig
        config = configurations.from_pretrained(model if config is None else config, **how)
    task = task or (task_of(config) if is_name else task_of(model.config, type(model)))
    kind = pipeline_class or task_class(task)
    if is_name:
        place: Any = os.fspath(model)
        settings = {"dtype": dtype, "device_map": device_map, **(model_kwargs or {})}
        settings = {name: value for name, value in settings.items() if value is not None}
        model, dtype = _load_model(kind, place, config, settings | how), None
        device = _usual_device() if device is None and device_map is None else device
    else:
        place = getattr(model, "name_or_path", "") or getattr(model.config, "name_or_path", "")
    given = {
        "tokenizer": tokenizer,
        "image_processor": image_processor,
        "feature_extractor": feature_extractor,
        "processor": processor,
    }
    parts = _find_parts(kind, place, given, how, use_fast=use_fast)
    return kind(model, **parts, device=device, dtype=dtype, **options)


def _usual_device() -> str | None:
    import torch  # only a pipeline needs it, not those who ask which tasks there are

    return "cuda" if torch.cuda.is_available() else None


def _load_model(kind: type[Pipeline], place: Any, config: Any, settings: dict[str, Any]) -> Any:
    """Load a model as the first of the task's AutoClasses that has a class for it."""
    problem: Exception | None = None
    for name in kind.auto_classes:
        try:
            return getattr(auto_models, name).from_pretrained(place, config=config, **settings)
        except UnknownNameError as error:
            problem = problem or error
    raise UnknownNameError(f"The {kind.task} pipeline cannot use {place!r}: {problem}") from None


def _find_parts(
    kind: type[Pipeline], place: str, given: dict[str, Any], how: dict[str, Any], *, use_fast: bool
) -> dict[str, Any]:
    """Load the parts that were given by name, and those that were not given and are needed."""
    parts = {}
    for name, part in given.items():
        needed = name in kind.needs and getattr(given["processor"], name, None) is None
        if part is None and needed:
            if not place:
                raise InputError(f"The {kind.task} pipeline needs {name}=…: the model does not know its folder.")
            part = place
        if isinstance(part, str | os.PathLike):
            settings = {**how, "use_fast": use_fast} if name == "tokenizer" else how
            part = getattr(preprocessors, LOADERS[name]).from_pretrained(part, **settings)
        parts[name] = part
    return parts


# From a model to its task -----------------------------------------------------------------------------------------


def task_of(config: Any, model_class: type | None = None) -> str:
    """Tell what a model was made for, from its class or from the name of it in its configuration.

    Raises:
        UnknownNameError: no task has that class.
    """
    name = (
        model_class.__name__
        if model_class is not None
        else next(iter(getattr(config, "architectures", None) or ()), "")
    )
    auto_map = getattr(config, "auto_map", None) or {}
    for task in TASKS:
        kind = task_class(task)
        for auto_class in kind.auto_classes:
            own = str(auto_map.get(auto_class, "")).rpartition(".")[2]
            if name and name in (own, _registered_name(auto_class, config)):
                return _by_input(task, config, auto_class)
    for task in TASKS:  # a class that nobody registered, of a name that says it
        for auto_class in task_class(task).auto_classes:
            if auto_class != "AutoModel" and name.endswith(auto_class.removeprefix("AutoModel")):
                return task
    what = f"{name!r} is none of their models'" if name else "its configuration names no architecture"
    raise UnknownNameError(f"The task cannot be told from the model: {what}. Pass one of: {', '.join(TASKS)}.")


def _registered_name(auto_class: str, config: Any) -> str | None:
    try:
        found: Any = getattr(auto_models, auto_class)._class_for(type(config), config.model_type)
    except UnknownNameError:
        return None
    return str(found.__name__)


def _by_input(task: str, config: Any, auto_class: str) -> str:
    """Of a base model, tell whether it takes texts or images."""
    if auto_class != "AutoModel":
        return task
    found: Any = auto_models.AutoModel._class_for(type(config), config.model_type)  # type: ignore[attr-defined]
    return "image-feature-extraction" if getattr(found, "main_input_name", "") == PIXELS else task
