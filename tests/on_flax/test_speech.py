"""Wav2Vec2 in Flax: every configuration, padding anywhere, and what is hidden while it learns, as in torch."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from frameworks import flatten
from safetensors.numpy import load_file, save_file
from torch_side_speech import (
    ADAPTERS,
    CALM,
    CASES,
    FRAMES,
    HOW,
    MASKS,
    SPAN_CASES,
    STABLE,
    TINY,
    call_inputs,
    compare_all,
    make_draws,
    make_inputs,
    make_reference,
)

import maquette
from maquette import FlaxWav2Vec2ForCTC, FlaxWav2Vec2ForSequenceClassification, FlaxWav2Vec2Model, Wav2Vec2Config
from maquette.errors import ConfigurationError, MissingFileError
from maquette.models.wav2vec2.frames import place_spans

INPUTS = make_inputs()


def tiny(**fields):
    return Wav2Vec2Config(**{**TINY, **CALM, **fields})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder of torch's models, and what torch makes of them."""
    folder = make_reference(tmp_path_factory.mktemp("speech"))
    with np.load(folder / "results.npz") as stored:
        return folder, {name: value for name, value in stored.items() if not name.endswith("/loss")}


def load(case, folder, **options):
    return getattr(maquette, f"Flax{CASES[case][0]}").from_pretrained(folder / case, **options)


def arguments(case, side):
    return {name: x for name, x in call_inputs(case, side, INPUTS).items() if name != "labels"}


@pytest.mark.parametrize("case", CASES)
def test_equals_torch_with_padding_anywhere(case, reference, tmp_path):
    folder, results = reference
    model, info = load(case, folder, strict=True, output_loading_info=True)
    assert not any(info.values())
    for side in MASKS:
        for how, kept in HOW.items():
            compare_all(flatten(model(**arguments(case, side), **kept)), results, f"{case}/{side}/{how}/")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / case / "model.safetensors").read_bytes()


@pytest.mark.parametrize("case", ["base", "base adapter", "ctc languages", "class mixed"])
def test_compiled_it_equals_torch_and_so_do_its_gradients(case, reference):
    """Under `jit` nothing can be looked at, and every row is aligned."""
    folder, results = reference
    module, variables = load(case, folder).unbind()

    @jax.jit
    def run(variables, given):
        output = module.apply(variables, **given)
        first = output["last_hidden_state" if "base" in case else "logits"]
        return (first * jnp.sin(jnp.arange(first.size)).reshape(first.shape)).sum(), output

    (_, output), gradients = jax.value_and_grad(run, has_aux=True)(variables, arguments(case, "left"))
    compare_all(flatten(output), results, f"{case}/left/plain/")
    found = module.bind(gradients).state_arrays()
    compare_all(found, results, f"{case}/gradient/", tolerance=5e-5)


# What is hidden ----------------------------------------------------------------------------------------------------


def test_spans_are_those_of_torch(reference):
    """The same random numbers hide the same places."""
    for number in range(SPAN_CASES):
        made = make_draws(number)
        place = jax.jit(lambda *numbers, spans=made["spans"]: place_spans(jnp, *numbers, **spans))
        found = place(made["draws"], made["chance"], made["lengths"].astype(np.float32))
        np.testing.assert_array_equal(found, reference[1][f"spans.{number}"])


def test_frames_that_are_said_are_hidden(reference):
    model = load("base", reference[0], apply_spec_augment=True)
    output = model(INPUTS["waves"], mask_time_indices=INPUTS["hidden"])
    compare_all({"last_hidden_state": np.asarray(output.last_hidden_state)}, reference[1], "hidden/")


def without_positions(**fields):
    """Make a model whose first states are what goes into the encoder: positions have no weight."""
    module, variables = FlaxWav2Vec2Model.from_config(tiny(**STABLE, **fields)).unbind()
    weight = variables["params"]["encoder"]["pos_conv_embed"]["conv"]["parametrizations"]["weight"]
    weight["original0"] = jnp.zeros((1, 1, 16))
    return module, variables


def first_states(module, variables, key, **options):
    options = {"train": True, "rngs": {"dropout": jax.random.key(key)}, "output_hidden_states": True, **options}
    return np.asarray(module.apply(variables, INPUTS["waves"], INPUTS["mask.right"], **options).hidden_states[0])


