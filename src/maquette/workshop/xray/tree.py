"""The tree of a model's modules: whose each number is, how much of it a token uses, and where the work is done."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from maquette.modeling.layers.experts import Experts
from maquette.workshop.xray.meter import Tally

# What configurations call the number of experts, and how many of them a token uses.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "top_k", "num_selected_experts")
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Weight:
    """A parameter, or a buffer, of one module.

    Attributes:
        count: how many numbers it has.
        tied_to: where the same parameter was met first; empty where it is here.
        active: how many of its numbers a token goes through.
        kind: "parameter", or "buffer".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    size: int
    active: int
    tied_to: str = ""
    kind: str = "parameter"
    trainable: bool = True


@dataclass(frozen=True)
class Part:
    """A module with all that is in it; `alike` neighbours that differ in their numbers only are one.

    Attributes:
        parameters: how many numbers are in it that are nowhere before it.
        tied: how many more are shared with a part before it.
        active: how many of the parameters a token goes through.
        flops: of one forward.
        moved: bytes that are read and written in one forward.
        kept: bytes that it leaves in memory for the backward pass.
        takes, gives: the shapes of tensors that come in and go out, the first time it is called.
        note: what is not as it seems.
    """

    name: str
    path: str
    kind: str
    weights: tuple[Weight, ...] = ()
    parts: tuple["Part", ...] = ()
    parameters: int = 0
    tied: int = 0
    active: int = 0
    flops: int = 0
    moved: int = 0
    kept: int = 0
    calls: int = 0
    takes: Shapes = ()
    gives: Shapes = ()
    alike: int = 1
    note: str = ""

    @property
    def build(self) -> tuple[Any, ...]:
        """What two parts have in common that are alike."""
        ties = tuple(replace(weight, tied_to=bool(weight.tied_to)) for weight in self.weights)  # type: ignore[arg-type]
        inner = tuple((part.name, part.build) for part in self.parts)
        numbers = (self.parameters, self.tied, self.active, self.flops, self.moved, self.kept, self.calls)
        return self.kind, ties, numbers, self.takes, self.gives, self.alike, self.note, inner

    def walk(self) -> Iterator["Part"]:
        """Go through it and all that is in it."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass
class _Growth:
    """What is known while a tree grows."""

    tallies: Mapping[str, Tally]
    notes: Mapping[str, str]
    experts: tuple[int, int]
    met: dict[int, str] = field(default_factory=dict)  # parameters, and where
    modules: dict[int, str] = field(default_factory=dict)


def grow(model: nn.Module, tallies: Mapping[str, Tally], notes: Mapping[str, str]) -> Part:
    """Make the tree of a model that was run."""
    growth = _Growth(tallies, notes, count_experts(getattr(model, "config", None)))
    return _grow(model, "", type(model).__name__, growth, share=1.0)


def count_experts(config: Any) -> tuple[int, int]:
    """Read how many experts a layer has, and how many of them a token uses; zeros where there are none."""
    counts = [value for name in EXPERTS if isinstance(value := getattr(config, name, None), int)]
    chosen = [value for name in TOP_K if isinstance(value := getattr(config, name, None), int)]
    return (counts[0], min(chosen[0], counts[0])) if counts and chosen and counts[0] > 0 else (0, 0)


def share_of(module: nn.Module, path: str, experts: tuple[int, int]) -> float:
    """Say which share of a module's own and inner parameters a token goes through."""
    count, chosen = experts
    if isinstance(module, Experts):
        return chosen / len(module.down_proj) if chosen else 1.0
    if isinstance(module, nn.ModuleList) and count > 1 and len(module) == count and "expert" in path.rpartition(".")[2]:
        return chosen / count
    return 1.0


def _grow(module: nn.Module, path: str, name: str, growth: _Growth, *, share: float) -> Part:
    share *= share_of(module, path, growth.experts)
    first = growth.modules.setdefault(id(module), path)
    note = growth.notes.get(path, "")
    if first != path:
        note = f"the same module as {first}"
    weights = tuple(_weights(module, path, growth, share))
    inner = [
        _grow(child, f"{path}.{key}".lstrip("."), key, growth, share=share)
        for key, child in module._modules.items()
        if child is not None
    ]
    tally = growth.tallies.get(path, Tally()) if first == path else Tally()
    own = [weight for weight in weights if weight.kind == "parameter"]
    part = Part(
        name=name,
        path=path,
        kind=type(module).__name__,
        weights=weights,
        parts=tuple(_fold(inner)),
        parameters=sum(w.count for w in own if not w.tied_to) + sum(p.parameters for p in inner),
        tied=sum(w.count for w in own if w.tied_to) + sum(p.tied for p in inner),
        active=sum(w.active for w in own if not w.tied_to) + sum(p.active for p in inner),
        flops=tally.flops.total() + sum(p.flops for p in inner),
        moved=tally.moved + sum(p.moved for p in inner),
        kept=tally.kept + sum(p.kept for p in inner),
        calls=tally.calls,
        takes=tally.takes,
        gives=tally.gives,
        note=note,
    )
    return part


def _weights(module: nn.Module, path: str, growth: _Growth, share: float) -> Iterator[Weight]:
    for kind, named in (("parameter", module._parameters), ("buffer", module._buffers)):
        for name, tensor in named.items():
            if tensor is None or isinstance(tensor, nn.UninitializedParameter | nn.parameter.UninitializedBuffer):
                continue
            place = f"{path}.{name}".lstrip(".")
            first = growth.met.setdefault(id(tensor), place)
            count = math.prod(tensor.shape)
            yield Weight(
                name,
                tuple(tensor.shape),
                str(tensor.dtype).removeprefix("torch."),
                count,
                count * tensor.element_size(),
                round(count * share),
                "" if first == place else first,
                kind,
                tensor.requires_grad,
            )


def _fold(parts: list[Part]) -> Iterator[Part]:
    """Tell neighbours once that are numbered one after the other and alike in all that is in them."""
    group: list[Part] = []
    for part in parts:
        if group and not (part.name.isdigit() and int(part.name) == int(group[-1].name) + 1 and _alike(part, group[0])):
            yield _joined(group)
            group = []
        if not part.name.isdigit():
            yield part
            continue
        group.append(part)
    if group:
        yield _joined(group)


def _alike(one: Part, other: Part) -> bool:
    return one.build == other.build


def _joined(group: list[Part]) -> Part:
    first, count = group[0], len(group)
    if count == 1:
        return first
    numbers = {
        name: getattr(first, name) * count for name in ("parameters", "tied", "active", "flops", "moved", "kept")
    }
    return replace(first, name=f"{first.name} – {group[-1].name}", alike=count, **numbers)


def sum_kinds(tallies: Mapping[str, Tally]) -> Counter[str]:
    """Add up what kind of work there was."""
    found: Counter[str] = Counter()
    for tally in tallies.values():
        found += tally.flops
    return found
