"""Names of a file matched to a model's: what fits where, what is missing or too much, and whether that may pass."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from maquette.checkpoint.reading import Shape
from maquette.errors import CheckpointError, bullets

logger = logging.getLogger(__name__)

# Spellings of one parameter: old checkpoints' layer norms, and weight norm before and after parametrizations.
SYNONYMS = (
    ("gamma", "weight"),
    ("beta", "bias"),
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)


@dataclass
class ExpectedParameters:
    """What a model wants filled: the shape behind every name, and which further names mean the same tensor."""

    shapes: dict[str, Shape | None]  # None: any shape will do (a parameter that is not materialised yet)
    aliases: dict[str, str] = field(default_factory=dict)
    lazy: Callable[[str], bool] = lambda name: False


@dataclass
class LoadReport:
    """What a load did with every name; `as_dict` is what `output_loading_info=True` gives."""

    assigned: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "missing_keys": self.missing,
            "unexpected_keys": self.unexpected,
            "mismatched_keys": self.mismatched,
            "error_msgs": [],
        }


def match(
    checkpoint: Mapping[str, Shape], slots: ExpectedParameters, *, prefix: str, ignored: Iterable[str] = ()
) -> LoadReport:
    """Find for every tensor of a checkpoint its place in a model.

    Names fit as they are, or under another spelling of the same parameter, or with the base model's name put before
    them or taken away (a base model's checkpoint in a model with a head, and the other way round).

    Args:
        checkpoint: the shapes in the file.
        slots: what the model wants.
        prefix: the attribute under which a model with a head keeps its base model, `base_model_prefix`.
        ignored: patterns (regular expressions) of tensors that may be in the file without being wanted.
    """
    report = LoadReport()
    wanted = {*slots.shapes, *slots.aliases}
    rename = _prefix_rule(checkpoint, wanted, prefix)
    for key in sorted(checkpoint):
        name = _spelling(rename(key), wanted)
        slot = slots.aliases.get(name, name)
        if slot not in slots.shapes and not slots.lazy(name):
            if not any(re.search(pattern, key) for pattern in ignored):
                report.unexpected.append(key)
        elif slots.shapes.get(slot) is not None and slots.shapes[slot] != checkpoint[key]:
            report.mismatched.append((key, checkpoint[key], slots.shapes[slot] or ()))
        elif slot in report.assigned:
            report.conflicts.append((report.assigned[slot], key))
        else:
            report.assigned[slot] = key
    failed = {
        slots.aliases.get(name, name) for name in (_spelling(rename(key), wanted) for key, _, _ in report.mismatched)
    }
    report.missing = [name for name in slots.shapes if name not in report.assigned and name not in failed]
    return report


def _prefix_rule(checkpoint: Iterable[str], wanted: set[str], prefix: str) -> Callable[[str], str]:
    """Decide between a file and a model with and without a head, by what their names begin with."""
    start = f"{prefix}."
    if not prefix:
        return lambda key: key
    model_has, file_has = (any(name.startswith(start) for name in names) for names in (wanted, checkpoint))
    if model_has and not file_has:
        return lambda key: start + key if _spelling(start + key, wanted) in wanted else key
    if file_has and not model_has:
        return lambda key: key.removeprefix(start)
    return lambda key: key


def _spelling(name: str, wanted: set[str]) -> str:
    """Respell the last part of a name where the model knows it only under the other spelling."""
    if name in wanted:
        return name
    for old, new in SYNONYMS:
        if name == old or name.endswith(f".{old}"):
            respelled = name[: len(name) - len(old)] + new
            if respelled in wanted:
                return respelled
    return name


@dataclass(frozen=True, kw_only=True)
class Strictness:
    """How much a caller lets differ between a checkpoint and a model."""

    strict: bool | None = None
    allow_missing: tuple[str, ...] = ()
    ignore_mismatched_sizes: bool = False
    expected_missing: tuple[str, ...] = ()

    def also_allowing(self, patterns: Iterable[str]) -> "Strictness":
        """Add the regular expressions in which a model class names weights that need not be saved."""
        return replace(self, expected_missing=(*self.expected_missing, *patterns))

    def judge(self, report: LoadReport, *, model: str, label: str, prefix: str, file_keys: Iterable[str]) -> None:
        """Let the report pass, saying what is new; or raise one error that lists everything.

        Raises:
            CheckpointError: shapes differ, or tensors are missing that no new head explains.
        """
        faults = [f"{name}: {found} in the file, {wanted} in the model" for name, found, wanted in report.mismatched]
        hints = ["pass ignore_mismatched_sizes=True to have these initialised anew"] if faults else []
        if self.ignore_mismatched_sizes:
            faults, hints = [], []
        missing = [] if self.strict is False else self._unexplained(report, prefix, file_keys)
        if missing:
            faults += [f"{name}: not in the file" for name in missing]
            tops = dict.fromkeys(f'"{name.partition(".")[0]}.*"' for name in missing)
            hints.append(f"pass allow_missing=[{', '.join(tops)}] to have these initialised anew")
        if self.strict and report.unexpected:
            faults += [f"{name}: not in the model" for name in report.unexpected]
        if faults:
            raise CheckpointError(
                f"The weights of {label!r} do not fit {model}:{bullets(faults)}"
                + (f"\nIf that is meant, {', and '.join(hints)}." if hints else "")
                + (_list_unused(report) if not self.strict else "")
            )

    def _unexplained(self, report: LoadReport, prefix: str, file_keys: Iterable[str]) -> list[str]:
        """Leave out what the caller allows, and heads that the file never had a tensor of."""
        missing = [n for n in report.missing if not any(fnmatchcase(n, pattern) for pattern in self.allow_missing)]
        if not self.strict:
            missing = [n for n in missing if not any(re.search(pattern, n) for pattern in self.expected_missing)]
        if self.strict or not prefix or not any(name.startswith(f"{prefix}.") for name in report.assigned):
            return missing
        known = {key.partition(".")[0] for key in file_keys}
        return [n for n in missing if n.startswith(f"{prefix}.") or n.partition(".")[0] in known]


def _list_unused(report: LoadReport) -> str:
    return f"\nIn the file, but not in the model:{bullets(report.unexpected[:40])}" if report.unexpected else ""


def announce(report: LoadReport, *, model: str, label: str, shapes: Mapping[str, Any]) -> None:
    """Say in one table what a load initialised anew and what it left unused; silent where everything fits."""
    new = [*report.missing, *(name for name, _, _ in report.mismatched)]
    rows = [f"new     {name}  {tuple(shapes.get(name) or ())}" for name in new]
    rows += [f"unused  {name}" for name in report.unexpected]
    if rows:
        advice = " What is new is not trained yet." if new else ""
        logger.warning("%s does not take all its weights from %r.%s%s", model, label, advice, bullets(rows))