def test_frames_and_channels_are_hidden_while_training_only():
    spans = {"mask_time_prob": 0.5, "mask_feature_prob": 0.3, "mask_feature_length": 4}
    module, variables = without_positions(apply_spec_augment=True, **spans)
    plain = first_states(module, variables, 0, train=False, rngs={})
    one, same, other = (first_states(module, variables, key) for key in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    calm = FlaxWav2Vec2Model(tiny(**STABLE, **spans))
    np.testing.assert_array_equal(first_states(calm, variables, 1), plain)
    real = plain.any(-1)
    assert (~real).any() and not one[~real].any()
    gone = (one == 0).all(1)  # whole channels of a clip
    assert gone.any(1).all() and gone.sum(1).max() < 32
    hidden = ((one == np.asarray(variables["params"]["masked_spec_embed"])) | (one == 0)).all(-1) & real
    assert hidden.any(1).all() and (real & ~hidden).any()
    np.testing.assert_array_equal(one[real & ~hidden], np.where(gone[:, None], 0, plain)[real & ~hidden])


def test_as_many_frames_are_hidden_as_asked_compiled():
    """Three frames of 29, in spans of one, by a chance of a tenth."""
    spans = {"mask_time_prob": 0.1, "mask_time_length": 1, "mask_time_min_masks": 0}
    module, variables = without_positions(apply_spec_augment=True, **spans)

    @jax.jit
    def count(key):
        options = {"output_hidden_states": True, "train": True, "rngs": {"dropout": key}}
        states = module.apply(variables, INPUTS["waves"], **options).hidden_states[0]
        return (states == variables["params"]["masked_spec_embed"]).all(-1).sum(1)

    counts = np.stack([count(key) for key in jax.random.split(jax.random.key(0), 60)])
    assert set(counts.flat) == {2, 3} and (counts == counts[:, :1]).all()  # rounded alike in a batch
    assert counts.mean() == pytest.approx(2.9, abs=0.11)


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 120, 120), (0.5, 40, 80)])
def test_whole_layers_are_dropped(share, least, most):
    module, variables = FlaxWav2Vec2Model.from_config(tiny(layerdrop=share)).unbind()

    @jax.jit
    def run(key):
        options = {"output_hidden_states": True, "train": True, "rngs": {"dropout": key}}
        return module.apply(variables, INPUTS["waves"][:1, :60], **options).hidden_states

    calls = [run(key) for key in jax.random.split(jax.random.key(0), 40)]
    same = [np.array_equal(one, other) for states in calls for one, other in itertools.pairwise(states)]
    assert len(same) == 120 and least <= sum(same) <= most


# Training --------------------------------------------------------------------------------------------------------


def test_it_learns_to_write_with_everything_that_chance_does():
    """By optax's loss of CTC, which finds the labels that torch's finds; saved, it is what was trained."""
    model = FlaxWav2Vec2ForCTC.from_config(Wav2Vec2Config(**{**TINY, **STABLE, "num_hidden_layers": 1}))
    module, variables = model.unbind()
    waves, labels = INPUTS["waves"][:2], jnp.array([[3, 1, 4, 1], [2, 2, 3, 0]])
    paddings = jnp.zeros((2, FRAMES)), (labels == 0).astype(jnp.float32)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(variables, state, key):
        def loss_of(variables):
            logits = module.apply(variables, waves, train=True, rngs={"dropout": key}).logits
            return optax.ctc_loss(logits, paddings[0], labels, paddings[1]).mean()

        loss, gradients = jax.value_and_grad(loss_of)(variables)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(variables, updates), state, loss

    state, losses = optimizer.init(variables), []
    for key in jax.random.split(jax.random.key(0), 25):
        variables, state, loss = step(variables, state, key)
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    trained, fresh = module.bind(variables).state_arrays(), model.state_arrays()
    assert all((trained[name] != fresh[name]).any() for name in fresh if not name.endswith("k_proj.bias"))


# Errors ----------------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_errors():
    model, waves = FlaxWav2Vec2ForCTC.from_config(tiny()), INPUTS["waves"][:2, :100]
    mask = np.ones((2, 100), np.int32)
    with pytest.raises(ValueError, match=r"\(batch, samples\).*\(2, 1, 100\)"):
        model(waves[:, None])
    with pytest.raises(ValueError, match=r"floating-point.*int32"):
        model(waves.astype(np.int32))
    with pytest.raises(ValueError, match="29 samples; a frame takes 30"):
        model(waves[:, :29])
    with pytest.raises(ValueError, match=r"\(2, 99\).*\(2, 100\)"):
        model(waves, mask[:, :99])
    mask[1, 29:] = 0
    with pytest.raises(ValueError, match="Row 1 has 29 real samples; a frame takes 30"):
        model(waves, mask)
    mask[1, 40:] = 1
    with pytest.raises(ValueError, match="zeros inside a clip"):
        model(waves, mask)
    for fields, message in (({}, r"\(2, 5\) does not fit"), ({"mask_time_prob": 0.0}, "mask_time_prob > 0")):
        module = FlaxWav2Vec2Model(tiny(apply_spec_augment=True, **fields))
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(module.init, jax.random.key(0), waves, mask_time_indices=np.zeros((2, 5)))


