"""ViT: it computes what the peer computes, on either's weights, for images of any size."""

import json
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file
from torch.nn import functional

import maquette
from maquette import AutoModelForImageClassification, ViTConfig, ViTForMaskedImageModeling, ViTModel
from maquette.errors import CheckpointError, ConfigurationError
from maquette.modeling.tables import draw_bicubic
from maquette.models.vit import configuration

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 12,
    "patch_size": 4,
    "encoder_stride": 4,
    "initializer_range": 0.2,
}
SHAPES = {
    "square": (3, 12, 12),
    "large": (3, 20, 20),
    "wide": (3, 8, 28),
    "ragged": (3, 18, 23),
    "oblong": (3, 12, 20),
    "grey": (1, 12, 12),
}
BASE, CLASSIFIER, MASKED = "ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"
STRETCHED, SHOWN = {"interpolate_pos_encoding": True}, {"output_hidden_states": True, "output_attentions": True}


def case(model, image="square", *, config=None, constructor=None, options=None, **inputs):
    return {
        "model": model,
        "config": {**TINY, **(config or {})},
        "constructor": constructor or {},
        "inputs": {"pixel_values": image, **inputs},
        "options": options or {},
    }


CASES = {
    "base": case(BASE),
    "states": case(BASE, options=SHOWN),
    "unpooled": case(
        BASE, config={"qkv_bias": False, "hidden_act": "gelu_new"}, constructor={"add_pooling_layer": False}
    ),
    "pooler": case(BASE, config={"pooler_output_size": 5, "pooler_act": "relu", "layer_norm_eps": 1e-3}),
    "hidden patches": case(BASE, constructor={"use_mask_token": True}, bool_masked_pos="masked"),
    "oblong": case(BASE, "oblong", config={"image_size": [12, 20], "patch_size": [4, 2]}),
    "grey": case(BASE, "grey", config={"num_channels": 1}),
    "large": case(BASE, "large", options=STRETCHED),
    "wide": case(BASE, "wide", options=STRETCHED),
    "ragged": case(BASE, "ragged", options=STRETCHED),
    "one class": case(CLASSIFIER, config={"num_labels": 4}, labels="class"),
    "many classes": case(CLASSIFIER, config={"num_labels": 4}, labels="classes"),
    "a number": case(CLASSIFIER, config={"num_labels": 1}, labels="number"),
    "numbers": case(CLASSIFIER, config={"num_labels": 4, "problem_type": "regression"}, labels="numbers"),
    "class of a large": case(CLASSIFIER, "large", config={"num_labels": 4}, options=STRETCHED, labels="class"),
    "class and states": case(CLASSIFIER, config={"num_labels": 4}, options=SHOWN, labels="class"),
    "no class": case(CLASSIFIER, config={"num_labels": 0}),
    "pixels": case(MASKED, bool_masked_pos="masked"),
    "pixels and states": case(MASKED, options=SHOWN, bool_masked_pos="masked"),
    "pixels of all": case(MASKED),
    "pixels of a large": case(MASKED, "large", options=STRETCHED),
    "finer pixels": case(MASKED, config={"encoder_stride": 6}),
}


def tiny(**fields):
    return ViTConfig(**{**TINY, **fields})


def model_of(settings, **fields):
    torch.manual_seed(0)
    model = getattr(maquette, settings["model"])(ViTConfig(**settings["config"], **fields), **settings["constructor"])
    if (token := model.base_model.embeddings.mask_token) is not None:
        torch.nn.init.normal_(token)  # zeros would hide mistakes
    return model.eval()


def make_inputs() -> dict[str, torch.Tensor]:
    """Three images of every shape, and labels of every kind."""
    chance = torch.Generator().manual_seed(7)
    return {
        **{name: torch.randn(3, *shape, generator=chance) for name, shape in SHAPES.items()},
        "masked": torch.rand(3, 9, generator=chance) < 0.4,
        "class": torch.tensor([2, 0, 3]),
        "classes": torch.randint(0, 2, (3, 4), generator=chance).float(),
        "number": torch.randn(3, generator=chance),
        "numbers": torch.randn(3, 4, generator=chance),
    }


def images(name="square"):
    return make_inputs()[name]


# The peer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    (folder / "cases.json").write_text(json.dumps(CASES), encoding="utf-8")
    for name, settings in CASES.items():
        model_of(settings).save_pretrained(folder / "ours" / name)
    run_peer(Path(__file__).parent / "peer_vit.py", folder)
    return folder


