"""How far a training run is, while it runs: a live bar in a terminal or notebook, plain lines in a log file."""

import importlib.util
import sys
import time
from collections.abc import Mapping
from typing import Any

from maquette.errors import MissingPackageError
from maquette.training.callbacks import TrainerCallback
from maquette.training.report.figures import EVALUATION, read_results, show_duration, show_number

REFRESHES = 10  # of the screen in a second, at most


class ProgressCallback(TrainerCallback):
    """Shows step, epoch, loss, evaluation results, speed and time left of a run, on the first process alone.

    In a terminal or a notebook one bar is redrawn in place, and evaluation results stay above it. Anywhere else, such
    as in a log file, each event that is logged becomes one line. Both go to the standard error stream.

    The bar is drawn by the steps themselves and not by a thread, because loaders of data fork the process.

    Args:
        console: a `rich.console.Console` to draw on instead.

    Raises:
        MissingPackageError: rich is not installed.
    """

    def __init__(self, *, console: Any = None) -> None:
        try:
            from rich.console import Console
        except ImportError:
            raise MissingPackageError("A progress bar needs rich. Run: pip install 'maquette[train]'.") from None
        self.console = console or Console(stderr=True)
        self._screen: _Screen | None = None
        self._pace = _Pace()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar where the run starts, which is not at 0 where it is resumed."""
        self.close()
        self._pace = _Pace(state.global_step)
        if state.is_world_process_zero:
            self._open().begin(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self._pace.step(state.global_step)
        if self._screen:
            self._screen.advance(state, self._pace)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Show what was logged: in the bar, or as a line."""
        results = read_results(logs or {})
        if not state.is_world_process_zero or not results:
            return
        is_evaluation = any(name.startswith(EVALUATION) for name in results)
        is_live = self._screen is not None and self._screen.is_live
        if is_evaluation or not is_live:
            line = self._line(state, results, is_evaluation=is_evaluation)
            self.console.print(line, soft_wrap=not is_live, highlight=False, markup=False, emoji=False)
        if self._screen:
            self._screen.values.update({name: show_number(value) for name, value in results.items()})
            self._screen.draw()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar of an evaluation, which is below that of the training."""
        if state.is_world_process_zero:
            self._open().predict(_length(kwargs.get("eval_dataloader")))

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the evaluation's bar away; evaluating takes no part in the speed of training."""
        self._end_prediction()

    def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the prediction's bar away."""
        self._end_prediction()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the seconds of saving out of the speed of training."""
        self._pace.rest()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the bar as it is last."""
        self.close()

    def close(self) -> None:
        """Give the screen back; to be called however a run ends, any number of times."""
        if self._screen:
            self._screen.stop()
        self._screen = None

    def _open(self) -> "_Screen":
        self._screen = self._screen or _Screen(self.console)
        return self._screen

    def _end_prediction(self) -> None:
        self._pace.rest()
        if self._screen:
            self._screen.end_prediction()
            if not self._screen.is_training:
                self.close()

    def _line(self, state: Any, results: Mapping[str, float], *, is_evaluation: bool) -> str:
        share = f" ({state.global_step / state.max_steps:.0%})" if state.max_steps > 0 else ""
        parts = [f"step {state.global_step:,}{_of(state.max_steps)}{share}", _epoch(state)]
        parts += [f"{name} {show_number(value)}" for name, value in results.items()]
        if not is_evaluation:
            parts += self._pace.phrases(state.global_step, state.max_steps)
        return "  ".join(part for part in parts if part)


class _Pace:
    """The speed of training in the seconds that were spent on it."""

    def __init__(self, step: int = 0) -> None:
        self.first = self.last = step
        self.seconds = 0.0
        self.rest()

    def rest(self) -> None:
        """Begin to count again from now on."""
        self.since = time.perf_counter()

    def step(self, step: int) -> None:
        now = time.perf_counter()
        self.seconds += now - self.since
        self.since, self.last = now, step

    @property
    def speed(self) -> float:
        """Steps per second; 0 where none was made."""
        return (self.last - self.first) / self.seconds if self.seconds else 0.0

    def phrases(self, step: int, steps: int) -> list[str]:
        if not self.speed:
            return []
        left = [f"{show_duration((steps - step) / self.speed)} left"] if step < steps else []
        return [_rate(self.speed), *left]


class _Screen:
    """The bars, where they can be redrawn; nothing is drawn on a console that only takes lines."""

    def __init__(self, console: Any) -> None:
        in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self.is_live = bool(console.is_interactive or in_notebook)
        self.is_training = False
        self.values: dict[str, str] = {}
        self._training: Any = None
        self._prediction: Any = None
        self._epoch = ""
        self._drawn = 0.0
        if self.is_live:
            self._bars = _bars(console)
            self._live = _live(console, self._render)
            self._live.start()

    def begin(self, state: Any) -> None:
        self.is_training, self._epoch = True, _epoch(state)
        if self.is_live:
            self._training = self._add("Training", state.max_steps, completed=state.global_step)
            self.draw()

    def advance(self, state: Any, pace: _Pace) -> None:
        self._epoch = _epoch(state)
        if self.is_live and self.is_training:
            speed, left = (*pace.phrases(state.global_step, state.max_steps), "", "")[:2]
            self._bars.update(self._training, completed=state.global_step, speed=speed, left=left)
            self._draw_sometimes()

    def predict(self, steps: int) -> None:
        if not self.is_live:
            return
        if self._prediction is None:
            self._prediction = self._add("Evaluating", steps)
        self._bars.advance(self._prediction)
        self._draw_sometimes()

    def end_prediction(self) -> None:
        if self.is_live and self._prediction is not None:
            self._bars.remove_task(self._prediction)
            self._prediction = None
            self.draw()

    def draw(self) -> None:
        if self.is_live:
            self._drawn = time.perf_counter()
            self._live.refresh()

    def stop(self) -> None:
        if self.is_live:
            self._live.stop()

    def _add(self, title: str, steps: int, *, completed: int = 0) -> Any:
        """Add a bar; of 0 steps or fewer it is not known how many they are."""
        total = steps if steps > 0 else None
        return self._bars.add_task(title, total=total, completed=completed, of=_of(steps), speed="", left="")

    def _draw_sometimes(self) -> None:
        if time.perf_counter() - self._drawn >= 1 / REFRESHES:
            self.draw()

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        facts = [self._epoch, *(f"{name} {value}" for name, value in self.values.items())]
        return Group(self._bars, Text("  ".join(fact for fact in facts if fact), style="dim"))


def _bars(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:,.0f}{task.fields[of]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=console,
        auto_refresh=False,
        expand=True,
    )


def _live(console: Any, render: Any) -> Any:
    """Take over the console; what the program prints comes out above the bars, unless it goes elsewhere."""
    from rich.live import Live

    return Live(
        console=console,
        get_renderable=render,
        auto_refresh=False,
        redirect_stdout=sys.stdout.isatty() or console.is_jupyter,
        redirect_stderr=True,
    )


def _rate(speed: float) -> str:
    return f"{speed:.2f} steps/s" if speed >= 1 else f"{1 / speed:.2f} s/step"


def _of(steps: int) -> str:
    return f"/{steps:,}" if steps > 0 else ""


def _epoch(state: Any) -> str:
    if state.epoch is None:
        return ""
    whole = f"/{state.num_train_epochs:g}" if state.num_train_epochs else ""
    return f"epoch {state.epoch:.2f}{whole}"


def _length(loader: Any) -> int:
    try:
        return len(loader)
    except TypeError:  # nobody knows before its end, or it was not given
        return 0
