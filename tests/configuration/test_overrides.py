"""Fields given while loading: the same configuration, wherever it is read from and whoever reads it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sample_configurations import Nested, NestedByHand, Text

from maquette import (
    AutoConfig,
    AutoModel,
    ConfigurationError,
    PretrainedConfig,
    PreTrainedModel,
    SaveError,
    UnknownFieldError,
    registry,
)


class Derives(PretrainedConfig):
    """Works out one field from others, and has a rule that spans two."""

    model_type = "derives"

    def __init__(self, dim: int = 64, heads: int = 4, text: Text | None = None, **kwargs):
        self.dim, self.heads = dim, heads
        self.head_dim = dim // heads
        self.text = text or Text()
        super().__init__(**kwargs)

    def validate(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} cannot be shared equally by heads={self.heads}")


class Outer(PretrainedConfig):
    model_type = "outer"
    inner: Nested = Nested()
    by_hand: NestedByHand = NestedByHand()
    maybe: Text | None = None


class DerivesModel(PreTrainedModel):
    config_class = Derives

    def __init__(self, config, scale=1):
        super().__init__(config)
        self.scale = scale
        self.weight = torch.nn.Parameter(torch.zeros(2))


class OuterModel(PreTrainedModel):
    config_class = Outer

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(2))


MODELS: dict[type[PretrainedConfig], type[PreTrainedModel]] = {Derives: DerivesModel, Outer: OuterModel}
WAYS: dict[str, Callable[[PretrainedConfig, Path, dict[str, Any]], Any]] = {
    "class": lambda c, at, new: type(c).from_pretrained(at, **new),
    "from_dict": lambda c, at, new: type(c).from_dict(c.to_dict(), **new),
    "AutoConfig": lambda c, at, new: AutoConfig.from_pretrained(at, **new),
    "model": lambda c, at, new: MODELS[type(c)].from_pretrained(at, **new).config,
    "model, config=object": lambda c, at, new: MODELS[type(c)].from_pretrained(at, config=c, **new).config,
    "model, config=path": lambda c, at, new: MODELS[type(c)].from_pretrained(at, config=at, **new).config,
    "AutoModel": lambda c, at, new: AutoModel.from_pretrained(at, **new).config,
    "AutoModel, config=object": lambda c, at, new: AutoModel.from_pretrained(at, config=c, **new).config,
    "AutoModel, config=path": lambda c, at, new: AutoModel.from_pretrained(at, config=str(at), **new).config,
    "from_config": lambda c, at, new: MODELS[type(c)].from_config(c, **new).config,
    "AutoModel.from_config": lambda c, at, new: AutoModel.from_config(c, **new).config,
}
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_configs", "_classes", "_bundled"):
        monkeypatch.setattr(registry, name, {})
    for config, model in MODELS.items():
        AutoConfig.register(config.model_type, config)
        AutoModel.register(config, model)


def load(config: PretrainedConfig, folder: Path, way: str, **new: Any) -> Any:
    MODELS[type(config)](config).save_pretrained(folder)
    before = copy.deepcopy(config)
    found = WAYS[way](config, folder, new)
    assert config == before, "the caller's own configuration changed"
    return found


@every_way
def test_a_nested_configuration_keeps_what_is_not_given(way: str, tmp_path: Path) -> None:
    whole = Outer(
        inner={"text": {"dim": 32, "act": "relu"}, "heads": {1: [2]}},
        by_hand={"text": {"dim": 5}, "n_text": 7},
        maybe={"dim": 9, "layers": [1]},
    )
    new = {"inner": {"text": {"act": "gelu"}}, "by_hand": {"n_text": 8}, "maybe": {"layers": [2, 3]}}
    found = load(whole, tmp_path, way, **new)
    assert (found.inner.text.dim, found.inner.text.act, found.inner.heads) == (32, "gelu", {1: [2]})
    assert (found.by_hand.text.dim, found.by_hand.n_text) == (5, 8)
    assert (found.maybe.dim, found.maybe.layers) == (9, (2, 3))
    kinds = (found, found.inner, found.inner.text, found.by_hand, found.by_hand.text, found.maybe)
    assert [type(each) for each in kinds] == [Outer, Nested, Text, NestedByHand, Text, Text]


@every_way
def test_a_whole_configuration_or_none_replaces(way: str, tmp_path: Path) -> None:
    whole = Outer(inner={"text": {"dim": 32}, "either": 3}, maybe={"dim": 9})
    found = load(whole, tmp_path, way, inner=Nested(text={"act": "relu"}), maybe=None)
    assert (found.inner, found.maybe) == (Nested(text={"act": "relu"}), None)


@every_way
def test_what_is_worked_out_follows(way: str, tmp_path: Path) -> None:
    found = load(Derives(dim=128, extra={"mine": 1}), tmp_path, way, dim=32, num_labels=3)
    assert (found.dim, found.head_dim, found.mine, found.num_labels) == (32, 8, 1, 3)


@every_way
def test_what_was_set_by_hand_stays(way: str, tmp_path: Path) -> None:
    edited = Derives()
    edited.head_dim = 20
    assert load(edited, tmp_path, way, dim=32).head_dim == 20
    assert load(Derives(), tmp_path, way, dim=32, head_dim=5).head_dim == 5


@every_way
def test_rules_types_and_names_are_checked(way: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="dim=33 cannot be shared equally by heads=4"):
        load(Derives(), tmp_path, way, dim=33)
    with pytest.raises(ConfigurationError, match="Expected int, got str"):
        load(Derives(), tmp_path, way, dim="wide")
    assert load(Derives(), tmp_path, way, dim=33, heads=3).head_dim == 11  # two that only fit together
    with pytest.raises(UnknownFieldError, match=r"Text has no field 'dime'.*'dim'"):
        load(Derives(), tmp_path, way, text={"dime": 4})
    with pytest.raises((UnknownFieldError, TypeError), match="hads"):
        load(Derives(), tmp_path, way, hads=2)


def test_arguments_of_the_model_and_fields_are_told_apart(tmp_path: Path) -> None:
    config = Derives()
    for model in (DerivesModel.from_config(config, scale=3, dim=8), AutoModel.from_config(config, scale=3, dim=8)):
        assert (model.scale, model.config.dim, model.config.head_dim, config.dim) == (3, 8, 2, 64)
    assert DerivesModel.from_config(config).config is config
    assert AutoModel.from_config(config, attn_implementation="eager").config.attn_implementation == "eager"


class Forgets(PretrainedConfig):
    def __init__(self, dim: int = 3, secret=None, **kwargs):
        self.dim = dim
        super().__init__(**kwargs)


class Narrow(PretrainedConfig):
    text: Text | None = None
    dim: int = 3


class ModelOfAny(PreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)


class Unregistered(Text):
    more: int = 1


@pytest.mark.parametrize(
    ("config", "words"), [(Forgets(secret=5), "secret"), (Narrow(text=Unregistered(more=2)), "text would change")]
)
def test_what_a_file_could_not_hold_is_not_lost_silently(config: PretrainedConfig, words: str) -> None:
    with pytest.raises((SaveError, ConfigurationError), match=words):
        ModelOfAny.from_config(config, dim=4)
    assert ModelOfAny.from_config(config).config is config


def test_values_that_json_has_no_word_for_are_kept() -> None:
    class Holds(PretrainedConfig):
        table: Any = None
        dim: int = 3

    table = np.arange(3)
    found = ModelOfAny.from_config(Holds(table=[table, (1, 2)]), dim=4).config
    assert found.dim == 4 and (found.table[0] == table).all()
