"""Wav2Vec2: it computes what the peer computes, on either's weights, with padding and without."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import assert_near
from safetensors.torch import load_file, save_file
from torch.nn import functional as F  # noqa: N812 - as everyone writes it

from maquette import AutoModelForCTC, PretrainedConfig
from maquette.errors import CheckpointError, ConfigurationError, MissingFileError
from maquette.modeling.packing import use_packing
from maquette.models.wav2vec2 import modeling, pretraining
from maquette.models.wav2vec2.configuration import Wav2Vec2Config
from maquette.models.wav2vec2.encoder import ConvLayer, FeatureEncoder
from maquette.models.wav2vec2.masking import compute_mask_indices, sample_negative_indices
from maquette.models.wav2vec2.modeling import Wav2Vec2ForCTC, Wav2Vec2Model

LENGTHS, SAMPLES, FRAMES = (600, 431, 150, 190, 299), 600, 29
TINY = {
    "vocab_size": 13,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "conv_dim": (16, 24, 16),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_length": 3,
    "num_codevectors_per_group": 7,
    "codevector_dim": 12,
    "proj_codevector_dim": 10,
    "num_negatives": 4,
    "classifier_proj_size": 20,
    "tdnn_dim": (20, 24),
    "tdnn_kernel": (3, 2),
    "tdnn_dilation": (2, 1),
    "xvector_output_dim": 18,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
ADAPTER = {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}
STEPS_OF_SOUNDS = 1000  # sums of thousands of samples, and positions of 16 x 8
CASES = {
    "base": ("Wav2Vec2Model", {}),
    "base stable": ("Wav2Vec2Model", STABLE),
    "base odd": ("Wav2Vec2Model", {"num_conv_pos_embeddings": 7, "feat_extract_norm": "layer", "hidden_act": "relu"}),
    "base adapter alone": ("Wav2Vec2Model", {**STABLE, **ADAPTER}),
    "ctc": ("Wav2Vec2ForCTC", {}),
    "ctc stable": ("Wav2Vec2ForCTC", {**STABLE, "ctc_loss_reduction": "mean", "ctc_zero_infinity": True}),
    "ctc languages": ("Wav2Vec2ForCTC", {**STABLE, "adapter_attn_dim": 5}),
    "class": ("Wav2Vec2ForSequenceClassification", {"num_labels": 3}),
    "class stable": ("Wav2Vec2ForSequenceClassification", {**STABLE, "num_labels": 3, "use_weighted_layer_sum": True}),
    "frames": ("Wav2Vec2ForAudioFrameClassification", {"num_labels": 3}),
    "frames stable": ("Wav2Vec2ForAudioFrameClassification", {**STABLE, "num_labels": 3}),
    "voice": ("Wav2Vec2ForXVector", {**STABLE, "num_labels": 6, "use_weighted_layer_sum": True}),
    "voice alone": ("Wav2Vec2ForXVector", {**STABLE, "num_labels": 6}),
    "pretraining": ("Wav2Vec2ForPreTraining", {}),
    "pretraining stable": ("Wav2Vec2ForPreTraining", STABLE),
}
CASES.pop("voice")  # the peer's statistics of a padded batch take in padding; see "voice alone"
CLASSES = sorted({name for name, _ in CASES.values()})


def tiny(**fields):
    return Wav2Vec2Config(**{**TINY, **fields})


def class_of(name):
    return getattr(pretraining if name == "Wav2Vec2ForPreTraining" else modeling, name)


def model_of(name, **fields):
    torch.manual_seed(0)
    return class_of(name)(tiny(**fields)).eval()


def frames_of(samples):
    """Count frames as three convolutions without padding do, one after the other."""
    for kernel, stride in zip(TINY["conv_kernel"], TINY["conv_stride"], strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def make_inputs() -> dict[str, torch.Tensor]:
    """Five clips of different lengths, and labels of every kind."""
    torch.manual_seed(7)
    lengths = torch.tensor(LENGTHS)
    right = torch.arange(SAMPLES) < lengths[:, None]
    real = torch.arange(FRAMES) < torch.tensor([frames_of(length) for length in LENGTHS])[:, None]
    hidden = {"none": torch.rand(5, FRAMES) < 0.4, "right": (torch.rand(5, FRAMES) < 0.6) & real}
    labels = torch.randint(1, TINY["vocab_size"], (5, 3))
    labels[1, 2] = labels[3, 1] = labels[3, 2] = -100
    labels[4, 1] = 0  # the blank, which is padding too
    return {
        "waves": torch.randn(5, SAMPLES) * right,
        "mask.none": torch.ones(5, SAMPLES, dtype=torch.long),
        "mask.right": right.long(),
        "real.right": real,
        "real.none": torch.ones_like(real),
        "weights": torch.randn(5, FRAMES, TINY["hidden_size"]),
        **{f"hidden.{name}": mask.long() for name, mask in hidden.items()},
        **{f"negatives.{n}": sample_negative_indices((5, FRAMES), 4, mask_time_indices=m) for n, m in hidden.items()},
        "labels.Wav2Vec2ForCTC": labels,
        "labels.Wav2Vec2ForSequenceClassification": torch.tensor([0, 2, 1, 1, 0]),
        "labels.Wav2Vec2ForAudioFrameClassification": torch.randint(0, 3, (5, FRAMES)),
        "labels.Wav2Vec2ForXVector": torch.tensor([5, 0, 3, 3, 1]),
    }


# The peer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchange(tmp_path_factory, run_peer):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""

    folder = tmp_path_factory.mktemp("exchange")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    settings = {case: (name, {**TINY, **fields}) for case, (name, fields) in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(settings), encoding="utf-8")
    for case, (name, fields) in CASES.items():
        model_of(name, **fields).save_pretrained(folder / "ours" / case)
    run_peer(Path(__file__).parent / "peer_wav2vec2.py", folder)
    return folder


def compute(model, case, which, inputs):
    """Give our outputs, loss and gradients, named as the peer's script names them."""
    waves, mask = inputs["waves"], None if which == "none" else inputs["mask.right"]
    if case.startswith("base"):
        output = model(waves, mask)
        states = output.last_hidden_state
        loss = (states * inputs["weights"][:, : states.shape[1], : states.shape[2]]).mean()
    elif case.startswith("pretraining"):
        hidden = {"mask_time_indices": inputs[f"hidden.{which}"]}
        output = model(waves, mask, **hidden, sampled_negative_indices=inputs[f"negatives.{which}"])
        loss = output.loss
    else:
        output = model(waves, mask, labels=inputs[f"labels.{type(model).__name__}"])
        loss = output.loss
    model.zero_grad()
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**{name: value for name, value in output.items() if name != "loss"}, "loss": loss, **gradients}


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_peer(exchange, case, whose):
    inputs = make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{case}.safetensors")
    model = class_of(CASES[case][0]).from_pretrained(exchange / whose / case, strict=True)
    assert sorted(model.state_dict()) == json.loads(bytes(expected["keys"].tolist()))
    for which in ("none", "right"):
        for packed in (True, False):
            with use_packing(packed):
                found = compute(model, case, which, inputs)
            wanted = {key.removeprefix(f"{which}."): x for key, x in expected.items() if key.startswith(f"{which}.")}
            if not (case.endswith("alone") and which == "right"):
                assert found.keys() == wanted.keys()
            for key, value in wanted.items():
                where = f"{case}, {which}, packed={packed}: {key}"
                compare(found[key], value, inputs[f"real.{which}"], where=where)


