"""ViT and ResNet in Keras: sizes, strides and masks as in torch, backbones, training, errors."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from frameworks import compare, flatten, read
from keras import ops
from safetensors.numpy import load_file
from torch_images import BASIC, CASES, VIT, expected_statistics, torch_images  # noqa: F401

import maquette
from maquette import (
    ResNetConfig,
    TFAutoBackbone,
    TFResNetBackbone,
    TFResNetForImageClassification,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
    ViTConfig,
)

RNG = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def load(case: str, folder: Path, **options):
    name, _, _, _, made = CASES[case]
    return getattr(maquette, f"TF{name}").from_pretrained(folder / case, **made, **options)


@pytest.mark.parametrize("case", CASES)
def test_computes_what_torch_computes(case: str, torch_images: Path) -> None:  # noqa: F811
    output = load(case, torch_images)(**read(torch_images / case / "inputs.npz"), output_hidden_states=True)
    compare(flatten(output), read(torch_images / case / "outputs.npz"), tolerance=1e-5)


# ViT -------------------------------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_images_and_masks_that_do_not_fit_are_errors_that_say_what_would() -> None:
    model = TFViTModel(ViTConfig(**VIT))
    for shape, message in [
        ((2, 3, 20, 20), r"20 x 20.*12 x 12.*interpolate_pos_encoding=True"),
        ((2, 1, 12, 12), r"\(2, 1, 12, 12\).*3 channels"),
        ((3, 12, 12), r"\(3, 12, 12\).*\(batch, channels, height, width\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(images(*shape))
    with pytest.raises(ValueError, match=r"12 x 3 .*smaller than one patch of 4 x 4"):
        model(images(1, 3, 12, 3), interpolate_pos_encoding=True)
    with pytest.raises(ValueError, match=r"use_mask_token=True"):
        model(images(2, 3, 12, 12), np.ones((2, 9), bool))
    with pytest.raises(ValueError, match=r"\(2, 3, 3\).*\(batch, patches\) = \(2, 9\)"):
        TFViTForMaskedImageModeling(ViTConfig(**VIT))(images(2, 3, 12, 12), np.ones((2, 3, 3), bool))
    finer = TFViTForMaskedImageModeling(
        ViTConfig(**{**VIT, "encoder_stride": 6}),
    )
    with pytest.raises(ValueError, match="encoder_stride=6 must equal patch_size=4"):
        finer(images(2, 3, 12, 12), np.ones((2, 9), bool))


def test_a_masked_patch_is_not_seen() -> None:
    model, pixels, masked = TFViTForMaskedImageModeling(ViTConfig(**VIT)), images(2, 3, 12, 12), np.zeros((2, 9), bool)
    masked[:, 4] = True  # the one in the middle
    changed = pixels.copy()
    changed[..., 4:8, 4:8] = images(2, 3, 4, 4)
    one, other, seen = (
        np.asarray(model(*inputs).reconstruction) for inputs in ((pixels, masked), (changed, masked), (changed,))
    )
    np.testing.assert_array_equal(one, other)
    assert np.abs(seen - other).max() > 1e-4


@pytest.mark.any_backend
def test_a_keras_file_keeps_how_the_model_was_made(tmp_path: Path) -> None:
    model = TFViTModel(ViTConfig(**VIT), add_pooling_layer=False, use_mask_token=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.pooler is None and again.state_arrays().keys() == model.state_arrays().keys()
    inputs = {"pixel_values": images(2, 3, 12, 12), "bool_masked_pos": np.eye(2, 9, dtype=bool)}
    np.testing.assert_array_equal(*(np.asarray(one(inputs).last_hidden_state) for one in (again, model)))


@pytest.mark.any_backend
def test_a_classifier_has_neither_pooler_nor_mask_token(tmp_path: Path) -> None:
    TFViTForImageClassification(ViTConfig(**VIT)).save_pretrained(tmp_path)
    _, info = TFViTModel.from_pretrained(tmp_path, use_mask_token=True, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["embeddings.mask_token", "pooler.dense.bias", "pooler.dense.weight"]


def test_learns_to_guess_what_is_hidden() -> None:
    keras.utils.set_random_seed(0)
    model = TFViTForMaskedImageModeling(ViTConfig(**VIT))
    model.compile(keras.optimizers.Adam(1e-2))
    pixels = np.ones((8, 3, 12, 12), "float32") * np.array([1, -2, 0.5], "float32")[:, None, None]
    inputs = {"pixel_values": pixels, "bool_masked_pos": RNG.random((8, 9)) < 0.5}
    losses = model.fit(inputs, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]


# ResNet ----------------------------------------------------------------------------------------------------------


def test_one_step_of_training_is_torchs(torch_images: Path) -> None:  # noqa: F811
    """Weights and statistics; `fit` normalises by the batch, and calling the model afterwards does not."""
    model, inputs = load("step", torch_images), read(torch_images / "step" / "inputs.npz")
    before = {name: value.copy() for name, value in model.state_arrays().items()}
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(inputs["pixel_values"], inputs["labels"], batch_size=4, shuffle=False, verbose=0)
    counts = json.loads((torch_images / "trained" / "counts.json").read_text(encoding="utf-8"))
    assert min(counts.values()) == 4 * 5 * 5
    after = load_file(torch_images / "trained" / "model.safetensors")
    found, expected = model.state_arrays(), expected_statistics(before, after, counts)
    compare({name: found[name] for name in expected}, expected, tolerance=2e-5)
    moved = [name for name in found if re.search(r"running_(mean|var)$", name)]
    assert len(moved) == 2 * len(counts)
    assert all(np.abs(found[name] - before[name]).max() > 1e-3 for name in moved)
    model(inputs["pixel_values"])
    for name, value in model.state_arrays().items():
        np.testing.assert_array_equal(value, found[name])


@pytest.mark.any_backend
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
    keras.utils.set_random_seed(0)
    config = ResNetConfig(embedding_size=64, hidden_sizes=[256], depths=[1], num_labels=200)
    arrays = TFResNetForImageClassification(config).state_arrays()
    for array in arrays.values():
        if array.ndim == 4:  # (out, in, height, width): a variance of 2 over what leaves a place
            np.testing.assert_allclose(array.std(), (2 / (array.shape[0] * array[0, 0].size)) ** 0.5, rtol=0.05)
            assert np.abs(array).max() > 2.5 * array.std()  # not cut
    for leaf in ("weight", "bias"):  # torch's own: even over 1 / sqrt(inputs) to both sides
        array = arrays[f"classifier.1.{leaf}"]
        assert -1 / 16 <= array.min() < -0.9 / 16 and 0.9 / 16 < array.max() <= 1 / 16
        np.testing.assert_allclose(array.std(), 1 / 16 / 3**0.5, rtol=0.15)


def test_a_backbone_gives_the_chosen_maps(tmp_path: Path) -> None:
    model, pixels = TFResNetBackbone(ResNetConfig(**BASIC)), images(2, 3, 33, 40)
    (last,) = model(pixels).feature_maps
    assert last.shape == (2, 10, 5, 5) and model.channels == [10]
    model.out_features = ["stem", "stage2"]
    first, again = model(pixels).feature_maps
    assert first.shape == (2, 6, 9, 10) and model.channels == [6, 10] and model.out_indices == [0, 2]
    np.testing.assert_array_equal(np.asarray(again), np.asarray(last))
    output = model.forward_with_filtered_kwargs(pixels, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3
    model.save_pretrained(tmp_path)
    other = TFAutoBackbone.from_pretrained(tmp_path, out_indices=(1,))
    assert type(other) is TFResNetBackbone and other.out_features == ["stage1"]
    np.testing.assert_array_equal(np.asarray(other(pixels)[0][0]), np.asarray(output.hidden_states[1]))
    assert TFResNetBackbone.from_config(model.config, out_features=["stem"]).out_features == ["stem"]
    assert model.out_features == ["stem", "stage2"]


# Both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["attentions", "one of three"])
def test_bfloat16(case: str, torch_images: Path) -> None:  # noqa: F811
    pixels = read(torch_images / case / "inputs.npz")["pixel_values"]
    logits = load(case, torch_images, dtype="bfloat16")(pixels).logits
    assert keras.backend.standardize_dtype(logits.dtype) == "bfloat16"
    expected = read(torch_images / case / "outputs.npz")["logits"]
    apart = np.abs(np.asarray(ops.cast(logits, "float32")) - expected).max()
    assert 0 < apart < 0.05 * np.abs(expected).max()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX leaves no sizes open")
@pytest.mark.parametrize("case", ["attentions", "pixels", "one of three", "maps"])
def test_sizes_may_be_open_where_tensorflow_compiles(case: str, torch_images: Path) -> None:  # noqa: F811
    import tensorflow as tf

    model, inputs = load(case, torch_images), read(torch_images / case / "inputs.npz")
    options = {name: value for name, value in inputs.items() if not isinstance(value, np.ndarray)}
    tensors = {name: value for name, value in inputs.items() if name not in options}
    open_sides = (None, 3, None, None) if "interpolate_pos_encoding" not in options else (None, *CASES[case][2][1:])
    shapes = {name: (None, *value.shape[1:]) for name, value in tensors.items()} | {"pixel_values": open_sides}
    spec = {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in tensors.items()}
    compiled = tf.function(lambda given: model(**given, **options)).get_concrete_function(spec)
    found = compiled({name: tf.constant(value) for name, value in tensors.items()})
    expected = flatten(model(**inputs))
    compare(flatten(found), expected, tolerance=1e-5)