def compute(model, settings):
    """Give our outputs and loss, and our gradients, named as the peer's script names them."""
    inputs = make_inputs()
    output = model(**{name: inputs[given] for name, given in settings["inputs"].items()}, **settings["options"])
    found = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    for name in ("hidden_states", "attentions"):
        found |= {f"{name}.{number}": value for number, value in enumerate(output.get(name) or ())}
    first = output[0]
    (output.loss if "loss" in found else (first * torch.linspace(-1, 1, first.numel()).view_as(first)).sum()).backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    return found, gradients


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose, kind):
    settings = CASES[name]
    model, info = getattr(maquette, settings["model"]).from_pretrained(
        exchange / whose / name, attn_implementation=kind, output_loading_info=True, **settings["constructor"]
    )
    assert not any(info.values()), info
    assert model.state_dict().keys() == load_file(exchange / "theirs" / name / "model.safetensors").keys()
    outputs, gradients = compute(model, settings)
    expected = load_file(exchange / "results" / f"{whose}-{name}-{kind}.safetensors")
    if kind == "sdpa":  # with which the peer has no attention weights to give
        outputs = {key: value for key, value in outputs.items() if not key.startswith("attentions.")}
    assert outputs.keys() == expected.keys()
    for key, value in outputs.items():
        assert_near(value, expected[key], key)
    wanted = load_file(exchange / "gradients" / f"{whose}-{name}-{kind}" / "model.safetensors")
    assert gradients.keys() == wanted.keys()
    for key, value in gradients.items():
        assert_near(value, wanted[key], key, among=wanted.values(), steps=STEPS_OF_GRADIENTS, least=0.0)


def test_configurations_go_both_ways(exchange):
    """The peer writes what we write, but for the version and what torch stored."""
    for name in CASES:
        ours, theirs = (
            json.loads((exchange / whose / name / "config.json").read_text(encoding="utf-8"))
            for whose in ("ours", "theirs")
        )
        assert ours.pop("maquette_version") and theirs.pop("transformers_version")
        assert ours == theirs
        assert ViTConfig.from_pretrained(exchange / "theirs" / name).diff(ViTConfig.from_dict(ours)).keys() <= {
            "transformers_version",
            "name_or_path",
        }


def test_fresh_weights_are_distributed_as_the_peers(exchange):
    torch.manual_seed(0)
    model = ViTForMaskedImageModeling(ViTConfig(num_hidden_layers=1))
    expected = load_file(exchange / "results" / "fresh.safetensors")
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        mean, std, largest = expected[name].tolist()
        assert weight.std().item() == pytest.approx(std, rel=0.08), name  # CLS has 768 numbers, so 2.6 % of chance
        assert weight.mean().item() == pytest.approx(mean, abs=3e-3), name
        assert weight.abs().max().item() == pytest.approx(largest, rel=0.5), name


# Configuration ---------------------------------------------------------------------------------------------------


def test_prints_what_users_expect():
    shown = json.loads(repr(ViTConfig()).removeprefix("ViTConfig "))
    shown.pop("maquette_version")
    assert shown == {
        "attention_probs_dropout_prob": 0.0,
        "encoder_stride": 16,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 768,
        "image_size": 224,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "model_type": "vit",
        "num_attention_heads": 12,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "patch_size": 16,
        "pooler_act": "tanh",
        "pooler_output_size": 768,
        "qkv_bias": True,
    }


