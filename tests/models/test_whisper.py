"""Whisper computes what the peer computes, on either's weights, and writes down the peer's ids and times."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from byte_level import train
from exchanged_files import assert_same_names
from rounding import STEPS_OF_GRADIENTS, assert_near
from safetensors.torch import load_file, save_file
from whisper_runs import run

import maquette
from maquette.modeling.packing import use_packing
from maquette.models.whisper.languages import LANGUAGES
from maquette.text.spoken_words import find_words

ROWS, NEW, BANDS, WINDOW, LONG = 4, 7, 6, 40, 90
# 0 to 39 are words; then the end, the start, two languages, two tasks, and from 50 on the times of a window.
END, START, PREVIOUS, NO_TIMES = 40, 41, 47, 49
SIZES = {"vocab_size": 71, "d_model": 16, "encoder_layers": 3, "decoder_layers": 2, "init_std": 0.3}
SIZES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20}
SIZES |= {"num_mel_bins": BANDS, "max_source_positions": WINDOW // 2, "max_target_positions": 40}
SIZES |= {"pad_token_id": END, "bos_token_id": END, "eos_token_id": END, "decoder_start_token_id": START}
SIZES |= {"begin_suppress_tokens": None, "classifier_proj_size": 12}
SPEECH = {
    "lang_to_id": {"<|en|>": 42, "<|de|>": 43},
    "task_to_id": {"translate": 44, "transcribe": 45},
    "no_timestamps_token_id": NO_TIMES,
    "prev_sot_token_id": PREVIOUS,
    "is_multilingual": True,
    "max_initial_timestamp_index": 9,
    "alignment_heads": [[0, 1], [1, 0]],
    "begin_suppress_tokens": [7, END],
    "suppress_tokens": [3, 41, 42, 43, 44, 45, 46, 47, 48],
}


class Case:
    """One class with one configuration."""

    def __init__(self, head, *, states=False, generation=None, **fields):
        self.class_name, self.fields = f"Whisper{head}", {**SIZES, **fields}
        self.states, self.generation = states, generation

    @property
    def model_class(self):
        return getattr(maquette, self.class_name)

    def config(self):
        return maquette.WhisperConfig(**self.fields)

    def as_dict(self):
        more = {name: getattr(self, name) for name in ("fields", "states", "generation")}
        return {"class": self.class_name, **more}


CASES = {
    "base": Case("Model", states=True),
    "relu": Case("Model", activation_function="relu", scale_embedding=True),
    "writes": Case("ForConditionalGeneration", generation=SPEECH),
    "causal": Case("ForCausalLM"),
    "rows": Case("ForAudioClassification", num_labels=3),
    "mixed": Case("ForAudioClassification", num_labels=3, use_weighted_layer_sum=True),
}
ENGLISH = {"language": "en", "task": "transcribe", "max_new_tokens": 9}
SHORT = {
    "greedy": ENGLISH,
    "heard": {"max_new_tokens": 9},
    "german": {"language": "german", "task": "translate", "max_new_tokens": 9},
    "language alone": {"language": "<|de|>", "max_new_tokens": 9},
    "beams": {**ENGLISH, "num_beams": 4, "length_penalty": 2.0},
    "times": {**ENGLISH, "return_timestamps": True, "max_new_tokens": 14},
    "times beams": {**ENGLISH, "return_timestamps": True, "num_beams": 3, "max_new_tokens": 14},
    "prompt": {**ENGLISH, "prompt_ids": [PREVIOUS, 5, 6, 8]},
    "no repeats": {**ENGLISH, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
}
LONG_ENGLISH = {"language": "en", "task": "transcribe", "features": "long", "mask": "long.mask", "max_new_tokens": 12}
WORDS = {"return_token_timestamps": True, "return_segments": True}
LONGER = {
    "long": {**LONG_ENGLISH, "return_segments": True},
    "long heard": {**LONG_ENGLISH, "language": None, "num_beams": 2, "return_segments": True},
    "told": {**LONG_ENGLISH, "condition_on_prev_tokens": True, "return_segments": True},
    "told a prompt": {**LONG_ENGLISH, "condition_on_prev_tokens": True, "prompt_ids": [PREVIOUS, 5, 6, 8]},
    "told it each time": {
        **LONG_ENGLISH,
        "condition_on_prev_tokens": True,
        "prompt_ids": [PREVIOUS, 5, 6, 8],
        "prompt_condition_type": "all-segments",
    },
    "prompt each time": {**LONG_ENGLISH, "prompt_ids": [PREVIOUS, 5, 6, 8]},
    "silent": {**LONG_ENGLISH, "logprob_threshold": -1.5, "no_speech_threshold": 0.02, "temperature": 0.0},
    "sure": {
        **LONG_ENGLISH,
        "logprob_threshold": -9.0,
        "compression_ratio_threshold": 9.0,
        "temperature": [0.0, 0.4],
        "num_beams": 3,
    },
    "words": {**ENGLISH, **WORDS, "mask": "mask.whole"},
    "words of clips": {**ENGLISH, **WORDS, "mask": "mask.short"},
    "words of beams": {**ENGLISH, **WORDS, "mask": "mask.whole", "num_beams": 3},
    "words and times": {**ENGLISH, **WORDS, "mask": "mask.whole", "return_timestamps": True},
    "long words": {**LONG_ENGLISH, **WORDS},
}
TRAINED, MERGES = train(None, 400)
VOCABULARY = {token: (index - 1) % len(TRAINED) for token, index in TRAINED.items()}  # the end is the last of the words
SPECIAL = [START_TOKEN := "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>"]
SPECIAL += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
FIRST = len(VOCABULARY) + len(SPECIAL)  # the id of the first time
SOT, PREV = len(VOCABULARY), FIRST - 3
TEXT = {
    "vocab": VOCABULARY,
    "merges": MERGES,
    "special": SPECIAL,
    "times": [f"<|{step * 0.02:.2f}|>" for step in range(1501)],
    "texts": ["Hello world, how are you?", " Müller sagt: 日本語 ", "", "one <|1.20|> two"],
    "prefixes": [
        {},
        {"language": "german"},
        {"language": "yue", "task": "translate"},
        {"task": "transcribe", "predict_timestamps": True},
    ],
    "rows": [
        [SOT, SOT + 3, FIRST - 1, 40, 41, 42, SOT - 1],
        [SOT, SOT + 1, FIRST, 40, 41, FIRST + 60, FIRST + 60, 42, 43, FIRST + 100, SOT - 1],
        [PREV, 50, 51, SOT, SOT + 1, FIRST, 40, FIRST + 70, FIRST + 70],
        [FIRST, 40, FIRST + 300, FIRST + 300, 41, FIRST + 900, FIRST, 42, FIRST + 80],
        [FIRST, 40, FIRST + 300, FIRST + 300, FIRST, 41, FIRST + 90, FIRST + 90, 42, FIRST + 120, FIRST + 10, 45],
        [PREV, 50, 51],
        [40, 41, 42],
        [],
    ],
    "decoding": [
        {},
        {"skip_special_tokens": True},
        {"decode_with_timestamps": True},
        {"decode_with_timestamps": True, "skip_special_tokens": True},
        {"output_offsets": True, "skip_special_tokens": True},
        {"output_offsets": True, "decode_with_timestamps": True, "time_precision": 0.04},
    ],
    "features": {
        "80": (80, {}),
        "128": (128, {"do_normalize": True}),
        "longest": (80, {"padding": "longest", "truncation": False}),
        "short": (80, {"max_length": 16000, "pad_to_multiple_of": 300}),
    },
}


CALLS = {
    "text": {},
    "stretches": {"return_timestamps": True},
    "words": {"return_timestamps": "word", "generate_kwargs": {"language": "en", "max_new_tokens": 12}},
}


def make_transcriber():
    """A model of the tokenizer's vocabulary, which hears windows of 30 seconds, and ends its texts early."""
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": FIRST + 1501, "num_mel_bins": 80, "max_source_positions": 1500}
    sizes |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), SOT - 1) | {"decoder_start_token_id": SOT}
    model = maquette.WhisperForConditionalGeneration(maquette.WhisperConfig(**sizes)).eval()
    model.generation_config.update(
        lang_to_id={token: SOT + 1 + place for place, token in enumerate(SPECIAL[1:-6])},
        task_to_id={"translate": FIRST - 6, "transcribe": FIRST - 5},
        no_timestamps_token_id=FIRST - 1,
        max_initial_timestamp_index=50,
        alignment_heads=[[0, 1], [1, 0]],
        suppress_tokens=[*range(SOT, FIRST - 1)],
        max_new_tokens=12,
    )
    return model


