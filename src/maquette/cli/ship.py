"""`maquette ship`: a model for another engine, opened and compared there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

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
from maquette.cli.trust_report import Line


def ship(
    target: TargetArgument,
    folder: Annotated[Path, typer.Argument(help="A new or an empty folder.")],
    to: Annotated[str, typer.Option(metavar="ENGINE", help="onnx, transformers or saved-model.")],
    python: Annotated[
        Path | None, typer.Option(help="An interpreter that has Transformers; this one, unless given.")
    ] = None,
    settings: SetOption = None,
    auto_class: AsOption = None,
    trust_remote_code: TrustOption = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a model for another engine, open it there in a fresh process, and compare. Exits with 1 if it differs."""
    from maquette.workshop.ship import ship as bring

    found = bring(
        target,
        folder,
        to=to,
        python=python,
        settings=read_settings(settings),
        auto_class=auto_class,
        trust_remote_code=trust_remote_code or None,
        revision=revision,
    )
    answer(found.to_dict(), _lines(found), as_json=as_json)
    if found.differs:
        say_no()


def _lines(found: Any) -> Iterator[Table | Line]:
    yield "bold", f"{found.model} for {found.to} ({', '.join(f'{n} {v}' for n, v in found.versions.items())})"
    rows = []
    for each in found.compared:
        shapes = ", ".join(f"{name} {' × '.join(map(str, shape))}" for name, shape in each.inputs.items())
        rows.append((shapes, f"{each.apart:.1e}", f"{each.bound:.1e}", each.worst))
    yield make_table(("compared in a fresh process", "apart>", "rounding accounts for>", "output"), rows)
    if fixed := found.about.get("fixed"):
        yield "yellow", f"Fixed, as in the example: {', '.join(fixed)}"
    if found.folder is None:
        yield "bold red", "Outputs differ: nothing was written."
    else:
        yield "green", f"Written to {found.folder}: {', '.join(found.files)}"