def test_what_cannot_be_built_is_an_error():
    with pytest.raises(ConfigurationError, match="FlaxWav2Vec2ForSequenceClassification reads every frame"):
        FlaxWav2Vec2ForSequenceClassification.from_config(tiny(add_adapter=True))
    for fields in ({"vocab_size": None}, {"pad_token_id": None}, {"pad_token_id": 13}):
        with pytest.raises(ConfigurationError, match="needs a blank"):
            FlaxWav2Vec2ForCTC.from_config(tiny(**fields))


# Weights ---------------------------------------------------------------------------------------------------------


def test_the_older_spelling_of_the_weight_norm_loads(reference, tmp_path):
    folder, results = reference
    weights = load_file(folder / "base" / "model.safetensors")
    start = "encoder.pos_conv_embed.conv."
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        weights[start + old] = weights.pop(f"{start}parametrizations.weight.{new}")
    del weights["masked_spec_embed"]  # many fine-tuned checkpoints were saved without it
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "base" / "config.json").read_text())
    model, info = FlaxWav2Vec2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == ["masked_spec_embed"] and not info["unexpected_keys"]
    compare_all(flatten(model(INPUTS["waves"])), results, "base/none/plain/")


def test_it_writes_other_languages(reference):
    folder, results = reference
    for language in ADAPTERS:
        model = load("ctc languages", folder, target_lang=language)
        compare_all({"logits": np.asarray(model(INPUTS["waves"]).logits)}, results, f"{language}/")
    for language in ("deu", "fra"):
        model = model.load_adapter(language)
        assert model.config.vocab_size == model.wav2vec2.config.vocab_size == ADAPTERS[language]
        compare_all({"logits": np.asarray(model(INPUTS["waves"]).logits)}, results, f"{language}/")
    with pytest.raises(MissingFileError, match=r"adapter\.eng\.safetensors"):
        model.load_adapter("eng")
    with pytest.raises(ConfigurationError, match="adapter_attn_dim; it is None"):
        load("ctc", folder, target_lang="fra")


def test_fresh_weights_are_as_in_the_paper():
    convolutions = {"conv_dim": (512, 512), "conv_stride": (5, 2), "conv_kernel": (10, 3), "conv_bias": True}
    arrays = FlaxWav2Vec2Model.from_config(Wav2Vec2Config(num_hidden_layers=1, **convolutions)).state_arrays()
    assert arrays["encoder.layers.0.attention.q_proj.weight"].std() == pytest.approx(0.02, rel=0.02)
    conv = "feature_extractor.conv_layers.1.conv"
    assert arrays[f"{conv}.weight"].std() == pytest.approx((2 / (512 * 3)) ** 0.5, rel=0.02)
    assert 0.9 < np.abs(arrays[f"{conv}.bias"]).max() * (512 * 3) ** 0.5 <= 1
    start = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
    lengths, directions = arrays[f"{start}0"], arrays[f"{start}1"]
    positions = directions * lengths / np.linalg.norm(directions, axis=(0, 1), keepdims=True)
    assert positions.std() == pytest.approx(2 * (1 / (128 * 768)) ** 0.5, rel=0.02)
    assert np.abs(arrays["feature_projection.projection.weight"]).max() == pytest.approx(512**-0.5, rel=0.01)
    assert 0 <= arrays["masked_spec_embed"].min() < 0.05 and 0.95 < arrays["masked_spec_embed"].max() <= 1
    for name, weight in arrays.items():
        if "layer_norm" in name:
            assert (weight == float(name.endswith("weight"))).all(), name


def test_half_precision_stays_near(reference):
    model = load("ctc stable", reference[0], dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.variables)} == {jnp.dtype("bfloat16")}
    output = model(**arguments("ctc stable", "right"))
    expected = reference[1]["ctc stable/right/plain/logits"]
    assert np.abs(np.asarray(output.logits, np.float32) - expected).max() < 0.1 * np.abs(expected).max()


def test_no_other_framework_was_needed(tmp_path):
    FlaxWav2Vec2ForCTC.from_config(tiny()).save_pretrained(tmp_path)
    loaded = maquette.FlaxAutoModelForCTC.from_pretrained(tmp_path)
    assert type(loaded) is FlaxWav2Vec2ForCTC and loaded(INPUTS["waves"]).logits.shape == (5, FRAMES, 13)
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