def make_clips():
    """Sounds that rise and fall, of several lengths, one longer than a window; and silence."""
    clips = {"silent": torch.zeros(700)}
    for number, seconds in enumerate((0.3, 2.0, 7.313, 31.2)):
        time = torch.arange(round(seconds * 16000), dtype=torch.float64) / 16000
        tones = sum(torch.sin(2 * torch.pi * 170 * k * time + torch.sin(5 * time)) / k for k in range(1, 20))
        torch.manual_seed(number)
        clips[str(number)] = 0.1 * tones * (1 + torch.sin(20 * time)) + 0.02 * torch.randn(len(time))
    return {name: clip.float() for name, clip in clips.items()}


def make_tokenizer(kind=maquette.WhisperTokenizerFast, **given):
    tokenizer = kind(vocab=VOCABULARY, merges=MERGES, **given)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.add_tokens(TEXT["times"])
    tokenizer.set_prefix_tokens()
    return tokenizer


def make_inputs() -> dict[str, torch.Tensor]:
    """Windows of noise, recordings of several lengths, what a decoder reads, and labels of every kind."""
    torch.manual_seed(7)
    return {
        "features": torch.randn(ROWS, BANDS, WINDOW),
        "mask.whole": torch.ones(ROWS, WINDOW, dtype=torch.long),
        "mask.short": (torch.arange(WINDOW) < torch.tensor([40, 22, 31, 9])[:, None]).long(),
        "long": torch.randn(2, BANDS, LONG),
        "long.mask": (torch.arange(LONG) < torch.tensor([90, 61])[:, None]).long(),
        "ids": torch.randint(0, 40, (ROWS, NEW)),
        "mask": (torch.arange(NEW) < torch.tensor([5, 7, 3, 1])[:, None]).long(),
        "states": torch.randn(ROWS, 11, 16),
        "labels.base": torch.randn(ROWS, NEW, 16),
        "labels.ids": torch.randint(0, 71, (ROWS, NEW)).masked_fill(torch.rand(ROWS, NEW) < 0.2, -100),
        "labels.rows": torch.tensor([0, 2, 1, 1]),
    }