def compare(found, expected, real, *, where):
    """Compare what is real."""
    if found.shape[:2] == real.shape:
        found, expected = found[real], expected[real]
    if "adapter" in where and "last_hidden_state" in where:  # (rows, fewer frames, width): zeros at padding
        found = found[:, : expected.shape[1]]
    # softmax does not feel the bias of keys: both are rounding
    least = 1e-6 if "grad." in where and not where.endswith("k_proj.bias") else 1.0
    assert_near(found, expected, where, steps=STEPS_OF_SOUNDS, least=least)


@pytest.mark.parametrize("case", ["base", "base stable"])
def test_states_and_attention_weights_equal_the_peers(exchange, case):
    inputs = make_inputs()
    model = Wav2Vec2Model.from_pretrained(exchange / "theirs" / case)
    expected = load_file(exchange / "results" / f"states-{case}.safetensors")
    real = inputs["real.right"]
    output = model(inputs["waves"], inputs["mask.right"], output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4 and len(output.attentions) == 3
    for number, states in enumerate(output.hidden_states):
        assert_near(states[real], expected[f"state.{number}"][real], steps=STEPS_OF_SOUNDS)
    for number, weights in enumerate(output.attentions):  # (rows, heads, queries, keys)
        ours, theirs = (w.transpose(1, 2)[real] for w in (weights, expected[f"weights.{number}"]))
        assert_near(ours, theirs)


# Configuration ---------------------------------------------------------------------------------------------------


def test_has_every_field_of_the_peer(exchange):
    theirs = json.loads((exchange / "theirs" / "base" / "config.json").read_text(encoding="utf-8"))
    ours = json.loads((exchange / "ours" / "base" / "config.json").read_text(encoding="utf-8"))
    for content in (ours, theirs):
        for name in ("maquette_version", "transformers_version", "architectures"):
            content.pop(name, None)
    assert ours == {**ours, **theirs} and set(ours) - set(theirs) <= {"id2label", "label2id"}


def test_what_follows_from_the_fields():
    config = Wav2Vec2Config()
    assert config.inputs_to_logits_ratio == 320 and config.receptive_field == 400
    assert config.num_feat_extract_layers == 7 and config.output_hidden_size == 768
    assert tiny().receptive_field == 30 and frames_of(29) < 1 == frames_of(30)
    assert Wav2Vec2Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conv_dim": (8, 8)}, "conv_dim has 2, conv_stride has 3"),
        ({"conv_dim": (), "conv_stride": (), "conv_kernel": ()}, "conv_dim has 0"),
        ({"tdnn_kernel": (1, 1, 1)}, "tdnn_kernel has 3"),
        ({"num_attention_heads": 5}, "hidden_size=32 cannot be shared equally by num_attention_heads=5"),
        ({"num_conv_pos_embedding_groups": 5}, "num_conv_pos_embedding_groups=5"),
        ({"codevector_dim": 13}, "codevector_dim=13"),
        ({"adapter_attn_dim": 4}, "needs do_stable_layer_norm"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm"),
        ({"mask_time_prob": 1.5}, "mask_time_prob"),
        ({"hidden_act": "geul"}, "hidden_act"),
        ({"attn_implementation": "flash"}, 'must be "sdpa" or "eager"'),
        ({"mask_time_lenght": 3}, "mask_time_length"),
    ],
)
def test_what_cannot_be_built_is_an_error(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny(**fields)


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in ("Wav2Vec2Model", "Wav2Vec2ForCTC")])
def test_heads_that_read_every_frame_refuse_an_adapter(name):
    with pytest.raises(ConfigurationError, match=f"{name} reads every frame"):
        model_of(name, **ADAPTER)


