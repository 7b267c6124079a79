"""Configurations: declared either way, checked, nested, labelled, copied; their values in JSON and back."""

import copy
import dataclasses
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_configurations import (
    DistilBert,
    DistilBertByHand,
    Everything,
    Kind,
    LabelsAfter,
    LabelsAnnotated,
    LabelsBefore,
    LabelsInherited,
    LabelsInSignature,
    LabelsNamed,
    Nested,
    NestedByHand,
    Text,
    reload,
    write,
)

from maquette import (
    ConfigurationError,
    PretrainedConfig,
    UnknownFieldError,
    __version__,
    registry,
)

either = pytest.mark.parametrize("cls", [DistilBert, DistilBertByHand])
PRINTED = """{
  "activation": "gelu",
  "attention_dropout": 0.1,
  "dim": 768,
  "dropout": 0.1,
  "hidden_dim": 3072,
  "initializer_range": 0.02,
  "maquette_version": "%s",
  "max_position_embeddings": 512,
  "model_type": "distilbert",
  "n_heads": 12,
  "n_layers": 6,
  "pad_token_id": 0,
  "qa_dropout": 0.1,
  "seq_classif_dropout": 0.2,
  "sinusoidal_pos_embds": false,
  "vocab_size": 30522
}"""


# Declaring ----------------------------------------------------------------------------------------------------------


@either
def test_the_printed_form_is_the_guides(cls: Any) -> None:
    printed = PRINTED % __version__
    assert str(cls()) == f"{cls.__name__} {printed}"
    changed = printed.replace('"gelu"', '"relu"').replace('"attention_dropout": 0.1', '"attention_dropout": 0.4')
    assert repr(cls(activation="relu", attention_dropout=0.4)) == f"{cls.__name__} {changed}"


@either
def test_values_are_checked_when_made_and_when_set(cls: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"dim: Expected int >= 1 \(found 0\)"):
        cls(dim=0)
    with pytest.raises(ConfigurationError, match="dim=10 cannot be shared equally by n_heads=4"):
        cls(dim=10, n_heads=4)
    config = cls()
    with pytest.raises(ConfigurationError, match=r"dim: Expected int, got str \(found '12'\)"):
        config.dim = "12"
    assert config == cls()


@either
def test_all_faults_are_said_at_once(cls: Any) -> None:
    with pytest.raises(UnknownFieldError) as caught:
        cls(dim="x", attention_dropout=1.5, num_labels=-1, dropuot=0.1)
    for part in (
        "dim: Expected int",
        "attention_dropout: Expected float <= 1",
        "num_labels: Expected int >= 0",
        "dropuot",
    ):
        assert part in str(caught.value)


@either
def test_a_typo_in_code_is_an_error(cls: Any) -> None:
    for make in (lambda: cls(n_head=3), lambda: setattr(cls(), "n_head", 3), lambda: cls().n_head):
        with pytest.raises(AttributeError, match=r"n_head'.*Did you mean 'n_heads'"):
            make()
    with pytest.raises(UnknownFieldError, match="extra="):
        cls(n_head=3)


@either
def test_foreign_keys_are_carried_on_request(cls: Any, tmp_path: Path) -> None:
    config = cls(extra={"team": ["a"]})
    assert (config.team, dict(config.extra)) == (["a"], {"team": ["a"]})
    config.team = ["b"]
    again = reload(config, tmp_path)
    assert again == config != cls() and again.team == ["b"]
    with pytest.raises(TypeError):
        config.extra["team"] = 1
    with pytest.raises(ConfigurationError, match="'dim' is a field"):
        cls(extra={"dim": 3})
    with pytest.raises(ConfigurationError, match="extra: must be a dictionary"):
        cls(extra=["team"])


