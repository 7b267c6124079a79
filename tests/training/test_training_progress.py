"""The progress of a training run: what stands on the screen, what a log file gets, and how fast it says it is."""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from maquette import MissingPackageError
from maquette.training import progress as progress_module
from maquette.training.progress import ProgressCallback
from maquette.training.report.figures import show_duration, show_number


class Terminal:
    """As much of a terminal as a bar needs: lines, and a cursor that goes back, up, and erases its line."""

    CODES = re.compile(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")

    def __init__(self, text: str) -> None:
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True
        for number, code, back, down, words in self.CODES.findall(text):
            if code:
                self.obey(number, code)
            elif back:
                self.column = 0
            elif down:
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + words + line[self.column + len(words) :]
                self.column += len(words)

    def obey(self, number: str, code: str) -> None:
        if code == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif code == "K":
            assert number == "2"
            self.lines[self.row] = ""
        elif code in "hl":
            assert number == "?25"
            self.cursor = code == "h"
        else:
            assert code == "m", code

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines if line.strip())

    def count(self, word: str) -> int:
        return sum(word in line for line in self.lines)


class Clock:
    """A clock that only goes when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress_module, "time", made)
    return made


def make_state(step: int = 0, steps: int = 40, **known: Any) -> SimpleNamespace:
    state = {"epoch": step / 20, "num_train_epochs": 2, "is_world_process_zero": True, **known}
    return SimpleNamespace(global_step=step, max_steps=steps, log_history=[], **state)


def make_console(*, terminal: bool, width: int = 120) -> Console:
    known: Any = {"legacy_windows": False, "color_system": None, "force_interactive": terminal}
    return Console(file=io.StringIO(), force_terminal=terminal, force_jupyter=False, width=width, **known)


def written(callback: ProgressCallback) -> str:
    return str(callback.console.file.getvalue())


def train(callback: ProgressCallback, state: Any, clock: Clock, *, until: int | None = None) -> None:
    """Half a second a step, a log entry at every fifth, and at every tenth an evaluation of 30 seconds."""
    callback.on_train_begin(None, state, None)
    while state.global_step < (until or state.max_steps):
        clock.now += 0.5
        state.global_step += 1
        state.epoch = state.global_step / 20
        callback.on_step_end(None, state, None)
        if state.global_step % 5 == 0:
            callback.on_log(None, state, None, logs={"loss": 1 / state.global_step, "epoch": state.epoch})
        if state.global_step % 10 == 0:
            evaluate(callback, state, clock)


def evaluate(callback: ProgressCallback, state: Any, clock: Clock) -> None:
    for _ in range(3):
        clock.now += 10
        callback.on_prediction_step(None, state, None, eval_dataloader=range(3))
    callback.on_log(None, state, None, logs={"eval_f1": 0.75, "eval_runtime": 30.0, "epoch": state.epoch})
    callback.on_evaluate(None, state, None, metrics={})


def test_a_log_file_gets_one_plain_line_for_each_entry(clock: Clock) -> None:
    callback = ProgressCallback(console=make_console(terminal=False))
    train(callback, make_state(), clock)
    callback.on_train_end(None, make_state(), None)
    lines = written(callback).splitlines()
    assert len(lines) == 8 + 4
    assert lines[:3] == [
        "step 5/40 (12%)  epoch 0.25/2  loss 0.2  2.00 steps/s  0:00:18 left",
        "step 10/40 (25%)  epoch 0.50/2  loss 0.1  2.00 steps/s  0:00:15 left",
        "step 10/40 (25%)  epoch 0.50/2  eval_f1 0.75",
    ]
    assert lines[-2:] == [
        "step 40/40 (100%)  epoch 2.00/2  loss 0.025  2.00 steps/s",
        "step 40/40 (100%)  epoch 2.00/2  eval_f1 0.75",
    ]
    assert not re.search(r"[\x1b\r]", written(callback))


def test_long_lines_are_not_wrapped_and_names_are_not_markup() -> None:
    callback = ProgressCallback(console=make_console(terminal=False, width=40))
    logs = {f"[bold]metric_{number}": 0.123456 for number in range(9)} | {"words": "skipped", ":smile:": 1.0}
    callback.on_log(None, make_state(3), None, logs=logs)
    [line] = written(callback).splitlines()
    assert line.count("[bold]metric_") == 9 and line.count("0.1235") == 9 and ":smile: 1" in line


def test_the_bar_is_redrawn_in_place(clock: Clock) -> None:
    callback = ProgressCallback(console=make_console(terminal=True))
    train(callback, make_state(), clock, until=37)
    before = Terminal(written(callback))
    assert (before.count("Training"), before.count("Evaluating"), before.cursor) == (1, 0, False)
    callback.close()
    after = Terminal(written(callback))
    *evaluations, bar, facts = after.text.splitlines()
    assert evaluations == [f"step {n}/40 ({n / 40:.0%})  epoch {n / 20:.2f}/2  eval_f1 0.75" for n in (10, 20, 30)]
    assert bar.startswith("Training ━") and " 37/40 2.00 steps/s " in bar and bar.endswith("0:00:02 left")
    assert facts == "epoch 1.85/2  loss 0.02857  eval_f1 0.75"
    assert after.cursor
    assert (after.column, after.row) == (0, len(after.lines) - 1)  # what comes next has a line of its own


def test_an_evaluation_has_a_bar_of_its_own_while_it_goes_on(clock: Clock) -> None:
    callback = ProgressCallback(console=make_console(terminal=True))
    state = make_state(10)
    callback.on_train_begin(None, state, None)
    clock.now += 1
    callback.on_prediction_step(None, state, None, eval_dataloader=range(3))
    screen = Terminal(written(callback))
    assert "10/40" in next(line for line in screen.lines if "Training" in line)
    assert "1/3" in next(line for line in screen.lines if "Evaluating" in line)
    callback.on_evaluate(None, state, None, metrics={})
    assert Terminal(written(callback)).count("Evaluating") == 0
    callback.close()


@pytest.mark.parametrize("loader", [None, iter([1])])
def test_an_evaluation_without_training_starts_and_ends_by_itself(clock: Clock, loader: Any) -> None:
    callback, streams = ProgressCallback(console=make_console(terminal=True)), (sys.stdout, sys.stderr)
    state = make_state(0, 0, epoch=None)
    callback.on_prediction_step(None, state, None, eval_dataloader=loader)
    assert Terminal(written(callback)).count("Evaluating") == 1
    callback.on_log(None, state, None, logs={"eval_loss": 0.5})
    callback.on_evaluate(None, state, None, metrics={})
    screen = Terminal(written(callback))
    assert screen.cursor and screen.count("Evaluating") == 0 and screen.count("eval_loss 0.5") >= 1
    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.parametrize("terminal", [True, False])
def test_a_resumed_run_starts_where_it_was(clock: Clock, terminal: bool) -> None:
    callback = ProgressCallback(console=make_console(terminal=terminal))
    train(callback, make_state(30), clock, until=35)
    callback.close()
    # five steps of half a second each: the thirty that were made before do not count
    assert "2.00 steps/s" in Terminal(written(callback)).text and "0:00:02 left" in Terminal(written(callback)).text
    places = [int(place) for place in re.findall(r" (\d+)/40", written(callback))]
    assert (places[0], places[-1]) == (30 if terminal else 35, 35)


def test_slow_steps_are_told_in_seconds(clock: Clock) -> None:
    callback = ProgressCallback(console=make_console(terminal=False))
    state = make_state(0, 1000)
    callback.on_train_begin(None, state, None)
    clock.now += 8
    state.global_step = 2
    callback.on_step_end(None, state, None)
    callback.on_log(None, state, None, logs={"loss": 1.0})
    callback.on_save(None, state, None)
    assert written(callback).strip().endswith("4.00 s/step  1:06:32 left")


@pytest.mark.parametrize("terminal", [True, False])
def test_other_processes_show_nothing(clock: Clock, terminal: bool) -> None:
    callback = ProgressCallback(console=make_console(terminal=terminal))
    state = make_state(is_world_process_zero=False)
    train(callback, state, clock)
    callback.on_train_end(None, state, None)
    callback.close()
    assert written(callback) == ""


def test_no_thread_is_started_and_streams_come_back(clock: Clock) -> None:
    streams, threads = (sys.stdout, sys.stderr), threading.active_count()
    callback = ProgressCallback(console=make_console(terminal=True))
    train(callback, make_state(), clock, until=10)
    assert threading.active_count() == threads
    callback.close()
    callback.close()
    assert (sys.stdout, sys.stderr) == streams


def test_nothing_logged_draws_nothing(clock: Clock) -> None:
    callback = ProgressCallback(console=make_console(terminal=False))
    callback.on_log(None, make_state(), None, logs={"epoch": 1.0, "train_runtime": 3.0, "train_loss": 0.5})
    callback.on_log(None, make_state(), None)
    assert written(callback) == ""


FAILING = """
import sys, time
from types import SimpleNamespace
from maquette.training.progress import ProgressCallback

