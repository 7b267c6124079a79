"""What `Trainer` tries before the first step: the loss, the metrics and a save, without a trace."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from maquette.storage.json_files import to_json
from maquette.storage.json_values import encode_floats, refuse, to_plain
from maquette.storage.transaction import Transaction
from maquette.training.callbacks import pick_metric
from maquette.training.metrics import EvalPrediction, join, map_tensors, to_array
from maquette.training.model_states import is_sharded
from maquette.training.prediction import Predictor, as_shard
from maquette.training.preflight import check_run, evaluating, try_rows
from maquette.training.saving import Saver
from maquette.training.undoing import undone


class Trial(Saver):
    """A trainer, as far as it tries out what its run will do."""

    train_dataset: Any

    def _check(self) -> None:
        """Try model, data, metrics and saving, as the run will need them."""
        evaluated = self.eval_dataset if self.args.eval_strategy != "no" else None
        parts = evaluated if isinstance(evaluated, Mapping) else {"": evaluated} if evaluated is not None else {}
        if self.train_dataset is not None:  # otherwise the loader is the user's own
            data = {f"evaluation {name}".strip(): part for name, part in parts.items()}
            batch = check_run(
                self.model_wrapped,
                self.model,
                self.intake,
                {"training": self.train_dataset, **data},
                rows=self.args.per_device_train_batch_size,
                tokenizer=self.processing_class,
                move=self._to_device,
                compute_loss=self._try_loss,
            )
            self._learn_of_shift(batch, self.model_wrapped)
        metrics = self._try_metrics(parts)
        is_overridden = not type(self).evaluate.__module__.startswith("maquette.training.")
        if metrics and not is_overridden and (self.args.load_best_model_at_end or self.args.save_strategy == "best"):
            pick_metric(metrics, self.args.metric_for_best_model)
        self._try_save()

    def _try_loss(self, inputs: dict[str, Any]) -> Any:
        """Give the loss of a batch as a step computes it, which no step follows."""
        inputs = self._with_items(inputs, max(1, self.count_items(inputs)))
        learns = torch.set_grad_enabled(not is_sharded(self.model))  # some models take gradients in forward
        with learns, self.accelerator.no_sync(self.model_wrapped), self.accelerator.autocast():
            return self.compute_loss(self.model_wrapped, inputs)

    def _try_save(self) -> None:
        """Save everything but weights into a folder that goes away again, so that no work is lost at a checkpoint.

        Raises:
            SaveError, RemoteCodeError: what cannot be saved.
        """
        if self.args.save_strategy == "no" or not self.accelerator.is_main_process:
            return
        with tempfile.TemporaryDirectory() as folder, Transaction(folder) as transaction:
            for write in self._parts({}):
                write(transaction)
            for name, state in {"callbacks": self.callbacks, "lr_scheduler": self.lr_scheduler}.items():
                to_json(encode_floats(to_plain(state.state_dict(), name, refuse)))

    def _try_metrics(self, parts: Mapping[str, Any]) -> dict[str, float]:
        """Evaluate a few rows, without a trace, so that a fault in the metrics costs no training."""
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            prefix = f"eval_{name}" if name else "eval"
            rows = self.args.per_device_eval_batch_size
            if type(self).get_eval_dataloader is Predictor.get_eval_dataloader:
                inputs = try_rows(part, self.intake, rows, spread=True)
            else:
                inputs = as_shard(next(iter(self.get_eval_dataloader(part)))).inputs
            with _explained(name), undone(self.model), evaluating(self.model_wrapped), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of metrics that few rows leave undefined
                loss_only = self.compute_metrics is None
                loss, *kept = self._predict_batch(self.model_wrapped, inputs, None, loss_only=loss_only)
                arrays = (map_tensors(value, to_array) for value in kept)
                whole = EvalPrediction(*(join([value]) for value in arrays))
                self._check_labels(whole)
                measured = self._measure(whole, prefix)
            metrics |= measured if loss is None else {**measured, f"{prefix}_loss": float(loss)}
        return metrics


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Have an error inside a `with` block say that it came from the trial of the metrics."""
    try:
        yield
    except Exception as error:
        data = f"evaluation data {name!r}" if name else "evaluation data"
        error.add_note(
            f"The evaluation was being tried on a few rows of the {data}, before the first step, so that a fault in it "
            "costs no training. Metrics that need more rows than a batch may give {} where there are few."
        )
        raise
