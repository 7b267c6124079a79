"""`maquette try`: what a model makes of one input, or a conversation with it."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from maquette.cli.frame import (
    JsonOption,
    RevisionOption,
    TargetArgument,
    TrustOption,
    answer,
    make_table,
    read_settings,
)
from maquette.cli.trust_report import Line, show
from maquette.workshop.first_look import FirstLook, has_chat, look, open_pipeline

MOST = 12  # rows of a table


def try_out(
    target: TargetArgument,
    given: Annotated[str | None, typer.Argument(metavar="[TEXT|IMAGE|SOUND]", help="What the model is given.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Of the pipeline; what the model was made for, unless given.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Of the pipeline's call; several times.")
    ] = None,
    trust_remote_code: TrustOption = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give one input to a model, for a first look; a decoder with a chat template answers line by line."""
    settings = read_settings(options)
    pipe = open_pipeline(target, task=task, trust_remote_code=trust_remote_code or None, revision=revision)
    if given is None and has_chat(pipe) and not as_json:
        _talk(pipe, settings)
        return
    found = look(pipe, target, given, settings)
    answer(found.to_dict(), _lines(found), as_json=as_json)


def _talk(pipe: Any, settings: dict[str, Any]) -> None:
    """Answer what is said, line by line, until an empty line or the end."""
    messages: list[dict[str, Any]] = []
    while True:
        print("> ", end="", flush=True)
        said = sys.stdin.readline().strip()
        if not said:
            print()
            return
        messages = pipe([*messages, {"role": "user", "content": said}], **settings)[0]["generated_text"]
        print(show(str(messages[-1]["content"])))


def _lines(found: FirstLook) -> Iterator[Table | Line]:
    yield "bold", f"{found.target}: {found.task}"
    yield "dim", found.given
    records = found.answer if isinstance(found.answer, list) else [found.answer]
    if records and all(isinstance(each, dict) and len(each) > 1 for each in records):
        names = [name for name, value in records[0].items() if isinstance(value, str | int | float)]
        rows = [[_show(record.get(name)) for name in names] for record in records[:MOST]]
        yield make_table(names, rows)
    elif records and isinstance(records[0], dict):
        yield from (("", show(str(value))) for each in records[:MOST] for value in each.values())
    elif isinstance(found.answer, list):
        numbers = np.asarray(found.answer)
        yield "", f"numbers of shape {numbers.shape}, from {numbers.min():.4g} to {numbers.max():.4g}"
    else:
        yield "", show(str(found.answer))


def _show(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