callback = ProgressCallback()
state = SimpleNamespace(global_step=0, max_steps=9, epoch=0.0, num_train_epochs=1, is_world_process_zero=True)
try:
    callback.on_train_begin(None, state, None)
    print("the program speaks")
    for step in range(1, 6):
        state.global_step = step
        callback.on_step_end(None, state, None)
    raise RuntimeError("the run failed")
finally:
    callback.close()
"""


def in_terminal(code: str, folder: Path) -> str:
    """Run Python code in a terminal of 80 columns, and give everything that it wrote there."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    pty = pytest.importorskip("pty", reason="a terminal is made with pty, which this system does not have")
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    with subprocess.Popen([sys.executable, "-W", "error", str(script)], env=env, **streams):
        os.close(slave)
        pieces = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody is at the other end any more
            while piece := os.read(master, 65536):
                pieces += piece
    os.close(master)
    return pieces.decode()


def test_a_run_that_fails_leaves_a_whole_screen(tmp_path: Path) -> None:
    """Read from a real terminal: the bar, then the traceback below it, and a cursor."""
    screen = Terminal(in_terminal(FAILING, tmp_path))
    lines = screen.text.splitlines()
    assert screen.cursor
    assert screen.count("Training ━") == 1
    assert lines[0] == "the program speaks"
    assert lines[1].startswith("Training ━") and " 5/9 " in lines[1]
    assert lines[-1] == "RuntimeError: the run failed"
    assert "Traceback (most recent call last):" in lines


def test_rich_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(MissingPackageError, match=r"maquette\[train\]"):
        ProgressCallback()


def test_importing_it_brings_no_rich(run_fresh: Callable[..., str]) -> None:
    assert run_fresh("import sys, maquette.training.progress; print('rich' in sys.modules)").strip() == "False"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (5e-5, "5e-5"),
        (4.167e-05, "4.167e-5"),
        (12345.6, "12,346"),
        (3.0, "3"),
        (2.5e12, "2.5e12"),
        (float("nan"), "NaN"),
        (float("-inf"), "-∞"),
        (True, "True"),
        ("word", "word"),
    ],
)
def test_numbers_are_short(value: Any, text: str) -> None:
    assert show_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (360000, "100:00:00")]
)
def test_durations_are_read_as_times(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