@pytest.fixture(scope="module")
def exchange(tmp_path_factory):
    """A folder through which both libraries went: our models, theirs, and what the peer computes with each."""
    peer_python = os.environ.get("MAQUETTE_PEER_PYTHON")
    if not peer_python:
        pytest.skip("compares with the peer: set MAQUETTE_PEER_PYTHON to an interpreter that has it (`make test` does)")
    folder = tmp_path_factory.mktemp("whisper")
    (folder / "results").mkdir()
    save_file(make_inputs(), folder / "inputs.safetensors")
    about = {name: case.as_dict() for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "generation.json").write_text(json.dumps(SHORT | LONGER), encoding="utf-8")
    for name, case in CASES.items():
        torch.manual_seed(0)
        case.model_class(case.config()).save_pretrained(folder / "ours" / name, max_shard_size="10KB")
    (folder / "text.json").write_text(json.dumps(TEXT), encoding="utf-8")
    save_file(make_clips(), folder / "clips.safetensors")
    processor = maquette.WhisperProcessor(maquette.WhisperFeatureExtractor(), make_tokenizer())
    processor.save_pretrained(folder / "ours" / "processor")
    make_transcriber().save_pretrained(folder / "ours" / "processor")
    (folder / "pipeline.json").write_text(json.dumps(CALLS), encoding="utf-8")
    script = Path(__file__).parent / "peer_whisper.py"
    done = subprocess.run([peer_python, str(script), str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_peer(exchange, name, whose):
    case, inputs = CASES[name], make_inputs()
    expected = load_file(exchange / "results" / f"{whose}-{name}.safetensors")
    model = case.model_class.from_pretrained(exchange / whose / name)
    for at in ("encoder", "model.encoder"):  # sines and cosines, which the peer trains once a file has been read
        expected.pop(f"grad.{at}.embed_positions.weight", None)
    gradients = [value for key, value in expected.items() if key.startswith("grad.")]
    for packed in (True, False):
        with use_packing(packed):
            found = run(model, inputs, case.class_name)
        for key, value in found.items():
            where, options, pair = f"{name}, packed={packed}: {key}", {}, (value, expected[key])
            if key.startswith("grad."):
                options = {"among": gradients, "steps": STEPS_OF_GRADIENTS, "least": 0.0}
            elif value.shape[:2] == (ROWS, NEW) and name in ("base", "relu", "causal"):
                pair = [tensor[inputs["mask"].bool()] for tensor in pair]
            assert_near(*pair, where, **options)
        assert found.keys() == expected.keys()


@pytest.mark.parametrize("name", CASES)
def test_files_have_the_peers_names(exchange, name):
    assert_same_names(exchange, name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.states])
def test_states_and_attention_weights_equal_the_peers(exchange, name):
    case, inputs = CASES[name], make_inputs()
    model = case.model_class.from_pretrained(exchange / "theirs" / name)
    expected = load_file(exchange / "results" / f"states-{name}.safetensors")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    output = model(inputs["features"], decoder_input_ids=inputs["ids"], **wanted)
    for key, value in expected.items():
        field, _, number = key.partition(".")
        assert_near(output[field][int(number)], value, key)
    assert sum(len(output[field]) for field in {key.partition(".")[0] for key in expected}) == len(expected)


@pytest.fixture(scope="module")
def writer(exchange):
    return CASES["writes"].model_class.from_pretrained(exchange / "theirs" / "writes")


def as_tensors(given):
    """Turn a setting's lists into what a caller gives."""
    more = {name: value for name, value in given.items() if name not in ("features", "mask")}
    return more | ({"prompt_ids": torch.tensor(more["prompt_ids"])} if "prompt_ids" in more else {})


@pytest.mark.parametrize("name", SHORT)
def test_generates_the_peers_ids(exchange, writer, name):
    """All windows together, where the peer had one at a time."""
    expected = json.loads((exchange / "generated.json").read_text())[name]
    found = writer.generate(make_inputs()["features"], **as_tensors(SHORT[name]))
    for row, wanted in zip(found.tolist(), expected, strict=True):
        longest = max(len(row), len(wanted["ids"]))
        pair = [ids + [END] * (longest - len(ids)) for ids in (row, wanted["ids"])]
        assert pair[0] == pair[1]


@pytest.mark.parametrize("name", ["heard", "times", "words"])
def test_a_model_that_is_in_training_hears_as_it_will(exchange, name):
    """Its encoder leaves nothing out meanwhile, whichever part of the call it works for."""
    more = {"dropout": 0.5, "activation_dropout": 0.5, "encoder_layerdrop": 0.5}
    model = CASES["writes"].model_class.from_pretrained(exchange / "theirs" / "writes", **more)
    given = as_tensors({**SHORT, "words": {**SHORT["times"], **WORDS}}[name])
    features = make_inputs()["features"]
    expected = model.eval().generate(features, **given)
    language = model.detect_language(features)
    model.train()
    found = model.generate(features, **given)
    assert str(found) == str(expected)  # a tensor, or a dictionary with stretches
    assert torch.equal(model.detect_language(features), language)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", LONGER)
def test_recordings_give_the_peers_ids_and_times(exchange, writer, name):
    """Windows one after the other; recordings of different lengths together, where the peer had one at a time."""
    expected = json.loads((exchange / "generated.json").read_text())[name]
    inputs, given = make_inputs(), as_tensors(LONGER[name])
    mask = inputs.get(LONGER[name].get("mask"))
    found = writer.generate(inputs[LONGER[name].get("features", "features")], attention_mask=mask, **given)
    found = {"sequences": found} if isinstance(found, torch.Tensor) else found
    for row, wanted in enumerate(expected):
        ids = found["sequences"][row].tolist()
        count = len(wanted["ids"])
        assert ids[:count] == wanted["ids"] and {*ids[count:]} <= {END}
        if "times" in wanted:  # counted from the start of the recording; the peer's are those of the segments
            times = [time for part in wanted["segments"] for time in part["token_timestamps"]]
            assert found["token_timestamps"][row, :count].tolist() == pytest.approx(times)
        for own, theirs in zip(found.get("segments", [[]] * 9)[row], wanted.get("segments", []), strict=True):
            for key, value in theirs.items():
                assert torch.as_tensor(own[key]).tolist() == pytest.approx(value), key


def test_settings_of_speech_are_read_and_written(exchange, writer, tmp_path):
    theirs = json.loads((exchange / "theirs" / "writes" / "generation_config.json").read_text())
    writer.save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "generation_config.json").read_text())
    assert {name: ours[name] for name in SPEECH} == {name: theirs[name] for name in SPEECH} == SPEECH


