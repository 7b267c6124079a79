"""ResNet: it computes what the peer computes, on either's weights; what makes it fast cannot be seen from outside."""

import copy
import json
from pathlib import Path

import pytest
import torch
from rounding import STEPS, STEPS_OF_GRADIENTS, assert_near
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset

import maquette.models.resnet.modeling as modeling
from maquette import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
)
from maquette.errors import ConfigurationError, UnknownNameError

BASIC = {"layer_type": "basic", "embedding_size": 6, "hidden_sizes": [6, 10], "depths": [2, 2]}
NARROW = {"embedding_size": 6, "hidden_sizes": [12, 20, 24], "depths": [2, 1, 2]}
RESNET18 = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
# For each case the configuration, and the images it is tried with; "many" are enough for channels to lie last.
CASES = {
    "basic": ({**BASIC, "num_labels": 3}, ["few", "many"]),
    "bottleneck": ({**NARROW, "num_labels": 3}, ["few", "many"]),
    "earlier": ({**NARROW, "downsample_in_bottleneck": True, "num_labels": 3}, ["few"]),
    "smaller": ({**BASIC, "downsample_in_first_stage": True, "num_labels": 3}, ["few"]),
    "many classes": ({**BASIC, "num_labels": 3, "problem_type": "multi_label_classification"}, ["few"]),
    "numbers": ({**BASIC, "num_labels": 3, "problem_type": "regression"}, ["few"]),
    "a number": ({**BASIC, "num_labels": 1}, ["few"]),
    "grey, gelu": ({**NARROW, "num_channels": 1, "hidden_act": "gelu", "num_labels": 3}, ["grey"]),
    "resnet-18": ({**RESNET18, "num_labels": 5}, ["large"]),
}


def tiny(**fields):
    return ResNetConfig(**{**NARROW, "num_labels": 3, **fields})


