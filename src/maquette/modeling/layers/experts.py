"""Mixtures of experts: a router sends each token to a few of many feed-forward networks.

    self.mlp = MixtureOfExperts(dim, inner, experts=8, top_k=2)
    x = self.mlp(x)                                          # (places, dim), in any layout
    loss = loss + 0.01 * compute_balance_loss(logits, top_k=2)      # the router's logits: self.mlp.route(x).logits

Tokens are sorted by expert, and all experts' products are one grouped product: nothing is padded, and an expert without
tokens costs nothing. In memory the experts' weights are two tensors; in `state_dict()` and in files every expert has
weights of its own, named as published checkpoints name them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from maquette.modeling.activations import ACT2FN
from maquette.modeling.layers.feed_forward import GatedFeedForward
from maquette.modeling.packing import is_traced

# How checkpoints call an expert's gate, up and down layers.
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class Routing(NamedTuple):
    """Where a router sends tokens."""

    logits: Tensor  # (tokens, experts)
    experts: Tensor  # (tokens, top_k), whole numbers
    weights: Tensor  # (tokens, top_k), what each one's result counts


class Router(nn.Module):
    """Chooses the experts of each token (Shazeer et al. 2017, section 2.1)."""

    def __init__(
        self, width: int, experts: int, *, top_k: int, normalize: bool = True, softmax: str = "before"
    ) -> None:
        """Make a linear layer without bias, named as checkpoints name it: its only parameter is `weight`.

        Args:
            width: of a token's state.
            experts: how many there are.
            top_k: how many each token goes to.
            normalize: have a token's weights sum to 1.
            softmax: "before" choosing, over all experts, or "after" it, over the chosen (their weights sum to 1).

        Raises:
            ValueError: more experts for a token than there are, or another word for `softmax`.
        """
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"A token can go to 1 to {experts} of {experts} experts, not to top_k={top_k}.")
        if softmax not in ("before", "after"):
            raise ValueError(f'softmax must be "before" or "after" choosing experts, not {softmax!r}.')
        self.top_k, self.normalize, self.softmax = top_k, normalize, softmax
        self.weight = nn.Parameter(torch.empty(experts, width))
        nn.init.normal_(self.weight, std=0.02)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, experts={self.weight.shape[0]}, top_k={self.top_k}"

    def forward(self, x: Tensor) -> Routing:
        """Route `(tokens, width)`; probabilities are computed in float32 at least."""
        logits = functional.linear(x, self.weight)  # (tokens, experts)
        if self.softmax == "after":
            chosen, experts = logits.topk(self.top_k, dim=-1)
            return Routing(logits, experts, _probabilities(chosen).to(x.dtype))
        weights, experts = _probabilities(logits).topk(self.top_k, dim=-1)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, experts, weights.to(x.dtype))


class Experts(nn.Module):
    """Gated feed-forward networks of one shape, each for the tokens that are sent to it.

    Attributes:
        gate_up_proj: `(experts, 2 * inner, width)`, each expert's gate above its up layer.
        down_proj: `(experts, width, inner)`.
        names: of the gate, up and down layers in `state_dict()`: `<number>.<name>.weight`.
    """

    def __init__(
        self, experts: int, width: int, inner: int, *, activation: str = "silu", names: Sequence[str] = PROJECTIONS
    ) -> None:
        super().__init__()
        self.activation, self.names = ACT2FN[activation], tuple(names)
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        nn.init.normal_(self.gate_up_proj, std=0.02)
        nn.init.normal_(self.down_proj, std=0.02)
        self.register_state_dict_post_hook(_name_experts)
        self.register_load_state_dict_pre_hook(_gather_experts)

    def extra_repr(self) -> str:
        experts, width, inner = self.down_proj.shape
        return f"{experts}, width={width}, inner={inner}"

    def forward(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Give each token the weighted sum of its experts' results.

        Args:
            x: `(tokens, width)`.
            experts, weights: `(tokens, top_k)`, as a `Router` gives them.
        """
        count, top_k = len(self.down_proj), experts.shape[-1]
        order = experts.flatten().argsort(stable=True)  # (tokens * top_k), one expert's after the other's
        tokens = order // top_k
        sent = experts.flatten()[:, None] == torch.arange(count, device=x.device)  # (tokens * top_k, experts)
        ends = sent.sum(0).cumsum(0).to(torch.int32)  # (experts,)
        gate, up = grouped_linear(x[tokens], self.gate_up_proj, ends).chunk(2, -1)
        results = grouped_linear(self.activation(gate) * up, self.down_proj, ends)
        results = results * weights.flatten()[order, None].to(results.dtype)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device=order.device))
        return results[back].unflatten(0, (-1, top_k)).sum(1).to(x.dtype)