def test_ctc_needs_a_blank():
    for fields in ({"vocab_size": None}, {"pad_token_id": None}, {"pad_token_id": 13}):
        with pytest.raises(ConfigurationError, match="needs a blank"):
            model_of("Wav2Vec2ForCTC", **fields)


# AudioOptions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride", "channels"), [(10, 5, 1), (3, 2, 4), (2, 2, 4), (5, 2, 4), (2, 3, 4)])
def test_convolves_as_torch_does(kernel, stride, channels):
    torch.manual_seed(0)
    fields = {"conv_dim": (channels, 6), "conv_stride": (1, stride), "conv_kernel": (1, kernel), "conv_bias": True}
    layer = ConvLayer(tiny(**fields), 1).double()
    for length in range(kernel, kernel + 9):
        x = torch.randn(length, channels, dtype=torch.float64, requires_grad=True)
        found = layer.conv(x.T).T
        expected = F.conv1d(x.T[None], layer.conv.weight, layer.conv.bias, stride)[0].T
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(expected)
        (mine,) = torch.autograd.grad((found * weights).sum(), x)
        (theirs,) = torch.autograd.grad((expected * weights).sum(), x)
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("strides", [(5, 2, 2), (1, 1, 1), (3, 4, 1)])
def test_hears_pieces_and_joined_clips_as_whole_ones(norm, strides, monkeypatch):
    torch.manual_seed(0)
    encoder = FeatureEncoder(tiny(feat_extract_norm=norm, conv_stride=strides, conv_kernel=(4, 6, 3)))
    waves = torch.randn(4, 301)
    expected = waves[:, None]
    for layer in encoder.conv_layers:
        expected = F.conv1d(expected, layer.conv.weight, None, layer.stride)
        if isinstance(getattr(layer, "layer_norm", None), torch.nn.LayerNorm):
            expected = layer.layer_norm(expected.transpose(1, 2)).transpose(1, 2)
        elif hasattr(layer, "layer_norm"):
            expected = layer.layer_norm(expected)
        expected = F.gelu(expected)
    expected = expected.transpose(1, 2)
    frames = expected.shape[1]
    real = torch.arange(frames) < torch.tensor([frames, 1, 0, frames // 2])[:, None]
    for piece in (1, 7, 10_000):
        monkeypatch.setattr("maquette.models.wav2vec2.encoder.PIECE", piece)
        assert_near(encoder(waves, None), expected)
        found = encoder(waves, real)
        assert_near(found[real], expected[real])
        assert not found[~real].any()


# Padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("side", ["right", "left", "middle"])
@pytest.mark.parametrize("case", [case for case, (_, fields) in CASES.items() if "feat_extract_norm" in fields])
def test_a_clip_gets_what_it_gets_alone(case, side, packed):
    """With a norm over channels, whatever is in the padding; its frames come first in its row."""
    name, fields = CASES[case]
    model, waves = model_of(name, **fields), torch.full((5, SAMPLES), 3.0)
    mask = torch.zeros(5, SAMPLES, dtype=torch.long)
    clips = [torch.randn(length) for length in LENGTHS]
    for row, clip in enumerate(clips):
        first = {"right": 0, "left": SAMPLES - len(clip), "middle": (SAMPLES - len(clip)) // 2}[side]
        waves[row, first : first + len(clip)] = clip
        mask[row, first : first + len(clip)] = 1
    with torch.no_grad(), use_packing(packed):
        together = model(waves, mask)
        for row, clip in enumerate(clips):
            for key, value in model(clip[None]).items():
                if key != "codevector_perplexity":
                    found = together[key][row]
                    real = value.shape[1] if value.ndim == 3 else len(found)
                    assert_near(found[:real], value[0], key, steps=STEPS_OF_SOUNDS)
                    assert not found[real:].any()


@pytest.mark.parametrize("case", CASES)
def test_packed_equals_padded_with_rows_of_every_kind(case):
    name, fields = CASES[case]
    torch.manual_seed(5)
    waves, model = torch.randn(5, SAMPLES).double(), model_of(name, **fields).double()
    lengths = torch.tensor([0, 600, 150, 0, 177])
    mask = torch.arange(SAMPLES) < lengths[:, None]
    for attention_mask in (mask, mask.flip(0, 1), torch.zeros_like(mask)):
        found = {}
        for packed in (True, False):
            model.zero_grad()
            with use_packing(packed):
                output = model(waves, attention_mask, output_hidden_states=True)
            sum(x.clamp(-9, 9).sum() for x in flatten(output)).backward()
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
            found[packed] = [*flatten(output), *gradients]
        for one, other in zip(found[True], found[False], strict=True):
            assert one.isfinite().all()
            assert_near(one, other, steps=1e6)


def flatten(output):
    return [x for value in output.values() for x in (value if isinstance(value, tuple) else (value,))]


def test_padded_frames_are_zeros():
    inputs = make_inputs()
    padding = ~inputs["real.right"]
    for packed in (True, False):
        with torch.no_grad(), use_packing(packed):
            output = model_of("Wav2Vec2Model")(inputs["waves"], inputs["mask.right"])
            assert not output.last_hidden_state[padding].any() and not output.extract_features[padding].any()
            assert not model_of("Wav2Vec2ForCTC")(inputs["waves"], inputs["mask.right"]).logits[padding].any()


def test_inputs_that_do_not_fit_are_errors():
    model, waves = model_of("Wav2Vec2ForCTC"), torch.randn(2, 100)
    mask = torch.ones(2, 100)
    with pytest.raises(ValueError, match=r"\(batch, samples\).*\(2, 1, 100\)"):
        model(waves[:, None])
    with pytest.raises(ValueError, match="floating-point"):
        model(waves.long())
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
        model(waves, labels=torch.tensor([1, 2]))
    for label in (13, -1):
        with pytest.raises(ValueError, match="labels are from 0 to 12, or -100"):
            model(waves, labels=torch.tensor([[1, 2], [1, label]]))
    with pytest.raises(ValueError, match="voice needs 6 frames; the clips have \\[4, 4\\]"):
        model_of("Wav2Vec2ForXVector")(waves)
    with pytest.raises(ValueError, match="labels are from 0 to 1"):
        model_of("Wav2Vec2ForXVector")(torch.randn(2, 300), labels=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"\(2, 5\) does not fit"):
        model.wav2vec2(waves, mask_time_indices=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="mask_time_prob > 0"):
        model_of("Wav2Vec2Model", mask_time_prob=0.0)(waves, mask_time_indices=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="need mask_time_indices"):
        model_of("Wav2Vec2ForPreTraining")(waves, sampled_negative_indices=torch.zeros(2, 4, 3))
    with pytest.raises(TypeError, match="input_ids"):
        model(waves, input_ids=waves)


def test_outputs_come_as_asked():
    inputs = make_inputs()
    model = model_of("Wav2Vec2Model")
    plain = model(inputs["waves"], inputs["mask.right"])
    assert list(plain) == ["last_hidden_state", "extract_features"]
    rich = model(inputs["waves"], inputs["mask.right"], output_hidden_states=True, output_attentions=True)
    assert list(rich) == [*plain, "hidden_states", "attentions"]
    assert_near(rich.last_hidden_state, plain.last_hidden_state)
    values = model(inputs["waves"], return_dict=False)
    assert isinstance(values, tuple) and len(values) == 2
    mixing = model_of("Wav2Vec2ForSequenceClassification", use_weighted_layer_sum=True)
    assert list(mixing(inputs["waves"])) == ["logits"]
    assert len(mixing(inputs["waves"], output_hidden_states=True).hidden_states) == 4
    eager = model_of("Wav2Vec2Model", attn_implementation="eager")(inputs["waves"], inputs["mask.right"])
    assert_near(eager.last_hidden_state, plain.last_hidden_state)


# Losses ----------------------------------------------------------------------------------------------------------


def test_ctc_loss_is_the_chance_of_all_ways_to_write_it():
    """Against the sum over every path that collapses to the labels, for few frames."""
    import itertools

    model = model_of("Wav2Vec2ForCTC", vocab_size=3, ctc_loss_reduction="none", pad_token_id=1)
    waves = torch.randn(2, 30 + 3 * 20)  # four frames
    labels = torch.tensor([[0, 2], [2, -100]])
    output = model(waves, labels=labels)
    shares = output.logits.softmax(-1)
    for row, wanted in enumerate(([0, 2], [2])):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            if [k for k, _ in itertools.groupby(path) if k != 1] == wanted:
                total += np.prod([shares[row, place, k].item() for place, k in enumerate(path)])
        assert output.loss[row].item() == pytest.approx(-np.log(total), rel=1e-4)


def test_a_clip_too_short_for_its_labels_is_infinity_unless_asked():
    labels = torch.tensor([[1, 2, 3, 4, 5]])
    for zero, expected in ((False, float("inf")), (True, 0.0)):
        assert model_of("Wav2Vec2ForCTC", ctc_zero_infinity=zero)(torch.randn(1, 70), labels=labels).loss == expected


def test_labels_of_frames_at_padding_or_minus_100_do_not_count():
    inputs = make_inputs()
    model = model_of("Wav2Vec2ForAudioFrameClassification", num_labels=3)
    labels = inputs["labels.Wav2Vec2ForAudioFrameClassification"].clone()
    labels[:, 2] = -100
    for packed in (True, False):
        with use_packing(packed):
            output = model(inputs["waves"], inputs["mask.right"], labels=labels)
        kept = inputs["real.right"] & (labels >= 0)
        torch.testing.assert_close(output.loss, F.cross_entropy(output.logits[kept], labels[kept]))


# Masks and negatives ---------------------------------------------------------------------------------------------


def test_spans_are_masked_as_often_as_asked():
    torch.manual_seed(0)
    real = torch.arange(200) < torch.tensor([200, 120, 9, 10] * 100)[:, None]
    mask = compute_mask_indices((400, 200), 0.5, mask_length=10, attention_mask=real)
    assert not mask[~real].any() and not mask[2::4].any()  # nine places hold no span of ten
    # n spans of m places among L, first places drawn without replacement: the chance that one place is free of all
    for row, length in ((0, 200), (1, 120)):
        starts = length - 9
        spans = 0.5 * length / 10
        over = np.minimum.reduce(
            [np.arange(length) + 1, np.full(length, 10), length - np.arange(length), [starts] * length]
        )
        expected = np.mean(1 - np.exp(np.log1p(-over / starts) * spans))
        assert mask[row::4, :length].float().mean().item() == pytest.approx(expected, abs=0.02)
    runs = F.pad(mask[0::4].int(), (1, 1)).diff(dim=1)
    begins, ends = ((runs == sign).nonzero() for sign in (1, -1))
    assert ((ends - begins)[:, 1] >= 10).all()


def test_few_masks_at_least_and_none_at_most():
    assert compute_mask_indices((3, 40), 0.0, mask_length=5, min_masks=0).sum() == 0
    mask = compute_mask_indices((50, 40), 0.0, mask_length=1, min_masks=2)
    assert (mask.sum(1) == 2).all()
    assert compute_mask_indices((2, 4), 1.0, mask_length=5, min_masks=2).sum() == 0
    assert compute_mask_indices((2, 4), 1.0, mask_length=4).all()
    with pytest.raises(ValueError, match="at least one place"):
        compute_mask_indices((2, 4), 0.5, mask_length=0)
    with pytest.raises(ValueError, match=r"\(2, 3\), not \(2, 4\)"):
        compute_mask_indices((2, 4), 0.5, mask_length=2, attention_mask=torch.ones(2, 3))


def test_masks_follow_torchs_seed():
    def drawn():
        torch.manual_seed(3)
        return compute_mask_indices((4, 60), 0.3, mask_length=4)

    assert torch.equal(drawn(), drawn()) and not torch.equal(drawn(), compute_mask_indices((4, 60), 0.3, mask_length=4))


def test_negatives_are_other_masked_frames_of_the_clip_each_as_often():
    torch.manual_seed(0)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, [1, 4, 5, 8]] = mask[2, [0, 7]] = True
    negatives = sample_negative_indices((3, 9), 3000, mask_time_indices=mask)
    assert negatives.shape == (3, 9, 3000)
    for row, frame in mask.nonzero().tolist():
        others = [row * 9 + place for place in mask[row].nonzero()[:, 0].tolist() if place != frame]
        found, counts = negatives[row, frame].unique(return_counts=True)
        assert found.tolist() == others
        assert (counts / 3000 - 1 / len(others)).abs().max() < 0.04
    assert (negatives // 9 == torch.arange(3)[:, None, None]).all()
    mask[1, 0] = True
    with pytest.raises(ValueError, match="Only one frame of row 1"):
        sample_negative_indices((3, 9), 5, mask_time_indices=mask)
    with pytest.raises(ValueError, match=r"\(3, 8\), not \(3, 9\)"):
        sample_negative_indices((3, 9), 5, mask_time_indices=mask[:, :8])


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_frames_and_channels_are_hidden_while_training_only(packed):
    fields = {"mask_time_prob": 0.5, "mask_feature_prob": 0.3, "mask_feature_length": 4, "layerdrop": 0.0}
    none = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.0)
    inputs = make_inputs()
    model = model_of("Wav2Vec2Model", **fields, **none)
    seen = []
    model.encoder.pos_conv_embed.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad(), use_packing(packed):
        for training in (False, True, True):
            model.train(training)(inputs["waves"], inputs["mask.right"])
        model.config.apply_spec_augment = False
        model(inputs["waves"], inputs["mask.right"])
    plain, one, other, off = seen
    assert torch.equal(plain, off) and not torch.equal(one, other)
    real = inputs["real.right"]
    zeroed = (one == 0).sum(1) == real.sum(1)[:, None] + (~real).sum(1)[:, None]  # whole channels of a clip
    assert zeroed.any(1).all() and zeroed.sum(1).max() < 32
    hidden = ((one == model.masked_spec_embed) | (one == 0)).all(-1) & real
    assert hidden.any(1).all() and (real & ~hidden).any()
    untouched = torch.where(zeroed[:, None], 0.0, plain)[real & ~hidden]
    torch.testing.assert_close(one[real & ~hidden], untouched)


# Training --------------------------------------------------------------------------------------------------------


def test_whole_layers_are_dropped():
    model = model_of("Wav2Vec2Model", layerdrop=1.0, apply_spec_augment=False, hidden_dropout=0.0).train()
    output = model(make_inputs()["waves"], output_hidden_states=True)
    assert len(output.hidden_states) == 4
    assert all(torch.equal(state, output.last_hidden_state) for state in output.hidden_states)
    half = model_of("Wav2Vec2Model", layerdrop=0.5, num_hidden_layers=400, hidden_size=4, intermediate_size=4).train()
    calls = []
    for layer in half.encoder.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    half(make_inputs()["waves"][:1, :60])
    assert 150 < len(calls) < 250


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_parts_get_no_gradient(frozen):
    model = model_of("Wav2Vec2ForCTC", layerdrop=0.0).train()
    inputs = make_inputs()
    if frozen:
        model.freeze_feature_encoder()
    model(inputs["waves"], inputs["mask.right"], labels=inputs["labels.Wav2Vec2ForCTC"]).loss.backward()
    assert (model.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad is None) is frozen
    assert model.wav2vec2.feature_projection.projection.weight.grad is not None
    model.freeze_base_model()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["lm_head.weight", "lm_head.bias"]
    voice = model_of("Wav2Vec2ForXVector")
    voice.freeze_feature_encoder()
    assert voice.feature_extractor.weight.requires_grad
    assert not any(p.requires_grad for p in voice.wav2vec2.feature_extractor.parameters())


def test_recomputing_activations_changes_no_gradient():
    inputs, found = make_inputs(), []
    none = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout"), 0.0)
    for recompute in (False, True):
        model = model_of("Wav2Vec2ForCTC", **none, layerdrop=0.0, apply_spec_augment=False).train()
        if recompute:
            model.gradient_checkpointing_enable()
        with use_packing(True):
            model(inputs["waves"], inputs["mask.right"], labels=inputs["labels.Wav2Vec2ForCTC"]).loss.backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_pretraining_learns_to_recognise_what_was_hidden():
    """One batch by heart: from chance, ln 5 for one right one among five, downwards."""
    none = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "layerdrop"), 0.0)
    model = model_of("Wav2Vec2ForPreTraining", **STABLE, **none).train()
    model.set_gumbel_temperature(0.5)
    inputs = make_inputs()
    hidden = {"mask_time_indices": inputs["hidden.right"], "sampled_negative_indices": inputs["negatives.right"]}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        output = model(inputs["waves"], inputs["mask.right"], **hidden)
        torch.testing.assert_close(output.loss, output.contrastive_loss + 0.1 * output.diversity_loss)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.contrastive_loss.item() / inputs["hidden.right"].sum().item())
    assert model.quantizer.weight_proj.weight.grad.any()
    assert losses[0] == pytest.approx(np.log(5), abs=0.3) and np.mean(losses[-5:]) < 0.7 * losses[0]