# Of the peer's common fields, those that ours has no word for, or keeps elsewhere.
NOT_OURS = {"transformers_version", "architectures", "problem_type", "model_type", "id2label", "label2id"}


def test_the_configuration_has_the_peers_fields_and_defaults(exchange):
    theirs = json.loads((exchange / "defaults.json").read_text())
    ours = maquette.WhisperConfig().to_dict()
    for field in theirs.keys() & maquette.WhisperConfig._own_fields():
        assert ours[field] == theirs[field], field
    assert not {field for field in theirs if not field.startswith("_")} - ours.keys() - NOT_OURS


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = CASES["writes"].model_class(CASES["writes"].config()).eval()
    model.generation_config.update(**SPEECH)
    return model


HEARD = torch.zeros(2, BANDS, WINDOW)
WORDS_ALONE = {"suppress_tokens": [*range(START, 71)]}  # no times, which a trained model gives only where it is asked


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to hear: give input_features, or encoder_outputs"),
        ({"input_features": HEARD[:, :4]}, r"\(batch, 6 mel bands, frames\).*its feature extractor has feature_size=6"),
        ({"input_features": HEARD[..., :30]}, "windows of 40 frames, and input_features have 30"),
        ({"input_features": HEARD, "decoder_input_ids": [[5, 6], [START, 3]]}, "row 0 has no start token .41"),
        ({"input_features": HEARD, "language": "klingon"}, "language='klingon' is none of the 100"),
        ({"input_features": HEARD, "language": "frensh"}, "Did you mean 'french'"),
        ({"input_features": HEARD, "language": "french"}, "no token <.fr.>; generation_config.lang_to_id has 2"),
        ({"input_features": HEARD, "language": ["en"]}, "language names 1, and there are 2 recordings"),
        ({"input_features": HEARD, "task": "sing"}, "task='sing': Whisper has two, 'translate' and 'transcribe'"),
        ({"input_features": HEARD, "is_multilingual": False, "task": "translate"}, "knows English alone"),
        ({"input_features": HEARD, "max_new_tokens": 38}, "reads 40 tokens at most, its text begins with 3"),
        ({"input_features": HEARD.repeat(1, 1, 2)}, "several windows need an attention_mask"),
        ({"input_features": HEARD, "attention_mask": torch.ones(2, 3)}, "a mask has .recordings, frames."),
        (
            {"input_features": HEARD[:1].repeat(1, 1, 2), "return_timestamps": False},
            "leave return_timestamps=False out",
        ),
        ({"input_features": HEARD, "no_speech_threshold": 0.5}, "counts together with logprob_threshold"),
        ({"input_features": HEARD, "num_return_sequences": 2}, "set a temperature above 0"),
        ({"input_features": HEARD, "decoder_input_ids": [[START]] * 2, "language": "en"}, "said twice"),
    ],
)
def test_what_cannot_be_heard_is_one_error(small, given, message):
    with pytest.raises((ValueError, maquette.MaquetteError), match=message):
        small.generate(**{"max_new_tokens": 2, **given})