@either
def test_aliases_are_arguments_and_attributes(cls: Any, tmp_path: Path) -> None:
    config = cls(hidden_size=24, torch_dtype="float16")
    assert (config.dim, config.hidden_size, config.dtype) == (24, 24, "float16")
    config.hidden_size, config.torch_dtype = 48, np.dtype("float64")
    assert (config.dim, config.torch_dtype) == (48, "float64") and "hidden_size" in dir(config)
    assert not {"hidden_size", "torch_dtype"} & config.to_dict().keys()
    assert reload(config, tmp_path, hidden_size=12).dim == 12
    for make in (cls, lambda **both: cls.from_dict(both)):
        with pytest.raises(
            ConfigurationError, match="dim: is given twice, as 12 and, by the name of 'hidden_size', as 24"
        ):
            make(dim=12, hidden_size=24)
    assert cls(dim=12, hidden_size=12).dim == 12


def test_subclasses_of_subclasses_in_either_style(tmp_path: Path) -> None:
    class Wide(Text):
        dim = 16

    class Deep(Wide):
        def __init__(self, dim=32, depth: int = 2, **kwargs):
            super().__init__(dim=dim, **kwargs)
            self.depth = depth

    class Deeper(Deep):
        depth: int = 4
        ratio: float = 0.5

    class Computed(Text):
        @property
        def dim(self) -> int:
            return 4 * len(self.layers)

    found = [(config.dim, getattr(config, "depth", None)) for config in (Wide(), Deep(), Deeper(), Computed())]
    assert found == [(16, None), (32, 2), (32, 4), (8, None)]
    for config in (Wide(dim=2), Deep(dim=2, act="relu"), Deeper(3, ratio=1), Computed(layers=[1])):
        again = reload(config, tmp_path / type(config).__name__)
        assert again == config and again.dim == config.dim and again.layers == config.layers
    with pytest.raises(ConfigurationError, match="depth: Expected int"):
        Deeper(depth="x")


def test_mixins_and_factories() -> None:
    class Rotary:
        theta: float = 1e4

    class Sized:
        def __init__(self, size=3, **kwargs):
            super().__init__(**kwargs)
            self.size = size

    class Mixed(Sized, Rotary, PretrainedConfig):
        blocks: list[int] = dataclasses.field(default_factory=lambda: [1])

    config = Mixed(5, theta=2)
    assert (config.size, config.theta, config.blocks) == (5, 2.0, [1]) and Mixed.from_dict(config.to_dict()) == config
    config.blocks.append(2)
    assert Mixed().blocks == [1]
    with pytest.raises(TypeError, match="positional arguments"):
        Mixed(1, 2, 3)


def test_aliases_of_subclasses() -> None:
    class Other(DistilBert):
        aliases: ClassVar[dict[str, str]] = {"hidden_size": "hidden_dim"}
        num_hidden_layers = 3

    class Field(DistilBert):
        hidden_size: int = 5

    assert (Other().hidden_size, Other(hidden_size=4).hidden_dim, Other().n_layers) == (3072, 4, 3)
    assert (Field(hidden_size=4).hidden_size, Field().dim) == (4, 768)
    assert Other().num_hidden_layers == Other(num_hidden_layers=3).n_layers


def test_a_class_may_be_defined_again() -> None:
    def define() -> Any:
        class Cell(PretrainedConfig):
            dim: int = 3

        return Cell

    class Outer(PretrainedConfig):
        cell: PretrainedConfig | None = None

    first, second = define(), define()
    Outer.__annotations__["cell"] = first | None
    assert isinstance(Outer(cell=second(dim=4)).cell, second) and second().to_dict() == first().to_dict()


def test_annotations_as_texts_and_unresolvable_ones(tmp_path: Path, run_fresh: Callable[..., str]) -> None:
    code = """
from __future__ import annotations
from typing import TYPE_CHECKING, ClassVar
from maquette import ConfigurationError, PretrainedConfig
if TYPE_CHECKING:
    from nowhere import Unknown
class One(PretrainedConfig):
    kinds: ClassVar[list[str]] = []
    later: Two | None = None
    loose: Unknown = 3
class Two(PretrainedConfig):
    def __init__(self, dim: int = 3, loose: Unknown = 4, **kwargs):
        self.dim = dim
        self.loose = loose
        super().__init__(**kwargs)
one = One(later={"dim": 5}, loose=[1])
assert isinstance(one.later, Two) and one.later.dim == 5 and "kinds" not in one.to_dict()
for wrong in ({"later": {"dim": "x"}}, {"loose": "text"}):
    try:
        One(**wrong)
    except ConfigurationError as error:
        print(error)
"""
    assert run_fresh(code).splitlines() == [
        "One cannot be made: later.dim: Expected int, got str (found 'x')",
        "One cannot be made: loose: Expected a number as in the default, 3, got 'text'",
    ]


