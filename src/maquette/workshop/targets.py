"""Targets: what a command looks at. A folder or a repository with a configuration, or a class, as `module:Class`."""

import contextlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maquette.auto import models as auto_models
from maquette.configuration import PretrainedConfig
from maquette.errors import ConfigurationError, InputError, MissingFileError, UnknownNameError, bullets, did_you_mean
from maquette.hub.sources import SOURCE_OPTIONS, open_source
from maquette.registry import MODEL_AUTO_CLASSES, PREFIXES, ModelEntry, card_for, cards, registered_class
from maquette.remote_code.package import package_of
from maquette.storage.paths import user_path

CLASS = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")
WEIGHTS = re.compile(r"model(\.[\w.+-]+)?\.safetensors(\.index(\.[\w.+-]+)?\.json)?")
FILE_AND_CLASS = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[^\W\d]\w*)")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model class and a configuration for it, and where weights lie, if they do.

    Attributes:
        name: what the user wrote.
        kind: "folder", "repository" or "class".
        model_class: a `PreTrainedModel`, `TFPreTrainedModel` or `FlaxPreTrainedModel`.
        config: the folder's, or for a class the smallest useful one that its card names, otherwise its defaults; with
            the settings that were asked for.
        place: what `from_pretrained` takes; None for a class.
        has_weights: whether there are weights of ours at the place.
        how: the keywords for `from_pretrained` there.
    """

    name: str
    kind: str
    model_class: Any
    config: Any
    place: str | None = None
    has_weights: bool = False
    how: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Make the model with fresh weights."""
        return self.model_class.from_config(self.config)

    def load(self) -> Any:
        """Load the model with its weights; of a class, or a folder without weights, one with fresh weights."""
        if not self.has_weights:
            return self.build()
        return self.model_class.from_pretrained(self.place, config=self.config, **self.how)


def open_target(
    target: str | os.PathLike[str] | type,
    *,
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    trust_remote_code: bool | str | None = None,
    **places: Any,
) -> Target:
    """Find the model class and the configuration that a name means.

    Args:
        target: a folder, a repository of the Hub, `"module:Class"` (the working directory is looked in, too), or a
            model class.
        settings: fields of the configuration to change.
        auto_class: which class of a folder's architecture, such as "AutoModelForCausalLM" or "TFAutoModel"; unless
            given, the one that its weights were saved from.
        trust_remote_code: as in `from_pretrained`: True, or `"sha256:…"`, runs the code that a folder brings.
        places: `revision`, `subfolder`, `token` and the others of `from_pretrained`.

    Raises:
        MissingFileError: there is no such folder or repository, or no module or class of that name.
        UntrustedCodeError: the folder brings code that was not approved; nothing ran.
        InputError: it is there, and is no model.
        ConfigurationError, UnknownNameError: a setting that there is not, or an unknown architecture.
    """
    if wrong := sorted(places.keys() - SOURCE_OPTIONS):
        raise TypeError(f"open_target has no option {wrong[0]!r}.{did_you_mean(wrong[0], SOURCE_OPTIONS)}")
    if isinstance(target, type):
        return _of_class(f"{target.__module__}:{target.__qualname__}", target, settings or {})
    name = os.fspath(target)
    if not os.path.lexists(user_path(name)):
        _refuse_file_and_class(name)
        if found := CLASS.fullmatch(name):
            return _of_class(name, _import_class(found["module"], found["name"]), settings or {})
    how = {"trust_remote_code": trust_remote_code, **{key: value for key, value in places.items() if value is not None}}
    return _of_checkpoint(name, settings or {}, auto_class, how)


# A class -----------------------------------------------------------------------------------------------------------


def _of_class(name: str, found: Any, settings: Mapping[str, Any]) -> Target:
    model_class = _require_model_class(name, found)
    config_class = model_class._require_config_class()
    card = _card_of(model_class, config_class)
    fields = {**(card.tiny if card else {}), **settings}
    return Target(name=name, kind="class", model_class=model_class, config=_make_config(name, config_class, fields))


def _make_config(name: str, config_class: Any, fields: Mapping[str, Any]) -> Any:
    try:
        return config_class(**fields)
    except TypeError as error:  # a constructor of the user's that wants more
        if isinstance(error, ConfigurationError):
            raise
        raise InputError(
            f"{name}: {config_class.__name__} cannot be made from defaults: {error}. Give fields: --set NAME=VALUE."
        ) from error


def import_named(name: str) -> Any:
    """Import what `module:name` says; what lies in the working directory is found.

    Raises:
        InputError: it has another form, or the module cannot be imported.
        MissingFileError: there is no such module, or nothing of that name in it.
    """
    found = CLASS.fullmatch(name)
    if found is None:
        raise InputError(f"{name!r} is no module:name.")
    return _import_class(found["module"], found["name"])