def test_the_quantiser_draws_entries_by_their_scores_while_training():
    quantizer = model_of("Wav2Vec2ForPreTraining").quantizer
    feature = torch.randn(16)
    shares = quantizer.weight_proj(feature).view(2, 7).softmax(-1)
    everywhere = torch.ones(20_000, dtype=torch.bool)
    features = feature.expand(20_000, 16)
    vectors, perplexity, entries = quantizer.train()(features, everywhere)
    books = quantizer.codevectors.view(2, 7, 6)
    torch.testing.assert_close(vectors, torch.cat([books[0][entries[:, 0]], books[1][entries[:, 1]]], 1))
    for book in range(2):
        assert (entries[:, book].bincount(minlength=7) / 20_000 - shares[book]).abs().max() < 0.02
    entropies = -(shares * shares.log()).sum(-1)
    torch.testing.assert_close(perplexity, entropies.exp().sum(), atol=1e-3, rtol=1e-4)
    vectors, perplexity, entries = quantizer.eval()(features[:3], everywhere[:3])
    assert torch.equal(entries, shares.argmax(-1).expand(3, 2)) and perplexity.item() == pytest.approx(2)
    assert quantizer(features[:3], everywhere[:3] & False)[1].item() == pytest.approx(2)


@pytest.mark.parametrize("name", ["Wav2Vec2ForCTC", "Wav2Vec2ForXVector"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_backend_that_convolves_wrongly_in_half_precision_is_not_asked_to(name, dtype, monkeypatch):
    """As oneDNN does on some processors; weights in half precision, and autocast."""
    calls = []

    def wrong(x, weight, bias, **options):
        calls.append(x.dtype)
        half = x.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu")
        return F.conv1d(x, weight, bias, **options) * (-1 if half else 1)

    monkeypatch.setattr("maquette.models.wav2vec2.encoder.conv1d", wrong)
    inputs = make_inputs()
    model = model_of(name, **STABLE)
    with torch.no_grad():
        expected = model(inputs["waves"], inputs["mask.right"]).logits
        with torch.autocast("cpu", dtype):
            mixed = model(inputs["waves"], inputs["mask.right"]).logits
        plain = model.double()(inputs["waves"].double(), inputs["mask.right"]).logits
        half = model.to(dtype)(inputs["waves"].to(dtype), inputs["mask.right"]).logits
    assert half.dtype is dtype and plain.dtype is torch.float64
    assert set(calls) == {torch.float32, torch.float64}
    for found in (mixed, half, plain):
        assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_automatic_mixed_precision(packed):
    inputs = make_inputs()
    model = model_of("Wav2Vec2ForCTC", **STABLE)
    with torch.no_grad(), use_packing(packed):
        expected = model(inputs["waves"], inputs["mask.right"]).logits
        with torch.autocast("cpu", torch.bfloat16):
            found = model(inputs["waves"], inputs["mask.right"], labels=inputs["labels.Wav2Vec2ForCTC"])
    assert found.loss.isfinite() and (found.logits - expected).abs().max() < 0.1 * expected.abs().max()


# Weights ---------------------------------------------------------------------------------------------------------


def test_both_spellings_of_the_weight_norm_load(tmp_path):
    """torch's own weight norm, older and newer, is the oracle of the positions' convolution."""
    model = model_of("Wav2Vec2Model")
    conv = torch.nn.Conv1d(32, 32, 16, padding=8, groups=4)
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    weight = conv.weight.detach().clone()
    conv = torch.nn.utils.parametrizations.weight_norm(conv, dim=2)
    prefix, state = "encoder.pos_conv_embed.conv.", model.state_dict()
    new = {prefix + name: tensor for name, tensor in conv.state_dict().items()}
    assert new.keys() <= state.keys()
    renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = {prefix + renamed.get(name, name): tensor for name, tensor in conv.state_dict().items()}
    x = torch.randn(2, 20, 32)
    expected = F.gelu(F.conv1d(x.transpose(1, 2), weight, conv.bias, padding=8, groups=4)[..., :20]).transpose(1, 2)
    rest = {name: tensor for name, tensor in state.items() if name not in new}
    for number, spelling in enumerate((new, old)):
        model.save_pretrained(tmp_path / str(number))
        save_file({**rest, **spelling}, tmp_path / str(number) / "model.safetensors", {"format": "pt"})
        loaded = Wav2Vec2Model.from_pretrained(tmp_path / str(number), strict=True)
        assert_near(loaded.encoder.pos_conv_embed(x), expected)
        by_hand = model_of("Wav2Vec2Model")
        by_hand.load_state_dict({**rest, **spelling})
        assert_near(by_hand.encoder.pos_conv_embed(x), expected)


def test_fresh_weights_are_as_in_the_paper():
    torch.manual_seed(0)
    model = pretraining.Wav2Vec2ForPreTraining(Wav2Vec2Config(num_hidden_layers=1, conv_bias=True))
    base = model.wav2vec2
    assert base.encoder.layers[0].attention.q_proj.weight.std().item() == pytest.approx(0.02, rel=0.02)
    conv = base.feature_extractor.conv_layers[1].conv
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 3)) ** 0.5, rel=0.02)
    assert 0 < conv.bias.abs().max().item() <= (1 / (512 * 3)) ** 0.5
    positions = base.encoder.pos_conv_embed.conv.parametrizations.weight()
    assert positions.std().item() == pytest.approx(2 * (1 / (128 * 768)) ** 0.5, rel=0.02)
    assert base.feature_projection.projection.weight.abs().max().item() == pytest.approx(512**-0.5, rel=0.01)
    assert model.quantizer.weight_proj.weight.std().item() == pytest.approx(1, rel=0.02)
    assert model.quantizer.codevectors.min() >= 0 and model.quantizer.codevectors.max() <= 1
    assert model.project_q.weight.abs().max().item() == pytest.approx(256**-0.5, rel=0.01)
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            assert (weight == float(name.endswith("weight"))).all(), name