# Nested configurations ----------------------------------------------------------------------------------------------


def test_nested_configurations_read_back_as_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_configs", {"text": Text})
    config = Nested(
        text={"dim": 3}, towers={"a": Text(dim=5)}, stack=[{"dim": 7}], any=Text(dim=9), heads={0: [1]}, either=Text()
    )
    again = reload(config, tmp_path)
    assert again == config and again.heads == {0: [1]} and config.to_dict()["text"]["dim"] == 3
    nested = (again.text, again.towers["a"], again.stack[0], again.any, again.either)
    assert [(type(each), each.dim) for each in nested] == [(Text, 3), (Text, 5), (Text, 7), (Text, 9), (Text, 8)]
    changed = Nested.from_pretrained(tmp_path, text={"act": "relu"})
    assert (changed.text.dim, changed.text.act) == (3, "relu")
    with pytest.raises(UnknownFieldError, match="no field 'dimm'"):
        Nested.from_pretrained(tmp_path, text={"dimm": 1})
    monkeypatch.setattr(registry, "_configs", {})
    with pytest.raises(ConfigurationError, match=r"config.json: .*any: Unknown model type 'text'"):
        Nested.from_pretrained(tmp_path)


def test_nested_configurations_of_a_handwritten_constructor(tmp_path: Path) -> None:
    config = NestedByHand(text=Text(dim=3))
    again = reload(config, tmp_path)
    assert again == config and type(again.text) is Text and again.text.dim == 3
    assert NestedByHand.from_pretrained(tmp_path, text={"dim": 4}).text.dim == 4
    write(tmp_path, {"text": {"dim": "x", "foreign": 1}})
    with pytest.raises(ConfigurationError, match=r"config.json: Text cannot be made: dim: Expected int"):
        NestedByHand.from_pretrained(tmp_path)


def test_faults_in_nested_places_are_named() -> None:
    wrong = {
        "text": {"dim": "x"},
        "towers": {"a": {"act": "reluu"}},
        "stack": [{}, {"layers": [1, None]}],
        "heads": {"b": [1]},
    }
    expected = [
        "heads['b']: Expected int, got str (found 'b')",
        "stack[1].layers[1]: Expected int, got null (found None)",
        "text.dim: Expected int, got str (found 'x')",
        "towers['a'].act: Expected 'relu' or 'gelu', got 'reluu'. Did you mean 'relu'?",
    ]
    for make in (lambda: Nested(**wrong), lambda: Nested.from_dict(wrong)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert str(caught.value).split("\n  - ")[1:] == expected
    with pytest.raises(UnknownFieldError, match="towers\\['a'\\]: Text has no field 'dimm'"):
        Nested(towers={"a": {"dimm": 3}})
    assert Nested.from_dict({"towers": {"a": {"foreign": 3}}}).towers["a"].foreign == 3


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cls", [LabelsInSignature, LabelsBefore, LabelsAfter, LabelsAnnotated, LabelsInherited, LabelsNamed, Text]
)
def test_labels_stay_in_step(cls: Any, tmp_path: Path) -> None:
    names = {0: "x", 1: "y", 2: "z"}
    assert cls().num_labels == (2 if cls is Text else 10)
    for number, arguments in enumerate(
        ({}, {"num_labels": 2}, {"num_labels": 4}, {"id2label": names}, {"label2id": {"x": 0, "y": "1"}})
    ):
        config = cls(**arguments)
        again = reload(config, tmp_path / str(number))
        assert again == config and again.id2label == config.id2label and len(config.label2id) == config.num_labels
        assert cls.from_pretrained(tmp_path / str(number), num_labels=7).num_labels == 7
        assert cls.from_pretrained(tmp_path / str(number), id2label=names).label2id == {"x": 0, "y": 1, "z": 2}
    config.num_labels = 3
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    config.id2label = {"0": "a"}
    assert (config.num_labels, config.label2id, config.id2label) == (1, {"a": 0}, {0: "a"})
    assert reload(config, tmp_path).id2label == {0: "a"}


