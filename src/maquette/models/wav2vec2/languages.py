"""Adapters of languages (Pratap et al. 2023): small files beside a checkpoint; a loaded model takes one for another."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from maquette import CheckpointError, ConfigurationError
from maquette.checkpoint.axes import from_torch, torch_name
from maquette.hub.sources import open_source, require

from .configuration import Wav2Vec2Config


class LanguageMixin:
    """What `…Wav2Vec2ForCTC` can do with languages, in the frameworks whose weights are set as arrays."""

    config: Any

    @classmethod
    def from_source(cls, source: Any, *model_args: Any, target_lang: str | None = None, **kwargs: Any) -> Any:
        """Do the work of `from_pretrained`; `target_lang` names an adapter of the same source to load as well."""
        loaded = super().from_source(source, *model_args, **kwargs)  # type: ignore[misc]
        if target_lang is None:
            return loaded
        model, *info = loaded if isinstance(loaded, tuple) else (loaded,)
        model = model._with_language(source, target_lang)
        return (model, *info) if info else model

    def load_adapter(self, target_lang: str, **options: Any) -> Any:
        """Have the model write another language: read `adapter.<target_lang>.safetensors`.

        Args:
            target_lang: a language that there is a file for, beside the weights that the model was loaded from.
            options: `revision`, `subfolder`, `token`, … for where to read from.

        Returns:
            The model: a Keras model itself, of a Flax model a new one.

        Raises:
            ConfigurationError: the model has no `adapter_attn_dim`.
            MissingFileError, CheckpointError: there is no such file, or it does not fit.
        """
        with open_source(self.config.name_or_path, **options) as source:
            return self._with_language(source, target_lang)

    def _with_language(self: Any, source: Any, language: str) -> Any:
        file = find_adapter(source, language, self.config)
        weights = load_file(file)
        check_adapter(weights, map(torch_name, self._variables()), name=file.name, label=source.label)
        size = len(weights["lm_head.weight"])
        model = self if size == self.config.vocab_size else self.resize_token_embeddings(size)
        named = {path: (torch_name(path), variable.shape) for path, variable in model._variables().items()}
        return model._with_arrays(
            {path: from_torch(path, weights[name], shape) for path, (name, shape) in named.items() if name in weights}
        )


def find_adapter(source: Any, language: str, config: Wav2Vec2Config) -> Path:
    """Give the path of a language's file.

    Raises:
        ConfigurationError: the model has no place for it.
        MissingFileError: there is none.
    """
    if config.adapter_attn_dim is None:
        raise ConfigurationError(f"The adapter {language!r} needs a model with adapter_attn_dim; it is None.")
    return require(source, f"adapter.{language}.safetensors")


def check_adapter(found: Iterable[str], names: Iterable[str], *, name: str, label: str) -> None:
    """Compare the names in a language's file with those of a model's weights.

    Raises:
        CheckpointError: they are not those of its adapters and head.
    """
    wanted = {weight for weight in names if ".adapter_layer." in weight or weight.startswith("lm_head.")}
    if wrong := sorted(wanted.symmetric_difference(found)):
        raise CheckpointError(
            f"{name} of {label!r} does not fit: {', '.join(wrong[:5])} {'are' if len(wrong) > 1 else 'is'} in the file "
            f"or in the model only ({len(wrong)} in all)."
        )
