"""A fresh process with the other engine, and how far what it gives lies from what torch gives."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maquette.errors import InputError

# How many steps of the type two computations may lie apart, at the size of the largest number: an engine adds the terms
# of sums in another order. A mistake shows thousands of steps further up.
STEPS = 300

LACKS = re.compile(r"Could not find an implementation for (?P<operator>\w+)\(\d+\) node with name '(?P<node>[^']+)'")


@dataclass(frozen=True)
class Comparison:
    """What one call gave here and there.

    Attributes:
        inputs: their shapes.
        outputs: how many were compared.
        apart: the largest difference.
        bound: what rounding can account for, by the size of the output.
        largest: the largest number in it.
        worst: the output that lies furthest from its bound.
    """

    inputs: dict[str, list[int]]
    outputs: int
    apart: float
    bound: float
    largest: float
    worst: str

    @property
    def is_equal(self) -> bool:
        """Whether rounding accounts for the difference."""
        return self.apart <= self.bound


def compare(inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Comparison:
    """Compare outputs of two engines, each by its name."""
    rows = []
    for name, wanted in expected.items():
        one = found.get(name)
        if one is None or one.shape != wanted.shape:
            rows.append((float("inf"), 0.0, 0.0, f"{name} {'is missing' if one is None else tuple(one.shape)}"))
        elif wanted.is_floating_point():
            real = wanted.isfinite()
            largest = float(wanted[real].abs().max()) if real.any() else 0.0
            bound = STEPS * torch.finfo(wanted.dtype).eps * max(1.0, largest)
            same = torch.equal(one[~real].nan_to_num(), wanted[~real].nan_to_num())
            apart = float((one - wanted)[real].abs().max()) if real.any() else 0.0
            rows.append((apart if same and apart == apart else float("inf"), bound, largest, name))
        else:
            rows.append((float((one != wanted).sum()), 0.0, 0.0, name))
    apart, bound, largest, worst = max(rows, key=lambda row: row[0] / row[1] if row[1] else row[0])
    return Comparison({name: list(x.shape) for name, x in inputs.items()}, len(rows), apart, bound, largest, worst)


def run_elsewhere(
    reader: Path,
    work: Path,
    calls: Sequence[Mapping[str, Tensor]],
    *,
    python: str | os.PathLike[str] | None = None,
    **job: Any,
) -> list[dict[str, Tensor]]:
    """Have a program that knows nothing of maquette run calls in a fresh process; gives their outputs.

    Args:
        reader: the program; it takes the path of a JSON file, and writes `outputs-N.safetensors` beside it.
        work: a folder for what goes to and fro.
        calls: inputs by their names.
        python: the interpreter; unless given, this one.
        job: what else the program is told.

    Raises:
        InputError: the process failed, with what it said.
    """
    work = work.resolve()
    work.mkdir(exist_ok=True)
    for number, inputs in enumerate(calls):
        save_file({name: x.contiguous() for name, x in inputs.items()}, work / f"inputs-{number}.safetensors")
    told = {"calls": len(calls), "path": [] if python else [entry for entry in sys.path if entry], **job}
    (work / "job.json").write_text(json.dumps(told), encoding="utf-8")
    hidden = {"PYTHONPATH", "MAQUETTE_TRUST"}
    done = subprocess.run(  # noqa: S603 - this interpreter or the one the caller names, and a program of ours
        [os.fspath(python or sys.executable), "-I", str(reader), str(work / "job.json")],
        env={name: value for name, value in os.environ.items() if name not in hidden},
        cwd=work,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        if lacks := LACKS.search(done.stderr):
            raise InputError(
                f"The engine has no implementation of {lacks['operator']} for these types of numbers, at "
                f"{lacks['node']!r}, which is named after torch's operation. Write that with others: on truth values, "
                "& and | in place of masked_fill and where."
            )
        raise InputError(f"A fresh process could not run what was exported:\n{done.stderr.strip()[-2000:]}")
    return [load_file(work / f"outputs-{number}.safetensors") for number in range(len(calls))]
