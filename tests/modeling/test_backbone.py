"""Backbones: choosing stages by name or by place, in configurations, files and models, and backbones of one's own."""

import copy
import itertools
import json

import pytest
import torch
from torch import nn

from maquette import AutoBackbone, AutoConfig, PreTrainedModel, ResNetConfig, ResNetForImageClassification
from maquette.errors import ConfigurationError, SaveError, UnknownFieldError
from maquette.modeling.backbone import BackboneConfigMixin, BackboneMixin
from maquette.testing import check_config, check_model

TINY = {"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 1]}
IMAGES = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))
SIZES = [(9, 10), (9, 10), (5, 5)]  # of the stem and the two stages


class SketchConfig(BackboneConfigMixin):
    """A configuration with declared fields."""

    model_type = "sketch-backbone"
    width: int = 4
    depth: int = 3

    @property
    def stage_names(self):
        return [f"level{number}" for number in range(self.depth)]


class HandWrittenConfig(BackboneConfigMixin):
    """A configuration with a constructor, which names its stages there."""

    model_type = "hand-written-backbone"

    def __init__(self, width=4, depth=3, **kwargs):
        self.width, self.depth = width, depth
        self.stage_names = [f"level{number}" for number in range(depth)]
        super().__init__(**kwargs)


class SketchBackbone(BackboneMixin, PreTrainedModel):
    config_class = SketchConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.num_features = [config.width + number for number in range(config.depth)]
        widths = [3, *self.num_features]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))

    @property
    def dummy_inputs(self):
        return {"pixel_values": IMAGES}

    def forward(self, pixel_values, *, output_hidden_states=None, return_dict=None):
        states = []
        for layer in self.layers:
            pixel_values = layer(pixel_values)
            states.append(pixel_values)
        return self.give_maps(states, output_hidden_states=output_hidden_states, return_dict=return_dict)


class HandWrittenBackbone(SketchBackbone):
    config_class = HandWrittenConfig


# Choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "names", "places"),
    [
        ({}, ["stage2"], [2]),
        ({"out_features": None, "out_indices": None}, ["stage2"], [2]),
        ({"out_features": ["stem", "stage2"]}, ["stem", "stage2"], [0, 2]),
        ({"out_indices": (0, 1)}, ["stem", "stage1"], [0, 1]),
        ({"out_indices": [0, -1]}, ["stem", "stage2"], [0, -1]),
        ({"out_indices": [-3]}, ["stem"], [-3]),
        ({"out_features": ["stage1"], "out_indices": [-2]}, ["stage1"], [-2]),
    ],
)
def test_names_and_places_follow_each_other(choice, names, places):
    config = ResNetConfig(**TINY, **choice)
    assert (config.out_features, config.out_indices) == (names, places)
    again = ResNetConfig.from_dict(json.loads(config.to_json_string()))
    assert again == config and (again.out_features, again.out_indices) == (names, places)


WRONG = [
    ({"out_features": ["stge1", "stage7", "elsewhere"]}, "'stge1' is no stage. Did you mean 'stage1'"),
    ({"out_features": ["stge1", "stage7", "elsewhere"]}, "'elsewhere' is no stage"),
    ({"out_features": ["stage2", "stage1"]}, "in the order of the model: 'stage1', 'stage2'"),
    ({"out_features": ["stage1", "stage1"]}, "'stage1' is chosen twice"),
    ({"out_features": []}, "No stage is chosen"),
    ({"out_features": "stage1"}, "Expected list, got str"),
    ({"out_indices": [3]}, "3 is outside -3 to 2"),
    ({"out_indices": [-4]}, "-4 is outside -3 to 2"),
    ({"out_indices": [2, -3]}, "in the order of the model: 'stem', 'stage2'"),
    ({"out_indices": [2, -1]}, "'stage2' is chosen twice"),
    ({"out_indices": ["stem"]}, r"out_indices\[0\]: Expected int"),
]


