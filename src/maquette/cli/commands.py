"""The commands of `maquette` on the command line; they need the extra `cli`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from maquette.cli.check import check
from maquette.cli.convert import convert
from maquette.cli.diff import diff
from maquette.cli.first_look import try_out
from maquette.cli.graft import graft
from maquette.cli.new import new
from maquette.cli.ship import ship
from maquette.cli.trust_report import Line, Survey, list_approvals, show, split_target
from maquette.cli.xray import xray
from maquette.errors import UntrustedCodeError
from maquette.hub.sources import open_source
from maquette.remote_code.trust import (
    find_lock,
    lock_key,
    read_lock,
    read_trust,
    record_trust,
    revoke,
    trust_file,
    write_lock,
)
from maquette.storage.paths import user_path

app = typer.Typer(
    help="What a person with an architecture of their own does all day, and the trust in code that comes with models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(new)
app.command()(check)
app.command()(xray)
app.command()(diff)
app.command()(convert)
app.command()(graft)
app.command()(ship)
app.command("try")(try_out)


def write(lines: Iterable[Line]) -> None:
    """Write lines as they are: without wrapping, and obeying nothing that stands in them."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for style, text in lines:
        console.print(Text(show(text), style=style))


@app.command()
def trust(
    target: Annotated[str | None, typer.Argument(metavar="REPO[@REVISION]", help="A repository, or a folder.")] = None,
    subfolder: Annotated[str, typer.Option(help="The folder of the repository that is loaded.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Approve the code as it is now, for this user.")] = False,
    lock: Annotated[
        bool, typer.Option("--lock", help="Approve it for everyone in this project: maquette.lock.")
    ] = False,
    digest: Annotated[str, typer.Option(help="Approve only if the code is this one: sha256:…")] = "",
    list_all: Annotated[bool, typer.Option("--list", help="List what is approved.")] = False,
    take_back: Annotated[
        bool, typer.Option("--revoke", help="Take an approval back; with --lock, the team's.")
    ] = False,
) -> None:
    """Show what code a repository brings and what it can do; approve it, or take the approval back. Runs none of it."""
    if sum((approve, list_all, take_back)) > 1 or (lock and (list_all or approve)):
        raise typer.BadParameter("--approve, --lock, --list and --revoke are one at a time (--revoke --lock is one).")
    if list_all:
        write(list_approvals(trust_file(), read_trust()))
        if place := find_lock():
            write(list_approvals(place, read_lock() or {}))
    elif target is None:
        raise typer.BadParameter("Name a repository or a folder, or pass --list.")
    elif take_back:
        _revoke(target, subfolder, shared=lock)
    else:
        _look(target, subfolder, approve, lock, digest)


def _look(target: str, subfolder: str, approve: bool, lock: bool, digest: str) -> None:
    name, revision = split_target(target)
    with open_source(name, revision=revision, subfolder=subfolder or None) as source:
        survey = Survey.take(source)
    if digest and digest.lower() != f"sha256:{survey.package.digest}":
        raise UntrustedCodeError(
            f"The code of {survey.package.label!r} is sha256:{survey.package.digest}, not {digest}. Nothing was "
            "approved."
        )
    if not approve and not lock:
        write(survey.lines())
        return
    write([survey.head(), *survey.state(), ("", "")])
    if lock:
        place = write_lock(survey.package, survey.references)
    else:
        record_trust(survey.package, survey.references)
        place = trust_file()
        if read_trust().get(survey.package.identity, {}).get("digest") != survey.package.digest:
            raise UntrustedCodeError(f"Nothing was approved: {str(place)!r} cannot be written.")
    write([("green", f"Now approved in {place}.")])


def _revoke(target: str, subfolder: str, *, shared: bool) -> None:
    place = find_lock() if shared else trust_file()
    if place is None:
        raise UntrustedCodeError("This project has no maquette.lock, here or above.")
    record = (read_lock() if shared else read_trust()) or {}
    name = target if os.path.lexists(user_path(target)) else split_target(target)[0]
    path = str(user_path(Path(name, subfolder)).resolve())
    written = f"{name}:{subfolder.strip('/')}" if subfolder else name
    candidates = [written, lock_key(place, path) if shared else path]
    key = next((candidate for candidate in candidates if candidate in record), written)
    revoke(key, place)
    write([("green", f"{key} is no longer approved in {place}.")])


@app.command()
def login(
    token: Annotated[str | None, typer.Option(help="The token; unless given, huggingface_hub asks for it.")] = None,
) -> None:
    """Log in to the Hub; what follows is huggingface_hub's."""
    import huggingface_hub

    huggingface_hub.login(token=token)
