"""One page that shows how a training run went, and the callback that writes it."""

import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction
from maquette.training.callbacks import TrainerCallback
from maquette.training.report.modules import look_through
from maquette.training.report.page import render_page
from maquette.training.report.run_record import RunRecord, describe_environment, describe_parameters

logger = logging.getLogger(__name__)

__all__ = ["ReportCallback", "RunRecord", "describe_parameters", "write_report"]

REPORT_NAME = "report.html"


def write_report(record: RunRecord, path: str | os.PathLike[str]) -> Path:
    """Write a run as one HTML page that needs nothing else; an older page is replaced at once, or not at all.

    Names and values come out as they are, whatever is in them, but for arguments that hold secrets by their name.
    """
    path = user_path(path)
    with Transaction(path.parent) as transaction:
        transaction.write(path.name, render_page(record).encode("utf-8", errors="backslashreplace"))
    return path


class ReportCallback(TrainerCallback):
    """Writes `report.html` into the output folder when a run ends, however it ends; on the first process alone.

    A report that cannot be written is a warning in the log: the trained model is worth more.

    Args:
        path: the file to write; unless given, `report.html` in the run's output folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = path
        self._run: _Run | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a record."""
        self._run = _Run(args, state, kwargs.get("model")) if state.is_world_process_zero else None

    def on_step_end(self, args: Any, state: Any, control: Any, *, rows: int = 0, **kwargs: Any) -> None:
        """Count the seconds of training, and the rows it saw."""
        if self._run:
            self._run.step(rows)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Note how fast it went since the last entry of the log."""
        if self._run and "loss" in (logs or {}):
            self._run.measure(state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the seconds of the evaluation out."""
        if self._run:
            self._run.rest()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the seconds of saving out."""
        if self._run:
            self._run.rest()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the report."""
        self._write("Training ended early, at step {} of {}.")

    def close(self) -> None:
        """Write the report of a run that an error cut short; to be called however a run ends, any number of times."""
        self._write("Training was cut short at step {} of {}.")

    def _write(self, early: str) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        path = Path(self.path or Path(run.args.output_dir, REPORT_NAME))
        try:
            write_report(run.record(early), path)
        except Exception as error:  # whatever it is, it must hide neither a trained model nor why training stopped
            logger.warning("The report of the training could not be written to %r: %s", str(path), error, exc_info=True)


class _Run:
    """What is collected while a run goes on."""

    def __init__(self, args: Any, state: Any, model: Any) -> None:
        self.args, self.state, self.model = args, state, model
        self.started, self.began = datetime.now(UTC).astimezone(), time.perf_counter()
        self.throughput: list[tuple[int, float]] = []
        self.seconds, self.rows, self.written = 0.0, 0, 0.0
        self.rest()

    def rest(self) -> None:
        """Count from now on."""
        self.since = time.perf_counter()

    @property
    def texts(self) -> list[dict[str, Any]]:
        """What was written so far; the state of another trainer has none."""
        return list(getattr(self.state, "texts", ()))

    def step(self, rows: int = 0) -> None:
        self.rows += rows
        now = time.perf_counter()
        written = sum(text["seconds"] for text in self.texts)  # in which nothing was learnt
        self.seconds += now - self.since - (written - self.written)
        self.written = written
        self.since = now

    def measure(self, step: int) -> None:
        self.step()  # reading the loss has waited for the device
        if self.rows and self.seconds:
            self.throughput.append((step, self.rows / self.seconds))
            self.seconds, self.rows = 0.0, 0

    def record(self, early: str) -> RunRecord:
        step, steps = self.state.global_step, self.state.max_steps
        return RunRecord(
            title=type(self.model).__name__ if self.model is not None else "Training",
            started=self.started,
            seconds=time.perf_counter() - self.began,
            arguments=self.args.to_dict(),
            defaults=self.args.defaults(),
            history=list(self.state.log_history),
            throughput=self.throughput,
            parameters=describe_parameters(self.model) if self.model is not None else [],
            environment=describe_environment(self.model),
            xray=look_through(self.model) if self.model is not None else None,
            texts=self.texts,
            note=early.format(f"{step:,}", f"{steps:,}") if step < steps else "",
        )
