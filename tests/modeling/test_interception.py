"""Fills and reads of a constructor that are met before torch's dispatcher: as in plain torch, and gone afterwards."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from constructors import Tricky, TrickyConfig
from safetensors.torch import save_file
from torch import nn

from maquette.modeling.deferred import Deferred
from maquette.modeling.interception import FILLS, READS

ASKED: dict[str, Callable[[torch.Tensor], object]] = {
    "plain": lambda t: t.data.normal_(),
    "by name": lambda t: t.data.normal_(mean=1.0, std=0.1),
    "by place and name": lambda t: t.data.normal_(1.0, generator=None),
    "its own generator": lambda t: t.data.normal_(generator=torch.Generator().manual_seed(1)),
    "a tensor": lambda t: t.data.fill_(torch.tensor(3.0)),
    "a number": lambda t: t.data.fill_(3),
    "a truth value": lambda t: t.data.fill_(True),
    "part of it": lambda t: t.data[1].zero_(),
    "as a function": lambda t: torch.Tensor.uniform_(t.data, -2, 2),
    "after a reseed": lambda t: (t.data.uniform_(), torch.manual_seed(4), t.data.uniform_()),
    "after the caller's own seed": lambda t: (t.data.uniform_(), torch.manual_seed(7), t.data.uniform_()),
    "inside and after a fork": lambda t: (t.data.uniform_(), fill_in_a_fork(t), t.data[1].uniform_()),
}
READ: dict[str, Callable[[torch.Tensor], object]] = {
    "numpy": lambda t: t.detach().numpy().copy(),
    "tolist": lambda t: t.tolist(),
    "asarray": lambda t: np.asarray(t.detach()).copy(),
    "dlpack": lambda t: np.from_dlpack(t.detach()).copy(),
    "storage": lambda t: bytes(t.untyped_storage()),
    "item": lambda t: t[0, 0].item(),
    "an operation": lambda t: t.sum().item(),
}


def fill_in_a_fork(tensor: torch.Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        tensor.data[0].uniform_()


class Asks(Tricky):
    """Does what it is told to in its constructor."""

    ask: Callable[[torch.Tensor], object]
    read: Callable[[torch.Tensor], object]

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(torch.empty(3, 4))
        nn.init.uniform_(self.weight)
        type(self).ask(self.weight)
        self.seen = type(self).read(self.weight)
        self.last = nn.Parameter(torch.empty(2))
        nn.init.normal_(self.last)


@pytest.mark.parametrize("read", [None, *READ])
@pytest.mark.parametrize("ask", ASKED)
def test_values_are_those_of_plain_torch(ask: str, read: str | None, tmp_path) -> None:
    class Model(Asks):
        pass

    Model.ask, Model.read = staticmethod(ASKED[ask]), staticmethod(READ[read] if read else lambda t: None)
    TrickyConfig().save_pretrained(tmp_path)
    save_file({}, tmp_path / "model.safetensors", {"format": "pt"})
    torch.manual_seed(7)
    plain = object.__new__(Model)  # without the metaclass, whose construction has its own observer
    plain.__init__(TrickyConfig())
    torch.manual_seed(7)
    built = Model(TrickyConfig())
    torch.manual_seed(7)
    loaded = Model.from_pretrained(tmp_path, strict=False)
    for model in (built, loaded):
        assert torch.equal(model.weight, plain.weight) and np.array_equal(model.seen, plain.seen)
        assert torch.equal(model.last, plain.last)


class Hashes(Tricky):
    """Draws what its file has, and then, from a seed of its own, what no file has."""

    def __init__(self, config: TrickyConfig) -> None:
        super().__init__(config)
        self.before = nn.Linear(3, 3)
        torch.manual_seed(config.dim)
        self.after = nn.Linear(3, 3)
        self.register_buffer("planes", torch.empty(4, 4).normal_(), persistent=False)
        self.last = nn.Linear(3, 3)


@pytest.mark.parametrize("seed", [6, 7])
def test_what_follows_from_a_seed_of_the_constructor_does_not_depend_on_the_file(seed: int, tmp_path) -> None:
    """Also where it is the seed that the caller set."""
    torch.manual_seed(seed)
    model = Hashes(TrickyConfig(dim=6))
    after = torch.get_rng_state()
    model.save_pretrained(tmp_path)
    torch.manual_seed(seed)
    loaded = Hashes.from_pretrained(tmp_path)
    assert torch.equal(loaded.planes, model.planes) and torch.equal(loaded.last.weight, model.last.weight)
    assert not torch.equal(torch.get_rng_state(), after)  # nothing wanted the last layer's numbers


def test_a_load_of_a_whole_file_draws_nothing(tmp_path) -> None:
    Tricky(TrickyConfig()).save_pretrained(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Tricky.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_torch_is_as_it_was_afterwards() -> None:
    before = {name: getattr(torch.Tensor, name) for name in (*FILLS, *READS)}
    own = set(vars(torch.Tensor))
    with Deferred():
        assert torch.Tensor.normal_ is not before["normal_"]
        with Deferred():
            pass
        assert torch.Tensor.normal_ is not before["normal_"]
    assert {name: getattr(torch.Tensor, name) for name in before} == before
    assert set(vars(torch.Tensor)) == own


def test_other_threads_fill_at_once() -> None:
    found = []
    with Deferred() as deferred:
        other = threading.Thread(target=lambda: found.append(torch.empty(3).fill_(2.0).tolist()))
        other.start()
        other.join()
        waiting = torch.empty(3).fill_(1.0)
        assert deferred.is_pending(waiting.untyped_storage()._cdata) is False  # to ask for the memory has read it
        assert waiting.tolist() == [1.0] * 3
    assert found == [[2.0] * 3]


def test_a_refused_fill_is_refused_at_once() -> None:
    with Deferred(), pytest.raises(RuntimeError, match="leaf"):
        nn.Parameter(torch.empty(3)).zero_()
    with Deferred(), pytest.raises(TypeError):
        torch.empty(3).normal_("x")
    with Deferred(), pytest.raises(TypeError):
        torch.empty(3).fill_()
