"""What a run of checks found, and how it says so."""

import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from maquette.errors import MaquetteError, UnknownNameError, bullets, did_you_mean

# Frames of these say nothing about where in the caller's code something went wrong.
FRAMEWORKS = {"torch", "functorch", "keras", "tensorflow", "jax", "jaxlib", "flax", "optree"}
MACHINERY = {*FRAMEWORKS, "msgspec", *sys.stdlib_module_names} - {"__main__"}
KERAS = re.compile(r"Exception encountered when calling .*?\n\n\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)  # what it wraps


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and how to fix it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}{'' if self.fix.endswith(('.', '?')) else '.'}"


@dataclass(frozen=True)
class Unchecked:
    """A part of a check that could not be tried, and why; the rest of the check counts."""

    what: str
    reason: str


class NotApplicableError(Exception):
    """Raised by a check that has nothing to look at; the text is the reason."""


@dataclass(frozen=True)
class Check:
    """A named question to a subject. `run` yields what is wrong; nothing means that all is well.

    Args:
        name: what `skip` and `only` call it.
        run: takes the subject.
        needs: earlier checks; unless they pass, this one would only repeat their faults.
    """

    name: str
    run: Callable[[Any], Iterable[Fault | Unchecked]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What the checks found, by the checks' names; printed as a table."""

    subject: str
    passed: tuple[str, ...] = ()
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [(name, "passed") for name in self.passed]
        rows += [(name, f"not applicable: {reason}") for name, reason in self.not_applicable.items()]
        rows += [(name, f"failed: {fault}") for name, faults in self.failed.items() for fault in faults]
        width = max((len(name) for name, _ in rows), default=0)
        counts = f"{len(self.passed)} passed, {len(self.not_applicable)} not applicable, {len(self.failed)} failed"
        return "\n".join([f"{self.subject}: {counts}", *(f"  {name:{width}}  {result}" for name, result in rows)])


class ConformanceError(MaquetteError, AssertionError):
    """What is wrong with a model or configuration, all of it; `report` has the same by the checks' names."""

    def __init__(self, report: Report) -> None:
        self.report = report
        count = len(report.passed) + len(report.failed)
        groups = (f"\n{name}{bullets(map(str, faults))}" for name, faults in report.failed.items())
        super().__init__(f"{report.subject} fails {len(report.failed)} of {count} checks.{''.join(groups)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


def run_checks(
    title: str,
    checks: Iterable[Check],
    subject: Any,
    *,
    skip: Mapping[str, str] | None = None,
    only: Iterable[str] | None = None,
) -> Report:
    """Put every check to the subject, then speak once.

    Raises:
        ConformanceError: listing every fault of every check.
        UnknownNameError: `skip` or `only` name no check.
        ValueError: a check is to be skipped without a reason.
    """
    checks = tuple(checks)
    left_out = _read_choice({check.name for check in checks}, skip, only)
    run = _Run(left_out)
    for check in checks:
        run.put(check, subject)
    report = Report(title, tuple(run.passed), run.not_applicable, run.failed)
    if report.failed:
        raise ConformanceError(report)
    return report


class _Run:
    """The results so far."""

    def __init__(self, left_out: Callable[[str], str | None]) -> None:
        self.left_out = left_out
        self.passed: list[str] = []
        self.not_applicable: dict[str, str] = {}
        self.failed: dict[str, tuple[Fault, ...]] = {}
        self.blocked: set[str] = set()

    def put(self, check: Check, subject: Any) -> None:
        try:
            found = list(self._ask(check, subject))
        except NotApplicableError as reason:
            self.not_applicable[check.name] = str(reason)
            return
        for part in found:
            if isinstance(part, Unchecked):
                self.not_applicable[f"{check.name}: {part.what}"] = part.reason
        faults = tuple(dict.fromkeys(part for part in found if isinstance(part, Fault)))
        if faults:
            self.failed[check.name] = faults
        else:
            self.passed.append(check.name)

    def _ask(self, check: Check, subject: Any) -> Iterator[Fault | Unchecked]:
        if reason := self.left_out(check.name):
            raise NotApplicableError(reason)
        if failed := [name for name in check.needs if name in self.failed or name in self.blocked]:
            self.blocked.add(check.name)
            raise NotApplicableError(f"needs {' and '.join(failed)} to pass")
        try:
            yield from check.run(subject)
        except NotApplicableError:
            raise
        except Exception as error:
            yield Fault(f"the check {check.name!r} ended in {describe(error)}", "see the message of the error")


def _read_choice(
    names: set[str], skip: Mapping[str, str] | None, only: Iterable[str] | None
) -> Callable[[str], str | None]:
    """Check what the caller leaves out; gives a function from a check's name to the reason for leaving it out."""
    skip, chosen = dict(skip or {}), names if only is None else {*([only] if isinstance(only, str) else only)}
    if unknown := sorted({*skip, *chosen} - names):
        raise UnknownNameError(
            "\n".join(f"There is no check {name!r}.{did_you_mean(name, names)}" for name in unknown)
            + f" The checks are: {', '.join(sorted(names))}."
        )
    if silent := sorted(name for name, reason in skip.items() if not isinstance(reason, str) or not reason.strip()):
        raise ValueError(f"skip: say why, for {', '.join(silent)}: skip={{{silent[0]!r}: 'the reason'}}.")

    def left_out(name: str) -> str | None:
        return f"skipped: {skip[name]}" if name in skip else None if name in chosen else "not among only=…"

    return left_out


def describe(error: BaseException) -> str:
    """Say in one line what an exception is, and which line of the caller's code it comes from."""
    error = _unwrapped(error)
    said = str(error).strip()
    said = wrapped[1] if (wrapped := KERAS.match(said)) else said
    first = re.sub(r"(:?)\n\s*- ", lambda found: ": " if found[1] else "; ", said.split("\n\n")[0])
    text = textwrap.shorten(first.replace("\n", ". "), 400, placeholder=" …")
    return f"{type(error).__name__}: {text}".rstrip(":. ") + _place(error)


def _unwrapped(error: BaseException) -> BaseException:
    """Give the error that Keras was wrapping when it failed at that: it cannot make errors of JAX anew."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__) if error.__traceback__ else [(None, 0)]
    module = str(innermost.f_globals.get("__name__", "")) if innermost else ""
    return error.__context__ if module == "jax._src.errors" and error.__context__ else error


def _place(error: BaseException) -> str:
    """Find the innermost line that belongs to neither Python, nor a framework, nor the library."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        top, own = module.partition(".")[0], module.startswith("maquette.models.")
        generated = frame.f_code.co_filename.startswith("<eval")  # code that a tracer wrote
        if top in MACHINERY or (top == "maquette" and not own) or generated:
            continue
        name = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
        found = f" (at {name}:{line}, in {frame.f_code.co_name})"
    return found
