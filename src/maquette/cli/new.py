"""`maquette new`: a package with an architecture of one's own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from maquette.cli.frame import JsonOption, answer
from maquette.cli.trust_report import Line
from maquette.workshop.packages import KINDS, make_package


def new(
    name: Annotated[str, typer.Argument(help="Of the package, such as night-jar.")],
    like: Annotated[str, typer.Option(metavar="|".join(KINDS), help="What it is to be like.")] = "decoder",
    folder: Annotated[Path | None, typer.Option(help="Where; a folder of that name, unless given.")] = None,
    frameworks: Annotated[str, typer.Option(help="torch, and keras or flax besides: torch,keras,flax.")] = "torch",
    as_json: JsonOption = False,
) -> None:
    """Make a package that installs: configuration, model, card, tests, and a training that learns."""
    chosen = [each.strip() for each in frameworks.split(",") if each.strip()]
    written = make_package(name, like=like, folder=folder, frameworks=chosen)
    place = Path(os.path.commonpath([path.parent for path in written]))
    result = {"name": name, "like": like, "folder": str(place), "files": [str(path) for path in written]}
    answer(result, _lines(place, written), as_json=as_json)


def _lines(place: Path, written: list[Path]) -> Iterator[Line]:
    yield "bold", f"{place} is made."
    for path in written:
        yield "", f"  {path.relative_to(place)}"
    yield "", ""
    yield "bold", "Next:"
    yield "", f"  cd {place}"
    yield "", "  pip install -e '.[dev]'"
    yield "", "  pytest"
    yield "", "  python train.py"