def test_settings_that_a_model_lacks_are_named():
    model = CASES["writes"].model_class(CASES["writes"].config()).eval()
    for given in (
        {"return_timestamps": True},
        {"return_token_timestamps": True},
        {"language": "en"},
        {"task": "translate"},
    ):
        with pytest.raises(
            maquette.ConfigurationError, match=r"generation_config has no (no_times|alig|lang_to|task_to)"
        ):
            model.generate(HEARD, max_new_tokens=2, **given)


def test_other_models_refuse_settings_of_speech(small):
    decoder = maquette.WhisperForCausalLM(CASES["causal"].config())
    with pytest.raises(maquette.InputError, match="has no argument 'language': it hears no speech"):
        decoder.generate([[5]], language="en", max_new_tokens=2)


def test_poor_texts_are_tried_again(small, monkeypatch):
    """With each temperature in turn, only where the text before was poor; the encoder hears each window once."""
    calls, heard = [], []
    generate, encode = maquette.PreTrainedModel.generate, type(small.get_encoder()).forward

    def note(self, *args, **given):
        calls.append((given["temperature"] if given.get("do_sample") else 0.0, len(given["encoder_outputs"])))
        return generate(self, *args, **given)

    def hear(self, features, *args, **options):
        heard.append(len(features))
        return encode(self, features, *args, **options)

    monkeypatch.setattr(maquette.PreTrainedModel, "generate", note)
    monkeypatch.setattr(type(small.get_encoder()), "forward", hear)
    torch.manual_seed(1)
    given = {"max_new_tokens": 6, "logprob_threshold": -0.001, "temperature": (0.0, 0.5, 1.0), **WORDS_ALONE}
    found = small.generate(make_inputs()["features"], **given)
    assert calls == [(0.0, ROWS), (0.5, ROWS), (1.0, ROWS)] and sum(heard) == ROWS
    assert len(found) == ROWS
    calls.clear()
    small.generate(make_inputs()["features"], **{**given, "logprob_threshold": -99.0})
    assert calls == [(0.0, ROWS)]
    torch.manual_seed(1)
    several = small.generate(HEARD, language="en", temperature=1.0, num_return_sequences=3, max_new_tokens=6)
    assert several.shape[0] == 6 and len({tuple(row) for row in several[:3].tolist()}) > 1


