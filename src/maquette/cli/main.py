"""The entry point of `maquette` on the command line: finds the commands, and says in one line what went wrong.

Exit codes: 0 where all is well; 1 where the command did its work and the answer is no (a check fails, two models
differ); 2 where it could not do it: a wrong call, a target that is none, code that nobody approved;
130 where Ctrl-C ended it.
"""

import sys
import traceback

from maquette.errors import MaquetteError

TROUBLE = 2
INTERRUPTED = 130  # as shells have it of Ctrl-C


def main() -> None:
    """Run one command."""
    try:
        from maquette.cli.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        _stop(f"The commands need {error.name}, which is not installed: pip install 'maquette[cli]'.", error)
    try:
        if "--json" not in sys.argv:
            app(prog_name="maquette")
        sys.exit(app(prog_name="maquette", standalone_mode=False) or 0)  # which leaves wrong calls to us
    except (MaquetteError, OSError) as error:
        _stop(_for_the_command_line(str(error)), error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # of a wrong call
            _stop(error.format_message(), error)
        if type(error).__name__ == "Abort":
            sys.exit(INTERRUPTED)
        traceback.print_exc()
        _stop(f"{type(error).__name__}: {error}", error)


def _for_the_command_line(message: str) -> str:
    """Name the option where an error names the argument of Python."""
    return message.replace(
        "pass trust_remote_code=True,", "pass --trust-remote-code; in Python trust_remote_code=True,"
    )


def _stop(message: str, error: Exception) -> None:
    """Say what went wrong, as JSON too where that was asked for, and end."""
    from maquette.cli.trust_report import show

    if "--json" in sys.argv:
        import json

        print(json.dumps({"error": {"kind": type(error).__name__, "message": message}}, indent=2))
    print(show(message), file=sys.stderr)
    sys.exit(TROUBLE)