def scatter(model):
    """Give batch normalisation weights and statistics that are not those of a fresh one."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
                module.running_mean.normal_(std=0.3)
    return model.eval()


def model_of(kind=ResNetForImageClassification, **fields):
    torch.manual_seed(0)
    return scatter(kind(tiny(**fields)))


def make_inputs() -> dict[str, torch.Tensor]:
    """Images of several sizes, and labels of every kind for the first of them."""
    torch.manual_seed(7)
    numbers = {"numbers": torch.randn(8, 3), "a number": torch.randn(8), "many classes": torch.rand(8, 3).round()}
    labels = {case: numbers.get(case, torch.tensor([0, 2, 1, 1, 0, 2, 2, 1])) for case in CASES}
    return {
        "few": torch.randn(4, 3, 45, 50),
        "many": torch.randn(8, 3, 128, 128),
        "grey": torch.randn(4, 1, 45, 50),
        "large": torch.randn(3, 3, 224, 224),
        **{f"labels.{case}": value for case, value in labels.items()},
    }


# The peer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    settings = {case: {"config": fields, "images": images} for case, (fields, images) in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(settings), encoding="utf-8")
    for case, (fields, _) in CASES.items():
        torch.manual_seed(0)
        scatter(ResNetForImageClassification(ResNetConfig(**fields))).save_pretrained(folder / "ours" / case)
    run_peer(Path(__file__).parent / "peer_resnet.py", folder)
    return folder


def compute(folder, images, labels):
    """Give everything that the peer's script gives, under its names."""
    model = ResNetForImageClassification.from_pretrained(folder)
    labels = labels[: len(images)]
    with torch.no_grad():
        output = model(images, labels, output_hidden_states=True)
        base = model.resnet(images)
    found = {"logits": output.logits, "loss": output.loss, "last": base.last_hidden_state, "pooled": base.pooler_output}
    found |= {f"state.{number}": state for number, state in enumerate(output.hidden_states)}
    if len(images) > 4:  # in float32, gradients of so many terms differ by more than 1e-4 from one order to another
        model, images = model.double(), images.double()
    for mode in () if images.shape[-1] > 200 else ("eval", "train"):
        model.train(mode == "train").zero_grad()
        output = model(images, labels)
        output.loss.backward()
        found |= {f"{mode}.logits": output.logits, f"{mode}.loss": output.loss}
        found |= {f"{mode}.grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    found |= {f"buffer.{name}": buffer for name, buffer in model.named_buffers()}
    backbone = modeling.ResNetBackbone.from_pretrained(folder, out_features=["stem", "stage2"])
    with torch.no_grad():
        maps = backbone(images.float()).feature_maps
    return {**found, **{f"map.{number}": value for number, value in enumerate(maps)}}


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_peer(exchange, case, whose):
    inputs, names = make_inputs(), CASES[case][1]
    expected = load_file(exchange / "results" / f"{whose}-{case}.safetensors")
    saved = json.loads(bytes(expected.pop("keys").tolist()))
    with safe_open(exchange / whose / case / "model.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == saved
    for name in names:
        found = compute(exchange / whose / case, inputs[name], inputs[f"labels.{case}"])
        assert {f"{name}.{key}" for key in found} == {key for key in expected if key.startswith(f"{name}.")}
        for key, value in found.items():
            steps = STEPS_OF_GRADIENTS if ".grad." in key or value.dtype is torch.float64 else STEPS
            assert_near(value, expected[f"{name}.{key}"], f"{case}, {name}: {key}", steps=steps)


def test_reads_the_peers_configuration(exchange):
    config = AutoConfig.from_pretrained(exchange / "theirs" / "bottleneck")
    assert type(config) is ResNetConfig
    assert (config.depths, config.hidden_sizes, config.out_features) == ([2, 1, 2], [12, 20, 24], ["stage3"])
    assert config.extra.get("stage_names") is None and config.stage_names == ["stem", "stage1", "stage2", "stage3"]


# What a ResNet is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "count"), [(RESNET18, 11_689_512), ({}, 25_557_032)], ids=["resnet-18", "-50"])
def test_has_as_many_parameters_as_published(fields, count):
    with torch.device("meta"):
        assert ResNetForImageClassification(ResNetConfig(num_labels=1000, **fields)).num_parameters() == count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": [1, 2]}, "must name the same number of stages"),
        ({"depths": [], "hidden_sizes": []}, "at least one"),
        ({"hidden_sizes": [3, 8, 8]}, "a fourth as wide"),
        ({"layer_type": "botleneck"}, "Did you mean 'bottleneck'"),
        ({"depths": [1, 0, 1]}, r"depths\[1\]"),
        ({"hidden_size": [1]}, "Did you mean 'hidden_sizes'"),
    ],
)
def test_what_cannot_be_built_is_an_error(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny(**fields)


def test_an_unknown_activation_is_an_error_that_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'rleu'.*Did you mean 'relu'"):
        ResNetModel(tiny(hidden_act="rleu"))


IMAGES = torch.randn(2, 3, 40, 40)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"not of shape \(3, 40, 40\). For one image, add the axis of a batch: pixel_values\[None\]"),
        (IMAGES[:, :1], r"\(batch, 3, height, width\), not of shape \(2, 1, 40, 40\).*num_channels"),
        (IMAGES.permute(0, 2, 3, 1), r"channels are last here: permute\(0, 3, 1, 2\)"),
        (IMAGES.byte(), "not torch.uint8. An image processor"),
        (IMAGES.numpy(), "not a ndarray"),
        (None, "not a NoneType"),
    ],
)
def test_what_is_no_batch_of_images_is_an_error(images, message):
    with pytest.raises(ValueError, match=message):
        model_of()(images)


def test_a_misspelt_keyword_is_an_error():
    with pytest.raises(TypeError, match="output_hiden_states"):
        model_of()(IMAGES, output_hiden_states=True)


def test_gives_a_tuple_where_it_is_asked_for():
    model, labels = model_of(), torch.tensor([1, 2])
    output = model(IMAGES, labels, output_hidden_states=True)
    loss, logits, states = model(IMAGES, labels, output_hidden_states=True, return_dict=False)
    assert torch.equal(loss, output.loss) and torch.equal(logits, output.logits) and len(states) == 4
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, labels))
    last, pooled = model.resnet(IMAGES, return_dict=False)
    assert last.shape == (2, 24, 3, 3) and pooled.shape == (2, 24, 1, 1)
    torch.testing.assert_close(pooled, last.mean((2, 3), keepdim=True))