@pytest.mark.parametrize(("choice", "message"), WRONG)
def test_a_wrong_choice_is_an_error_and_changes_nothing(choice, message):
    with pytest.raises(ConfigurationError, match=message):
        ResNetConfig(**TINY, **choice)
    config = ResNetConfig(**TINY, out_features=["stem"])
    ((name, value),) = choice.items()
    with pytest.raises(ConfigurationError, match=message):
        setattr(config, name, value)
    assert (config.out_features, config.out_indices) == (["stem"], [0])


def test_two_choices_have_to_agree():
    with pytest.raises(ConfigurationError, match=r"choose different stages of stem, stage1, stage2.*the other follows"):
        ResNetConfig(**TINY, out_features=["stage1"], out_indices=[2])


def test_assigning_one_sets_the_other():
    config = ResNetConfig(**TINY)
    config.out_features = ["stem", "stage1"]
    assert config.out_indices == [0, 1]
    config.out_indices = (1, -1)
    assert (config.out_features, config.out_indices) == (["stage1", "stage2"], [1, -1])
    config.out_features = None
    assert (config.out_features, config.out_indices) == (["stage2"], [2])
    config.update({"out_features": ["stem"]})
    assert config.out_indices == [0]
    assert copy.deepcopy(config) == config


def test_the_last_stage_stays_the_last_when_there_are_more():
    config = SketchConfig()
    config.depth = 5
    assert (config.out_features, config.out_indices) == (["level4"], [4])
    config = SketchConfig(out_features=["level1"])
    config.depth = 5
    assert (config.out_features, config.out_indices) == (["level1"], [1])


def test_a_choice_that_no_longer_exists_is_not_saved(tmp_path):
    config = SketchConfig(out_features=["level0", "level2"])
    config.depth = 2
    with pytest.raises(SaveError, match="'level2' is no stage"):
        config.save_pretrained(tmp_path)


def test_stages_need_names():
    class NamelessConfig(BackboneConfigMixin):
        model_type = "nameless"

    with pytest.raises(TypeError, match="NamelessConfig does not say what its stages are called"):
        NamelessConfig()


def test_names_of_stages_are_no_argument():
    with pytest.raises(UnknownFieldError, match="stage_names"):
        ResNetConfig(**TINY, stage_names=["a"])


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SketchConfig, HandWrittenConfig])
def test_an_override_replaces_both(kind, tmp_path):
    kind(out_features=["level0"]).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (written["out_features"], written["out_indices"]) == (["level0"], [0])
    for choice in ({"out_features": ["level1", "level2"]}, {"out_indices": [1, 2]}):
        config = kind.from_pretrained(tmp_path, **choice)
        assert (config.out_features, config.out_indices) == (["level1", "level2"], [1, 2])
    assert kind.from_pretrained(tmp_path).out_features == ["level0"]
    assert kind.from_pretrained(tmp_path, depth=5).out_features == ["level0"]
    with pytest.raises(ConfigurationError, match=r"'lvel1' is no stage. Did you mean 'level1'"):
        kind.from_pretrained(tmp_path, out_features=["lvel1"])


@pytest.mark.parametrize("kind", [SketchConfig, HandWrittenConfig])
def test_the_last_stage_follows_an_override(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    config = kind.from_pretrained(tmp_path, depth=2)
    assert (config.stage_names, config.out_features, config.out_indices) == (["level0", "level1"], ["level1"], [1])


def test_a_file_that_contradicts_itself_is_an_error(tmp_path):
    content = {"model_type": "resnet", **TINY, "out_features": ["stem"], "out_indices": [2]}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"config.json: .*choose different stages"):
        AutoConfig.from_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, out_indices=[1]).out_features == ["stage1"]


# Models ----------------------------------------------------------------------------------------------------------


