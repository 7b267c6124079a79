"""ViT and ResNet in Flax: sizes, strides and masks as in torch, backbones, training, errors."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from frameworks import compare, flatten, read
from safetensors.numpy import load_file
from torch_images import BASIC, CASES, VIT, expected_statistics, torch_images  # noqa: F401

import maquette
from maquette import (
    FlaxAutoBackbone,
    FlaxResNetBackbone,
    FlaxResNetForImageClassification,
    FlaxViTModel,
    ResNetConfig,
)

RNG = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def load(case: str, folder: Path, **options):
    name, _, _, _, made = CASES[case]
    return getattr(maquette, f"Flax{name}").from_pretrained(folder / case, **made, **options)


def arguments(case: str, folder: Path) -> dict:
    return {name: value for name, value in read(folder / case / "inputs.npz").items() if name != "labels"}


@pytest.mark.parametrize("case", CASES)
def test_computes_what_torch_computes(case: str, torch_images: Path) -> None:  # noqa: F811
    output = load(case, torch_images)(**arguments(case, torch_images), output_hidden_states=True)
    expected = {name: value for name, value in read(torch_images / case / "outputs.npz").items() if name != "loss"}
    compare(flatten(output), expected, tolerance=1e-5)


@pytest.mark.parametrize("case", ["attentions", "pixels", "odd", "maps"])
def test_jit_changes_nothing(case: str, torch_images: Path) -> None:  # noqa: F811
    model, inputs = load(case, torch_images), arguments(case, torch_images)
    module, variables = model.unbind()
    options = {name: value for name, value in inputs.items() if not isinstance(value, np.ndarray)}
    arrays = {name: value for name, value in inputs.items() if name not in options}
    found = jax.jit(lambda variables, arrays: module.apply(variables, **arrays, **options))(variables, arrays)
    assert type(found) is type(model(**inputs))
    compare(flatten(found), flatten(model(**inputs)), tolerance=1e-5)


# ViT -------------------------------------------------------------------------------------------------------------


def test_images_and_masks_that_do_not_fit_are_errors_that_say_what_would(torch_images: Path) -> None:  # noqa: F811
    model = load("larger", torch_images)
    for shape, message in [
        ((2, 3, 20, 20), r"20 x 20.*12 x 12.*interpolate_pos_encoding=True"),
        ((2, 1, 12, 12), r"\(2, 1, 12, 12\).*3 channels"),
        ((3, 12, 12), r"\(3, 12, 12\).*\(batch, channels, height, width\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(images(*shape))
    with pytest.raises(ValueError, match=r"12 x 3 .*smaller than one patch of 4 x 4"):
        model(images(1, 3, 12, 3), interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match="use_mask_token=True"):
        model(images(2, 3, 12, 12), np.ones((2, 9), bool))
    with pytest.raises(ValueError, match=r"\(2, 3, 3\).*\(batch, patches\) = \(2, 9\)"):
        load("pixels", torch_images)(images(2, 3, 12, 12), np.ones((2, 3, 3), bool))
    with pytest.raises(TypeError, match="interpolate_pos_encodings"):
        load("attentions", torch_images)(images(2, 3, 12, 12), interpolate_pos_encodings=True)


def test_a_masked_patch_is_not_seen(torch_images: Path) -> None:  # noqa: F811
    model = load("pixels", torch_images)
    pixels, masked = images(2, 3, 12, 12), np.zeros((2, 9), bool)
    masked[:, 4] = True  # the one in the middle
    changed = pixels.copy()
    changed[..., 4:8, 4:8] = images(2, 3, 4, 4)
    one, other, seen = (model(*inputs).reconstruction for inputs in ((pixels, masked), (changed, masked), (changed,)))
    np.testing.assert_array_equal(one, other)
    assert np.abs(seen - other).max() > 1e-4


def test_a_classifier_has_neither_pooler_nor_mask_token(torch_images: Path) -> None:  # noqa: F811
    place = torch_images / "attentions"
    model, info = FlaxViTModel.from_pretrained(place, use_mask_token=True, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["embeddings.mask_token", "pooler.dense.bias", "pooler.dense.weight"]
    assert not model.state_arrays()["embeddings.mask_token"].any()
    assert model.state_arrays()["pooler.dense.weight"].std() > 0.01
    bare = FlaxViTModel.from_pretrained(place, add_pooling_layer=False)
    assert "pooler_output" not in bare(**bare.dummy_inputs)


def test_dropout_follows_train(torch_images: Path) -> None:  # noqa: F811
    module, variables = load("attentions", torch_images, hidden_dropout_prob=0.5).unbind()
    pixels, keys = images(2, 3, 12, 12), [{"dropout": jax.random.key(number)} for number in (0, 1)]
    still, one, other, same = (
        module.apply(variables, pixels, **options).logits
        for options in ({}, *({"train": True, "rngs": rngs} for rngs in (*keys, keys[0])))
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-5 and np.abs(one - still).max() > 1e-5


# ResNet ----------------------------------------------------------------------------------------------------------


def test_one_step_of_training_is_torchs(torch_images: Path) -> None:  # noqa: F811
    """Weights and statistics; without `train` and `mutable`, statistics stay."""
    model, inputs = load("step", torch_images), read(torch_images / "step" / "inputs.npz")
    before, (module, variables) = model.state_arrays(), model.unbind()

    @jax.jit
    def step(params, statistics):
        def loss_of(params):
            given = {"params": params, "batch_stats": statistics}
            output, moved = module.apply(given, inputs["pixel_values"], train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, inputs["labels"])
            return losses.mean(), moved

        gradients, moved = jax.grad(loss_of, has_aux=True)(params)
        return {"params": jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), **moved}

    trained = module.bind(step(variables["params"], variables["batch_stats"]))
    counts = json.loads((torch_images / "trained" / "counts.json").read_text(encoding="utf-8"))
    after = load_file(torch_images / "trained" / "model.safetensors")
    found, expected = trained.state_arrays(), expected_statistics(before, after, counts)
    compare({name: found[name] for name in expected}, expected, tolerance=2e-5)
    moved = [name for name in found if re.search(r"running_(mean|var)$", name)]
    assert len(moved) == 2 * len(counts)
    assert all(np.abs(found[name] - before[name]).max() > 1e-3 for name in moved)
    for name, value in trained.state_arrays().items():
        np.testing.assert_array_equal(value, found[name])


def test_what_is_no_batch_of_images_is_an_error(torch_images: Path) -> None:  # noqa: F811
    model = load("odd", torch_images)
    for pixels, message in [
        (images(3, 40, 40), r"not of shape \(3, 40, 40\). For one image, add the axis of a batch"),
        (images(2, 1, 40, 40), r"\(batch, 3, height, width\), not of shape \(2, 1, 40, 40\).*num_channels"),
        (images(2, 40, 40, 3), r"channels are last here.*transpose\(0, 3, 1, 2\)"),
        (images(2, 3, 40, 40).astype("uint8"), "not uint8. An image processor"),
        (None, "not a NoneType"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(pixels)


def test_fresh_weights_are_drawn_as_in_torch() -> None:
    config = ResNetConfig(embedding_size=64, hidden_sizes=[256], depths=[1], num_labels=200)
    arrays = FlaxResNetForImageClassification.from_config(config).state_arrays()
    for array in arrays.values():
        if array.ndim == 4:  # (out, in, height, width): a variance of 2 over what leaves a place
            np.testing.assert_allclose(array.std(), (2 / (array.shape[0] * array[0, 0].size)) ** 0.5, rtol=0.05)
            assert np.abs(array).max() > 2.5 * array.std()  # not cut
    for leaf in ("weight", "bias"):  # torch's own: even over 1 / sqrt(inputs) to both sides
        array = arrays[f"classifier.1.{leaf}"]
        assert -1 / 16 <= array.min() < -0.9 / 16 and 0.9 / 16 < array.max() <= 1 / 16
        np.testing.assert_allclose(array.std(), 1 / 16 / 3**0.5, rtol=0.15)


def test_a_backbone_gives_the_chosen_maps(torch_images: Path) -> None:  # noqa: F811
    pixels = arguments("maps", torch_images)["pixel_values"]
    model = load("maps", torch_images)
    assert model.channels == [6, 20] and model.out_indices == [0, 2]
    assert model.unbind()[0].out_feature_channels == {"stem": 6, "stage1": 12, "stage2": 20, "stage3": 24}
    output = model.forward_with_filtered_kwargs(pixels, output_hidden_states=True, output_attentions=True)
    assert [feature_map.shape for feature_map in output.feature_maps] == [(2, 6, 9, 10), (2, 20, 5, 5)]
    assert len(output.hidden_states) == 4
    other = FlaxAutoBackbone.from_pretrained(torch_images / "maps", out_indices=(1,))
    assert type(other) is FlaxResNetBackbone and other.out_features == ["stage1"]
    np.testing.assert_array_equal(other(pixels)[0][0], output.hidden_states[1])
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])
    assert FlaxResNetBackbone.from_config(config, out_features=["stem"]).out_features == ["stem"]
    assert config.out_features == ["stage1"]


# Both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["attentions", "one of three"])
def test_bfloat16(case: str, torch_images: Path) -> None:  # noqa: F811
    pixels = arguments(case, torch_images)["pixel_values"]
    logits = load(case, torch_images, dtype="bfloat16")(pixels).logits
    assert logits.dtype == jnp.bfloat16
    expected = read(torch_images / case / "outputs.npz")["logits"]
    apart = np.abs(np.asarray(logits, "float32") - expected).max()
    assert 0 < apart < 0.05 * np.abs(expected).max()