def test_without_labels_there_is_nothing_to_score():
    model = ResNetForImageClassification(tiny(num_labels=0)).eval()
    assert torch.equal(model(IMAGES).logits, model.resnet(IMAGES).pooler_output.flatten(1))


def test_a_head_can_be_exchanged(tmp_path):
    model_of().save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    base.save_pretrained(tmp_path / "base")
    again, info = AutoModelForImageClassification.from_pretrained(
        tmp_path / "base", num_labels=7, output_loading_info=True
    )
    assert sorted(info["missing_keys"]) == ["classifier.1.bias", "classifier.1.weight"]
    assert again(IMAGES).logits.shape == (2, 7)
    torch.testing.assert_close(again.resnet(IMAGES).pooler_output, model_of().resnet(IMAGES).pooler_output)


# Speed cannot be seen from outside -------------------------------------------------------------------------------


def many():
    return make_inputs()["many"]


@pytest.fixture
def folded(monkeypatch):
    """The convolutions that are computed with normalised weights."""
    calls = []
    convolve = modeling.convolve_folded
    monkeypatch.setattr(modeling, "convolve_folded", lambda *inputs: (calls.append(inputs[0]), convolve(*inputs))[1])
    return calls


def plain(model, images):
    """Compute with torch's own modules alone."""

    def convolve(layer, x):
        x = layer.normalization(layer.convolution(x))
        return layer.activation(x) if layer.activation else x

    def run(block, x):
        y = x
        for layer in block.layer:
            y = convolve(layer, y)
        short = x if isinstance(block.shortcut, torch.nn.Identity) else convolve(block.shortcut, x)
        return block.activation(y + short)

    x = model.embedder.pooler(convolve(model.embedder.embedder, images))
    for stage in model.encoder.stages:
        for block in stage.layers:
            x = run(block, x)
    return x


def test_folding_and_rearranging_change_nothing_but_rounding(folded):
    model, images = model_of(ResNetModel), many()
    with torch.no_grad():
        expected = plain(model, images)
        assert_near(model(images).last_hidden_state, expected)
    assert len(folded) > 10
    assert_near(model(images).last_hidden_state, expected)


def test_folding_follows_every_change_of_weights(folded):
    model, images = model_of(ResNetModel), many()
    with torch.no_grad():
        model(images)
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.data = tensor.data * 0.9
        assert_near(model(images).last_hidden_state, plain(model, images))
    assert folded


@pytest.mark.parametrize(
    ("kind", "count"),
    [(torch.nn.Conv2d, 19), (torch.nn.BatchNorm2d, 19), (modeling.ConvLayer, 19), (torch.nn.Sequential, 8)],
)
def test_what_somebody_watches_is_computed_and_not_written_over(kind, count, folded):
    model, images = model_of(ResNetModel), many()
    seen = {}
    for name, module in model.named_modules():
        if type(module) is kind:
            module.register_forward_hook(
                lambda m, inputs, output, name=name: seen.update({name: (output, output.clone())})
            )
    with torch.no_grad():
        model(images)
    assert len(seen) == count and all(torch.equal(value, copied) for value, copied in seen.values())
    assert bool(folded) == (kind in (modeling.ConvLayer, torch.nn.Sequential))


def test_nothing_is_folded_where_a_module_was_replaced_or_wrapped(folded):
    model, images = model_of(ResNetModel), many()
    with torch.no_grad():
        expected = plain(model, images)
        for layer in [module for module in model.modules() if isinstance(module, modeling.ConvLayer)]:
            layer.normalization.forward = layer.normalization.forward
        assert_near(model(images).last_hidden_state, expected)
        model = model_of(ResNetModel)
        for layer in [module for module in model.modules() if isinstance(module, modeling.ConvLayer)]:
            torch.nn.utils.parametrizations.weight_norm(layer.convolution)
        assert_near(model(images).last_hidden_state, expected)
    assert not folded


def test_statistics_of_a_batch_are_never_folded(folded):
    model, images = model_of(ResNetModel).train(), many()
    before = copy.deepcopy(model)
    with torch.no_grad():
        model(images)
        plain(before, images)
    assert not folded
    for name, buffer in model.named_buffers():
        assert_near(buffer, before.get_buffer(name))