def test_what_generate_gives_on_request(small):
    given = {"language": "en", "max_new_tokens": 4, "return_dict_in_generate": True, **WORDS_ALONE}
    output = small.generate(HEARD, **given)
    assert type(output) is maquette.GenerateEncoderDecoderOutput
    assert output.sequences[:, :4].tolist() == [[START, 42, 45, NO_TIMES]] * 2
    plain = small.generate(HEARD, language="en", max_new_tokens=4, **WORDS_ALONE)
    assert output.sequences[0, 4:].tolist()[: plain.shape[1]] == plain[0].tolist()
    stamped = small.generate(HEARD, **given | {"suppress_tokens": None}, return_timestamps=True)
    assert {*stamped} == {"sequences", "segments"}
    states = small.get_encoder()(HEARD)
    assert torch.equal(small.generate(encoder_outputs=states, language="en", max_new_tokens=4, **WORDS_ALONE), plain)
    assert small.detect_language(HEARD).tolist() == small.detect_language(encoder_outputs=states).tolist()


def test_spans_are_hidden_in_training_alone():
    fields = {"apply_spec_augment": True, "mask_time_prob": 0.6, "mask_time_length": 4, "mask_feature_prob": 0.5}
    fields |= {"mask_feature_length": 2, "mask_feature_min_masks": 1}
    model = maquette.WhisperModel(maquette.WhisperConfig(**SIZES, **fields))
    features = torch.ones(2, BANDS, WINDOW)
    assert torch.equal(model.eval()._hide(features, None), features)
    hidden = model.train()._hide(features, None)
    assert features.all() and not hidden.all() and 0 < hidden.mean() < 1
    assert ((hidden == 0).all(1).any(1)).all() and ((hidden == 0).all(2).any(1)).all()  # whole frames, whole bands


def test_the_positions_of_the_encoder_stay_sines(exchange, tmp_path):
    model = CASES["base"].model_class.from_pretrained(exchange / "theirs" / "base")
    weight = model.encoder.embed_positions.weight
    assert not weight.requires_grad
    fresh = CASES["base"].model_class(CASES["base"].config()).encoder.embed_positions.weight
    assert_near(weight, fresh, "positions")


