"""`maquette convert`: weights in other files to safetensors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from maquette.cli.frame import JsonOption, RevisionOption, answer, make_table
from maquette.cli.trust_report import Line
from maquette.workshop.conversion import Conversion
from maquette.workshop.conversion import convert as convert_weights


def convert(
    source: Annotated[str, typer.Argument(help="A file of weights, a folder, or a repository of the Hub.")],
    folder: Annotated[Path, typer.Argument(help="A new or an empty folder.")],
    key: Annotated[str, typer.Option(help="Under which the weights lie in the file.")] = "",
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn pickled weights, or those of Keras and Flax, into safetensors; a child without network reads pickles."""
    found = convert_weights(source, folder, key=key, revision=revision)
    answer(found.to_dict(), _lines(found), as_json=as_json)


def _lines(found: Conversion) -> Iterator[Table | Line]:
    yield "bold", f"{found.tensors} tensors in {found.folder}"
    yield make_table(("file", "is now"), found.files.items())
    if found.calls:
        yield "", f"What the pickle wanted to call (read in a child process, kept from the network by {found.network}):"
        yield from (("", f"  {call}") for call in found.calls)
    if found.left_out:
        yield make_table(("left out", "because it is"), found.left_out.items())
    if found.copied:
        yield "", f"Copied beside: {', '.join(found.copied)}"
