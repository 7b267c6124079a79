"""The tree of a model's modules: whose each number is, how much of it a token uses, and where the work is done."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from maquette.modeling.layers.experts import Experts
from maquette.modeling.model_parts import Part, Tally, Weight, fold

# What configurations call the number of experts, and how many of them a token uses.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "top_k", "num_selected_experts")


@dataclass
class _Growth:
    """What is known while a tree grows."""

    tallies: Mapping[str, Tally]
    notes: Mapping[str, str]
    experts: tuple[int, int]
    met: dict[int, str] = field(default_factory=dict)  # parameters, and where
    modules: dict[int, str] = field(default_factory=dict)


def grow(model: nn.Module, tallies: Mapping[str, Tally] | None = None, notes: Mapping[str, str] | None = None) -> Part:
    """Make the tree of a model; with what was tallied by the paths of its modules, where it was run."""
    growth = _Growth(tallies or {}, notes or {}, count_experts(getattr(model, "config", None)))
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
        parts=tuple(fold(inner)),
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


def sum_kinds(tallies: Mapping[str, Tally]) -> Counter[str]:
    """Add up what kind of work there was."""
    found: Counter[str] = Counter()
    for tally in tallies.values():
        found += tally.flops
    return found