def test_a_checkpoint_without_the_embedding_of_masks_loads(tmp_path):
    """Many that were fine-tuned have none."""
    model = model_of("Wav2Vec2ForCTC")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("wav2vec2.masked_spec_embed")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    loaded, info = Wav2Vec2ForCTC.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == ["wav2vec2.masked_spec_embed"]
    assert loaded.wav2vec2.masked_spec_embed.isfinite().all()


def test_one_checkpoint_serves_every_head(tmp_path):
    model_of("Wav2Vec2ForPreTraining").save_pretrained(tmp_path)
    for name in CLASSES:
        loaded = class_of(name).from_pretrained(tmp_path)
        base = loaded.base_model.state_dict()
        for key, value in model_of("Wav2Vec2ForPreTraining").wav2vec2.state_dict().items():
            assert torch.equal(base[key], value), (name, key)


# Languages -------------------------------------------------------------------------------------------------------


def save_language(model, folder, language, *, size, **extra):
    torch.manual_seed(size)
    weights = {name: torch.randn_like(p) for name, p in model.named_parameters() if ".adapter_layer." in name}
    weights |= {"lm_head.weight": torch.randn(size, 32), "lm_head.bias": torch.randn(size), **extra}
    save_file(weights, folder / f"adapter.{language}.safetensors")
    return weights