# Values -------------------------------------------------------------------------------------------------------------


def test_values_beyond_json_read_back(tmp_path: Path) -> None:
    infinite = float("inf")
    config = Everything(
        path="b/c", limit=infinite, window=[0, -infinite], names={"b", "a"}, anything=[float("nan")], rate=2
    )
    again = reload(config, tmp_path)
    assert again == config and (again.limit, again.window, again.names) == (infinite, (0.0, -infinite), {"a", "b"})
    assert (again.path, again.kind, again.rate, type(again.rate)) == (Path("b/c"), Kind.SMALL, 2, int)
    strict = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert strict["window"] == [0.0, {"__float__": "-Infinity"}]
    for wrong in ({"rate": -1}, {"depth": 0}, {"kind": "large"}, {"window": [1]}, {"names": [["a"]]}, {"path": 3}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))}.*: Expected"):
            Everything(**wrong)


def test_numbers_of_numpy_become_pythons(tmp_path: Path) -> None:
    config = Text(dim=np.int64(3), layers=np.array([5, 6]).tolist(), extra={"scale": [np.float32(0.5)]})
    assert type(config.dim) is int and type(config.scale[0]) is float and reload(config, tmp_path) == config


def test_a_tuple_stays_a_tuple(tmp_path: Path) -> None:
    tupled = type("Tupled", (PretrainedConfig,), {})

    def construct(self, sizes=(1, 2), **kwargs):
        self.sizes = sizes
        super(tupled, self).__init__(**kwargs)

    tupled.__init__ = construct
    assert reload(tupled(sizes=(3,)), tmp_path).sizes == (3,)


def test_copies_differences_and_equality() -> None:
    config = Nested(text={"dim": 3}, extra={"list": [1]})
    for twin in (
        copy.deepcopy(config),
        copy.copy(config),
        pickle.loads(pickle.dumps(config)),
        Nested.from_dict(config.to_dict()),
    ):
        assert twin == config and twin is not config
        twin.text.dim, twin.list[0], twin.num_labels = 4, 2, 3
        assert (config.text.dim, config.list, config.num_labels) == (3, [1], 2)
        assert set(config.diff(twin)) == {"text", "list", "id2label", "label2id"}
    assert Text(dim=3).diff(Text(dim=4, extra={"a": 1})) == {"dim": (3, 4), "a": (None, 1)}
    assert Text() != DistilBert() and Text() != 3
    with pytest.raises(TypeError):
        hash(config)
    assert "is_decoder" not in config.to_diff_dict() and config.to_dict()["is_decoder"] is False
    assert json.loads(config.to_json_string(use_diff=False))["return_dict"] is True


def test_names_of_values_are_asked_for_as_of_a_container() -> None:
    config = DistilBert(dim=24, extra={"mine": 1})
    assert all(name in config for name in ("dim", "hidden_size", "mine", "id2label", "is_decoder", "model_type"))
    assert all(name not in config for name in ("n_embd", "num_labels_", "", 3, None, "to_dict", "_extra"))
    assert set(config) == config.to_dict().keys() - {"maquette_version"}
    assert {name for name in config if getattr(config, name) == 24} == {"dim"}


def test_nested_configurations_are_named_with_their_classes() -> None:
    config = Nested(any=DistilBert())
    assert config.sub_configs == {"text": Text, "any": DistilBert} and DistilBert().sub_configs == {}
    assert NestedByHand().sub_configs == {"text": Text}


def test_where_it_came_from_goes_by_both_names(tmp_path: Path) -> None:
    Text().save_pretrained(tmp_path)
    config = Text.from_pretrained(tmp_path)
    assert config.name_or_path == config._name_or_path == str(tmp_path) and Text()._name_or_path == ""
    config.name_or_path = tmp_path / "else"
    assert config._name_or_path == f"{tmp_path}/else" and config == Text()
    config.save_pretrained(tmp_path)
    assert "name_or_path" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert Text.from_pretrained(tmp_path, name_or_path="given", _from_auto=True).name_or_path == "given"


