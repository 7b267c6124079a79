"""The evaluations of a run, from its log, and which of them was the best."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from maquette.training.report.figures import EVALUATION, read_results


@dataclass(frozen=True)
class Evaluation:
    """The results of all evaluation sets after one step, by the names they were logged with."""

    step: int
    epoch: float | None
    results: dict[str, float]


@dataclass(frozen=True)
class Evaluations:
    """All evaluations in order; the best is the one with the lowest or highest `metric`."""

    rows: list[Evaluation]
    metrics: list[str]
    metric: str
    greater_is_better: bool

    @classmethod
    def read(cls, history: Iterable[Mapping[str, Any]], arguments: Mapping[str, Any]) -> "Evaluations":
        """Find the evaluations of a log, and what the arguments call the best.

        Where `metric_for_best_model` says nothing that was measured it is the loss, or else the first metric; where
        `greater_is_better` says nothing, less of a loss is better, and more of anything else.
        """
        rows: dict[int, Evaluation] = {}
        for place, entry in enumerate(history, 1):
            results = {name: value for name, value in read_results(entry).items() if name.startswith(EVALUATION)}
            if results:
                step = int(entry.get("step", place))
                rows.setdefault(step, Evaluation(step, entry.get("epoch"), {})).results.update(results)
        metrics = list(dict.fromkeys(name for row in rows.values() for name in row.results))
        wanted = EVALUATION + str(arguments.get("metric_for_best_model") or "loss").removeprefix(EVALUATION)
        metric = next((name for name in (wanted, "eval_loss", *metrics) if name in metrics), "")
        greater = arguments.get("greater_is_better") if metric == wanted else None
        return cls(
            sorted(rows.values(), key=lambda row: row.step),
            metrics,
            metric,
            bool(greater) if greater is not None else not metric.endswith("loss"),
        )

    @property
    def best(self) -> Evaluation | None:
        """The first of the best; None where nothing was measured that is a finite number."""
        finite = [row for row in self.rows if math.isfinite(row.results.get(self.metric, math.nan))]
        choose = max if self.greater_is_better else min
        return choose(finite, key=lambda row: row.results[self.metric], default=None)

    @staticmethod
    def plain(metric: str) -> str:
        """Name a metric without what all of them begin with."""
        return metric.removeprefix(EVALUATION).replace("_", " ")
