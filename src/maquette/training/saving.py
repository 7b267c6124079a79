"""`Saver`: what a run saves of itself, and how it is taken up again."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette.errors import CheckpointError
from maquette.pretrained.mixin import committing
from maquette.storage.transaction import Transaction
from maquette.training.checkpoints import STATE, Snapshot, remove_old, write_checkpoint
from maquette.training.model_states import as_declared, gather_optimizer, gather_weights, load_optimizer, write_model
from maquette.training.prediction import Predictor
from maquette.training.random_states import gather_states, restore_states
from maquette.training.state import Position

DOCUMENTS = ("training_args.json", "optimizer.json", "scheduler.json", "scaler.json", "random_states.json", STATE)
OPTIMIZER = "optimizer.safetensors"


class Saver(Predictor):
    """What `Trainer` saves: the model for its users, and checkpoints of a run."""

    optimizer: Any
    lr_scheduler: Any
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
            run["position"] = dataclasses.asdict(self._position)
            scaling = scaler.state_dict() if scaler else {}
            schedule, processes = self.lr_scheduler.state_dict(), {"processes": states}
            contents = (self.args.to_dict(), optimizer, schedule, scaling, processes, run)
            snapshot = Snapshot(dict(zip(DOCUMENTS, contents, strict=True)), {OPTIMIZER: tensors})
            write_checkpoint(self._checkpoint_folder(), snapshot, self._parts(weights), run=self._run_name)
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
        ends = self.state.max_steps, self.state.num_train_epochs
        self.state.load(run["state"])
        self.state.is_stopped &= ends[0] <= self.state.max_steps  # more was asked for than what a callback ended
        self.state.max_steps, self.state.num_train_epochs = ends
        if best := self.state.best_model_checkpoint:
            self.state.best_model_checkpoint = str(folder.parent / Path(best).name)
        self._position = Position(**run["position"])
        self.callbacks.load_state_dict(run["callbacks"])
        load_optimizer(self.model, self.optimizer, documents["optimizer.json"], snapshot.tensors[OPTIMIZER])
        self.lr_scheduler.load_state_dict(as_declared(documents["scheduler.json"], self.lr_scheduler.state_dict()))
        if self.accelerator.scaler and documents["scaler.json"]:
            self.accelerator.scaler.load_state_dict(documents["scaler.json"])
        return documents["random_states.json"]["processes"]

    def _restore_random_states(self, states: list[Any]) -> None:
        """Bring back this process's random states; a process that is new keeps the one it began with."""
        if self.accelerator.process_index < len(states):
            restore_states(states[self.accelerator.process_index])
