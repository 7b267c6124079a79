"""AutoClasses: from a folder or a repository to the right class, whoever wrote it.

Which class it is, is decided in this order: what the user registered, the folder's own code (`auto_map`) if the caller
trusts it, the model entries. A folder that brings code never quietly becomes a built-in model of the same type.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from maquette.configuration import PretrainedConfig, read_config_file
from maquette.errors import UnknownNameError, did_you_mean
from maquette.hub.sources import Source, open_source, take_source_options
from maquette.registry import (
    MODEL_AUTO_CLASSES,
    PREFIXES,
    card_for,
    config_class_for,
    register_class,
    register_config,
    registered_class,
    registered_config,
    unknown_model_type,
)
from maquette.remote_code.loading import load_remote_class
from maquette.remote_code.names import PACKAGE_PREFIX
from maquette.remote_code.package import package_of


class AutoConfig:
    """Reads the configuration of any architecture, by the `model_type` in its file."""

    def __init__(self) -> None:
        raise TypeError("AutoConfig is not made, it finds: use AutoConfig.from_pretrained(name_or_path).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a configuration as the class it was saved from.

        Args:
            pretrained_model_name_or_path: a folder, a JSON file, or a repository of the Hub.
            trust_remote_code: True, or `"sha256:…"`, to run the code that comes with it, where it brings its own.
            kwargs: as in `PretrainedConfig.from_pretrained`.

        Raises:
            UnknownNameError: the model type is unknown.
            UntrustedCodeError: it brings code and the caller did not trust it.
        """
        return_unused = kwargs.pop("return_unused_kwargs", False)
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            config_class = _config_class(source, trust_remote_code)
            how = {"return_unused_kwargs": return_unused, "trust_remote_code": trust_remote_code}
            return config_class.from_source(source, kwargs, **how)

    @classmethod
    def for_model(cls, model_type: str, **kwargs: Any) -> PretrainedConfig:
        """Make the configuration of a model type with its defaults, or with some fields given."""
        config: PretrainedConfig = config_class_for(model_type)(**kwargs)
        return config

    @staticmethod
    def register(model_type: str, config: type[PretrainedConfig], exist_ok: bool = False) -> None:
        """Make an architecture of your own known by its `model_type`.

        Raises:
            UnknownNameError: the class has another model type, or the name is taken and `exist_ok` is False.
        """
        if not config.__module__.startswith(PACKAGE_PREFIX):  # a checkpoint's own code speaks for that checkpoint only
            register_config(model_type, config, exist_ok=exist_ok)