def test_gives_the_maps_that_are_chosen():
    backbone = AutoBackbone.from_config(ResNetConfig(**TINY), out_features=["stem", "stage2"]).eval()
    assert (backbone.channels, backbone.out_feature_channels) == ([4, 12], {"stem": 4, "stage1": 8, "stage2": 12})
    output = backbone(IMAGES, output_hidden_states=True)
    assert [tuple(m.shape) for m in output.feature_maps] == [(2, 4, *SIZES[0]), (2, 12, *SIZES[2])]
    assert [state.shape[2:] for state in output.hidden_states] == SIZES
    backbone.out_indices = [1]
    output = backbone(IMAGES)
    assert backbone.out_features == ["stage1"] and backbone.channels == [8]
    assert [m.shape[2:] for m in output.feature_maps] == [SIZES[1]] and output.hidden_states is None
    (maps,) = backbone(IMAGES, return_dict=False)
    assert torch.equal(maps[0], output.feature_maps[0])
    with pytest.raises(ConfigurationError, match="'stag1'"):
        backbone.out_features = ["stag1"]


def test_a_choice_at_construction_leaves_the_configuration_alone():
    config = ResNetConfig(**TINY)
    backbone = AutoBackbone.from_config(config, out_indices=[0, 1], dtype=torch.bfloat16)
    assert backbone.out_features == ["stem", "stage1"] and backbone.dtype is torch.bfloat16
    assert config.out_features == ["stage2"]
    assert AutoBackbone.from_config(config).config is config
    with pytest.raises(ConfigurationError, match="choose different stages"):
        AutoBackbone.from_config(config, out_features=["stem"], out_indices=[1])


@pytest.mark.parametrize("choice", [{"out_features": ["stem", "stage1"]}, {"out_indices": (0, -2)}])
def test_takes_its_weights_from_a_classifier(choice, tmp_path, caplog):
    classifier = ResNetForImageClassification(ResNetConfig(**TINY)).eval()
    classifier.save_pretrained(tmp_path)
    backbone, info = AutoBackbone.from_pretrained(tmp_path, output_loading_info=True, **choice)
    assert info["unexpected_keys"] == ["classifier.1.bias", "classifier.1.weight"] and not info["missing_keys"]
    assert "unused  classifier.1.weight" in caplog.text
    states = classifier(IMAGES, output_hidden_states=True).hidden_states
    for found, expected in zip(backbone(IMAGES).feature_maps, states[:2], strict=True):
        assert torch.equal(found, expected)
    config = AutoConfig.from_pretrained(tmp_path)
    assert AutoBackbone.from_pretrained(tmp_path, config=config, **choice).out_features == ["stem", "stage1"]
    backbone.save_pretrained(tmp_path / "backbone")
    again = AutoBackbone.from_pretrained(tmp_path / "backbone")
    assert again.out_features == ["stem", "stage1"]
    assert torch.equal(again(IMAGES).feature_maps[1], states[1])


def test_takes_keywords_of_other_backbones_where_that_is_asked_for():
    backbone = AutoBackbone.from_config(ResNetConfig(**TINY)).eval()
    output = backbone.forward_with_filtered_kwargs(IMAGES, output_attentions=True, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    with pytest.raises(TypeError, match="output_attentions"):
        backbone(IMAGES, output_attentions=True)


# One's own -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SketchBackbone, HandWrittenBackbone])
def test_a_backbone_of_ones_own(kind, tmp_path):
    AutoConfig.register(kind.config_class.model_type, kind.config_class)
    AutoBackbone.register(kind.config_class, kind)
    backbone = AutoBackbone.from_config(kind.config_class(), out_features=["level0", "level2"])
    assert type(backbone) is kind and backbone.channels == [4, 6]
    backbone.save_pretrained(tmp_path)
    again = AutoBackbone.from_pretrained(tmp_path, out_indices=[-1])
    assert torch.equal(again(IMAGES).feature_maps[0], backbone(IMAGES).feature_maps[1])


def test_it_conforms():
    check_config(SketchConfig)
    check_model(SketchBackbone, SketchConfig(depth=2), skip={"fresh_process": "the class is defined in a test"})
