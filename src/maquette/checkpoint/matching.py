"""Names of a file matched to a model's: what fits where, what is missing or too much, and whether that may pass."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from maquette.checkpoint.misfit import Misfit
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

    assigned: dict[str, str] = field(default_factory=dict)  # names of the model → names of the file
    names: dict[str, str] = field(default_factory=dict)  # names of the file → what they would be in the model
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
    checkpoint: Mapping[str, Shape], expected: ExpectedParameters, *, prefix: str, ignored: Iterable[str] = ()
) -> LoadReport:
    """Find for every tensor of a checkpoint its place in a model.

    Names fit as they are, or under another spelling of the same parameter, or with the base model's name put before
    them or taken away (a base model's checkpoint in a model with a head, and the other way round), whichever of the
    three fits most.

    Args:
        checkpoint: the shapes in the file.
        expected: what the model wants.
        prefix: the attribute under which a model with a head keeps its base model, `base_model_prefix`.
        ignored: patterns (regular expressions) of tensors that may be in the file without being wanted.
    """
    report = LoadReport()
    failed = set()
    report.names = _fit_prefix(checkpoint, expected, prefix)
    for key in sorted(checkpoint):
        name = report.names[key]
        slot = expected.aliases.get(name, name)
        wanted = expected.shapes.get(slot)
        if slot not in expected.shapes and not expected.lazy(name):
            if not any(re.search(pattern, key) for pattern in ignored):
                report.unexpected.append(key)
        elif wanted is not None and wanted != checkpoint[key]:
            report.mismatched.append((key, checkpoint[key], wanted))
            failed.add(slot)
        elif slot in report.assigned:
            report.conflicts.append((report.assigned[slot], key))
        else:
            report.assigned[slot] = key
    report.missing = [name for name in expected.shapes if name not in report.assigned and name not in failed]
    return report


def _fit_prefix(checkpoint: Mapping[str, Shape], expected: ExpectedParameters, prefix: str) -> dict[str, str]:
    """Give every name of a file the model's: as it is, or with the prefix put before it or taken away."""
    wanted = expected.shapes.keys() | expected.aliases.keys()
    start = f"{prefix}."

    def add(key: str) -> str:
        return start + key if _spelling(start + key, wanted) in wanted else key

    def fit(names: Mapping[str, str]) -> tuple[int, int]:
        named = [(key, expected.aliases.get(name, name)) for key, name in names.items() if name in wanted]
        return sum(expected.shapes.get(slot) in (None, checkpoint[key]) for key, slot in named), len(named)

    best = {key: _spelling(key, wanted) for key in checkpoint}
    best_fit = fit(best)
    if not prefix or best_fit[0] == len(checkpoint):
        return best
    for rename in (add, lambda key: key.removeprefix(start)):
        names = {key: _spelling(rename(key), wanted) for key in checkpoint}
        if (found := fit(names)) > best_fit:
            best, best_fit = names, found
    return best


def _spelling(name: str, wanted: Set[str]) -> str:
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

    def judge(
        self,
        report: LoadReport,
        *,
        model: str,
        label: str,
        prefix: str,
        expected: ExpectedParameters,
        found: Mapping[str, Shape],
    ) -> None:
        """Let the report pass; or raise one error that lists everything.

        Raises:
            CheckpointError: shapes differ, or tensors are missing that no new head explains.
        """
        mismatched = [] if self.ignore_mismatched_sizes else report.mismatched
        missing = [] if self.strict is False else self._unexplained(report, prefix)
        unwanted = report.unexpected if self.strict else []
        if mismatched or missing or unwanted:
            misfit = Misfit(
                mismatched=mismatched,
                missing={name: expected.shapes[name] for name in missing},
                unexpected={name: found[name] for name in report.unexpected},
                fitting=len(report.assigned),
                wanted=len(expected.shapes),
                refuses_unexpected=bool(unwanted),
            )
            raise CheckpointError(misfit.describe(model=model, label=label))

    def _unexplained(self, report: LoadReport, prefix: str) -> list[str]:
        """Leave out what the caller allows, and heads that the file never had a tensor of."""
        missing = [n for n in report.missing if not any(fnmatchcase(n, pattern) for pattern in self.allow_missing)]
        if not self.strict:
            missing = [n for n in missing if not any(re.search(pattern, n) for pattern in self.expected_missing)]
        if self.strict or not prefix or not any(name.startswith(f"{prefix}.") for name in report.assigned):
            return missing
        known = {name.partition(".")[0] for name in report.names.values()}
        return [n for n in missing if n.startswith(f"{prefix}.") or n.partition(".")[0] in known]


def announce(report: LoadReport, *, model: str, label: str, shapes: Mapping[str, Any]) -> None:
    """Say in one table what a load initialised anew and what it left unused; silent where everything fits."""
    new = [*report.missing, *(name for name, _, _ in report.mismatched)]
    rows = [f"new     {name}  {tuple(shapes.get(name) or ())}" for name in new]
    rows += [f"unused  {name}" for name in report.unexpected]
    if rows:
        advice = " What is new is not trained yet." if new else ""
        logger.warning("%s does not take all its weights from %r.%s%s", model, label, advice, bullets(rows))