def test_sides_may_differ(tmp_path):
    config = tiny(image_size=[12, 20], patch_size=(4, 2))
    assert (config.image_shape, config.patch_shape, config.grid) == ((12, 20), (4, 2), (3, 10))
    assert (tiny().image_shape, tiny().patch_shape, tiny().grid) == ((12, 12), (4, 4), (3, 3))
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["image_size"] == [12, 20]
    assert ViTConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"hidden_size": 10, "num_attention_heads": 3},
            "hidden_size=10 cannot be shared equally .*num_attention_heads=3",
        ),
        ({"image_size": 30}, "patches of patch_size=4 do not tile an image_size=30"),
        ({"image_size": (12, 30), "hidden_size": 9}, "(?s)hidden_size=9.*do not tile"),
        ({"image_size": (12, 12, 12)}, "image_size"),
        ({"patch_size": 0}, "patch_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob"),
        ({"hidden_act": "geul"}, "hidden_act.*gelu"),
        ({"attn_implementation": "flash"}, 'must be "sdpa" or "eager"'),
        ({"patchsize": 4}, "patch_size"),
    ],
)
def test_what_cannot_be_built_is_an_error(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny(**fields)


def test_every_activation_that_may_be_configured_exists():
    assert set(typing.get_args(configuration.Activation)) <= set(maquette.ACT2FN)


# Images of any size ----------------------------------------------------------------------------------------------


def test_positions_are_stretched_from_a_grid_of_any_shape():
    """As torch stretches an image whose colours are the positions' numbers."""
    model = model_of(case(BASE, config={"image_size": [8, 12]}))
    taught = model_of(case(BASE, config={"image_size": [20, 16]}))
    taught.load_state_dict({n: w for n, w in model.state_dict().items() if "position" not in n}, strict=False)
    table = model.embeddings.position_embeddings.detach()
    picture = table[0, 1:].T.reshape(1, 32, 2, 3)
    larger = functional.interpolate(picture, size=(5, 4), mode="bicubic", align_corners=False)
    taught.embeddings.position_embeddings.data[0] = torch.cat([table[0, :1], larger.reshape(32, 20).T])
    pixels = torch.randn(2, 3, 20, 16)
    with torch.no_grad():
        found = model(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert_near(found, taught(pixels).last_hidden_state)


def test_what_fills_no_whole_patch_is_not_looked_at():
    model, pixels = model_of(CASES["base"]), images("ragged")
    with torch.no_grad():
        found = model(pixels, interpolate_pos_encoding=True).last_hidden_state
        expected = model(pixels[..., :16, :20], interpolate_pos_encoding=True).last_hidden_state
    assert torch.equal(found, expected)


def test_the_size_of_training_needs_no_stretching():
    model, pixels = model_of(CASES["base"]), images()
    with torch.no_grad():
        found = model(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert torch.equal(found, model(pixels).last_hidden_state)


def test_images_that_do_not_fit_are_errors_that_say_what_would():
    model = model_of(CASES["base"])
    with pytest.raises(ValueError, match=r"20 x 20.*12 x 12.*interpolate_pos_encoding=True"):
        model(images("large"))
    with pytest.raises(ValueError, match=r"8 x 28.*12 x 12"):
        model_of(CASES["one class"])(images("wide"))
    with pytest.raises(ValueError, match=r"\(3, 1, 12, 12\).*3 channels"):
        model(images("grey"))
    with pytest.raises(ValueError, match=r"\(3, 12, 12\).*\(batch, channels, height, width\)"):
        model(images()[0])
    with pytest.raises(ValueError, match=r"12 x 3 .*smaller than one patch of 4 x 4"):
        model(torch.zeros(1, 3, 12, 3), interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match=r"0 x 12 .*12 x 12"):
        model(torch.zeros(1, 3, 0, 12))
    with pytest.raises(TypeError, match="interpolate_pos_encodings"):
        model_of(CASES["one class"])(images(), interpolate_pos_encodings=True)


@pytest.mark.parametrize(("old", "new"), [(14, 24), (14, 37), (24, 14), (3, 1), (1, 4), (2, 5), (9, 9)])
def test_other_frameworks_stretch_positions_with_the_same_weights(old, new):
    """What each place counts for each new one is what torch makes of an image that is 1 there and 0 elsewhere."""
    ones = torch.eye(old, dtype=torch.float64)[None, :, :, None]
    expected = functional.interpolate(ones, size=(new, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T
    np.testing.assert_allclose(draw_bicubic(old, new), expected.numpy(), atol=1e-6)


# Masked images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "grid"), [("square", (3, 3)), ("wide", (2, 7)), ("ragged", (4, 5))])
def test_the_loss_is_the_mean_difference_of_masked_pixels(shape, grid):
    model, pixels = model_of(CASES["pixels"]), images(shape)
    masked = torch.rand(3, *grid) < 0.4
    with torch.no_grad():
        output = model(pixels, masked.flatten(1), interpolate_pos_encoding=True)
    assert output.reconstruction.shape == (3, 3, grid[0] * 4, grid[1] * 4)
    seen = np.kron(masked.numpy(), np.ones((4, 4)))[:, None].repeat(3, 1) > 0
    cut = pixels[..., : grid[0] * 4, : grid[1] * 4].numpy()
    expected = np.abs(cut - output.reconstruction.numpy())[seen].mean()
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_masked_patch_is_not_seen():
    model, pixels, masked = model_of(CASES["pixels"]), images(), torch.zeros(3, 9, dtype=torch.bool)
    masked[:, 4] = True  # the one in the middle
    changed = pixels.clone()
    changed[..., 4:8, 4:8] = torch.randn(3, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(model(pixels, masked).reconstruction, model(changed, masked).reconstruction)
        assert not torch.equal(model(pixels).reconstruction, model(changed).reconstruction)
        for other in (masked.int(), masked.float()):
            assert torch.equal(model(pixels, other).loss, model(pixels, masked).loss)


def test_masks_that_do_not_fit_are_errors_that_say_what_would():
    pixels, masked = images(), torch.ones(3, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(3, 3, 3\).*\(batch, patches\) = \(3, 9\)"):
        model_of(CASES["pixels"])(pixels, masked.view(3, 3, 3))
    with pytest.raises(ValueError, match="use_mask_token=True"):
        model_of(CASES["base"])(pixels, masked)
    with pytest.raises(ValueError, match="encoder_stride=6 must equal patch_size=4"):
        model_of(CASES["finer pixels"])(pixels, masked)


# What forward gives ----------------------------------------------------------------------------------------------


def test_outputs_come_as_asked():
    model, pixels = model_of(CASES["base"]), images()
    assert list(model(pixels)) == ["last_hidden_state", "pooler_output"]
    rich = model(pixels, **SHOWN)
    assert list(rich) == ["last_hidden_state", "pooler_output", "hidden_states", "attentions"]
    assert len(rich.hidden_states) == 4 and [w.shape for w in rich.attentions] == [(3, 4, 10, 10)] * 3
    assert_near(rich.last_hidden_state, model(pixels).last_hidden_state)
    torch.testing.assert_close(model.layernorm(rich.hidden_states[-1]), rich.last_hidden_state)
    values = model(pixels, output_hidden_states=True, return_dict=False)
    assert [type(value) for value in values] == [torch.Tensor, torch.Tensor, tuple]
    by_config = model_of(CASES["unpooled"], output_attentions=True, return_dict=False)(pixels)
    assert [type(value) for value in by_config] == [torch.Tensor, tuple]
    output = model_of(CASES["one class"])(pixels, make_inputs()["class"], return_dict=False)
    assert [value.shape for value in output] == [(), (3, 4)]


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [False, True])
def test_reading_one_token_spares_work_and_changes_nothing(kind, training):
    """The last layer's feed-forward network then sees one token; states and gradients are as they were."""
    found = []
    for whole in (False, True):
        model = model_of(CASES["base"], attn_implementation=kind).train(training)
        seen = []
        model.encoder.layer[-1].output.register_forward_hook(
            lambda module, args, out, seen=seen: seen.append(out.shape)
        )
        output = model(images(), only_first=not whole)
        assert seen == [(3, 10 if whole else 1, 32)]
        (output.last_hidden_state[:, 0].sin().sum() + output.pooler_output.sum()).backward()
        found.append([output.last_hidden_state[:, :1], output.pooler_output, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert_near(one, other, steps=STEPS_OF_GRADIENTS)


def test_eager_and_fused_attention_agree():
    for training in (False, True):
        found = [
            model_of(CASES["base"], attn_implementation=kind).train(training)(images()).last_hidden_state
            for kind in ("eager", "sdpa")
        ]
        assert_near(*found)


def test_labels_that_do_not_fit_are_an_error_that_says_what_would():
    with pytest.raises(ValueError, match=r"\(3, 4\).*single_label_classification.*give 3 of them.*problem_type"):
        model_of(CASES["one class"])(images(), torch.ones(3, 4, dtype=torch.long))


# Weights ---------------------------------------------------------------------------------------------------------


def test_pruned_heads_are_as_if_nobody_listened_to_them(tmp_path):
    pixels, settings = images(), CASES["one class"]
    model, pruned = model_of(settings), model_of(settings)
    for layer, head in ((0, 1), (2, 0), (2, 3)):
        out = model.vit.encoder.layer[layer].attention.output.dense
        torch.nn.init.zeros_(out.weight[:, head * 8 : head * 8 + 8])
    pruned.prune_heads({0: [1], 2: [0]})
    pruned.prune_heads({2: [0, 3]})
    pruned.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert again.vit.encoder.layer[2].attention.attention.query.weight.shape == (16, 32)
    with torch.no_grad():
        for options in ({}, SHOWN):
            assert_near(pruned(pixels, **options)[0], model(pixels, **options)[0])
        assert torch.equal(again(pixels).logits, pruned(pixels).logits)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_a_layer_may_lose_all_its_heads(kind):
    model = model_of(CASES["base"], attn_implementation=kind)
    model.prune_heads({1: [0, 1, 2, 3]})
    assert model(images()).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("saved", [BASE, CLASSIFIER, MASKED])
def test_one_checkpoint_serves_every_head(tmp_path, caplog, saved):
    """What a file never had is new, and said to be; the rest is as it was saved."""
    source = model_of(case(saved))
    source.save_pretrained(tmp_path)
    new = {BASE: {"pooler.dense"}, CLASSIFIER: {"classifier"}, MASKED: {"decoder.0", "vit.embeddings.mask_token"}}
    for name in (BASE, CLASSIFIER, MASKED):
        caplog.clear()
        loaded, info = getattr(maquette, name).from_pretrained(tmp_path, output_loading_info=True)
        missing = {key.removesuffix(".weight").removesuffix(".bias") for key in info["missing_keys"]}
        assert missing == (set() if name == saved else new[name])
        assert all(key in caplog.text for key in info["missing_keys"])
        weights = loaded.base_model.state_dict()
        for key, value in source.base_model.state_dict().items():
            assert key in info["unexpected_keys"] or key not in weights or torch.equal(weights[key], value), (name, key)
        assert all(weight.isfinite().all() for weight in weights.values())


def test_a_checkpoint_that_lacks_layers_is_an_error(tmp_path):
    model_of(CASES["base"]).save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"encoder\.layer\.3\.attention\.attention\.query\.\* \(2\): not in the file"
    ):
        ViTModel.from_pretrained(tmp_path, num_hidden_layers=4)


def test_loading_runs_no_initialisation(tmp_path):
    """Random numbers are drawn for what the file does not have, and for nothing else."""
    model_of(CASES["one class"]).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_auto_classes_find_the_models(tmp_path):
    autos = ("AutoModel", "AutoModelForImageClassification", "AutoModelForMaskedImageModeling")
    for name, auto in zip((BASE, CLASSIFIER, MASKED), autos, strict=True):
        model_of(case(name)).save_pretrained(tmp_path / name)
        assert type(getattr(maquette, auto).from_pretrained(tmp_path / name)).__name__ == name


def test_patches_are_the_input_embeddings():
    model = model_of(CASES["one class"])
    assert model.get_input_embeddings() is model.vit.embeddings.patch_embeddings


# Training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one class", "pixels", "pixels and states"])
def test_recomputing_activations_changes_no_gradient(name):
    found = []
    for recompute in (False, True):
        model = model_of(CASES[name]).train()
        if recompute:
            model.gradient_checkpointing_enable()
        found.append(compute(model, CASES[name])[1])
    for key, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][key])


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@pytest.mark.parametrize("field", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_every_dropout_works_while_training_and_only_then(field, kind):
    for rate, training, same in ((0.5, True, False), (0.5, False, True), (0.0, True, True)):
        model = model_of(CASES["one class"], **{field: rate}, attn_implementation=kind).train(training)
        with torch.no_grad():
            assert torch.equal(model(images()).logits, model(images()).logits) is same, (rate, training)


def test_learns():
    """In which quarter of an image the light is."""
    torch.manual_seed(0)
    config = tiny(num_labels=4, num_hidden_layers=2, image_size=8, num_channels=1, hidden_dropout_prob=0.1)
    model = maquette.ViTForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        labels = torch.randint(0, 4, (32,))
        light = functional.one_hot(labels, 4).view(32, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
        loss = model(light + 0.3 * torch.randn(32, 1, 8, 8), labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and np.mean(losses[-10:]) < 0.4 < 1.0 < np.mean(losses[:3])


def test_automatic_mixed_precision():
    for name in ("hidden patches", "one class", "pixels"):
        model, inputs = model_of(CASES[name]), make_inputs()
        given = {key: inputs[value] for key, value in CASES[name]["inputs"].items()}
        with torch.no_grad():
            expected = model(**given)[0]
            with torch.autocast("cpu", torch.bfloat16):
                found = model(**given)[0].float()
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)


def test_images_of_another_type_are_taken_as_the_weights_are():
    model = model_of(CASES["one class"])
    with torch.no_grad():
        expected = model(images()).logits
        assert torch.equal(model(images().double()).logits, expected)
        assert model.bfloat16()(images()).logits.dtype is torch.bfloat16


def test_a_missing_pooler_is_announced_and_strict_refuses_it(tmp_path, caplog):
    maquette.ViTForImageClassification(tiny()).save_pretrained(tmp_path)
    ViTModel.from_pretrained(tmp_path)
    assert "new     pooler.dense.weight" in caplog.text
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.weight: not in the file"):
        ViTModel.from_pretrained(tmp_path, strict=True)
