"""`Trainer`: the loop that teaches a model, on one CPU, one GPU, or many of them on many machines."""

import contextlib
import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from maquette.errors import ConfigurationError
from maquette.storage.json_files import to_json
from maquette.storage.transaction import Transaction
from maquette.training.arguments import TrainingArguments
from maquette.training.callbacks import TrainerCallback, measure_gain, pick_metric
from maquette.training.checkpoints import (
    MANIFEST,
    RUN,
    open_checkpoint,
    read_run,
)
from maquette.training.data import BatchShard, begin, cut_windows, make_loader, row_lengths
from maquette.training.loss_watch import LossWatch
from maquette.training.metrics import EvalPrediction, TrainOutput
from maquette.training.model_states import (
    check_trainable,
    check_weights,
    is_sharded,
    keep_forward,
    load_weights,
)
from maquette.training.optimization import make_optimizer, make_schedule
from maquette.training.prediction import Sums, as_shard
from maquette.training.progress import ProgressCallback
from maquette.training.random_states import derive_seed, seed_everything
from maquette.training.report.callback import ReportCallback
from maquette.training.settings import describe_settings
from maquette.training.state import Clock, Position, TrainerControl, TrainerState, as_line
from maquette.training.trial import Trial

logger = logging.getLogger(__name__)

LOG = "log.jsonl"