class AutoModelBase:
    """What the `AutoModelFor…` classes share; each loads the class for its task."""

    _name: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(
            f"{name} is not made, it finds: use {name}.from_pretrained(name_or_path) or from_config(config)."
        )

    @classmethod
    def register(cls, config_class: type[PretrainedConfig], model_class: type, exist_ok: bool = False) -> None:
        """Have this AutoClass build `model_class` for configurations of `config_class`.

        Raises:
            UnknownNameError: the model's `config_class` is another, or one is registered and `exist_ok` is False.
        """
        register_class(cls._name, config_class, model_class, exist_ok=exist_ok)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        config: PretrainedConfig | str | os.PathLike[str] | None = None,
        trust_remote_code: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model as the class that this task has for its architecture.

        Args:
            pretrained_model_name_or_path: a folder, or a repository of the Hub.
            config: decides the class, and is used instead of the one beside the weights: a configuration, or where to
                read one.
            trust_remote_code: True, or `"sha256:…"`, to run the code that comes with it, where it brings its own.
            model_args, kwargs: as in `PreTrainedModel.from_pretrained`.

        Raises:
            UnknownNameError: the model type is unknown, or it has no class for this task.
            UntrustedCodeError: it brings code and the caller did not trust it.
        """
        options = take_source_options(kwargs)
        if isinstance(config, str | os.PathLike):
            with open_source(config) as place:
                config = _config_class(place, trust_remote_code).from_source(
                    place, {}, trust_remote_code=trust_remote_code
                )
        with open_source(pretrained_model_name_or_path, **options) as source:
            model_class = cls._find(source, config, trust_remote_code)
            kwargs["trust_remote_code"] = trust_remote_code
            return model_class.from_source(source, *model_args, config=config, **kwargs)

    @classmethod
    def _find(cls, source: Source, config: Any, trust: bool | str | None) -> Any:
        if config is not None:
            return cls._class_for(type(config), config.model_type, config.auto_map)
        content, place = read_config_file(source)
        model_type, auto_map = _identify(content, place)
        registered = registered_config(model_type)
        if registered and (found := registered_class(cls._name, registered)):
            return found
        if auto_map:
            return load_remote_class(source, auto_map, cls._name, trust=trust)
        return cls._class_for(config_class_for(model_type), model_type)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Build a model with fresh weights, as the class that this task has for the configuration's architecture.

        Keywords are those of the model's `from_config`: `dtype`, fields of the configuration, arguments of its own.
        """
        kwargs.pop("trust_remote_code", None)
        return cls._class_for(type(config), config.model_type, config.auto_map)._from_config(config, **kwargs)

    @classmethod
    def _class_for(
        cls, config_class: type[PretrainedConfig], model_type: str, auto_map: Mapping[str, Any] | None = None
    ) -> Any:
        if found := registered_class(cls._name, config_class):
            return found
        package = package_of(config_class)
        named = {**package.map_of(config_class), **(auto_map or {})} if package else {}
        if package and isinstance(reference := named.get(cls._name), str):
            return package.load(reference.rpartition("--")[2])
        card = card_for(model_type)
        if card is None:
            raise UnknownNameError(
                f"{cls._name} knows no model for {config_class.__name__}. Register one: "
                f"{cls._name}.register({config_class.__name__}, YourModel)."
            )
        if cls._name not in card.models:
            raise UnknownNameError(
                f"The architecture {model_type!r} has no class for {cls._name}.{did_you_mean(cls._name, card.models)} "
                f"It has: {', '.join(card.models)}."
            )
        return card.load(card.models[cls._name])


def _config_class(source: Source, trust: bool | str | None) -> Any:
    content, place = read_config_file(source)
    model_type, auto_map = _identify(content, place)
    if registered := registered_config(model_type):
        return registered
    if "AutoConfig" in auto_map or (auto_map and card_for(model_type) is None):
        return load_remote_class(source, auto_map, "AutoConfig", trust=trust)
    return config_class_for(model_type)


def _identify(content: Mapping[str, Any], place: str) -> tuple[str, Mapping[str, Any]]:
    """Read which architecture a configuration file is of, and which code it brings."""
    auto_map = content.get("auto_map") or {}
    model_type = content.get("model_type", "")
    if not isinstance(auto_map, Mapping):
        raise UnknownNameError(f"{place}: auto_map must map AutoClasses to classes, not be {auto_map!r}.")
    if not model_type and not auto_map:
        raise UnknownNameError(
            f"{place} has no model_type, so it does not say what it is. Add it to the file, or load it with the class "
            "itself."
        )
    if not isinstance(model_type, str):
        raise unknown_model_type(model_type)
    return model_type, auto_map


def _define(name: str) -> type[AutoModelBase]:
    framework = next(key for key, prefix in reversed(PREFIXES.items()) if name.startswith(f"{prefix}Auto"))
    kind = name.removeprefix(f"{PREFIXES[framework]}Auto")
    what = {"Model": "base models", "Backbone": "backbones"}.get(kind, f"models for {kind.removeprefix('ModelFor')}")
    place = {"torch": "", "tf": " in Keras", "flax": " in Flax"}[framework]
    return type(name, (AutoModelBase,), {"_name": name, "__doc__": f"Loads {what}{place}.", "__module__": __name__})


# One class for each task and framework: made in a loop, because what differs is the name. Editors find them in the
# stub, maquette/__init__.pyi.
globals().update({name: _define(name) for name in MODEL_AUTO_CLASSES})
