"""The curves of a run, from its log: which lines belong into one chart, and few enough points to draw."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maquette.training.report.figures import EVALUATION, read_results

MOST_POINTS = 1_000  # of one line
ALL_POINTS = 10_000  # of a page
TITLES = {"loss": "Loss", "learning_rate": "Learning rate", "grad_norm": "Gradient norm"}
LAST = ("learning_rate", "grad_norm")  # after what says how good the model is

Point = tuple[int, float]  # a step, and the value there; NaN and infinities are values too


@dataclass(frozen=True)
class Line:
    """One curve; `label` says what it is among the others of its chart."""

    label: str
    points: tuple[Point, ...]

    @property
    def bad(self) -> list[Point]:
        """The points that are no finite number."""
        return [point for point in self.points if not _is_finite(point)]


@dataclass(frozen=True)
class Chart:
    """Curves that are read together."""

    title: str
    lines: tuple[Line, ...]


def read_charts(history: Sequence[Mapping[str, Any]], throughput: Iterable[tuple[int, float]] = ()) -> list[Chart]:
    """Sort everything that was logged into charts, each value and its evaluation together, the losses first."""
    found: dict[str, dict[int, float]] = {}
    for place, entry in enumerate(history, 1):
        for name, value in read_results(entry).items():
            found.setdefault(name, {})[int(entry.get("step", place))] = value
    groups: dict[str, dict[str, dict[int, float]]] = {"loss": {}}
    for name, values in found.items():
        group, label = _place(name, found)
        groups.setdefault(group, {})[label] = values
    order = [*(name for name in groups if name not in LAST), *(name for name in LAST if name in groups)]
    charts = [Chart(_title(name), _lines(groups[name])) for name in order if groups[name]]
    if points := dict(throughput):
        charts.append(Chart("Throughput", _lines({"samples per second": points})))
    return charts


def thin(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """Keep at most `most` points: of every stretch the lowest and the highest, the first and the last of all.

    Spikes are seen that every n-th point would miss; what is no finite number stays, one of a stretch.
    """
    if len(points) <= most:
        return tuple(points)
    count = max(1, (most - 2) // 3)
    inner, kept = range(1, len(points) - 1), {0, len(points) - 1}
    for part in range(count):
        stretch = inner[part * len(inner) // count : (part + 1) * len(inner) // count]
        finite = sorted((place for place in stretch if _is_finite(points[place])), key=lambda place: points[place][1])
        kept.update(finite[:1], finite[-1:], [place for place in stretch if not _is_finite(points[place])][:1])
    return tuple(points[place] for place in sorted(kept))


def thin_all(charts: Sequence[Chart]) -> list[Chart]:
    """Thin every line, so that a page of many charts stays small too."""
    count = sum(len(chart.lines) for chart in charts)
    most = min(MOST_POINTS, max(50, ALL_POINTS // max(1, count)))
    return [
        Chart(chart.title, tuple(Line(line.label, thin(line.points, most)) for line in chart.lines)) for chart in charts
    ]


def _place(name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """Name the chart that a value belongs to, and what it is called there."""
    if not name.startswith(EVALUATION):
        return name, "training" if name not in LAST else TITLES[name].lower()
    plain = name.removeprefix(EVALUATION)
    if plain.endswith("_loss") and "eval_loss" not in found:  # one of several evaluation sets
        return "loss", f"evaluation, {plain.removesuffix('_loss')}"
    return plain, "evaluation"


def _title(name: str) -> str:
    return TITLES.get(name) or name[:1].upper() + name[1:].replace("_", " ")


def _lines(values: Mapping[str, Mapping[int, float]]) -> tuple[Line, ...]:
    return tuple(Line(label, tuple(sorted(points.items()))) for label, points in values.items())


def _is_finite(point: Point) -> bool:
    return math.isfinite(point[1])
