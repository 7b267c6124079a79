"""Callbacks: code of yours that a run calls at its turning points, and early stopping."""

import math
from collections.abc import Iterable
from typing import Any

from maquette.errors import ConfigurationError, UnknownFieldError, did_you_mean
from maquette.training.arguments import TrainingArguments
from maquette.training.state import TrainerControl, TrainerState


class TrainerCallback:
    """Override the events you need; each gets `(args, state, control, **kwargs)` and may set what `control` asks for.

    Among the keywords are `model`, `processing_class`, `optimizer`, `lr_scheduler`, `train_dataloader`, and `logs` or
    `metrics` where there are some. What a callback has to know after a resume, it gives in `state_dict`, as plain data,
    and takes back in `load_state_dict`.

    Raises:
        UnknownFieldError: a subclass has a method `on_…` that is no event.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in EVENTS:
                raise UnknownFieldError(f"{cls.__name__}: there is no event {name!r}.{did_you_mean(name, EVENTS)}")

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The trainer is made."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Everything was checked, and where it is resumed, loaded."""

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The last step is done, and the best weights are loaded where that was asked for."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A pass through the data begins."""

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The last step of a pass was done; its log, evaluation and checkpoint come next."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The batches of a step are there."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Gradients are there, and clipped."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Weights have changed; gradients are still there."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A step was done; its log, evaluation and checkpoint come next."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An entry, `logs`, was added to the log."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An evaluation gave `metrics`."""

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A prediction gave `metrics`."""

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """One batch was evaluated or predicted."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A checkpoint stands."""

    def close(self) -> None:
        """Training or evaluation is over, by its end or by an error; may be called more than once."""

    def state_dict(self) -> dict[str, Any]:
        """Give, as plain data, what belongs into a checkpoint."""
        return {}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


class Callbacks:
    """The callbacks of a run, in order."""

    def __init__(self, callbacks: Iterable[TrainerCallback | type[TrainerCallback]]) -> None:
        self.all = [callback() if isinstance(callback, type) else callback for callback in callbacks]

    def call(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Call one event of every callback."""
        for callback in self.all:
            getattr(callback, event)(*args, **kwargs)

    def close(self) -> None:
        """Tell every callback that it is over."""
        for callback in self.all:
            callback.close()

    def _named(self) -> dict[str, TrainerCallback]:
        names = [type(callback).__name__ for callback in self.all]
        return {f"{name}.{names[:at].count(name)}": self.all[at] for at, name in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        """Give what the callbacks have to say, by their classes' names."""
        return {name: said for name, callback in self._named().items() if (said := callback.state_dict())}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Give every callback of a checkpoint that is still here what it said."""
        for name, callback in self._named().items():
            if name in content:
                callback.load_state_dict(content[name])


class EarlyStoppingCallback(TrainerCallback):
    """End training when the metric of `args.metric_for_best_model` has not become better for a while.

    Args:
        early_stopping_patience: how many evaluations in a row may bring nothing.
        early_stopping_threshold: by how much it has to become better to count.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0) -> None:
        self.patience, self.threshold = early_stopping_patience, early_stopping_threshold
        self.best: float | None = None
        self.waited = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.eval_strategy == "no":
            raise ConfigurationError("EarlyStoppingCallback needs evaluations: set eval_strategy='steps' or 'epoch'.")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        value = pick_metric(kwargs["metrics"], args.metric_for_best_model)
        if measure_gain(value, self.best, args) > self.threshold:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        control.should_training_stop |= self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.best, self.waited = content["best"], content["waited"]


def measure_gain(value: float, best: float | None, args: TrainingArguments) -> float:
    """Tell by how much a metric is better than the best so far; NaN never is, and any number is better than none."""
    if math.isnan(value):
        return -math.inf
    if best is None or math.isnan(best):
        return math.inf
    return (value - best) * (1 if args.best_is_greater else -1)


def pick_metric(metrics: dict[str, Any], name: str) -> float:
    """Give the metric of that name, with or without `eval_` before it.

    Raises:
        ConfigurationError: there is none; the message names the nearest.
    """
    for key in (name, f"eval_{name}"):
        if key in metrics:
            return float(metrics[key])
    raise ConfigurationError(
        f"metric_for_best_model={name!r} is not among what the evaluation gave: {', '.join(sorted(metrics))}."
        f"{did_you_mean(name, {*metrics, *(key.removeprefix('eval_') for key in metrics)})}"
    )
