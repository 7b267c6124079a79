"""`maquette graft`: weights of another architecture, file or library, brought into a model."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from maquette.cli.frame import (
    AsOption,
    JsonOption,
    SetOption,
    TargetArgument,
    TrustOption,
    answer,
    make_table,
    read_settings,
    say_no,
)
from maquette.cli.trust_report import Line

COLORS = {"certain": "green", "likely": "yellow", "answered": "cyan"}
MOST = 12  # names that are listed


def graft(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A file or folder of weights, a repository, or timm:NAME.")
    ],
    target: TargetArgument,
    folder: Annotated[Path | None, typer.Argument(help="A new or an empty folder for the model; else nothing.")] = None,
    map_file: Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Use this map.")] = None,
    answers: Annotated[
        list[str] | None, typer.Option("--answer", metavar="NAME=CHOICE", help="Answer a question; several times.")
    ] = None,
    fresh: Annotated[
        list[str] | None,
        typer.Option("--fresh", metavar="PATTERN", help="Tensors that may keep fresh weights, as classifier.*."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="MODULE:FUNCTION", help="Runs the original on inputs, to compare.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Inputs to compare on: JSON or safetensors.")
    ] = None,
    settings: SetOption = None,
    auto_class: AsOption = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring weights into a model of other names or another shape. Exits with 1 where something is missing or open."""
    import torch

    from maquette.workshop.diff.survey import read_inputs
    from maquette.workshop.graft import graft as bring
    from maquette.workshop.targets import import_named

    given = _read_answers(answers)
    options: dict[str, Any] = {"map": map_file, "fresh": tuple(fresh or ()), "settings": read_settings(settings)}
    options |= {"auto_class": auto_class, "trust_remote_code": trust_remote_code or None}
    if run is not None:
        options["run"] = import_named(run)
    if inputs is not None:
        options["inputs"] = {name: torch.from_numpy(array) for name, array in read_inputs(inputs).items()}
    found = bring(checkpoint, target, folder, answers=given, **options)
    while found.map.questions and not as_json and sys.stdin.isatty():
        question = found.map.questions[0]
        typer.echo(f"{question.text}\n" + "\n".join(f"  {n}  {one}" for n, one in enumerate(question.choices, 1)))
        number = typer.prompt("Number", type=int)
        if 1 <= number <= len(question.choices):
            given[question.name] = question.choices[number - 1]
            found = bring(checkpoint, target, folder, answers=given, **options)
    answer(found.to_dict(), _lines(found), as_json=as_json)
    if not found.is_whole:
        say_no()


def _read_answers(given: Iterable[str] | None) -> dict[str, str]:
    found = {}
    for one in given or ():
        name, equals, choice = one.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"{one!r} is no NAME=CHOICE.", param_hint="--answer")
        found[name.strip()] = choice.strip()
    return found


def _lines(found: Any) -> Iterator[Table | Line]:
    rows = []
    for rule, count in found.map.fold():
        sure = Text(rule.confidence, style=COLORS[rule.confidence])
        rows.append((rule.target, ", ".join(rule.sources), rule.how, f"{count:,}", sure))
    yield make_table(("model", "from", "how", "tensors>", "confidence"), rows)
    for question in found.map.questions:
        yield "bold yellow", question.text
        yield "", f"  --answer '{question.name}=…': {', '.join(question.choices[:MOST])}"
    if found.missing:
        yield "bold red", f"{len(found.missing)} tensors of the model have no source:"
        yield from _names(found.missing)
        yield "", "  --fresh PATTERN lets them keep fresh weights."
    if kept := [name for name in found.map.fresh if name not in found.missing]:
        yield "", f"{len(kept)} tensors of the model stay fresh:"
        yield from _names(kept)
    if found.map.unused:
        yield "", f"{len(found.map.unused)} tensors of the checkpoint are not used:"
        yield from _names(found.map.unused)
    yield from (("yellow", note) for note in found.notes)
    if found.differs:
        yield "bold red", f"Outputs lie {found.apart:.1e} apart ({found.compared}): nothing was written."
    elif found.is_whole:
        apart = "not compared" if found.apart is None else f"outputs lie {found.apart:.1e} apart"
        yield ("green" if found.apart is not None else "yellow"), f"{apart}: {found.compared}"
    if found.folder is not None:
        yield "bold", f"Written to {found.folder}, with its map."


def _names(names: list[str]) -> Iterator[Line]:
    yield from (("", f"  {name}") for name in names[:MOST])
    if len(names) > MOST:
        yield "", f"  … and {len(names) - MOST} more"