# Sounds and texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXT["features"])
def test_features_equal_the_peers(exchange, name):
    """To 1e-5 of what the peer computes in float64; what it computes in float32 is up to three times as far off."""
    bands, given = TEXT["features"][name]
    expected = load_file(exchange / "features.safetensors")
    extractor = maquette.WhisperFeatureExtractor(feature_size=bands)
    clips = [clip.numpy() for clip in load_file(exchange / "clips.safetensors").values()]
    more = {"return_attention_mask": True, "return_tensors": "pt", "sampling_rate": 16000}
    found = extractor(clips, **more, **given)
    assert found.input_features.dtype == torch.float32
    assert torch.equal(found.attention_mask, expected[f"{name}.attention_mask"])
    wanted = expected[f"{name}.input_features"]
    assert (found.input_features - wanted).abs().max() < 5e-5 and (found.input_features - wanted).abs().mean() < 1e-6
    if f"{name}.exact" in expected:
        assert (found.input_features - expected[f"{name}.exact"]).abs().max() < 1e-5


def test_a_clips_features_are_its_own():
    """Alone and with others; on the left of padding; noise and other padding are heard."""
    extractor, clips = maquette.WhisperFeatureExtractor(chunk_length=4), [c.numpy() for c in make_clips().values()]
    whole = extractor(clips, sampling_rate=16000)["input_features"]
    for clip, found in zip(clips, whole, strict=True):
        (alone,) = extractor(clip, sampling_rate=16000)["input_features"]
        assert found.shape == (80, 400) and (alone == found).all()
    ragged = extractor(clips[1:4], sampling_rate=16000, padding=False, truncation=False)["input_features"]
    assert [row.shape for row in ragged] == [(80, 30), (80, 200), (80, 731)]
    left = maquette.WhisperFeatureExtractor(chunk_length=4, padding_side="left")
    found = left(clips[2], sampling_rate=16000, return_attention_mask=True)
    assert found["attention_mask"][0].tolist() == [0] * 200 + [1] * 200
    assert abs(found["input_features"][0][:, 203:397] - whole[2][:, 3:197]).max() < 1e-5
    noisy = maquette.WhisperFeatureExtractor(chunk_length=4, dither=0.1)(clips[2], sampling_rate=16000)
    assert noisy["input_features"][0][:, 300:].std() > whole[2][:, 300:].std()


def test_feature_extractors_go_both_ways(exchange, tmp_path):
    for whose in ("ours", "theirs"):
        found = maquette.AutoFeatureExtractor.from_pretrained(exchange / whose / "processor")
        assert found == maquette.WhisperFeatureExtractor() and (found.n_samples, found.nb_max_frames) == (480000, 3000)


