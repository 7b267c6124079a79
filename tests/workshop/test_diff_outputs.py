"""What `find_divergence` makes of models that differ in ways that are easily overlooked, and of equal ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maquette import DistilBertConfig, DistilBertModel, InputError
from maquette.workshop.diff import find_divergence
from maquette.workshop.diff.comparison import measure

ONES = {"x": torch.ones(2, 3)}


class Gives(nn.Module):
    """Gives what a function makes of its input."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


class Net(nn.Module):
    """A layer, something that gives what it likes, and a result that tells nothing of it."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.part = nn.Identity(), Gives(make)

    def forward(self, x: Tensor) -> Tensor:
        self.part(self.layer(x))
        return x


@dataclass
class Held:
    mean: Tensor
    rest: Any = None


class Named(NamedTuple):
    mean: Tensor
    rest: Any


def first_of(one: Callable[[Tensor], Any], other: Callable[[Tensor], Any]) -> str | None:
    return find_divergence(Net(one), Net(other), ONES).first


@pytest.mark.parametrize(
    "other",
    [
        lambda x: (x, x + 1),  # the second tensor differs
        lambda x: (x,),  # there is one less
        lambda x: (x, x, x),
        lambda x: (x, x[:1]),  # another shape
        lambda x: (x, [x]),  # the same tensors, elsewhere
        lambda x: {"0": x, "1": x.index_fill(0, torch.tensor(0), torch.nan)},
        lambda x: None,
    ],
)
def test_every_tensor_of_a_module_counts(other: Callable[[Tensor], Any]) -> None:
    assert first_of(lambda x: (x, x), lambda x: (x, x)) is None
    assert first_of(lambda x: (x, x), other) == "part" == first_of(other, lambda x: (x, x))


@pytest.mark.parametrize(
    "hold",
    [
        lambda y: {"a": {"b": [y]}},
        lambda y: Held(torch.ones(1), (y,)),
        lambda y: Named(torch.ones(1), y),
        lambda y: y.to_sparse(),
        lambda y: y > 1.5,
        lambda y: (y * 1000).long(),
        lambda y: torch.complex(torch.ones(2, 3), y),
        lambda y: y.bfloat16(),
        lambda y: y.to(torch.float8_e4m3fn),
    ],
)
def test_whatever_a_module_gives_is_looked_into(hold: Callable[[Tensor], Any]) -> None:
    assert first_of(lambda x: hold(x), lambda x: hold(x)) is None
    assert first_of(lambda x: hold(x), lambda x: hold(x * 2)) == "part"


def test_numbers_that_are_none_infinite_or_whole() -> None:
    def apart(one: list[Any], other: list[Any], tolerance: float = 1e-5) -> float:
        return measure(np.array(one), np.array(other), tolerance).most

    inf, nan = np.inf, np.nan
    assert apart([nan, -inf, 0.0], [nan, -inf, -0.0]) == 0
    assert apart([nan, 1.0], [1.0, 1.0]) == apart([inf, 1.0], [-inf, 1.0]) == apart([1.0], [inf]) == inf
    assert apart([-inf, 1.0], [-inf, 2.0]) == 1  # an infinity says nothing of how large the others are
    assert apart([-3.4e38, 1.0], [-3.4e38, 2.0]) == 1  # nor does what masks put in its place
    assert apart([1_000_000], [1_000_001]) == 1 and apart([2**60], [2**60 + 1]) >= 1
    assert apart([0.0], [1e-20]) == 1e-20 and apart([1.0], [1.0 + 1e-7]) == 0


class Twice(nn.Module):
    """Calls one layer several times."""

    def __init__(self, layer: nn.Module, later: float = 0.0) -> None:
        super().__init__()
        self.layer, self.later = layer, later

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x) + self.later) * 0


class Stack(nn.Module):
    """Layers one after the other, which may be one and the same."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_further_calls_of_a_module_count() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    found = find_divergence(Twice(layer), Twice(layer, 1.0), ONES)
    assert (found.first, found.call, found.inputs_equal, found.compared) == ("layer", 2, False, 2)
    copy = nn.Linear(3, 3)
    copy.load_state_dict(layer.state_dict())
    found = find_divergence(Stack(layer, layer), Stack(layer, copy), ONES)  # one is tied, the other is not
    assert found.first is None and found.compared == 2 and found.only == ((), ())
    with torch.no_grad():
        copy.bias += 1
    found = find_divergence(Stack(layer, layer), Stack(layer, copy), ONES)
    assert found.first == "layers.1" and found.inputs_equal
    found = find_divergence(Stack(layer, layer, layer), Stack(layer, layer), ONES)
    assert found.first == "" and found.only == (("layers.2",), ())


class Noisy(nn.Module):
    """Draws numbers and counts its calls, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.layer = nn.Dropout(0.5), nn.Identity()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(self.drop(x) + torch.randn_like(x) * self.calls)


def test_random_numbers_and_what_a_model_keeps_are_no_difference() -> None:
    model = Noisy().train()
    before = torch.random.get_rng_state()
    found = find_divergence(model, model, ONES)
    assert found.first is None and found.last == 0
    assert model.training and model.drop.training and model.calls == 0
    assert torch.equal(before, torch.random.get_rng_state()) and not model.layer._forward_hooks


def test_types_and_classes_that_are_not_the_same() -> None:
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=40, dim=16, n_heads=4, n_layers=1, hidden_dim=24)
    model = DistilBertModel(config)
    half = DistilBertModel(config)
    half.load_state_dict(model.state_dict())
    half.bfloat16()
    ids = {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 3, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
    }
    assert find_divergence(model, half, ids).first is not None
    found = find_divergence(model, half, ids, tolerance=0.1)
    assert found.first is None and 0 < found.last < 0.1 * 10
    images = {"input": torch.rand(1, 3, 8, 8)}  # are given in the type of the weights
    conv = nn.Sequential(nn.Conv2d(3, 2, 3))
    assert find_divergence(conv, nn.Sequential(nn.Conv2d(3, 2, 3)).half(), images).first == "0"


def test_what_does_not_run_and_what_is_no_model_is_said() -> None:
    def fail(x: Tensor) -> Tensor:
        raise KeyError("missing")

    with pytest.raises(InputError, match="Net does not run on these inputs: KeyError: 'missing'"):
        find_divergence(Net(fail), Net(fail), ONES)
    with pytest.raises(InputError, match="Models of torch, Keras and Flax are compared; this is a dict"):
        find_divergence({}, Net(fail), ONES)
    with pytest.raises(InputError, match="'x' is no input that is compared"):
        find_divergence(nn.Identity(), nn.Identity(), {"x": "text"})
