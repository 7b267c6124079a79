"""`check`: the conformance kit on a target, and what of it stands for a purpose."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from maquette.errors import UnknownNameError, did_you_mean
from maquette.testing.halves import half_of
from maquette.testing.model import check_model
from maquette.testing.report import ConformanceError, Report
from maquette.workshop.targets import Target, open_target

RUNS = ("construction", "forward", "determinism")
# What has to hold for a purpose; each with what it rests on.
PURPOSES = {
    "export": (*RUNS, "batch", "padding", "buffers", "export"),
    "compile": (*RUNS, "batch", "padding", "compile"),
    "distributed": (
        *("construction", "seed", "from_config", "forward", "determinism", "reload", "ties", "buffers", "pickle"),
        *("half_precision", "loss", "gradients", "checkpointing", "fresh_process"),
    ),
}


@dataclass(frozen=True)
class Examination:
    """What the conformance kit found about a target."""

    target: Target
    report: Report

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.report.failed

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        report = self.report
        return {
            "target": self.target.name,
            "model_class": self.target.model_class.__name__,
            "config": self.target.config.to_diff_dict(),
            "passed": list(report.passed),
            "failed": {
                name: [{"what": fault.what, "fix": fault.fix} for fault in faults]
                for name, faults in report.failed.items()
            },
            "not_applicable": dict(report.not_applicable),
        }


def check(
    target: Any,
    *,
    purpose: str | None = None,
    only: Iterable[str] | None = None,
    skip: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    trust_remote_code: bool | str | None = None,
    tolerance: float = 1e-4,
    **places: Any,
) -> Examination:
    """Put the conformance kit to a target; generation is part of it.

    The model is built with fresh weights about twenty times, so choose a small configuration for a large model.

    Args:
        target: as in `open_target`: a folder, a repository of the Hub, `"module:Class"`, or a class.
        purpose: "export", "compile" or "distributed" asks only what that needs.
        only, skip, tolerance: as in `maquette.testing.check_model`.
        settings: fields of the configuration to change.
        auto_class, trust_remote_code, places: as in `open_target`.

    Raises:
        UnknownNameError: there is no such purpose or check.
        MaquetteError: there is no such target; see `open_target`.
    """
    if purpose is not None and purpose not in PURPOSES:
        raise UnknownNameError(
            f"Nothing is checked for {purpose!r}.{did_you_mean(purpose, PURPOSES)} Purposes are: {', '.join(PURPOSES)}."
        )
    found = open_target(target, settings=settings, auto_class=auto_class, trust_remote_code=trust_remote_code, **places)
    chosen = None if only is None else [only] if isinstance(only, str) else list(only)
    if purpose is not None:
        chosen = [*_needed(purpose, found.model_class), *(chosen or ())]
    try:
        report = check_model(found.model_class, found.config, only=chosen, skip=skip, tolerance=tolerance)
    except ConformanceError as error:
        report = error.report
    return Examination(found, report)


def _needed(purpose: str, model_class: Any) -> list[str]:
    """List the checks for a purpose, those that the model's framework has.

    Raises:
        UnknownNameError: the very thing is not checked in that framework.
    """
    half = half_of(model_class)
    there = {check.name for check in importlib.import_module(f"maquette.testing.{half}").CHECKS}
    if purpose in ("export", "compile") and purpose not in there:
        raise UnknownNameError(f"{model_class.__name__} is of {half!r}, where {purpose!r} is not checked.")
    return [name for name in PURPOSES[purpose] if name in there]