@pytest.mark.parametrize("kind", ["slow", "fast"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_texts_equal_the_peers(exchange, whose, kind):
    expected = json.loads((exchange / "texts.json").read_text())
    assert expected["ours"] == expected["theirs"]
    tokenizer = maquette.AutoTokenizer.from_pretrained(exchange / whose / "processor", use_fast=kind == "fast")
    assert type(tokenizer) is (maquette.WhisperTokenizerFast if kind == "fast" else maquette.WhisperTokenizer)
    wanted = expected["theirs"]
    for given, ids in zip(TEXT["prefixes"], wanted["ids"], strict=True):
        tokenizer.set_prefix_tokens(**given)
        assert tokenizer(TEXT["texts"])["input_ids"] == ids, given
    assert tokenizer("a text", "another")["input_ids"] == wanted["pair"]
    assert tokenizer.get_prompt_ids(" Ada, Grace ").tolist() == wanted["prompt"]
    assert [list(pair) for pair in tokenizer.get_decoder_prompt_ids("transcribe", "french")] == wanted["forced"]
    for given, texts in zip(TEXT["decoding"], wanted["decoded"], strict=True):
        for row, text in zip(TEXT["rows"], texts, strict=True):
            found = tokenizer.decode(row, **given)
            if isinstance(text, dict):
                times = [time for one in found["offsets"] for time in one["timestamp"]]
                assert times == pytest.approx([time for one in text["offsets"] for time in one["timestamp"]])
                for one in (*found["offsets"], *text["offsets"]):
                    one.pop("timestamp")
            assert found == text, (given, row)


def test_a_tokenizer_keeps_its_language(tmp_path):
    tokenizer = make_tokenizer(language="german", task="translate")
    assert tokenizer.prefix_tokens == [SOT, SOT + 3, SOT + 101, FIRST - 1]
    tokenizer.save_pretrained(tmp_path)
    for found in (
        maquette.AutoTokenizer.from_pretrained(tmp_path),
        maquette.WhisperTokenizer.from_pretrained(tmp_path),
    ):
        assert found("ab")["input_ids"] == tokenizer("ab")["input_ids"] and found.language == "german"
    for given in ({"language": "klingon"}, {"task": "sing"}):
        with pytest.raises(maquette.InputError, match=r"language='klingon' is none|task='sing'"):
            tokenizer.set_prefix_tokens(**given)
    assert tokenizer.language == "german"
    with pytest.raises(maquette.InputError, match=r"special token '<.de.>'"):
        tokenizer.get_prompt_ids("no <|de|> here")
    with pytest.raises(maquette.InputError, match="the package whisper-normalizer"):
        tokenizer.decode([40], normalize=True)


def test_a_processor_names_the_part_that_is_missing(exchange, tmp_path):
    processor = maquette.AutoProcessor.from_pretrained(exchange / "theirs" / "processor")
    assert type(processor) is maquette.WhisperProcessor
    clip = make_clips()["1"].numpy()
    found = processor(clip, text="ab", sampling_rate=16000)
    assert found["labels"] == processor.tokenizer("ab")["input_ids"] and len(found["input_features"]) == 1
    for parts, name in (({"tokenizer": processor.tokenizer}, "feature_extractor"), ({}, "feature_extractor")):
        with pytest.raises((maquette.ConfigurationError, TypeError), match=name):
            maquette.WhisperProcessor(**parts)
    with pytest.raises(maquette.InputError, match="8000"):
        processor(clip, sampling_rate=8000)
    with pytest.raises(maquette.InputError, match="A clip of 150 samples is too short"):
        processor(clip[:150], sampling_rate=16000, padding=False)
    processor.feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(maquette.MaquetteError, match="tokenizer"):
        maquette.WhisperProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", CALLS)
def test_the_pipeline_answers_what_the_peers_does(exchange, name):
    """A clip, and a recording of more than a window: texts, stretches and words with their times."""
    expected = json.loads((exchange / "answers.json").read_text())[name]
    pipe = maquette.pipeline("automatic-speech-recognition", exchange / "ours" / "processor")
    clips = [make_clips()[which].numpy() for which in ("2", "3")]
    for found, wanted in zip(pipe(clips, **CALLS[name]), expected, strict=True):
        assert found["text"] == wanted["text"]
        chunks = [(chunk["text"], *chunk["timestamp"]) for chunk in found.get("chunks", [])]
        assert chunks == [(chunk["text"], *chunk["timestamp"]) for chunk in wanted.get("chunks", [])]


def test_words_of_languages_with_and_without_spaces():
    tokenizer = make_tokenizer()
    for text, language, wanted in (
        (" Hello (world), yes.", None, [" Hello", " (world),", " yes."]),
        ("日本", "japanese", ["日", "本"]),
        ("日本", "english", ["日本"]),
        ("", "en", []),
    ):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        words = find_words(ids, tokenizer.decode, language=language)
        assert [word.text for word in words] == wanted
        assert [place for word in words for place in range(word.first, word.last + 1)] == [*range(len(ids))]


def test_the_pipeline_refuses_what_is_of_other_models(exchange):
    pipe = maquette.pipeline(model=exchange / "ours" / "processor")
    clip = make_clips()["1"].numpy()
    assert pipe.task == "automatic-speech-recognition" and pipe([clip, clip[:9000]], batch_size=2)[1] == pipe(
        clip[:9000]
    )
    for given, message in (
        ({"chunk_length_s": 30}, "chunk_length_s and stride_length_s are for models of CTC"),
        ({"return_timestamps": "char"}, "tell 'word', or True for stretches"),
        ({"generate_kwargs": {"num_return_sequences": 2}}, "one text for each sound"),
    ):
        with pytest.raises(maquette.InputError, match=message):
            pipe(clip, **given)