@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "without"])
def test_outputs_lie_in_memory_as_the_input_does(grad):
    model = model_of(ResNetModel)
    with torch.set_grad_enabled(grad):
        for images in (many(), many().contiguous(memory_format=torch.channels_last)):
            output = model(images, output_hidden_states=True)
            form = torch.contiguous_format if images.is_contiguous() else torch.channels_last
            for state in (output.last_hidden_state, *output.hidden_states):
                assert state.is_contiguous(memory_format=form)


def test_weights_and_gradients_stay_as_they_are(tmp_path):
    model_of().save_pretrained(tmp_path)
    model = ResNetForImageClassification.from_pretrained(tmp_path)
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model(many())
    model(many(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])).loss.backward()
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == places  # still the mapped file
    assert all(p.is_contiguous() and p.grad.is_contiguous() for p in model.parameters())
    assert parameters_to_vector(model.parameters()).numel() == model.num_parameters()
    save_file(model.state_dict(), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").stat().st_size > 0


def test_respects_weights_that_the_caller_put_channels_last(tmp_path):
    model, images = model_of().to(memory_format=torch.channels_last), many()
    with torch.no_grad():
        assert_near(model(images).logits, model_of()(images).logits)
    model.save_pretrained(tmp_path)
    model_of().save_pretrained(tmp_path / "plain")
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "plain" / "model.safetensors").read_bytes()


def test_one_program_serves_every_number_of_images():
    model, batch = model_of(), torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (many()[:4],), dynamic_shapes={"pixel_values": {0: batch}}, strict=False)
    with torch.no_grad():
        for count in (1, 8):
            found = program.module()(many()[:count]).logits
            assert_near(found, model(many()[:count]).logits)


def test_lower_precision_runs_on_many_images(folded):
    model, images = model_of(), many()
    with torch.no_grad():
        expected = model(images).logits
        folded.clear()
        found = copy.deepcopy(model).bfloat16()(images.bfloat16()).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(images).logits
    assert found.dtype is torch.bfloat16
    for logits in (found, mixed):
        torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.05)


# Training --------------------------------------------------------------------------------------------------------


def test_learns_to_tell_pictures_apart():
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randn(60, 3, 32, 32) * 0.5
    for number, label in enumerate(labels):
        images[number, label] += 1  # each class has its colour
    torch.manual_seed(1)
    model = ResNetForImageClassification(tiny()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(4):
        for x, y in DataLoader(TensorDataset(images[:45], labels[:45]), batch_size=15):
            optimizer.zero_grad()
            model(x, y).loss.backward()
            optimizer.step()
    with torch.no_grad():
        assert (model.eval()(images[45:]).logits.argmax(1) == labels[45:]).float().mean() >= 0.9


# A user's own architecture of the same model type ----------------------------------------------------------------


def test_the_users_resnet_comes_before_ours(run_fresh, tmp_path):
    """As in the guide: no `exist_ok`, one line in the log, and ours are still there by their names."""
    found = run_fresh("""
import logging, torch
logging.basicConfig(level="WARNING", format="%(message)s")
from maquette import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel, ResNetConfig, ResNetModel

class ResnetConfig(PretrainedConfig):
    model_type = "resnet"
    width: int = 4

class ResnetModel(PreTrainedModel):
    config_class = ResnetConfig
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.width, 1)

AutoConfig.register("resnet", ResnetConfig)
AutoModel.register(ResnetConfig, ResnetModel)
ResnetModel(ResnetConfig()).save_pretrained("mine")
assert type(AutoModel.from_pretrained("mine")) is ResnetModel
assert type(AutoConfig.for_model("resnet")) is ResnetConfig
assert type(AutoModel.from_config(ResNetConfig(depths=[1], hidden_sizes=[4]))) is ResNetModel
""")
    assert found.strip() == "'resnet' is also a built-in model type; from now on it means your ResnetConfig."


def test_the_configuration_needs_no_framework(run_fresh):
    run_fresh("""
import sys
from maquette import ResNetConfig
assert ResNetConfig().stage_names[-1] == "stage4"
assert not {"torch", "keras", "jax"} & set(sys.modules)
""")
