"""AutoClasses for what prepares data: tokenizers, image processors, feature extractors, and processors of several."""

import os
from typing import Any

from maquette.configuration import PretrainedConfig
from maquette.errors import UnknownNameError
from maquette.hub.sources import open_source, take_source_options
from maquette.processing.class_lookup import FAST, SLOW, find_class, find_tokenizer_classes
from maquette.registry import register_class


class AutoTokenizer:
    """Loads the tokenizer of any architecture, the fast kind where there is one."""

    def __init__(self) -> None:
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
            trust_remote_code: True, or `"sha256:…"`, to run the code that comes with it, where it brings its own.
            inputs, kwargs: as in the tokenizer's own `from_pretrained`.

        Raises:
            UnknownNameError: neither the tokenizer's class nor the model type is known.
            UntrustedCodeError: it brings code and the caller did not trust it.
        """
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            slow, fast = find_tokenizer_classes(source, config, trust_remote_code, use_fast=use_fast)
            tokenizer_class: Any = (fast or slow) if use_fast else (slow or fast)
            return tokenizer_class.from_source(source, *inputs, **kwargs)


class AutoPreprocessor:
    """What the AutoClasses for settings in JSON files share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"{name} is not made, it finds: use {name}.from_pretrained(name_or_path).")

    @classmethod
    def register(cls, config_class: type[PretrainedConfig], preprocessor_class: type, exist_ok: bool = False) -> None:
        """Have this AutoClass load a class of your own for configurations of `config_class`.

        Raises:
            UnknownNameError: one is registered and `exist_ok` is False.
        """
        register_class(cls.__name__, config_class, preprocessor_class, exist_ok=exist_ok)

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
            UnknownNameError: neither the class that the file names nor the model type is known.
            UntrustedCodeError: it brings code and the caller did not trust it.
        """
        with open_source(pretrained_model_name_or_path, **take_source_options(kwargs)) as source:
            found = find_class(cls.__name__, source, config, trust_remote_code)
            if found._default_auto_class == "AutoProcessor":  # its parts may have code of their own
                kwargs["trust_remote_code"] = trust_remote_code
            return found.from_source(source, **kwargs)


class AutoImageProcessor(AutoPreprocessor):
    """Loads the image processor of any architecture."""


class AutoFeatureExtractor(AutoPreprocessor):
    """Loads the feature extractor of any architecture; for one that sees, its image processor."""


class AutoProcessor(AutoPreprocessor):
    """Loads the processor of any architecture, or the one part that prepares data for it where there is only one."""
