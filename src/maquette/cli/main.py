"""The entry point of `maquette` on the command line: finds the commands, and says in one line what went wrong."""

import sys

from maquette.errors import MaquetteError


def main() -> None:
    """Run one command; exits with 1 where it failed, with 2 where it was called wrongly."""
    try:
        from maquette.cli.commands import app
    except ModuleNotFoundError as error:
        sys.exit(f"The commands need {error.name}, which is not installed: pip install 'maquette[cli]'.")
    try:
        app(prog_name="maquette")
    except (MaquetteError, OSError) as error:
        from maquette.cli.trust_report import show

        sys.exit(show(str(error)))
