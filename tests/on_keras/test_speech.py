"""Wav2Vec2 in Keras: every configuration, padding anywhere, what is hidden while it learns, and CTC, as in torch."""

import itertools
import json
import sys

import keras
import numpy as np
import pytest
from frameworks import flatten
from keras import ops
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
from maquette import (
    TFWav2Vec2ForCTC,
    TFWav2Vec2ForSequenceClassification,
    TFWav2Vec2Model,
    Wav2Vec2Config,
)
from maquette.errors import ConfigurationError, MissingFileError
from maquette.modeling.tf_losses import compute_ctc_loss
from maquette.models.wav2vec2.frames import place_spans

INPUTS = make_inputs()
# JAX compiles every operation for every size: there, some configurations stand for all.
SOME = list(CASES) if keras.backend.backend() == "tensorflow" else ["base", "base adapter", "ctc stable", "class mixed"]
HEADS = [case for case in SOME if not case.startswith("base") and case != "ctc blank"]  # whose loss is one number


def tiny(**fields):
    return Wav2Vec2Config(**{**TINY, **CALM, **fields})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder of torch's models, and what torch makes of them."""
    folder = make_reference(tmp_path_factory.mktemp("speech"))
    with np.load(folder / "results.npz") as stored:
        return folder, dict(stored)


def load(case, folder, **options):
    return getattr(maquette, f"TF{CASES[case][0]}").from_pretrained(folder / case, **options)


@pytest.mark.parametrize("case", SOME)
def test_equals_torch_with_padding_anywhere(case, reference, tmp_path):
    folder, results = reference
    model, info = load(case, folder, strict=True, output_loading_info=True)
    assert not any(info.values())
    for side in MASKS:
        for how, kept in HOW.items():
            found = flatten(model(**call_inputs(case, side, INPUTS), **kept))
            compare_all(found, results, f"{case}/{side}/{how}/")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / case / "model.safetensors").read_bytes()


@pytest.mark.parametrize("case", ["base adapter", "ctc stable", "class mixed"])
def test_compiled_equals_torch(case, reference):
    """`predict` compiles: there, nothing can be looked at, and every row is aligned."""
    folder, results = reference
    model = load(case, folder)
    for side in ("left", "middle"):
        given = {name: x for name, x in call_inputs(case, side, INPUTS).items() if name != "labels"}
        found = flatten(model.predict(given, verbose=0))
        wanted = {name: value for name, value in results.items() if not name.endswith("/loss")}
        compare_all(found, wanted, f"{case}/{side}/plain/")


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # nothing is hidden, so that is not learnt
@pytest.mark.parametrize("case", HEADS)
def test_a_step_of_training_leads_where_it_leads_in_torch(case, reference):
    """The loss has the right gradient at every weight, compiled."""
    folder, results = reference
    model = load(case, folder)
    model.compile(keras.optimizers.SGD(0.01))
    loss = model.train_on_batch(call_inputs(case, "left", INPUTS))
    assert loss == pytest.approx(results[f"{case}/left/plain/loss"], rel=1e-5)
    compare_all(model.state_arrays(), results, f"{case}/step/")


def test_sizes_that_a_compiler_leaves_open():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow compiles for sizes that it does not know")
    import tensorflow as tf

    for fields in ({}, STABLE):
        model = TFWav2Vec2ForCTC(tiny(**fields))
        shape = tf.TensorSpec((None, None))
        call = tf.function(model, input_signature=[shape, tf.TensorSpec((None, None), tf.int32)])
        for rows, samples in ((5, 600), (2, 431)):
            waves, mask = INPUTS["waves"][:rows, -samples:], INPUTS["mask.left"][:rows, -samples:]
            found = call(tf.constant(waves), tf.constant(mask)).logits
            np.testing.assert_allclose(found, model(waves, mask).logits, atol=1e-5)


# Losses ----------------------------------------------------------------------------------------------------------


