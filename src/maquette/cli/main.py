"""The entry point of `maquette` on the command line: finds the commands, and says in one line what went wrong.

Exit codes: 0 where all is well; 1 where the command did its work and the answer is no (a check fails, two models
differ); 2 where it could not do it: a wrong call, a target that is none, code that nobody approved.
"""

import sys
import traceback

from maquette.errors import MaquetteError

TROUBLE = 2


def main() -> None:
    """Run one command."""
    try:
        from maquette.cli.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        _stop(f"The commands need {error.name}, which is not installed: pip install 'maquette[cli]'.", error)
    try:
        app(prog_name="maquette")
    except (MaquetteError, OSError) as error:
        _stop(str(error), error)
    except Exception as error:
        traceback.print_exc()
        _stop(f"{type(error).__name__}: {error}", error)


def _stop(message: str, error: Exception) -> None:
    """Say what went wrong, as JSON too where that was asked for, and end."""
    from maquette.cli.trust_report import show

    if "--json" in sys.argv:
        import json

        print(json.dumps({"error": {"kind": type(error).__name__, "message": message}}, indent=2))
    print(show(message), file=sys.stderr)
    sys.exit(TROUBLE)