def test_a_copy_with_other_fields() -> None:
    config = Nested(text={"dim": 3, "act": "relu"}, heads={1: [2]})
    changed = config.__replace__(text={"dim": 4}, either="a")  # what copy.replace calls
    assert (changed.text, changed.heads, changed.either) == (Text(dim=4, act="relu"), {1: [2]}, "a")
    assert config.text.dim == 3 and changed.heads is not config.heads
    with pytest.raises(UnknownFieldError, match="ether"):
        config.__replace__(ether=3)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol: int) -> None:
    config = NestedByHand(text={"dim": 5}, num_labels=3, extra={"mine": [1]})
    again = pickle.loads(pickle.dumps([config, config], protocol))
    assert again[0] == config and again[0] is again[1] and again[0].to_dict() == config.to_dict()
    again[0].text.dim = 6
    assert config.text.dim == 5


def test_a_tree_of_configurations_keeps_them_whole() -> None:
    tree = torch.utils._pytree.tree_map(lambda leaf: [leaf], {"config": Text(dim=3), "more": (Text(), 1)})
    assert tree == {"config": [Text(dim=3)], "more": ([Text()], [1])}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
TYPED = st.sampled_from(
    [
        (int, st.integers()),
        (float, st.floats(allow_nan=False)),
        (str, st.text()),
        (bool, st.booleans()),
        (int | None, st.none() | st.integers()),
        (list[int], st.lists(st.integers(), max_size=3)),
        (tuple[str, ...], st.lists(st.text(), max_size=3).map(tuple)),
        (dict[int, bool], st.dictionaries(st.integers(), st.booleans(), max_size=3)),
        (dict[str, list[float]], st.dictionaries(st.text(), st.lists(st.floats(allow_nan=False)), max_size=2)),
        (set[int], st.sets(st.integers(), max_size=3)),
        (Any, JSON),
        (dict[str, Any], st.dictionaries(st.text(), JSON, max_size=3)),
    ]
)


def spoil(value: Any) -> None:
    """Change every list and dictionary in place, however deep."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        spoil(item)
    if isinstance(value, list | dict):
        value.clear()


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(TYPED, min_size=1, max_size=4))
def test_any_configuration_round_trips_and_shares_nothing(data: st.DataObject, kinds: list[Any]) -> None:
    fields = {f"field_{index}": kind for index, kind in enumerate(kinds)}
    defaults = {name: data.draw(values) for name, (_, values) in fields.items()}
    body = {"__annotations__": {name: kind for name, (kind, _) in fields.items()}, **copy.deepcopy(defaults)}
    cls: Any = type("Random", (PretrainedConfig,), body)
    values = {name: data.draw(values) for name, (_, values) in fields.items()}
    config = cls(**values, extra={"extra_field": data.draw(JSON)})
    again = cls.from_dict(json.loads(config.to_json_string(), parse_constant=pytest.fail))
    assert again == config and {name: getattr(again, name) for name in values} == values
    twin, other = cls(**values), cls()
    for name in values:
        spoil(getattr(config, name))
        spoil(getattr(other, name))
    assert {name: getattr(twin, name) for name in values} == values
    assert {name: getattr(cls(), name) for name in values} == defaults


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_importing_is_light(run_fresh: Callable[..., str]) -> None:
    code = """
import pathlib, re, sys
from maquette import PretrainedConfig
PretrainedConfig()
heavy = {"numpy", "torch", "huggingface_hub", "jax", "tensorflow", "keras"} & set(sys.modules)
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
print(heavy, peak, len(sys.modules))
"""
    heavy, megabytes, modules = run_fresh(code).rsplit(" ", 2)
    assert heavy == "set()"
    assert float(megabytes) <= 40
    assert int(modules) <= 175  # what the time goes by; benchmarks/starting.py measures it
