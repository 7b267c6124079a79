"""What the commands share: their arguments, how answers are written, and what an exit code means."""

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from maquette.cli.trust_report import Line, show
from maquette.storage.json_values import encode_floats, to_plain

WIDTH = 120  # of what is not written to a terminal
NAMED = re.compile(r" *\w+( \w+)* {2,}(?=\S)")  # a name, and its text in a column of its own
NO = 1  # the exit code of a command that could do its work, and whose answer is no

TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A folder, a repository of the Hub, or module:Class.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the answer as JSON.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a field of the configuration; several times."),
]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="AUTOCLASS", help="Which class of the folder's architecture.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that comes with it (maquette trust shows it).")
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")]


def read_settings(given: Iterable[str] | None) -> dict[str, Any]:
    """Read fields given as `NAME=VALUE`; a value is JSON, or else the text as it is.

    Raises:
        typer.BadParameter: no `=` stands in one.
    """
    found: dict[str, Any] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"{one!r} is no NAME=VALUE.", param_hint="--set")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def answer(result: Mapping[str, Any], shown: Iterable[RenderableType | Line], *, as_json: bool) -> None:
    """Write the answer of a command: as JSON, or as what people read.

    Args:
        result: all of it, as plain data.
        shown: lines, each a style and a text, and tables.
        as_json: what the user asked for.
    """
    if as_json:
        write_json(result)
        return
    console = make_console()
    for part in shown:
        if isinstance(part, tuple):
            style, text = part
            console.print(Text(_wrap(show(text), console.width), style=style))
        else:
            console.print(part)


def _wrap(text: str, width: int) -> str:
    """Break a long line so that what follows stands below the text, not below the name in front of it."""
    if "\n" in text or cell_len(text) <= width:
        return text
    named = NAMED.match(text)
    indent = named.end() if named else len(text) - len(text.lstrip()) + 2
    if indent > width // 2:
        return text
    lines = textwrap.wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def write_json(result: Mapping[str, Any]) -> None:
    """Write one JSON object, which any terminal and any reader takes."""
    plain = to_plain(result, "answer", lambda value, _: show(value) if isinstance(value, str) else str(value))
    print(json.dumps(encode_floats(plain), indent=2, allow_nan=False))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str = "") -> Table:
    """Lay rows out as a table. Texts are shown as they are: nothing in them is obeyed.

    A column whose name ends in `>` is set to the right.
    """
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.removesuffix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(show(cell)) for cell in row))
    return table


def make_console() -> Console:
    """Give the console that answers go to: as wide as the terminal, `WIDTH` where there is none."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def say_no() -> None:
    """End with the exit code of a command whose answer is no."""
    raise typer.Exit(NO)