def test_ctc_loss_is_the_chance_of_all_ways_to_write_it():
    """Against the sum over every path that collapses to the labels, for few frames."""
    logits = np.random.default_rng(0).standard_normal((4, 4, 3)).astype(np.float32)
    rows = [([0, -100, 2], [0, 2], 4), ([1, 2, 1], [2], 4), ([2, 2, -100], [2, 2], 3), ([-1, -100, 1], [], 2)]
    labels, frames = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    expected = []
    for scores, (_, wanted, count) in zip(logits, rows, strict=True):
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        paths = itertools.product(range(3), repeat=count)
        right = [path for path in paths if [k for k, _ in itertools.groupby(path) if k != 1] == wanted]
        expected.append(-np.log(sum(np.prod([shares[n, k] for n, k in enumerate(path)]) for path in right)))
    losses = compute_ctc_loss(ops.convert_to_tensor(logits), labels, frames, blank=1, reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_clip_too_short_for_its_labels_is_infinity_unless_asked():
    labels = np.array([[1, 2, 3, 4, 5]])
    for zero, expected in ((False, float("inf")), (True, 0.0)):
        model = TFWav2Vec2ForCTC(tiny(ctc_zero_infinity=zero))
        assert model(INPUTS["waves"][:1, :70], labels=labels).loss == expected


# What is hidden ----------------------------------------------------------------------------------------------------


def test_spans_are_those_of_torch(reference):
    """The same random numbers hide the same places."""
    for number in range(SPAN_CASES):
        made = make_draws(number)
        draws, lengths = ops.convert_to_tensor(made["draws"]), ops.cast(made["lengths"], "float32")
        found = place_spans(ops, draws, made["chance"], lengths, **made["spans"])
        np.testing.assert_array_equal(found, reference[1][f"spans.{number}"])


def test_frames_that_are_said_are_hidden(reference):
    model = load("base", reference[0], apply_spec_augment=True)
    output = model(INPUTS["waves"], mask_time_indices=INPUTS["hidden"])
    compare_all({"last_hidden_state": np.asarray(output.last_hidden_state)}, reference[1], "hidden/")


def without_positions(**fields):
    """Make a model whose first states are what goes into the encoder: positions have no weight."""
    model = TFWav2Vec2Model(tiny(**STABLE, **fields))
    conv = model.encoder.pos_conv_embed.conv
    conv.parametrizations["weight"].original0.assign(ops.zeros((1, 1, 16)))
    return model


def first_states(model, **options):
    output = model(INPUTS["waves"], INPUTS["mask.right"], output_hidden_states=True, **options)
    return np.asarray(output.hidden_states[0])


def test_frames_and_channels_are_hidden_while_training_only():
    keras.utils.set_random_seed(0)
    spans = {"mask_time_prob": 0.5, "mask_feature_prob": 0.3, "mask_feature_length": 4}
    model = without_positions(apply_spec_augment=True, **spans)
    plain, one, other = (first_states(model, training=training) for training in (False, True, True))
    assert not np.array_equal(one, other)
    model.config.apply_spec_augment = False
    np.testing.assert_array_equal(first_states(model, training=True), plain)
    real = plain.any(-1)
    assert (~real).any() and not one[~real].any()
    gone = (one == 0).all(1)  # whole channels of a clip
    assert gone.any(1).all() and gone.sum(1).max() < 32
    hidden = ((one == np.asarray(model.masked_spec_embed)) | (one == 0)).all(-1) & real
    assert hidden.any(1).all() and (real & ~hidden).any()
    np.testing.assert_array_equal(one[real & ~hidden], np.where(gone[:, None], 0, plain)[real & ~hidden])


def test_as_many_frames_are_hidden_as_asked_compiled():
    """In `fit`'s own way of calling: three frames of 29, in spans of one, by a chance of a tenth."""
    keras.utils.set_random_seed(0)
    model = without_positions(apply_spec_augment=True, mask_time_prob=0.1, mask_time_length=1, mask_time_min_masks=0)

    class Trained(keras.Model):
        def call(self, waves):
            states = model(waves, output_hidden_states=True, training=True).hidden_states[0]
            return ops.all(ops.equal(states, model.masked_spec_embed), axis=-1)

    waves = np.repeat(INPUTS["waves"], 40, axis=0)
    counts = Trained().predict(waves, batch_size=50, verbose=0).sum(1)
    assert set(counts) <= {2, 3} and counts.mean() == pytest.approx(
        2.9, abs=0.11
    )  # four batches, rounded alike in each


def test_whole_layers_are_dropped():
    model = TFWav2Vec2Model(tiny(layerdrop=1.0))
    output = model(INPUTS["waves"], output_hidden_states=True, training=True)
    assert len(output.hidden_states) == 4
    for state in output.hidden_states:
        np.testing.assert_array_equal(state, output.last_hidden_state)
    keras.utils.set_random_seed(0)
    half = TFWav2Vec2Model(tiny(layerdrop=0.5, num_hidden_layers=8, hidden_size=4, intermediate_size=4))
    calls = [half(INPUTS["waves"][:1, :60], output_hidden_states=True, training=True).hidden_states for _ in range(9)]
    same = [np.array_equal(one, other) for states in calls for one, other in itertools.pairwise(states)]
    assert len(same) == 72 and 20 < sum(same) < 52


# Training --------------------------------------------------------------------------------------------------------


def test_fit_learns_to_write_with_everything_that_chance_does():
    keras.utils.set_random_seed(0)
    config = Wav2Vec2Config(**TINY, **STABLE, ctc_loss_reduction="mean", ctc_zero_infinity=True)
    model = TFWav2Vec2ForCTC(config)
    model.freeze_feature_encoder()
    before = model.state_arrays()
    model.compile(keras.optimizers.Adam(3e-3))
    inputs = call_inputs("ctc", "right", INPUTS)
    losses = model.fit(inputs, batch_size=5, epochs=25, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    after = model.state_arrays()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name for name in before if ".feature_extractor." in name} == same
    model.freeze_base_model()
    assert len(model.trainable_variables) == 2


# Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_inputs_that_do_not_fit_are_errors():
    model, waves = TFWav2Vec2ForCTC(tiny()), INPUTS["waves"][:2, :100]
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
    with pytest.raises(ValueError, match=r"for 2 clips, not \(2,\)"):
        model(waves, labels=np.array([1, 2]))
    for label in (13, -1):
        with pytest.raises(ValueError, match="labels are from 0 to 12, or -100"):
            model(waves, labels=np.array([[1, 2], [1, label]]))
    hiding = TFWav2Vec2Model(tiny(apply_spec_augment=True))
    with pytest.raises(ValueError, match=r"\(2, 5\) does not fit"):
        hiding(waves, mask_time_indices=np.zeros((2, 5), np.int32))
    with pytest.raises(ValueError, match="mask_time_prob > 0"):
        without = TFWav2Vec2Model(tiny(apply_spec_augment=True, mask_time_prob=0.0))
        without(waves, mask_time_indices=np.zeros((2, 4), np.int32))


@pytest.mark.any_backend
def test_what_cannot_be_built_is_an_error():
    with pytest.raises(ConfigurationError, match="TFWav2Vec2ForSequenceClassification reads every frame"):
        TFWav2Vec2ForSequenceClassification(tiny(add_adapter=True))
    for fields in ({"vocab_size": None}, {"pad_token_id": None}, {"pad_token_id": 13}):
        with pytest.raises(ConfigurationError, match="needs a blank"):
            TFWav2Vec2ForCTC(tiny(**fields))


# Weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_the_older_spelling_of_the_weight_norm_loads(reference, tmp_path):
    folder, results = reference
    weights = load_file(folder / "base" / "model.safetensors")
    start = "encoder.pos_conv_embed.conv."
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        weights[start + old] = weights.pop(f"{start}parametrizations.weight.{new}")
    del weights["masked_spec_embed"]  # many fine-tuned checkpoints were saved without it
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "base" / "config.json").read_text())
    model, info = TFWav2Vec2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == ["masked_spec_embed"] and not info["unexpected_keys"]
    compare_all(flatten(model(INPUTS["waves"])), results, "base/none/plain/")


