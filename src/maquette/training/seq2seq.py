"""`Seq2SeqTrainer`: evaluation by what a model writes, rather than by its scores of what it should have written."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import ConfigurationError
from maquette.generation.configuration import GenerationConfig
from maquette.modeling.interface import ITEMS
from maquette.training.arguments import Count, TrainingArguments
from maquette.training.metrics import PredictionOutput
from maquette.training.model_states import is_sharded
from maquette.training.trainer import Trainer


class Seq2SeqTrainingArguments(TrainingArguments):
    """How to train, and how to write where evaluation is by what is written.

    Args:
        predict_with_generate: have `evaluate` and `predict` call `model.generate`; `compute_metrics` gets ids then.
        generation_max_length, generation_num_beams: the `max_length` and `num_beams` of these calls.
        generation_config: a `GenerationConfig`, or where to read one; it becomes the model's.

    Other arguments are those of `TrainingArguments`.

    Raises:
        ConfigurationError: as there.
    """

    predict_with_generate: bool = False
    generation_max_length: Count | None = None
    generation_num_beams: Count | None = None
    generation_config: dict[str, Any] | str | None = None

    def _checked(self, name: str, value: Any) -> Any:
        if name == "generation_config" and isinstance(value, GenerationConfig):
            value = value.to_diff_dict()
        if name == "generation_config" and isinstance(value, os.PathLike):
            value = os.fspath(value)
        return super()._checked(name, value)


class Seq2SeqTrainer(Trainer):
    """A `Trainer` that evaluates and predicts by what the model writes, where `args.predict_with_generate` says so.

    Predictions are ids then, what the decoder began with included: rows of a batch end with `pad_token_id`, up to the
    longest that the settings allow where they say so of the whole text, and batches of different lengths are padded
    with -100, as labels are. Losses are computed as ever, where there are labels.

    Raises:
        ConfigurationError: the model cannot generate; or it is divided among processes.
    """

    def __init__(self, model: nn.Module | None = None, args: TrainingArguments | None = None, **options: Any) -> None:
        super().__init__(model, args or Seq2SeqTrainingArguments(), **options)
        self._overrides: dict[str, Any] = {}
        if (given := getattr(self.args, "generation_config", None)) is not None:
            read = GenerationConfig.from_dict if isinstance(given, Mapping) else GenerationConfig.from_pretrained
            self.model.generation_config = read(given)
        if self._writes and not hasattr(self.model, "generate"):
            raise ConfigurationError(
                f"predict_with_generate: {type(self.model).__name__} has no method generate. Use a model that "
                "continues texts, or leave it out."
            )

    @property
    def _writes(self) -> bool:
        return bool(getattr(self.args, "predict_with_generate", False))

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Give loss and metrics on a data set, as `Trainer.evaluate` does; `gen_kwargs` go to `generate`."""
        with self._with_settings(gen_kwargs):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """Give what the model writes for every row of a data set, in its order; `gen_kwargs` go to `generate`."""
        with self._with_settings(gen_kwargs):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    @contextlib.contextmanager
    def _with_settings(self, given: Mapping[str, Any]) -> Iterator[None]:
        before, self._overrides = self._overrides, {n: value for n, value in given.items() if value is not None}
        try:
            yield
        finally:
            self._overrides = before

    def _settings_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the arguments of `generate`: those of the call, then what the training arguments say."""
        found = {name: value for name, value in {**self._overrides, **given}.items() if value is not None}
        longest, beams = (getattr(self.args, f"generation_{name}", None) for name in ("max_length", "num_beams"))
        if longest is not None and found.keys().isdisjoint({"max_length", "max_new_tokens"}):
            found["max_length"] = longest
        if beams is not None:
            found.setdefault("num_beams", beams)
        return found

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Sequence[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Tensor | None, Any, Any]:
        """Give the loss of one batch, the ids that the model writes, and the labels; each None where there is none."""
        if not self._writes or prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if is_sharded(self.model):
            raise ConfigurationError(
                "predict_with_generate: the model is divided among processes (fully_shard), which would wait for each "
                "other at steps that not all of them take. Gather it, and generate outside of training."
            )
        labels, loss = self._labels(inputs), None
        if labels is not None:
            loss = super().prediction_step(model, inputs, True, ignore_keys)[0]
        return loss, self._write(inputs, labels, gen_kwargs), labels

    def _write(self, inputs: Mapping[str, Any], labels: Any, gen_kwargs: Mapping[str, Any]) -> Tensor:
        """Give the ids that the model writes for a batch."""
        given = {name: value for name, value in inputs.items() if name not in {*self.interface.labels, ITEMS}}
        read = given.get("decoder_input_ids")
        if isinstance(labels, Tensor) and isinstance(read, Tensor) and read.shape == labels.shape:  # made of them
            given.pop("decoder_input_ids")
            given.pop("decoder_attention_mask", None)
        settings = self._settings_of(gen_kwargs)
        found: Any = self.model.generate(**given, **settings)
        ids: Tensor = found["sequences"] if isinstance(found, Mapping) else found
        config = getattr(self.model, "generation_config", None)
        if not isinstance(config, GenerationConfig):
            return ids
        settled = GenerationConfig().settle(below=config, **{n: v for n, v in settings.items() if config.is_setting(n)})
        most = settled.max_length if settled.max_new_tokens is None else None
        padding = next((p for p in (settled.pad_token_id, self.model.config.pad_token_id) if p is not None), None)
        if most is None and self.model.config.is_encoder_decoder:
            most = 1 + (settled.max_new_tokens or 0)  # the start token
        if most is None or padding is None or ids.shape[1] >= most:
            return ids
        return torch.nn.functional.pad(ids, (0, most - ids.shape[1]), value=padding)
