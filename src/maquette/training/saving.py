"""`Saver`: what a run saves of itself, and how it is taken up again."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette.errors import CheckpointError
from maquette.pretrained.mixin import committing
from maquette.storage.transaction import Transaction
from maquette.training.checkpoints import STATE, Snapshot, remove_old, write_checkpoint
from maquette.training.model_states import (
    as_declared,
    gather_optimizer,
    gather_weights,
    load_optimizer,
    write_model,
    write_trained,
)
from maquette.training.prediction import Predictor
from maquette.training.random_states import gather_states, restore_states
from maquette.training.settings import OF_THE_BEST, NewSettings, check_changes
from maquette.training.state import Position

logger = logging.getLogger(__name__)

DOCUMENTS = ("training_args.json", "optimizer.json", "scheduler.json", "scaler.json", "random_states.json", STATE)
OPTIMIZER = "optimizer.safetensors"


class Saver(Predictor):
    """What `Trainer` saves: the model for its users, and checkpoints of a run."""

    optimizer: Any
    lr_scheduler: Any
    _given: tuple[Any, Any]
    _settings: dict[str, Any]
    _batches: int | None
    _position: Position
    _run_name: str

    def _reduce_losses(self) -> None:
        """Add up the latest losses of all processes."""
        raise NotImplementedError

    def save_model(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """Save the model, with its tokenizer or processor, into a folder that `from_pretrained` reads.

        Args:
            output_dir: unless given, `args.output_dir`.
        """
        weights = gather_weights(self.model)
        if self.accelerator.is_main_process:
            with committing(self.args.output_dir if output_dir is None else output_dir) as transaction:
                for write in self._parts(weights):
                    write(transaction)
        self.accelerator.wait_for_everyone()

    def _parts(self, weights: dict[str, Tensor]) -> list[Callable[[Transaction], None]]:
        parts = [write_model(self.model, weights)]
        return [*parts, self.processing_class._write_to] if hasattr(self.processing_class, "_write_to") else parts

    def _checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")

    def _save_checkpoint(self) -> None:
        self._reduce_losses()
        weights = gather_weights(self.model)
        optimizer, tensors = gather_optimizer(self.model, self.optimizer)
        states = gather_states(self.accelerator)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state, callbacks = self.state.to_dict(), self.callbacks.state_dict()
            run = {"state": state, "callbacks": callbacks, "data": self._describe_data()}
            run["settings"] = self._settings
            run["position"] = dataclasses.asdict(self._position)
            scaling = scaler.state_dict() if scaler else {}
            schedule, processes = self.lr_scheduler.state_dict(), {"processes": states}
            contents = (self.args.to_dict(), optimizer, schedule, scaling, processes, run)
            snapshot = Snapshot(dict(zip(DOCUMENTS, contents, strict=True)), {OPTIMIZER: tensors})
            parts = [*self._parts(weights), write_trained(self.model, weights)]
            write_checkpoint(self._checkpoint_folder(), snapshot, parts, run=self._run_name)
            self._remove_old()
        self.accelerator.wait_for_everyone()
        self._call("on_save")

    def _remove_old(self) -> None:
        if limit := self.args.save_total_limit:
            best, step = self.state.best_model_checkpoint, self.state.global_step
            remove_old(Path(self.args.output_dir), keep=limit, best=best, step=step)

    def _describe_data(self) -> dict[str, Any]:
        """Give what decides which rows make which batch."""
        args = self.args
        size = args.per_device_train_batch_size * self._world
        described = {"batches": self._batches, "rows_in_a_batch": size, "seed": args.seed}
        if self._batches is None:  # data without row numbers may divide itself among the processes that read it
            described["reading_processes"] = max(1, args.dataloader_num_workers)
        grouping = {"group_by_length": args.group_by_length}
        return {**described, **grouping, "gradient_accumulation_steps": args.gradient_accumulation_steps}

    def _resume(self, loader: Any, folder: Path) -> list[Any]:
        """Take over a checkpoint, but for its weights; gives its random states."""
        snapshot = Snapshot.read(folder, DOCUMENTS, [OPTIMIZER])
        documents, run = snapshot.documents, snapshot.documents[STATE]
        was, now = run["data"], self._describe_data()
        if changed := [f"{name} was {was.get(name)}, is {now[name]}" for name in now if was.get(name) != now[name]]:
            raise CheckpointError(
                f"{str(folder)!r} cannot be resumed, for the data would not go on where it stopped: "
                f"{'; '.join(changed)}. Train with what it was saved with, or begin anew from its weights."
            )
        ends, ended = (self.state.max_steps, self.state.num_train_epochs), run["state"]["max_steps"]
        was = run.get("settings", self._settings)
        changes = check_changes(was, self._settings, on_change=self.args.on_change, label=repr(str(folder)))
        self.state.load(run["state"])
        self.state.is_stopped &= ends[0] <= ended  # more was asked for than what a callback ended
        self.state.max_steps, self.state.num_train_epochs = ends
        if any(name in was and was[name] != self._settings.get(name) for name in OF_THE_BEST):
            self.state.best_metric = self.state.best_model_checkpoint = None
            run["callbacks"] = {n: said for n, said in run["callbacks"].items() if not n.startswith("EarlyStopping")}
        if best := self.state.best_model_checkpoint:
            self.state.best_model_checkpoint = str(folder.parent / Path(best).name)
        self._position = Position(**run["position"])
        self.callbacks.load_state_dict(run["callbacks"])
        self._resume_optimizer(snapshot, was, takes_new=bool(changes) or (ended != ends[0] and not self._given[1]))
        if self.accelerator.scaler and documents["scaler.json"]:
            self.accelerator.scaler.load_state_dict(documents["scaler.json"])
        return documents["random_states.json"]["processes"]

    def _resume_optimizer(self, snapshot: Snapshot, was: Mapping[str, Any], *, takes_new: bool) -> None:
        """Put in the state of a checkpoint's optimizer; its settings too, unless they are to be the new ones."""
        schedule = snapshot.documents["scheduler.json"]
        done = schedule.get("last_epoch", self.state.global_step)
        new = NewSettings(self.optimizer, self.lr_scheduler, steps=done) if takes_new else None
        load_optimizer(self.model, self.optimizer, snapshot.documents["optimizer.json"], snapshot.tensors[OPTIMIZER])
        rate = self.optimizer.param_groups[0]["lr"]
        if new is None:
            self.lr_scheduler.load_state_dict(as_declared(schedule, self.lr_scheduler.state_dict()))
            return
        new.put_into(self.optimizer, was, self._settings)
        if (rate_now := self.optimizer.param_groups[0]["lr"]) != rate:
            logger.warning(
                "After step %d the learning rate is %s, where the checkpoint's was %s: settings, or the number of "
                "steps, are not those it was saved with.",
                self.state.global_step,
                rate_now,
                rate,
            )

    def _restore_random_states(self, states: list[Any]) -> None:
        """Bring back this process's random states; a process that is new keeps the one it began with."""
        if self.accelerator.process_index < len(states):
            restore_states(states[self.accelerator.process_index])
