"""`maquette xray`: what a model is and what it costs, from its configuration alone."""

from pathlib import Path
from typing import Annotated

import typer

from maquette.cli.frame import (
    AsOption,
    JsonOption,
    RevisionOption,
    SetOption,
    TargetArgument,
    TrustOption,
    answer,
    read_settings,
)


def xray(
    target: TargetArgument,
    batch: Annotated[int, typer.Option(min=1, help="Rows of the inputs.")] = 8,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens in a row, or samples of a sound.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of weights and computation: bf16, fp16, fp32.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Measure a step of training with AdamW.")] = False,
    machine: Annotated[
        str, typer.Option(help="What speed is told for: h100, cpu, … or flops=1e14,bandwidth=1e12.")
    ] = "h100",
    depth: Annotated[int | None, typer.Option(min=0, help="How deep the tree goes.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to look at.")] = None,
    settings: SetOption = None,
    auto_class: AsOption = None,
    trust_remote_code: TrustOption = False,
    revision: RevisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look through a model without its weights: modules, parameters, FLOPs, memory, speed, and what its files hold."""
    from maquette.workshop.xray import xray as look
    from maquette.workshop.xray.terminal import show_lines

    seen = look(
        target,
        batch=batch,
        length=length,
        dtype=dtype,
        train=train,
        machine=machine,
        settings=read_settings(settings),
        auto_class=auto_class,
        trust_remote_code=trust_remote_code or None,
        revision=revision,
    )
    if html is not None:
        from maquette.workshop.xray.page import write_page

        write_page(seen, html)
    answer(seen.to_dict(), show_lines(seen, depth=depth), as_json=as_json)
