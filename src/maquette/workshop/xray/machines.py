"""How fast a machine can be at best, from the figures in its maker's data sheet (dense products, no sparsity)."""

import re
from dataclasses import dataclass

from maquette.errors import UnknownNameError, did_you_mean

TERA, GIGA = 10**12, 10**9


@dataclass(frozen=True)
class Machine:
    """What bounds a computation.

    Args:
        name: as it was asked for.
        flops: floating-point operations in a second, by the type of the numbers.
        bandwidth: bytes in a second from and to its memory.
        memory: bytes.
        is_gpu: whether kernels of GPUs run on it; they keep other things in memory than those of CPUs.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    memory: float
    is_gpu: bool = True

    def peak(self, dtype: str) -> float:
        """Give the operations in a second for a type such as "bfloat16"; that of the widest where it has none."""
        return self.flops.get(dtype) or self.flops["float32"]


def _gpu(name: str, half: float, single: float, bandwidth: float, memory: float, *, bf16: bool = True) -> Machine:
    flops = {"float16": half * TERA, "float32": single * TERA, "float64": single * TERA / 2}
    if bf16:
        flops["bfloat16"] = half * TERA
    return Machine(name, flops, bandwidth * GIGA, memory * GIGA)


MACHINES = {
    machine.name: machine
    for machine in (
        _gpu("b200", 2250, 80, 8000, 180),
        _gpu("h200", 989, 67, 4800, 141),
        _gpu("h100", 989, 67, 3350, 80),
        _gpu("a100", 312, 19.5, 2039, 80),
        _gpu("l40s", 362, 91.6, 864, 48),
        _gpu("l4", 121, 30.3, 300, 24),
        _gpu("rtx4090", 165, 82.6, 1008, 24),
        _gpu("rtx3090", 71, 35.6, 936, 24),
        _gpu("t4", 65, 8.1, 320, 16, bf16=False),
        _gpu("mi300x", 1307, 163, 5300, 192),
    )
}
FIGURE = re.compile(r"(flops|bandwidth|memory)=([0-9.]+(?:[eE][+-]?\d+)?)")


def find_machine(name: str) -> Machine:
    """Find a machine by its name, "cpu", or `"flops=1e14,bandwidth=1e12,memory=24e9"`.

    Raises:
        UnknownNameError: there is none of that name; says which there are.
    """
    if name in MACHINES:
        return MACHINES[name]
    if name == "cpu":  # whichever it is: only its memory is told
        return Machine("cpu", {}, 0.0, 0.0, is_gpu=False)
    parts = [FIGURE.fullmatch(part.strip()) for part in name.split(",")]
    figures = {match[1]: float(match[2]) for match in parts if match}
    if all(parts) and {"flops", "bandwidth"} <= figures.keys() and all(figures.values()):
        return Machine(name, {"float32": figures["flops"]}, figures["bandwidth"], figures.get("memory", 0.0))
    raise UnknownNameError(
        f"There is no machine {name!r}.{did_you_mean(name, [*MACHINES, 'cpu'])} Known are: {', '.join(MACHINES)}, cpu; "
        "or give its figures, in operations and bytes: flops=1e14,bandwidth=1e12,memory=24e9."
    )
