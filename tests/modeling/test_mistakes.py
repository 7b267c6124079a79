"""What authors of models get wrong, and are told at once: layers in lists, a forgotten super, sizes beyond memory."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from maquette import (
    BertModel,
    ConfigurationError,
    DistilBertConfig,
    DistilBertModel,
    PretrainedConfig,
    PreTrainedModel,
    SaveError,
    T5Config,
)
from maquette.modeling import provenance


class SmallConfig(PretrainedConfig):
    model_type = "mistakes"
    vocab_size: int = 5
    dim: int = 3
    n_layers: int = 2


def plain_list(model: nn.Module) -> None:
    model.layers = [nn.Linear(2, 2), nn.Linear(2, 2)]


def plain_dictionary(model: nn.Module) -> None:
    model.layers = {"a": nn.Linear(2, 2)}


def tuple_of_lists(model: nn.Module) -> None:
    model.layers = ([nn.Linear(2, 2)], {"b": [nn.ReLU()]})


def list_of_parameters(model: nn.Module) -> None:
    model.layers = [nn.Parameter(torch.ones(2))]


def deep_inside(model: nn.Module) -> None:
    model.block = nn.Sequential(nn.Linear(2, 2))
    model.block[0].layers = [nn.Linear(2, 2)]


def inner_model(model: nn.Module) -> None:
    model.inner = make(plain_list)(SmallConfig())


def make(prepare) -> type[PreTrainedModel]:
    class Model(PreTrainedModel):
        config_class = SmallConfig

        def __init__(self, config: SmallConfig) -> None:
            super().__init__(config)
            self.first = nn.Linear(2, 2)
            prepare(self)

    return Model


@pytest.mark.parametrize("prepare", [plain_list, plain_dictionary, tuple_of_lists, list_of_parameters, deep_inside])
def test_layers_in_plain_containers_are_named_and_not_lost(tmp_path: Path, caplog, prepare) -> None:
    name = "block.0.layers" if prepare is deep_inside else "layers"
    with caplog.at_level(logging.WARNING, logger="maquette"):
        model = make(prepare)(SmallConfig())
    (record,) = caplog.records
    assert f"of which torch knows nothing: {name}. They are not saved" in record.getMessage()
    assert "nn.ModuleList" in record.getMessage()
    with pytest.raises(SaveError, match=rf"plain lists or dictionaries, .*: {name}\."):
        model.save_pretrained(tmp_path / "lost")
    assert not (tmp_path / "lost").exists()


def test_an_inner_model_speaks_for_itself(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="maquette"):
        model = make(inner_model)(SmallConfig())
    assert len(caplog.records) == 1
    with pytest.raises(SaveError, match=r": inner\.layers\."):
        model.save_pretrained(tmp_path)


def fine(model: nn.Module) -> None:
    model.registered = nn.ModuleList([nn.Linear(2, 2)])
    model.again = [model.registered[0], model.first.weight]  # known elsewhere
    model._teacher = [nn.Linear(2, 2)]  # hidden on purpose
    model.numbers = list(range(1000))
    model.names = {"a": ["b"], "c": (1, None)}
    model.types = [nn.Linear]


def test_what_is_meant_is_let_pass(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="maquette"):
        make(fine)(SmallConfig()).save_pretrained(tmp_path)
    assert caplog.records == []


def test_a_configuration_of_another_model_is_named() -> None:
    with pytest.raises(
        TypeError, match="BertModel is made from a BertConfig, and got a T5Config: T5Config has no attr"
    ):
        BertModel(T5Config())


def test_loading_through_an_object_is_said_to_leave_it(tmp_path: Path, caplog) -> None:
    model_class = make(lambda model: None)
    model, other = model_class(SmallConfig()), model_class(SmallConfig())
    other.save_pretrained(tmp_path)
    before = model.first.weight.clone()
    with caplog.at_level(logging.WARNING, logger="maquette"):
        loaded = model.from_pretrained(tmp_path)
    assert "leaves this one as it is" in caplog.text
    assert torch.equal(model.first.weight, before)
    assert torch.equal(loaded.first.weight, other.first.weight)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="maquette"):
        model_class.from_pretrained(tmp_path)
        type(model).from_pretrained(tmp_path)
        assert callable(model.from_pretrained)
    assert caplog.records == []


def test_a_forgotten_super_is_named() -> None:
    class NoSuper(PreTrainedModel):
        config_class = SmallConfig

        def __init__(self, config: SmallConfig) -> None:
            self.line = nn.Linear(2, 2)

    class NoSuperNoLayers(PreTrainedModel):
        config_class = SmallConfig

        def __init__(self, config: SmallConfig) -> None:
            pass

    class SkipsUs(PreTrainedModel):
        config_class = SmallConfig

        def __init__(self, config: SmallConfig) -> None:
            nn.Module.__init__(self)

    for kind in (NoSuper, NoSuperNoLayers, SkipsUs):
        with pytest.raises(
            TypeError, match=rf"^{kind.__name__}.__init__ has to call super\(\).__init__\(config\)"
        ) as error:
            kind(SmallConfig())
        assert error.value.__suppress_context__ or error.value.__context__ is None


def test_the_module_that_forgot_super_is_the_one_that_is_named() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.line = nn.Linear(2, 2)

    with pytest.raises(TypeError, match=r"^Block.__init__ has to call super\(\).__init__\(\), before"):
        make(lambda model: model.add_module("block", Block()))(SmallConfig())


def test_other_faults_of_constructors_stay_their_own() -> None:
    def fail(model: nn.Module) -> None:
        model.config.no_such_field  # noqa: B018

    with pytest.raises(AttributeError, match="no_such_field"):
        make(fail)(SmallConfig())


@dataclass
class Size:
    fields: dict[str, int]
    named: str


SIZES = [
    Size({"vocab_size": 10**12}, "vocab_size=1000000000000"),
    Size({"max_position_embeddings": 10**11}, "max_position_embeddings=100000000000"),
    Size({"dim": 10**6, "max_position_embeddings": 2}, "dim=1000000"),
]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.named)
def test_sizes_beyond_memory_are_refused_before_anything_is_allocated(tmp_path: Path, size: Size) -> None:
    config = DistilBertConfig(**{"dim": 8, "hidden_dim": 8, "n_layers": 1, "n_heads": 2, "vocab_size": 9} | size.fields)
    with pytest.raises(
        ConfigurationError, match=rf"(?s)DistilBertModel .*{size.named}.*torch\.device\('meta'\)"
    ) as error:
        DistilBertModel(config)
    assert "allocat" not in str(error.value)
    assert error.value.__suppress_context__
    DistilBertModel(DistilBertConfig(dim=8, hidden_dim=8, n_layers=1, n_heads=2, vocab_size=9)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ConfigurationError, match=size.named):
        DistilBertModel.from_pretrained(tmp_path, **size.fields)
    with torch.device("meta"):
        assert DistilBertModel(config).device.type == "meta"


def stack(model: nn.Module) -> None:
    model.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(model.config.n_layers))


def test_many_layers_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MEMORY", 100 * 64 * 64 * 4)
    model_class = make(stack)
    model_class(SmallConfig(n_layers=90))
    with pytest.raises(ConfigurationError, match=r"n_layers=200"):
        model_class(SmallConfig(n_layers=200))


def test_memory_that_is_given_back_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MEMORY", 100 * 64 * 64 * 4)

    def try_out(model: nn.Module) -> None:
        for _ in range(300):
            torch.zeros(64, 64)

    make(try_out)(SmallConfig())
