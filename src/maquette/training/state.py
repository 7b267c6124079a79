"""What a training run knows of itself, and what callbacks ask of it."""

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maquette.errors import FileFormatError
from maquette.storage.json_values import encode_floats, refuse, to_plain
from maquette.training.arguments import TrainingArguments

Entry = dict[str, Any]


@dataclass
class TrainerState:
    """Where a run is. It is part of every checkpoint, except for `texts`, `speed` and who this process is.

    Attributes:
        global_step: optimizer steps so far.
        epoch: passes through the data so far, 1.5 in the middle of the second.
        max_steps, num_train_epochs: where it ends.
        log_history: entries `{"step", "epoch", "loss", "learning_rate", "grad_norm"}` of training and
            `{"step", "epoch", "eval_loss", …}` of evaluation. No times, so that equal runs have equal logs.
        best_metric, best_model_checkpoint: the best value so far, and the folder of its weights.
        is_stopped: a callback ended the run.
        texts: what `ReportTexts` had the model write.
        speed: `{"samples_per_second", "seconds_left"}`, as measured.
        is_world_process_zero: whether this is the process that writes.
    """

    global_step: int = 0
    epoch: float = 0.0
    max_steps: int = 0
    num_train_epochs: int = 0
    log_history: list[Entry] = field(default_factory=list)
    best_metric: float | None = None
    best_model_checkpoint: str | None = None
    is_stopped: bool = False
    texts: list[Entry] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)
    is_world_process_zero: bool = True

    _OF_THE_PROCESS = ("texts", "speed", "is_world_process_zero")

    def to_dict(self) -> dict[str, Any]:
        """Give what a checkpoint keeps."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self._OF_THE_PROCESS}

    def load(self, content: dict[str, Any]) -> None:
        """Take over what `to_dict` gave.

        Raises:
            FileFormatError: there are other names.
        """
        if content.keys() != self.to_dict().keys():
            odd = sorted(content.keys() ^ self.to_dict().keys())
            raise FileFormatError(f"The state of a training run does not have the expected names: {', '.join(odd)}.")
        for name, value in content.items():
            setattr(self, name, value)


@dataclass
class TrainerControl:
    """What happens after this step; callbacks set it, and the run clears what was done."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_log: bool = False
    should_evaluate: bool = False
    should_save: bool = False

    def plan(self, args: TrainingArguments, state: TrainerState, *, is_epoch_end: bool) -> None:
        """Decide by the arguments what happens after the step that was just done."""
        step, is_end = state.global_step, state.global_step >= state.max_steps
        every = args.eval_steps or args.logging_steps
        self.should_training_stop |= is_end
        self.should_epoch_stop = False
        self.should_log = is_end or step % args.logging_steps == 0
        self.should_evaluate = {"steps": step % every == 0, "epoch": is_epoch_end}.get(args.eval_strategy, False)
        due = {"steps": is_end or step % args.save_steps == 0, "epoch": is_end or is_epoch_end}
        self.should_save = due.get(args.save_strategy, False)


@dataclass
class Position:
    """How far a run has read its data, and the losses since the last log; part of every checkpoint."""

    epoch: int = 0
    batches: int = 0
    """Of this epoch."""
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last log, in all processes together."""
    loss_sum: float = 0.0
    """Of all steps."""
    scalars: dict[str, float] = field(default_factory=dict)
    """Sums, since the last log, of what else the model gives for a batch."""

    def move(self, batches: int, *, ends_epoch: bool) -> None:
        """Note that batches were read."""
        self.batches += batches
        if ends_epoch:
            self.epoch, self.batches = self.epoch + 1, 0


class Clock:
    """Measures how fast a run is."""

    def __init__(self, first: int) -> None:
        """Start at the step `first`."""
        self.first, self.rows, self._start = first, 0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start; never 0."""
        return time.perf_counter() - self._start or 1e-9

    def tick(self, rows: int, state: TrainerState) -> None:
        """Note a step of that many rows, and what it says of the speed."""
        self.rows += rows
        left = (state.max_steps - state.global_step) * self.seconds / (state.global_step - self.first)
        state.speed = {"samples_per_second": self.rows / self.seconds, "seconds_left": left}


def as_line(entry: Mapping[str, Any]) -> str:
    """Give an entry of the log as a line of `log.jsonl`: step and epoch first, the others by name."""
    rest = {name: entry[name] for name in sorted(entry) if name not in ("step", "epoch")}
    ordered = {"step": entry["step"], "epoch": entry["epoch"], **rest}
    return json.dumps(encode_floats(to_plain(ordered, "log", refuse))) + "\n"