@pytest.mark.any_backend
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
    keras.utils.set_random_seed(0)
    convolutions = {"conv_dim": (512, 512), "conv_stride": (5, 2), "conv_kernel": (10, 3), "conv_bias": True}
    arrays = TFWav2Vec2Model(Wav2Vec2Config(num_hidden_layers=1, **convolutions)).state_arrays()
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
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"bfloat16"}
    given = call_inputs("ctc stable", "right", INPUTS)
    output = model(**given)
    expected = reference[1]["ctc stable/right/plain/logits"]
    assert np.abs(np.asarray(output.logits, np.float32) - expected).max() < 0.1 * np.abs(expected).max()
    assert float(output.loss) == pytest.approx(reference[1]["ctc stable/right/plain/loss"], rel=0.05)


def test_a_backend_that_convolves_wrongly_in_half_precision_is_not_asked_to(reference, monkeypatch):
    """As TensorFlow does on some processors; the convolutions of the sounds, of positions, and of the adapter."""
    convolve = ops.conv

    def wrong(x, *args, **options):
        y = convolve(x, *args, **options)
        return y if keras.backend.standardize_dtype(x.dtype) == "float32" else -y

    monkeypatch.setattr(ops, "conv", wrong)
    for case in ("ctc stable", "base adapter"):
        output = load(case, reference[0], dtype="bfloat16")(**call_inputs(case, "right", INPUTS))
        key = next(iter({"logits", "last_hidden_state"} & set(output)))
        expected = reference[1][f"{case}/right/plain/{key}"]
        found = np.asarray(output[key], np.float32)
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of TensorFlow, by numpy 2
def test_keras_saves_and_reads_it_itself(tmp_path):
    model = TFWav2Vec2ForCTC(tiny(**STABLE, adapter_attn_dim=5))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(INPUTS["waves"]).logits, model(INPUTS["waves"]).logits)


@pytest.mark.any_backend
def test_what_was_saved_names_the_class_and_no_torch_was_needed(tmp_path):
    TFWav2Vec2ForCTC(tiny()).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["TFWav2Vec2ForCTC"]
    loaded = maquette.TFAutoModelForCTC.from_pretrained(tmp_path)
    assert loaded(INPUTS["waves"]).logits.shape == (5, FRAMES, 13)
    assert "torch" not in sys.modules
