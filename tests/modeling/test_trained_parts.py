"""`_init_weights` fills what the constructor drew; what was trained before, and came from elsewhere, stays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maquette import PretrainedConfig, PreTrainedModel

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


class PartsConfig(PretrainedConfig):
    model_type = "trained-parts"
    dim: int = 3
    vocab_size: int = 4


class Filled(PreTrainedModel):
    """Whatever may be initialised becomes 7."""

    config_class = PartsConfig

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            parameter.data.fill_(7)


class FilledByAssignment(Filled):
    """As some models do for half precision: another tensor becomes the data."""

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            parameter.data = torch.full_like(parameter, 7)


def donor() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for tensor in (*net.parameters(), net[1].running_mean):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    return net


def load_state(model: nn.Module) -> None:
    model.part = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.part.load_state_dict(donor().state_dict())


def load_state_by_assignment(model: nn.Module) -> None:
    model.part = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.part.load_state_dict({name: value.clone() for name, value in GIVEN.state_dict().items()}, assign=True)


def load_a_file(model: nn.Module) -> None:
    torch.save(GIVEN.state_dict(), "donor.pt")
    model.part = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.part.load_state_dict(torch.load("donor.pt"))


def load_then_cast(model: nn.Module) -> None:
    load_a_file(model)
    model.part.to(torch.float64)


def copy_one_by_one(model: nn.Module) -> None:
    model.part = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for mine, given in zip(model.part.parameters(), GIVEN.parameters(), strict=True):
            mine[:] = given


GIVEN = donor()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(prepare, base: type[Filled] = Filled, *, calls_post_init: bool = False) -> type[Filled]:
    class Model(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: PartsConfig) -> None:
            super().__init__(config)
            prepare(self)
            self.head = nn.Linear(config.dim, 2)
            if calls_post_init:
                self.post_init()

        def forward(self, x):
            return self.head(self.part(x))

    return Model


WAYS = [load_state_by_assignment, load_a_file, load_then_cast, copy_one_by_one]


@pytest.mark.parametrize("calls_post_init", [False, True])
@pytest.mark.parametrize("base", [Filled, FilledByAssignment])
@pytest.mark.parametrize("way", WAYS)
def test_values_that_a_constructor_loads_stay(way, base, calls_post_init: bool) -> None:
    outside = {id(module) for module in GIVEN.modules()}
    model = make(way, base, calls_post_init=calls_post_init)(PartsConfig())
    for name, value in GIVEN.named_parameters():
        assert torch.equal(model.part.get_parameter(name).float(), value), name
    assert (model.head.weight == 7).all()
    assert (model.head.bias == 7).all()
    assert id(model.part) not in outside


def test_a_copy_of_what_the_constructor_drew_is_initialised() -> None:
    """State passed on inside the constructor is no training: `donor` draws anew in it."""
    model = make(load_state)(PartsConfig())
    assert all((parameter == 7).all() for parameter in model.parameters())


@pytest.mark.parametrize("base", [Filled, FilledByAssignment])
def test_a_module_that_is_handed_over_stays_as_it_is(base) -> None:
    class Around(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: PartsConfig, part: nn.Module) -> None:
            super().__init__(config)
            self.part = part
            self.part.extra = nn.Linear(2, 2)

    given = donor()
    model = Around(PartsConfig(), given)
    assert model.part is given
    for mine, value in zip(given[:2].parameters(), GIVEN.parameters(), strict=True):
        assert torch.equal(mine, value)
    assert (given.extra.weight == 7).all()  # this one is of the constructor's making


def take_vectors(model: nn.Module) -> None:
    model.table = nn.Embedding.from_pretrained(torch.from_numpy(VECTORS.copy()))


def write_vectors(model: nn.Module) -> None:
    model.table = nn.Embedding(4, 3)
    model.table.weight.data.copy_(torch.tensor(VECTORS.tolist()))


def set_vectors(model: nn.Module) -> None:
    model.table = nn.Embedding(4, 3)
    model.table.weight = nn.Parameter(torch.tensor(VECTORS))


@pytest.mark.parametrize("way", [take_vectors, write_vectors, set_vectors])
def test_vectors_from_elsewhere_stay(way) -> None:
    assert np.array_equal(make(way)(PartsConfig()).table.weight.detach(), VECTORS)


def draw(model: nn.Module) -> None:
    model.scale = nn.Parameter(0.1 * torch.ones(3))
    model.temperature = nn.Parameter(torch.tensor(0.07))
    model.token = nn.Parameter(torch.randn(1, 3).clamp(-2, 2))
    model.recurrent = nn.GRU(3, 3)
    nn.init.orthogonal_(model.recurrent.weight_hh_l0)
    nn.init.eye_(model.recurrent.weight_ih_l0)
    model.blocks = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 4), 2, enable_nested_tensor=False)
    model.normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))


def test_whatever_a_constructor_draws_or_computes_is_initialised() -> None:
    model = make(draw)(PartsConfig())
    assert [name for name, parameter in model.named_parameters() if not (parameter == 7).all()] == []


def redraw(model: nn.Module) -> None:
    model.part = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    copy_one_by_one(model)
    model.part[0].reset_parameters()


def test_what_is_drawn_over_loaded_values_is_initialised() -> None:
    model = make(redraw)(PartsConfig())
    assert (model.part[0].weight == 7).all()
    assert torch.equal(model.part[1].weight, GIVEN[1].weight)


def test_a_subclass_whose_base_calls_post_init_has_its_own_layers_initialised() -> None:
    class Base(Filled):
        def __init__(self, config: PartsConfig) -> None:
            super().__init__(config)
            self.first = nn.Linear(3, 3)
            self.post_init()

    class More(Base):
        def __init__(self, config: PartsConfig) -> None:
            super().__init__(config)
            self.second = nn.Linear(3, 3)

    assert (More(PartsConfig()).second.weight == 7).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_load_leaves_what_the_file_lacks_as_the_constructor_gave_it(way) -> None:
    model_class = make(way)
    model = model_class(PartsConfig())
    head = {name: value for name, value in model.state_dict().items() if name.startswith("head")}
    model.save_pretrained("head", state_dict={name: value + 1 for name, value in head.items()})
    again = model_class.from_pretrained("head", allow_missing=["part.*"])
    for name, value in GIVEN.named_parameters():
        assert torch.equal(again.part.get_parameter(name).float(), value), name
    assert (again.head.weight == 8).all()


def test_a_resized_table_stays_in_whatever_takes_it_over() -> None:
    class Words(Filled):
        def __init__(self, config: PartsConfig) -> None:
            super().__init__(config)
            self.table = nn.Embedding(4, 3)

        def get_input_embeddings(self) -> nn.Module:
            return self.table

    class Takes(Filled):
        def __init__(self, config: PartsConfig, table: nn.Module) -> None:
            super().__init__(config)
            self.table = table

    words = Words(PartsConfig())
    words.table.weight.data.fill_(2)
    words.resize_token_embeddings(6)
    taken = Takes(PartsConfig(), words.table)
    assert (taken.table.weight[:4] == 2).all()
    assert (taken.table.weight[4:] == 7).all()  # the new rows, as the model initialises
