"""`maquette diff`: in what two models differ."""

from pathlib import Path
from typing import Annotated

import typer

from maquette.cli.frame import JsonOption, TrustOption, answer, say_no


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A folder, or a repository of the Hub.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    inputs: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Run both on it: JSON or safetensors.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="How far outputs may lie apart, as a share.")] = 1e-5,
    frameworks: Annotated[
        str | None, typer.Option(metavar="A,B", help="In which each runs: torch, keras, flax, transformers.")
    ] = None,
    peer_python: Annotated[
        Path | None, typer.Option(metavar="PATH", help="An interpreter that has Transformers: it runs B.")
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two models: configurations, code, weights, tokenizers, outputs. Exits with 1 where they differ."""
    from maquette.workshop.diff import diff as compare
    from maquette.workshop.diff.terminal import show_lines

    found = compare(
        one,
        other,
        inputs=inputs,
        tolerance=tolerance,
        frameworks=frameworks.split(",") if frameworks is not None else None,
        peer_python=peer_python,
        trust_remote_code=trust_remote_code or None,
    )
    answer(found.to_dict(), show_lines(found), as_json=as_json)
    if found.differs:
        say_no()
