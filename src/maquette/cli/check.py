"""`maquette check`: what holds of a model, what fails, and how to mend it."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from maquette.cli.frame import (
    AsOption,
    JsonOption,
    RevisionOption,
    SetOption,
    TargetArgument,
    TrustOption,
    answer,
    make_table,
    read_settings,
    say_no,
)
from maquette.cli.trust_report import Line, show
from maquette.workshop.checking import Examination
from maquette.workshop.checking import check as examine

LEFT_OUT = "not among only=…"  # what was not asked for is not shown


def check(
    target: TargetArgument,
    only: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="Run this check; several times.")] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK=REASON", help="Leave a check out, and say why; several times.")
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--for", metavar="PURPOSE", help="What export, compile or distributed needs.")
    ] = None,
    settings: SetOption = None,
    auto_class: AsOption = None,
    trust_remote_code: TrustOption = False,
    revision: RevisionOption = None,
    tolerance: Annotated[float, typer.Option(help="The largest difference where a sum is regrouped.")] = 1e-4,
    as_json: JsonOption = False,
) -> None:
    """Run the conformance kit on a model: what holds, what fails, and how to mend it. Exits with 1 if it fails."""
    found = examine(
        target,
        purpose=purpose,
        only=only or None,
        skip=_read_reasons(skip),
        settings=read_settings(settings),
        auto_class=auto_class,
        trust_remote_code=trust_remote_code or None,
        revision=revision,
        tolerance=tolerance,
    )
    answer(found.to_dict(), _lines(found), as_json=as_json)
    if not found.passed:
        say_no()


def _read_reasons(given: list[str] | None) -> dict[str, str]:
    reasons = {}
    for one in given or ():
        name, _, reason = one.partition("=")
        if not reason.strip():
            raise typer.BadParameter(f"{one!r}: say why, as in {name}='it is never done'.", param_hint="--skip")
        reasons[name.strip()] = reason.strip()
    return reasons


def _lines(found: Examination) -> Iterator[Table | Line]:
    report = found.report
    yield "bold", f"{found.target.model_class.__name__} ({found.target.name})"
    rows = [(Text(name), Text("holds", style="green"), "") for name in report.passed]
    rows += [
        (Text(name), Text("fails", style="red"), f"{show(fault.what)}\n→ {show(fault.fix)}")
        for name, faults in report.failed.items()
        for fault in faults
    ]
    absent = {name: reason for name, reason in report.not_applicable.items() if reason != LEFT_OUT}
    rows += [(Text(name), Text("–", style="dim"), reason) for name, reason in absent.items()]
    yield make_table(("check", "", "what, and how to mend it" if report.failed else ""), rows)
    counts = f"{len(report.passed)} hold, {len(report.failed)} fail, {len(absent)} have nothing to look at."
    yield ("red" if report.failed else "green"), counts