class Trainer(Trial):
    """Train any torch model that returns a loss.

    The model's `forward` takes columns of the data by name, and returns a dictionary or an output with `loss`, or a
    tuple that begins with it. Whether the two fit is checked before the first step.

    Args:
        model: a torch module.
        args: how to train; unless given, `TrainingArguments()`.
        data_collator: makes a batch, a dictionary of tensors, of a list of rows. Unless given, rows are padded by
            `processing_class`, if that pads, or stacked. Columns that the model does not take are dropped.
        train_dataset: a list of dictionaries, a data set of torch or of `datasets`, or anything that can be gone
            through again and again. Rows are dictionaries, or tuples in the order of `forward`.
        eval_dataset: the same for evaluation, or a dictionary of several.
        processing_class: the tokenizer, feature extractor or processor; it is saved with the model. `tokenizer` is its
            older name.
        model_init: a function that makes the model, instead of `model`; it is called after seeding.
        compute_loss_func: gives the mean loss from `(outputs, labels)`, for models that give none.
        compute_metrics: gives numbers by name from an `EvalPrediction`.
        preprocess_logits_for_metrics: gives what is kept of the scores of a batch, from `(scores, labels)`.
        callbacks: `TrainerCallback`s, or their classes.
        optimizers: an optimizer, and its schedule or None, instead of AdamW and what the arguments say.

    `compute_loss`, `training_step`, `prediction_step`, `evaluate`, `predict`, `count_items`, `create_optimizer`,
    `create_scheduler`, `get_train_dataloader`, `get_eval_dataloader` and `log` are there to be overridden.

    Raises:
        ConfigurationError: arguments that contradict each other.
        MissingPackageError: accelerate is not installed.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        tokenizer: Any = None,
        model_init: Callable[[], nn.Module] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        callbacks: Iterable[TrainerCallback | type[TrainerCallback]] = (),
        optimizers: tuple[Optimizer | None, Any] = (None, None),
    ) -> None:
        args = args or TrainingArguments()
        shown = [] if args.disable_tqdm else [ProgressCallback()]
        super().__init__(
            model,
            args,
            data_collator=data_collator,
            eval_dataset=eval_dataset,
            processing_class=processing_class if tokenizer is None else tokenizer,
            model_init=model_init,
            compute_loss_func=compute_loss_func,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            callbacks=[ReportCallback(), *shown, *(callbacks or ())],
        )
        if args.eval_strategy != "no" and eval_dataset is None:
            raise ConfigurationError(f"eval_strategy={args.eval_strategy!r}, but Trainer has no eval_dataset.")
        if optimizers[0] is None and optimizers[1] is not None:
            raise ConfigurationError("optimizers has a schedule without its optimizer: give Trainer both, or neither.")
        self.train_dataset = train_dataset
        self._given = optimizers
        self.optimizer: Any = optimizers[0]
        self.lr_scheduler: Any = optimizers[1]
        self._settings = {}
        self._restore_forward: Callable[[], None] = lambda: None
        self._log_file: Path | None = None
        self._call("on_init_end")

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Add a callback, or a class of which one is made."""
        self.callbacks.all.append(callback() if isinstance(callback, type) else callback)

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Take a callback away, or all of a class."""
        self.callbacks.all = [one for one in self.callbacks.all if one is not callback and type(one) is not callback]

    # What a run is made of -------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """Make the loader; override it for one of your own, which gives dictionaries of tensors."""
        if self.train_dataset is None:
            raise ConfigurationError("There is nothing to train on: give Trainer a train_dataset.")
        if isinstance(self.train_dataset, Mapping):
            kind, names = type(self.train_dataset).__name__, ", ".join(map(str, self.train_dataset))
            raise ConfigurationError(f"train_dataset is a {kind} of several: {names}. Give Trainer one of them.")
        plan = self._plan(self.args.per_device_train_batch_size, shuffle=True)
        data, workers, lengths = self.train_dataset, self.args.dataloader_num_workers, None
        if self.args.group_by_length:
            name = (getattr(self.processing_class, "model_input_names", None) or self.interface.names)[0]
            lengths = row_lengths(data, name, self.intake.named)
        return make_loader(data, self.intake, plan, workers=workers, lengths=lengths)

    def create_optimizer(self) -> Optimizer:
        """Make the optimizer, AdamW; override it for another."""
        return make_optimizer(self.model, self.args)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer) -> Any:
        """Make the schedule of the learning rate; override it for another."""
        return make_schedule(optimizer, self.args, steps=num_training_steps)

    # Training --------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: bool | str | os.PathLike[str] | None = None) -> TrainOutput:
        """Train to the end of the epochs or steps, checking first that model and data fit.

        Args:
            resume_from_checkpoint: a checkpoint to go on from, or True for the newest one in `args.output_dir` that is
                not damaged. On a CPU, the run then goes on to the same bits as if it had never been interrupted.

        Raises:
            ConfigurationError, InputError: model and data do not fit; says which.
            MissingFileError, CheckpointError: there is nothing to resume from, or nothing that is whole.
            SaveError: a checkpoint could not be written.
        """
        try:
            return self._run_steps(resume_from_checkpoint)
        finally:
            self._release()
            self.callbacks.close()

    def _run_steps(self, resume_from_checkpoint: bool | str | os.PathLike[str] | None) -> TrainOutput:
        folder = None
        if resume_from_checkpoint:
            with self.accelerator.main_process_first():
                folder = open_checkpoint(Path(self.args.output_dir), resume_from_checkpoint)
        self.state = TrainerState(is_world_process_zero=self.accelerator.is_main_process)
        self.control = TrainerControl()
        loader = self.get_train_dataloader()
        self._plan_steps(loader)
        states = self._prepare(loader, folder)
        self._run_name = (folder and read_run(folder / MANIFEST)) or uuid.uuid4().hex
        self._begin_log()
        self._call("on_train_begin", train_dataloader=loader)
        if states:
            self._restore_random_states(states)
        self._clock = Clock(self.state.global_step)
        self.control.should_training_stop = self.state.is_stopped or self.state.global_step >= self.state.max_steps
        if self.control.should_training_stop:
            logger.warning(
                "Nothing is left to do after step %d: raise num_train_epochs or max_steps.", self._clock.first
            )
        while not self.control.should_training_stop:
            self._train_epoch(loader)
        self._reduce_losses()
        return self._finish()

    def _plan_steps(self, loader: Any) -> None:
        """Work out how many steps there are, from the arguments and the length of the data, where it has one."""
        args, state = self.args, self.state
        self._position = Position()
        self._own_losses: list[Tensor] = []  # of the latest steps: this process's share, not added up yet
        self._own_scalars: list[dict[str, Tensor]] = []  # the same, of what else the model gives for each batch
        self._watch = LossWatch(self.args.on_nan, lags=self.accelerator.device.type != "cpu")
        try:
            self._batches: int | None = len(loader)
        except TypeError:
            self._batches = None
            if args.max_steps < 0:
                raise ConfigurationError(
                    "The data has no length, or no row numbers, so epochs cannot be counted: set max_steps."
                ) from None
            state.max_steps, state.num_train_epochs = args.max_steps, 0  # 0: nobody knows
            return
        steps = max(1, -(-self._batches // args.gradient_accumulation_steps))
        state.max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps)
        state.num_train_epochs = -(-state.max_steps // steps)

    def _prepare(self, loader: Any, folder: Path | None) -> list[Any]:
        """Make everything ready for the first step, or the one after a checkpoint's; gives its random states."""
        seed = self.args.seed
        seed_everything(seed if self.accelerator.is_main_process else derive_seed(seed, self.accelerator.process_index))
        if self.args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        check_trainable(self.model)
        if self.args.save_strategy != "no":
            check_weights(self.model)
        self._restore_forward = keep_forward(self.model)
        divided = is_sharded(self.model)  # by the caller, with fully_shard: then there is nothing to wrap
        if folder:
            load_weights(self.model, folder)
        self.model.train()
        optimizer, schedule = self._given
        self.optimizer = optimizer or self.create_optimizer()
        self.lr_scheduler = schedule or self.create_scheduler(self.state.max_steps, self.optimizer)
        if schedule is None or not self._settings:  # a schedule that was given may have run already
            own = schedule is None
            self._settings = describe_settings(self.args, self.optimizer, self.lr_scheduler, is_own_schedule=own)
        if divided:
            self._stepper: Any = self.accelerator.prepare_optimizer(self.optimizer)
        else:
            self.model_wrapped, self._stepper = self.accelerator.prepare(self.model, self.optimizer)
        self._check()
        if self.args.torch_compile:
            self.model.compile()
        return self._resume(loader, folder) if folder else []

    def _train_epoch(self, loader: Any) -> None:
        """Go through the data once, or what is left of it."""
        self._call("on_epoch_begin", train_dataloader=loader)
        was, epoch = self.state.global_step, self._position.epoch
        shards = map(as_shard, begin(loader, epoch, self._position.batches))
        for window, is_last in cut_windows(shards, self.args.gradient_accumulation_steps):
            self._call("on_step_begin")
            self._take_step(window)
            self._end_step(window, is_last)
            if self.control.should_training_stop or self._position.epoch > epoch:
                break
        if was == self.state.global_step:
            raise ConfigurationError("The training data has no rows.")

    def _take_step(self, window: list[BatchShard]) -> None:
        """Learn from the batches of one step."""
        window = [shard._replace(inputs=self._adapt(shard.inputs)) for shard in window]
        items = [self.count_items(shard.inputs) if shard.rows else 0 for shard in window]
        total = self._sum(torch.tensor(sum(items), dtype=torch.float64)).item()
        losses = []
        for place, (shard, own) in enumerate(zip(window, items, strict=True)):
            is_last = place == len(window) - 1
            if own or self._world > 1:  # other processes wait for this one's gradients
                with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model_wrapped):
                    losses.append(self.training_step(self.model_wrapped, shard.inputs, total if own else math.inf))
        nothing = torch.zeros((), device=self.accelerator.device)
        loss = torch.stack(losses).sum() if losses else nothing
        self._own_losses.append(loss)
        self._gradient_norm = None
        if self.args.max_grad_norm:
            parameters = self.model_wrapped.parameters()
            self._gradient_norm = self.accelerator.clip_grad_norm_(parameters, self.args.max_grad_norm)
        norm = None if self.args.fp16 else self._gradient_norm  # which its scaler expects to be infinite now and then
        self._watch.check(loss, norm, step=self.state.global_step + 1, add_up=self._sum)
        self._call("on_pre_optimizer_step")
        self._stepper.step()
        self._call("on_optimizer_step")
        self._rate = self.optimizer.param_groups[0]["lr"]
        if not self.accelerator.optimizer_step_was_skipped:
            self.lr_scheduler.step()
        self._stepper.zero_grad()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: float | None = None
    ) -> Tensor:
        """Add the gradients of one batch, and give its share of the step's loss; override it for your own.

        Args:
            model: as it is run, which may be wrapped for several processes.
            inputs: what the collator made.
            num_items_in_batch: what `count_items` gives for all batches of the step, in all processes together. The
                gradient of the step is so that of one large batch, also where batches have different numbers of tokens.
        """
        items = self.count_items(inputs)
        total = num_items_in_batch or items
        share = items / total if total else 1.0
        self._scalars = {}
        loss = self.compute_loss(model, self._to_device(self._with_items(inputs, total)))
        loss = loss if self._divides else loss * share
        self.accelerator.backward(loss * self._world)  # processes take the mean of their gradients
        self._own_scalars.append({name: value * share for name, value in self._scalars.items()})
        return loss.detach() if share else torch.zeros_like(loss)  # a mean over nothing is NaN

    def _end_step(self, window: list[BatchShard], is_last: bool) -> None:
        """Log, evaluate and save, where it is time to."""
        state, control = self.state, self.control
        state.global_step += 1
        control.plan(self.args, state, is_epoch_end=is_last)
        rows = sum(shard.rows for shard in window) * self._world
        self._clock.tick(rows, state)
        self._call("on_step_end", rows=rows)
        if control.should_epoch_stop and not is_last:
            is_last = True
            control.should_evaluate |= self.args.eval_strategy == "epoch"
            control.should_save |= self.args.save_strategy == "epoch"
        self._position.move(len(window), ends_epoch=is_last)
        state.epoch = self._position.epoch + self._position.batches / self._epoch_length()
        if is_last:
            self._call("on_epoch_end")
        if control.should_log:
            self._log_step()
        if control.should_evaluate:
            self._update_best(self.evaluate())
        if control.should_training_stop and state.global_step < state.max_steps:
            state.is_stopped = True
            control.should_save |= self.args.save_strategy not in ("no", "best")
            if self._own_losses or self._position.losses:
                self._log_step()
        if control.should_save:
            self._save_checkpoint()

    def _epoch_length(self) -> int:
        """Give the batches of an epoch; where that is not known, of the whole run."""
        return self._batches or self.args.max_steps * self.args.gradient_accumulation_steps

    def _update_best(self, metrics: dict[str, float]) -> None:
        """See whether this was the best evaluation so far; then its weights are kept."""
        args, state = self.args, self.state
        if not args.load_best_model_at_end and args.save_strategy != "best":
            return
        value = pick_metric(metrics, args.metric_for_best_model)
        if measure_gain(value, state.best_metric, args) > 0:
            state.best_metric, state.best_model_checkpoint = value, str(self._checkpoint_folder())
            self.control.should_save = True

    def _finish(self) -> TrainOutput:
        """Put the best weights in, if that was asked for, and say how it went."""
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            load_weights(self.model, open_checkpoint(Path(), self.state.best_model_checkpoint))
        steps, clock, seconds = self.state.global_step, self._clock, self._clock.seconds
        metrics = {"train_loss": self._position.loss_sum / max(1, steps), "train_runtime": seconds}
        metrics |= {"train_samples_per_second": clock.rows / seconds}
        metrics |= {"train_steps_per_second": (steps - clock.first) / seconds}
        self._call("on_train_end")
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return TrainOutput(steps, metrics["train_loss"], metrics)

    def _release(self) -> None:
        """Leave the model as it was before it was prepared, however the run ended."""
        self._restore_forward()
        if not is_sharded(self.model):
            self.model_wrapped = self.model
        self.accelerator.free_memory()

    # The log ---------------------------------------------------------------------------------------------------

    def _begin_log(self) -> None:
        """Have the log file hold what the state does: nothing, or what a checkpoint had."""
        self._log_file = Path(self.args.output_dir, LOG)
        if self.accelerator.is_main_process:
            with Transaction(self.args.output_dir) as transaction:
                transaction.write(LOG, "".join(map(as_line, self.state.log_history)))
                transaction.write(RUN, to_json({"run": self._run_name}))
            self._remove_old()  # where a process died between saving and removing
        if self.args.report_to:
            self.accelerator.init_trackers(Path(self.args.output_dir).name, self.args.for_trackers())

    def log(self, logs: Mapping[str, Any]) -> None:
        """Add an entry to the log, with the step and the epoch; callbacks and trackers get it, and `log.jsonl`."""
        super().log(logs)
        if self._log_file and self.accelerator.is_main_process:
            with self._log_file.open("a", encoding="utf-8") as file:
                file.write(as_line(self.state.log_history[-1]))

    def _log_step(self) -> None:
        self._reduce_losses()
        losses, self._position.losses = self._position.losses, []
        scalars, self._position.scalars = self._position.scalars, {}
        logs = {name: total / len(losses) for name, total in scalars.items()}
        logs |= {"loss": math.fsum(losses) / len(losses), "learning_rate": self._rate}
        if self._gradient_norm is not None:
            norm = self._gradient_norm
            logs["grad_norm"] = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        self.log(logs)

    def _reduce_losses(self) -> None:
        """Add up the latest losses of all processes."""
        if self._own_losses:
            losses = self._sum(torch.stack(self._own_losses).double()).tolist()
            self._position.losses += losses
            self._position.loss_sum += math.fsum(losses)
            self._own_losses = []
            sums: Sums = {}
            for step in self._own_scalars:
                for name, value in step.items():
                    sums[name] = (sums.get(name, (0.0,))[0] + float(value), 1.0)
            for name, (total, _) in self._sum_named(sums).items():
                self._position.scalars[name] = self._position.scalars.get(name, 0.0) + total
            self._own_scalars = []