def _import_class(module: str, name: str) -> Any:
    """Import a class by its names; what lies in the working directory is found, as `python -m` finds it."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise MissingFileError(
                f"There is no module {error.name!r}, here in {here!r} or installed."
                f"{did_you_mean(error.name, _modules_in(here))}"
            ) from None
        raise InputError(f"{module!r} imports {error.name!r}, which is not installed.") from error
    except Exception as error:
        raise InputError(f"{module!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(found, name):
        own = {key: value for key, value in vars(found).items() if isinstance(value, type)}
        models = [key for key, value in own.items() if hasattr(value, "_require_config_class")]
        classes = models or [key for key, value in own.items() if value.__module__ == module]
        raise MissingFileError(
            f"The module {module!r} has no class {name!r}.{did_you_mean(name, classes)}"
            + (f" It has: {', '.join(classes[:12])}." if classes else "")
        )
    return getattr(found, name)


def _modules_in(folder: str) -> list[str]:
    return [path.stem for path in Path(folder).glob("*.py")] + [
        path.parent.name for path in Path(folder).glob("*/__init__.py")
    ]


def _refuse_file_and_class(name: str) -> None:
    """Say how a class of a file is named, where a path was given."""
    found = FILE_AND_CLASS.fullmatch(name)
    if found and os.path.isfile(user_path(found["file"])):
        module = found["file"].removesuffix(".py").removeprefix("./").replace(os.sep, ".")
        raise InputError(f"A class is named by its module, not by a file: {module}:{found['name']}.")


def _require_model_class(name: str, found: Any) -> Any:
    if isinstance(found, type) and hasattr(found, "from_pretrained") and hasattr(found, "_require_config_class"):
        found._require_config_class()
        return found
    what = "a configuration" if isinstance(found, type) and issubclass(found, PretrainedConfig) else f"{found!r}"
    raise InputError(
        f"{name} is {what}, and no model class. Name a class that derives from PreTrainedModel, TFPreTrainedModel or "
        f"FlaxPreTrainedModel.{_models_beside(found)}"
    )


def _models_beside(found: Any) -> str:
    """Name the model classes that stand in the same module."""
    module = sys.modules.get(getattr(found, "__module__", None) or "", sys)
    beside = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and hasattr(value, "_require_config_class") and value.__module__ == module.__name__
    ]
    return f" In the same module: {', '.join(beside)}." if beside else ""


def _card_of(model_class: Any, config_class: Any) -> ModelEntry | None:
    """Find the card that names a model class, among the built-in and the installed ones."""
    for card in cards():
        for reference in card.models.values():
            module, _, name = reference.partition(":")
            if (f"{card.package}.{module}", name) == (model_class.__module__, model_class.__name__):
                return card
    own = card_for(getattr(config_class, "model_type", ""))
    return own if own and config_class.__module__.startswith(own.package) else None


# A folder or a repository ------------------------------------------------------------------------------------------


def _of_checkpoint(name: str, settings: Mapping[str, Any], auto_class: str | None, how: dict[str, Any]) -> Target:
    source_options = {key: value for key, value in how.items() if key in SOURCE_OPTIONS}
    with _explaining(name), open_source(name, **source_options) as source:
        auto_config: Any = auto_models.AutoConfig
        config = auto_config.from_pretrained(name, **how, **settings)
        has_weights = any(WEIGHTS.fullmatch(file) for file in source.names())
    model_class = find_model_class(name, config, auto_class)
    kind = "folder" if os.path.exists(user_path(name)) else "repository"
    return Target(
        name=name, kind=kind, model_class=model_class, config=config, place=name, has_weights=has_weights, how=how
    )


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Say, where nothing was found, what else a target can be."""
    try:
        yield
    except MissingFileError as error:
        raise MissingFileError(
            f"{error}\nA target is a folder with a config.json, a repository of the Hub, or a class: module:Class."
        ) from None


def find_model_class(name: str, config: Any, auto_class: str | None = None) -> Any:
    """Find the class that a checkpoint's weights are of, or the one that an AutoClass has for its architecture.

    Raises:
        UnknownNameError: there is none, or several and nothing says which.
    """
    if auto_class is not None:
        if auto_class not in MODEL_AUTO_CLASSES:
            raise UnknownNameError(
                f"There is no AutoClass {auto_class!r}.{did_you_mean(auto_class, MODEL_AUTO_CLASSES)}"
            )
        return _class_for(auto_class, config)
    offered = _offered(config)
    saved = [text for text in getattr(config, "architectures", None) or () if isinstance(text, str)]
    for auto_name in offered:
        found = _class_for(auto_name, config)
        if found.__name__ in saved:
            return found
    if len(offered) == 1:
        return _class_for(offered[0], config)
    said = f"its configuration names {', '.join(saved)}" if saved else "its configuration names no architecture"
    raise UnknownNameError(
        f"{name!r} does not say which of its classes is meant: {said}. Name one with --as:{bullets(offered)}"
        if offered
        else f"{name!r}: no model class is known for {type(config).__name__}. Register one, or name it: module:Class."
    )


def find_sibling(target: Target, framework: str) -> Target:
    """Give the target with the class of the same architecture and head in a framework: "torch", "tf" or "flax".

    Raises:
        UnknownNameError: there is none.
    """
    plain = target.model_class.__name__
    for prefix in filter(None, PREFIXES.values()):
        plain = plain.removeprefix(prefix)
    start = PREFIXES[framework]
    of_others = tuple(filter(None, PREFIXES.values()))
    for auto_name in _offered(target.config):
        if auto_name.startswith(start) if start else not auto_name.startswith(of_others):
            found = _class_for(auto_name, target.config)
            if found.__name__ == start + plain:
                return replace(target, model_class=found)
    raise UnknownNameError(
        f"{target.name!r} is of {target.model_class.__name__}, and its architecture has no class {start + plain}."
    )


def _class_for(auto_class: str, config: Any) -> Any:
    return getattr(auto_models, auto_class)._class_for(type(config), config.model_type)


def _offered(config: Any) -> list[str]:
    """List the AutoClasses that have a class for a configuration's architecture, heads before the base model."""
    package, card = package_of(type(config)), card_for(config.model_type)
    known = {
        *(name for name in MODEL_AUTO_CLASSES if registered_class(name, type(config))),
        *(package.auto_map if package else ()),
        *(card.models if card else ()),
    }
    bases = {f"{prefix}AutoModel" for prefix in PREFIXES.values()}
    return sorted(known & {*MODEL_AUTO_CLASSES}, key=lambda name: (name in bases, MODEL_AUTO_CLASSES.index(name)))