class MixtureOfExperts(nn.Module):
    """A feed-forward network of which each token uses a few parts, and, where wanted, one that all tokens use."""

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        experts: int,
        top_k: int,
        normalize: bool = True,
        softmax: str = "before",
        shared: int = 0,
        activation: str = "silu",
        names: Sequence[str] = PROJECTIONS,
    ) -> None:
        """Make a router, `gate`, and its `experts`.

        Args:
            width: of a token's state.
            inner: width inside an expert.
            experts, top_k, normalize, softmax: as a `Router` takes them.
            shared: width inside the network that all tokens go through, `shared_experts`; 0 for none.
            activation: of the gates, a name in `ACT2FN`.
            names: of an expert's gate, up and down layers in files.
        """
        super().__init__()
        self.gate = Router(width, experts, top_k=top_k, normalize=normalize, softmax=softmax)
        self.experts = Experts(experts, width, inner, activation=activation, names=names)
        self.shared_experts = GatedFeedForward(width, shared, activation=activation) if shared else None

    def route(self, x: Tensor) -> Routing:
        """Say where the tokens of `(…, width)` go."""
        return self.gate(x.flatten(0, -2))

    def forward(self, x: Tensor, routing: Routing | None = None) -> Tensor:
        """Map `(…, width)` to `(…, width)`; `routing` is what `route(x)` gave, where that was asked already."""
        routing = routing or self.route(x)
        mixed = self.experts(x.flatten(0, -2), routing.experts, routing.weights).view_as(x)
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)


def compute_balance_loss(logits: Tensor | Iterable[Tensor], *, top_k: int, mask: Tensor | None = None) -> Tensor:
    """Give the loss that spreads tokens over experts (Fedus et al. 2022, equations 4 to 6), `top_k` where balanced.

    Over the tokens of all layers together, as Mixtral and Transformers have it: the number of experts times the sum,
    over experts, of the share of tokens that go there and the mean probability of going there.

    Args:
        logits: of the routers, `(tokens, experts)` for each layer; in a packed layout, real tokens only.
        top_k: how many experts each token goes to.
        mask: True at the tokens to count, `(tokens,)`, or of any shape with as many places; unless given, all.
    """
    layers = [logits] if isinstance(logits, Tensor) else [*logits]
    every = torch.cat([_probabilities(layer) for layer in layers])  # (layers * tokens, experts)
    chosen = torch.zeros_like(every).scatter_(1, every.topk(top_k, dim=-1).indices, 1.0)
    counted = every.new_ones(len(every)) if mask is None else mask.flatten().to(every.dtype).repeat(len(layers))
    total = counted.sum().clamp(min=1)
    return (counted @ chosen / total @ (counted @ every / total)) * every.shape[-1]


def _probabilities(logits: Tensor) -> Tensor:
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


# Grouped products ------------------------------------------------------------------------------------------------


def grouped_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Apply to each group of rows a linear layer of its own.

    Args:
        x: `(rows, inputs)`, the rows of one group next to each other.
        weight: `(groups, outputs, inputs)`.
        ends: where each group ends among the rows, `(groups,)`, 32-bit; a group may be empty.

    Returns:
        `(rows, outputs)`.
    """
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(kind), weight.to(kind)
    product: Any = getattr(functional, "grouped_mm", None)
    traced = is_traced(x)
    if product is not None and _fits_grouped(x, weight) and (x.dtype == torch.bfloat16 or not traced):
        return product(x, weight.transpose(1, 2), offs=ends)
    if traced:  # where no loop can depend on lengths: every group's layer on every row
        rows = torch.arange(x.shape[0], device=x.device)
        group = (ends[:, None] <= rows).sum(0)  # (rows,)
        return (x @ weight.transpose(1, 2))[group, rows]
    lengths = ends.diff(prepend=ends.new_zeros(1)).tolist()
    parts = zip(x.split(lengths), weight.unbind(), strict=True)
    results = [functional.linear(part, own) for part, own in parts if len(part)]
    return torch.cat(results) if results else x.new_zeros(0, weight.shape[1])


def _fits_grouped(x: Tensor, weight: Tensor) -> bool:
    """Tell whether torch's grouped product takes these: rows of whole 16 bytes, and on GPUs bfloat16 on Ampere."""
    if x.is_cuda:
        takes_type = x.dtype == torch.bfloat16 and torch.cuda.get_device_capability(x.device) >= (8, 0)
    else:
        takes_type = x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    aligned = all(size * x.element_size() % 16 == 0 for size in (x.shape[-1], weight.shape[1]))
    return takes_type and aligned and x.dtype == weight.dtype


# Names in files --------------------------------------------------------------------------------------------------


def _name_experts(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Put each expert's weights into a state under names of their own; they are views."""
    assert isinstance(module, Experts)
    gate, up, down = module.names
    both, last = state.pop(f"{prefix}gate_up_proj", None), state.pop(f"{prefix}down_proj", None)
    for number in range(len(module.down_proj)):
        if both is not None:
            state[f"{prefix}{number}.{gate}.weight"], state[f"{prefix}{number}.{up}.weight"] = both[number].chunk(2)
        if last is not None:
            state[f"{prefix}{number}.{down}.weight"] = last[number]


def _gather_experts(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Join what a state has of each expert; what is joined already stays as it is."""
    assert isinstance(module, Experts)
    gate, up, down = module.names
    count = len(module.down_proj)
    wanted = {name: [f"{prefix}{number}.{name}.weight" for number in range(count)] for name in (gate, up, down)}
    found = re.compile(rf"{re.escape(prefix)}\d+\.({gate}|{up}|{down})\.weight")
    if not all(name in state for names in wanted.values() for name in names):
        return
    if sum(found.fullmatch(name) is not None for name in state) != 3 * count:
        return  # more experts than this model has: the names say so in the report of the load
    gates, ups, downs = ([state.pop(name) for name in names] for names in wanted.values())
    state[f"{prefix}gate_up_proj"] = torch.stack([torch.cat(pair) for pair in zip(gates, ups, strict=True)])
    state[f"{prefix}down_proj"] = torch.stack(downs)