def test_languages_are_exchanged(tmp_path):
    model = model_of("Wav2Vec2ForCTC", **STABLE, adapter_attn_dim=5)
    model.save_pretrained(tmp_path)
    languages = {name: save_language(model, tmp_path, name, size=size) for name, size in (("fra", 9), ("deu", 13))}
    save_language(model, tmp_path, "bad", size=7, more=torch.ones(1))
    waves = make_inputs()["waves"]
    loaded = AutoModelForCTC.from_pretrained(tmp_path, target_lang="fra")
    assert (
        loaded.target_lang == "fra" and loaded.config.vocab_size == 9 and loaded(waves).logits.shape == (5, FRAMES, 9)
    )
    assert torch.equal(
        loaded.wav2vec2.encoder.layers[0].attention.q_proj.weight,
        model.wav2vec2.encoder.layers[0].attention.q_proj.weight,
    )
    loaded.load_adapter("deu")
    expected = {**model.state_dict(), **languages["deu"]}
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    with pytest.raises(MissingFileError, match=r"adapter\.fre\.safetensors.*adapter\.fra"):
        loaded.load_adapter("fre")
    with pytest.raises(CheckpointError, match="does not fit: more is in the file or in the model only"):
        loaded.load_adapter("bad")
    loaded.init_adapter_layers()
    assert loaded.lm_head.weight.std() < 0.3 and not loaded.lm_head.bias.any()
    layer = loaded.wav2vec2.encoder.layers[0].adapter_layer
    assert (layer.norm.weight == 1).all() and not layer.norm.bias.any() and layer.linear_1.weight.std() < 0.3
    again, info = Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="deu", output_loading_info=True)
    assert again.target_lang == "deu" and not any(info.values())


def test_a_model_without_adapters_takes_no_language(tmp_path):
    model_of("Wav2Vec2ForCTC").save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="adapter_attn_dim"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="fra")


# The promises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_keeps_the_promises_of_a_model_with_masks(name, norm):
    from maquette.testing import check_model

    torch.manual_seed(0)
    mask = torch.arange(400) < torch.tensor([[200], [399], [170], [180]])
    inputs = {"input_values": torch.randn(4, 400) * mask, "attention_mask": mask.long()}
    checks = ("batch", "compile", "export", "half_precision", "gradients", "pickle", "deepcopy")
    fields = {**STABLE, "feat_extract_norm": norm, "num_labels": 18}
    check_model(class_of(name), tiny(**fields), inputs=inputs, only=checks)


def test_the_configuration_is_light(run_fresh):
    code = "import sys; from maquette import Wav2Vec2Config; Wav2Vec2Config(); print('torch' in sys.modules)"
    assert run_fresh(code).strip() == "False" and issubclass(Wav2Vec2Config, PretrainedConfig)
