"""`Predictor`: a model and data put together for evaluation and prediction; the trainer is one that also learns."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maquette.configuration.schema import parameters
from maquette.errors import ConfigurationError
from maquette.modeling.interface import ITEMS, Interface
from maquette.modeling.problems import IGNORED
from maquette.storage.json_values import own_copy
from maquette.training.arguments import TrainingArguments
from maquette.training.callbacks import Callbacks, TrainerCallback
from maquette.training.collation import DataCollatorWithPadding, default_data_collator
from maquette.training.data import BatchShard, Plan, make_loader
from maquette.training.label_shift import leave_out_padding, shifts_labels
from maquette.training.metrics import (
    EvalPrediction,
    PredictionOutput,
    join,
    map_tensors,
    read_loss,
    read_scalars,
    read_scores,
    to_array,
)
from maquette.training.model_states import unwrap
from maquette.training.preflight import Intake, MissingLossError, evaluating, explain_missing_loss
from maquette.training.processes import make_accelerator
from maquette.training.random_states import Stream, seed_everything, seeded
from maquette.training.state import TrainerControl, TrainerState
from maquette.training.undoing import undone

logger = logging.getLogger(__name__)

Sums = dict[str, tuple[float, float]]  # of numbers, times the items that each is a mean over; and of these items


class Predictor:
    """What `Trainer` can do without learning; its arguments are documented there."""

    def __init__(
        self,
        model: nn.Module | None,
        args: TrainingArguments,
        *,
        data_collator: Callable[[list[Any]], Any] | None,
        eval_dataset: Any,
        processing_class: Any,
        model_init: Callable[[], nn.Module] | None,
        compute_loss_func: Callable[..., Tensor] | None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None,
        callbacks: Iterable[TrainerCallback | type[TrainerCallback]],
    ) -> None:
        if (model is None) == (model_init is None):
            raise ConfigurationError("Trainer takes a model, or model_init, a function that makes one: one of the two.")
        self.args, self.processing_class = args, processing_class
        self.accelerator = make_accelerator(args)
        if model_init is not None:
            seed_everything(args.seed)
            model = model_init()
        assert model is not None
        model = unwrap(model)
        self.model: Any = model
        self.model_wrapped: Any = model
        self.eval_dataset = eval_dataset
        self.compute_loss_func, self.compute_metrics = compute_loss_func, compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.interface = Interface.of(model, args.label_names, is_judged=compute_loss_func is not None)
        pads = hasattr(processing_class, "pad")
        self.data_collator = data_collator or (
            DataCollatorWithPadding(processing_class) if pads else default_data_collator
        )
        is_own = data_collator is None or data_collator is default_data_collator
        is_own |= type(data_collator) is DataCollatorWithPadding
        self.intake = Intake(self.data_collator, self.interface, args.remove_unused_columns, is_own)
        self._shifts: bool | None = None  # whether the loss shifts the labels; None: not tried yet
        self._is_told_of_padding = False
        self._scalars: dict[str, Tensor] = {}  # of the model's latest outputs
        self.state = TrainerState(is_world_process_zero=self.accelerator.is_main_process)
        self.control = TrainerControl()
        self.callbacks = Callbacks(callbacks)

    def _call(self, event: str, **kwargs: Any) -> None:
        common = {"model": self.model, "processing_class": self.processing_class}
        self.callbacks.call(event, self.args, self.state, self.control, **common, **kwargs)

    @property
    def _world(self) -> int:
        return self.accelerator.num_processes

    def _plan(self, size: int, *, shuffle: bool) -> Plan:
        return Plan(size * self._world, self.args.seed, shuffle, self._world, self.accelerator.process_index)

    def _to_device(self, inputs: Any) -> Any:
        from accelerate.utils import send_to_device  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return send_to_device(inputs, self.accelerator.device, non_blocking=True)

    # The loss --------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Give the mean loss of one batch; override it for a loss of your own.

        Args:
            model: as it is run, which may be wrapped for several processes.
            inputs: what the collator made, on the model's device.
            return_outputs: give `(loss, outputs)`.
            num_items_in_batch: always None here, for overrides written for Transformers: the loss is the mean over the
                batch, and batches that make one step are weighed by `count_items`.

        Raises:
            ConfigurationError: the model returned none.
        """
        if self.compute_loss_func is None:
            outputs = model(**inputs)
            loss = read_loss(outputs)
            self._scalars = read_scalars(outputs)
        else:
            labels = self._labels(inputs)
            outputs = model(**{name: value for name, value in inputs.items() if name not in self.interface.labels})
            names = parameters(self.compute_loss_func)
            more = {"num_items_in_batch": None} if "num_items_in_batch" in names else {}
            loss = self.compute_loss_func(outputs, labels, **more)
        if loss is None:
            raise explain_missing_loss(self.interface, inputs, outputs)
        return (loss, outputs) if return_outputs else loss

    def count_items(self, inputs: Mapping[str, Any]) -> int:
        """Count what the loss of a batch is a mean over: labels other than -100; rows, where there are no such labels.

        The first label of a row does not count where the loss shifts labels, as causal models do (this is tried out).
        Override it where the loss is a mean over something else.
        """
        tensors = [value for value in inputs.values() if isinstance(value, Tensor) and value.ndim]
        labels = [inputs[name] for name in self.interface.labels if isinstance(inputs.get(name), Tensor)]
        if labels and not labels[0].is_floating_point():
            counted = labels[0][:, 1:] if self._shifts and labels[0].ndim == 2 else labels[0]
            return int((counted != IGNORED).sum())
        return len(tensors[0]) if tensors else 1

    def _adapt(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Have a batch ask of a model what it can know: see `leave_out_padding`."""
        found = leave_out_padding(inputs, self.interface.labels[0]) if self._shifts else None
        if found is not None and not self._is_told_of_padding:
            self._is_told_of_padding = True
            logger.warning(
                "Rows are padded on the left, and %s shifts its labels: their first token, which it would have to tell "
                "from padding, is left out of the loss.",
                self.interface.model,
            )
        return inputs if found is None else found

    def _learn_of_shift(self, inputs: dict[str, Any], model: Any) -> None:
        """Find out, once, whether the loss shifts labels; all processes have to call it."""
        if self._shifts is not None:
            return

        def compute_loss(tried: dict[str, Any]) -> Any:
            with seeded("shift"), self.accelerator.autocast():
                return self.compute_loss(model, self._to_device(tried))

        name = self.interface.labels[0] if self.interface.labels else ""
        with undone(self.model), torch.no_grad():
            found = shifts_labels(inputs, name, compute_loss)
        self._shifts = bool(self._sum(torch.tensor([float(found)])))

    def _with_items(self, inputs: dict[str, Any], items: float) -> dict[str, Any]:
        """Add what a sum of losses is divided by, for a model that asks for it."""
        return {**inputs, ITEMS: torch.tensor(items)} if self._divides else inputs

    @property
    def _divides(self) -> bool:
        """Whether the model divides its losses by what it is told, instead of taking their mean."""
        is_overridden = type(self).compute_loss is not Predictor.compute_loss
        return ITEMS in self.interface.names and not is_overridden and self.compute_loss_func is None

    def _labels(self, inputs: Mapping[str, Any]) -> Any:
        found = tuple(inputs[name] for name in self.interface.labels if name in inputs)
        return found if len(found) > 1 else found[0] if found else None

    # Prediction ------------------------------------------------------------------------------------------------

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Make the loader of an evaluation; override it for one of your own, which gives dictionaries."""
        plan = self._plan(self.args.per_device_eval_batch_size, shuffle=False)
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return make_loader(dataset, self.intake, plan, workers=self.args.dataloader_num_workers)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: Sequence[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """Give loss, scores and labels of one batch, each None where there is none; override it for your own."""
        labels = self._labels(inputs)
        named = self.args.label_names or {*self.interface.labels} & {*self.interface.names}
        if labels is not None or not named:
            try:
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
            except MissingLossError as error:  # some models give one in training only
                if prediction_loss_only:
                    raise
                loss, outputs = None, error.outputs
        else:
            loss, outputs = None, model(**inputs)
        if ignore_keys is None:
            ignore_keys = getattr(getattr(self.model, "config", None), "keys_to_ignore_at_inference", None)
        return loss, None if prediction_loss_only else read_scores(outputs, ignore_keys or ()), labels

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Sequence[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Give loss and metrics on a data set, `{"eval_loss", "eval_accuracy", …}`; they become an entry of the log.

        Args:
            eval_dataset: unless given, the trainer's; a dictionary of several is evaluated one by one, with the metrics
                named `eval_<name>_loss` and so on.
            ignore_keys: outputs of the model that are no prediction.
            metric_key_prefix: stands before the names.

        Raises:
            ConfigurationError: there is no data, or `compute_metrics` has no labels to compare with.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ConfigurationError(
                "There is nothing to evaluate on: give Trainer an eval_dataset, or evaluate(…) one."
            )
        parts = dataset if isinstance(dataset, Mapping) else {"": dataset}
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            output = self._predict(part, prefix, ignore_keys, loss_only=self.compute_metrics is None)
            self._check_labels(output)
            metrics |= output.metrics
        self.log(metrics)
        self._call("on_evaluate", metrics=metrics)
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: Sequence[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Give scores for every row of a data set, in its order; with labels and metrics, where it has labels."""
        output = self._predict(test_dataset, metric_key_prefix, ignore_keys, loss_only=False)
        self._call("on_predict", metrics=output.metrics)
        return output

    def _predict(
        self, dataset: Any, prefix: str, ignore_keys: Sequence[str] | None, *, loss_only: bool
    ) -> PredictionOutput:
        model = self.model_wrapped
        if model is self.model:
            model.to(self.accelerator.device)
        totals = torch.zeros(2, dtype=torch.float64)
        sums: Sums = {}
        scores, labels = [], []
        try:
            with evaluating(model):
                for own, *kept in self._run(model, dataset, ignore_keys, sums, loss_only=loss_only):
                    totals += own
                    scores.append(kept[0])
                    labels.append(kept[1])
        except BaseException:
            self.callbacks.close()
            raise
        loss, count = self._sum(totals).tolist()
        metrics = {f"{prefix}_loss": loss / count} if count else {}
        found = self._sum_named(sums).items()
        metrics |= {f"{prefix}_{name}": total / items for name, (total, items) in found if items}
        whole = EvalPrediction(join(scores), join(labels))
        return PredictionOutput(whole.predictions, whole.label_ids, metrics | self._measure(whole, prefix))

    def _measure(self, whole: EvalPrediction, prefix: str) -> dict[str, float]:
        """Compute the metrics, where there are labels to compare with."""
        if self.compute_metrics is None or whole.label_ids is None:
            return {}
        found = self.compute_metrics(whole)
        if not isinstance(found, Mapping):
            raise ConfigurationError(
                f"compute_metrics gave a {type(found).__name__}; it has to give a dictionary of numbers by name."
            )
        return {k if k.startswith(f"{prefix}_") else f"{prefix}_{k}": v for k, v in own_copy(dict(found)).items()}

    def _check_labels(self, found: EvalPrediction | PredictionOutput) -> None:
        if self.compute_metrics and found.predictions is not None and found.label_ids is None:
            raise ConfigurationError(
                f"compute_metrics has nothing to compare with: no label column was found{_asked(self.interface)}. "
                "Say in label_names which columns hold the labels."
            )

    def _predict_batch(
        self, model: Any, inputs: dict[str, Any], ignore_keys: Any, *, loss_only: bool
    ) -> tuple[Tensor | None, Any, Any]:
        """Give loss, scores and labels of one batch, the scores as the metrics take them."""
        self._scalars = {}
        inputs = self._with_items(inputs, max(1, self.count_items(inputs)))
        with torch.no_grad(), self.accelerator.autocast():
            loss, scores, labels = self.prediction_step(model, self._to_device(inputs), loss_only, ignore_keys)
        if self.preprocess_logits_for_metrics is not None and scores is not None:
            with torch.no_grad():
                scores = self.preprocess_logits_for_metrics(scores, labels)
        return loss, scores, labels

    def _run(
        self, model: Any, dataset: Any, ignore_keys: Any, sums: Sums, *, loss_only: bool
    ) -> Iterator[tuple[Tensor, Any, Any]]:
        """Go through a data set; gives for each batch its loss times its items, with these; its scores, its labels.

        Numbers that the model gives beside the loss are added to `sums`, in the same way.
        """
        loader = self.get_eval_dataloader(dataset)
        stream = Stream("evaluation", self.args.seed)
        for shard in map(as_shard, loader):
            self._learn_of_shift(shard.inputs, model)
            inputs = self._adapt(shard.inputs)
            items = self.count_items(inputs) if shard.rows else 0
            with stream:
                loss, *values = self._predict_batch(model, inputs, ignore_keys, loss_only=loss_only)
            totals = torch.zeros(2, dtype=torch.float64)
            if loss is not None and items:
                totals = torch.tensor([float(loss) * items, items], dtype=torch.float64)
            for name, value in self._scalars.items():
                was = sums.get(name, (0.0, 0.0))
                sums[name] = (was[0] + float(value) * items, was[1] + items)
            kept = [None if loss_only else map_tensors(value, self._gathering(shard.rows)) for value in values]
            self._call("on_prediction_step", eval_dataloader=loader)
            yield totals, kept[0], kept[1]

    def _gathering(self, rows: int) -> Callable[[Tensor], Any]:
        """Give what brings a tensor of one batch from all processes to an array, without rows that do not count."""
        if self._world == 1:
            return to_array
        sizes = self.accelerator.gather(torch.tensor([rows], device=self.accelerator.device)).tolist()

        def gather(tensor: Tensor) -> Any:
            tensor = tensor[:rows]
            for axis in range(tensor.ndim):
                tensor = self.accelerator.pad_across_processes(tensor, dim=axis, pad_index=IGNORED)
            parts = self.accelerator.gather(tensor.contiguous()).split(len(tensor))
            return to_array(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))

        return gather

    def _sum(self, values: Tensor) -> Tensor:
        """Add up what every process has."""
        if self._world == 1:
            return values
        return self.accelerator.reduce(values.to(self.accelerator.device), "sum").cpu()

    def _sum_named(self, values: Sums) -> Sums:
        """Add up what every process has under each name, where not all have the same."""
        if self._world == 1:
            return values
        from accelerate.utils import gather_object  # type: ignore[import-untyped,import-not-found,unused-ignore]

        found: Sums = {}
        for part in gather_object([values]):
            for name, (total, items) in part.items():
                was = found.get(name, (0.0, 0.0))
                found[name] = (was[0] + total, was[1] + items)
        return found

    # The log ---------------------------------------------------------------------------------------------------

    def log(self, logs: Mapping[str, Any]) -> None:
        """Add an entry to the log, with the step and the epoch; callbacks and trackers get it too."""
        entry = {"step": self.state.global_step, "epoch": self.state.epoch, **logs}
        self.state.log_history.append(entry)
        if self.accelerator.trackers:
            self.accelerator.log(dict(logs), step=self.state.global_step)
        self._call("on_log", logs=entry)


def _asked(interface: Interface) -> str:
    return f" among {' and '.join(map(repr, interface.labels))}" if interface.labels else ""


def as_shard(batch: Any) -> BatchShard:
    """Take a batch of anyone's loader."""
    if isinstance(batch, BatchShard):
        return batch
    rows = next((len(value) for value in dict(batch).values() if isinstance(value, Tensor) and value.ndim), 1)
    return BatchShard(dict(batch), rows)
