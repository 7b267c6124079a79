"""Sounds become a model's input: numbers as the peer's, whatever form the clips have, and clear words on bad ones."""

import io
import json
import logging
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import CLIPS, RATE, Frames, FramesConfig, make_clip

from maquette import AutoConfig, AutoFeatureExtractor
from maquette.audio.clips import _warn_of_unknown_rate
from maquette.audio.feature_extraction import FeatureExtractionMixin
from maquette.audio.files import read_file
from maquette.errors import (
    ConfigurationError,
    FileFormatError,
    InputError,
    MissingFileError,
    MissingPackageError,
    UnknownFieldError,
)
from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor


def normal(clip: np.ndarray) -> np.ndarray:
    """Give mean 0 and variance 1, in float64: what the definition says."""
    exact = clip.astype(np.float64)
    return (exact - exact.mean()) / np.sqrt(exact.var() + 1e-7)


# The numbers -------------------------------------------------------------------------------------------------------


def test_each_clip_is_normalised_by_itself() -> None:
    batch = Wav2Vec2FeatureExtractor(padding_value=0.5)(CLIPS, True, sampling_rate=RATE, return_tensors="np")
    assert batch.input_values.dtype == np.float32
    for clip, row in zip(CLIPS, batch.input_values, strict=True):
        assert np.abs(row[: len(clip)] - normal(clip)).max() < 1e-6
        assert (row[len(clip) :] == 0.5).all()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("padding", [True, "max_length"])
def test_a_clip_in_a_batch_has_the_numbers_it_has_alone(side: str, padding: bool | str) -> None:
    extractor = Wav2Vec2FeatureExtractor(padding_side=side, padding_value=-1.0, return_attention_mask=True)
    options: dict[str, Any] = {"sampling_rate": RATE, "return_tensors": "np"}
    batch = extractor(CLIPS, padding, max_length=4000, **options)
    for clip, row, mask in zip(CLIPS, batch.input_values, batch.attention_mask, strict=True):
        alone = extractor(clip, **options).input_values[0]
        assert np.array_equal(row[mask == 1], alone)
        assert (row[mask == 0] == -1).all()
        assert mask.dtype == np.int32
        assert mask.sum() == len(clip)
        assert mask[0 if side == "right" else -1] == 1


@pytest.mark.parametrize(
    "clip",
    [
        np.full(500, 0.1, np.float32),
        np.zeros(500, np.float32),
        np.array([0.25], np.float32),
        make_clip(1000) * 1e-6,
        make_clip(1000) * 1e30,
        make_clip(1000) + 1000,
    ],
    ids=["constant", "silence", "one sample", "faint", "beyond float32's squares", "offset"],
)
def test_unusual_clips_are_finite_and_right(clip: np.ndarray) -> None:
    row = Wav2Vec2FeatureExtractor()(clip, sampling_rate=RATE, return_tensors="np").input_values[0]
    step = np.spacing(np.abs(clip).max()) / np.sqrt(clip.astype(np.float64).var() + 1e-7)
    assert np.abs(row - normal(clip)).max() <= 1e-6 + 4 * step  # the mean is a sum in float32


def test_without_normalisation_samples_are_what_they_were() -> None:
    batch = Wav2Vec2FeatureExtractor(do_normalize=False)(CLIPS, sampling_rate=RATE)
    assert isinstance(batch.input_values, list)
    assert all(np.array_equal(row, clip) for row, clip in zip(batch.input_values, CLIPS, strict=True))
    assert batch.input_values[0] is not CLIPS[0]


def test_the_callers_clips_are_left_alone() -> None:
    clips = [clip.copy() for clip in CLIPS]
    Wav2Vec2FeatureExtractor()(clips, True, sampling_rate=RATE)
    assert all(np.array_equal(clip, before) for clip, before in zip(clips, CLIPS, strict=True))


# The forms that clips have -----------------------------------------------------------------------------------------


def forms(clip: np.ndarray) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {
        "array": clip,
        "list": clip.tolist(),
        "tuple": tuple(clip.tolist()),
        "float64": clip.astype(np.float64),
        "tensor": torch.from_numpy(clip.copy()),
        "tensor with gradient": torch.from_numpy(clip.copy()).requires_grad_(),
        "one channel first": clip[None],
        "one channel last": clip[:, None],
        "mapping": {"array": clip, "sampling_rate": RATE, "path": None},
        "strided": np.repeat(clip, 2)[::2],
    }


@pytest.mark.parametrize("name", list(forms(CLIPS[0])))
def test_every_form_of_a_clip_gives_the_same(name: str) -> None:
    extractor = Wav2Vec2FeatureExtractor()
    options: dict[str, Any] = {"padding": True, "sampling_rate": RATE, "return_tensors": "np"}
    expected = extractor(CLIPS[:2], **options).input_values
    batch = extractor([forms(clip)[name] for clip in CLIPS[:2]], **options)
    assert np.array_equal(batch.input_values, expected)
    if name != "one channel last":  # alone, an array of (samples, 1) could be so many clips
        single = extractor(forms(CLIPS[0])[name], sampling_rate=RATE, return_tensors="np").input_values
        assert np.array_equal(single, expected[:1, : len(CLIPS[0])])


def test_a_2d_array_or_tensor_is_a_batch() -> None:
    torch = pytest.importorskip("torch")
    clips = np.stack([CLIPS[0], CLIPS[1][:400]])
    extractor = Wav2Vec2FeatureExtractor()
    expected = extractor(list(clips), sampling_rate=RATE, return_tensors="np").input_values
    for value in (clips, torch.from_numpy(clips)):
        assert np.array_equal(extractor(value, sampling_rate=RATE, return_tensors="np").input_values, expected)


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_results_are_tensors_of_the_framework_that_is_asked_for(kind: str) -> None:
    torch = pytest.importorskip("torch")
    batch = Wav2Vec2FeatureExtractor(return_attention_mask=True)(
        CLIPS, padding=True, sampling_rate=RATE, return_tensors=kind
    )
    assert list(batch) == ["input_values", "attention_mask"]
    assert isinstance(batch.input_values, torch.Tensor if kind == "pt" else np.ndarray)
    assert tuple(batch.attention_mask.shape) == (4, 3001)


def test_channels_are_averaged_on_request() -> None:
    left, right = CLIPS[1], make_clip(1000, 5)
    expected = (left.astype(np.float64) + right) / 2
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    for stereo in (np.stack([left, right]), np.stack([left, right], axis=1)):
        row = extractor(stereo, mono=True, sampling_rate=RATE).input_values[0]
        assert np.abs(row - expected).max() < 1e-7
        batch = extractor([stereo, left], mono=True, sampling_rate=RATE)
        assert np.array_equal(batch.input_values[0], row)
        assert np.array_equal(batch.input_values[1], left)
    many = extractor(np.stack([[left, right]] * 3), mono=True, sampling_rate=RATE)
    assert len(many.input_values) == 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (np.int16, [0, 0.5, -1, 32767 / 32768]),
        (np.int32, [0, 0.5, -1, 1]),
        (np.int8, [0, 0.5, -1, 127 / 128]),
        (np.uint8, [0, 0.5, -1, 127 / 128]),
    ],
)
def test_integers_are_rescaled_on_request(kind: type, expected: list[float]) -> None:
    limits = np.iinfo(kind)
    middle = (int(limits.min) + int(limits.max) + 1) // 2
    samples = np.array([middle, middle + (int(limits.max) - middle + 1) // 2, limits.min, limits.max], kind)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    assert extractor(samples, rescale=True, sampling_rate=RATE).input_values[0] == pytest.approx(expected, abs=1e-9)


# Files -------------------------------------------------------------------------------------------------------------


def wav_bytes(clip: np.ndarray, *, rate: int = RATE) -> bytes:
    """Write 16-bit PCM with the standard library; `clip` is `(samples,)` or `(samples, channels)`."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1 if clip.ndim == 1 else clip.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((clip * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


def sound_bytes(clip: np.ndarray, kind: str, *, rate: int = RATE) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, clip, rate, format=kind)
    return file.getvalue()


def test_a_wav_file_is_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    content = wav_bytes(CLIPS[2])
    (tmp_path / "voice.wav").write_bytes(content)
    expected = (CLIPS[2] * 32768).round() / 32768
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    for clip in (tmp_path / "voice.wav", str(tmp_path / "voice.wav"), content, io.BytesIO(content)):
        assert np.abs(extractor(clip).input_values[0] - expected).max() < 1e-7
    assert len(extractor([content, CLIPS[0]], sampling_rate=RATE).input_values) == 2


@pytest.mark.parametrize(("kind", "tolerance"), [("FLAC", 2**-16), ("OGG", 0.08)])
def test_flac_and_ogg_are_read(kind: str, tolerance: float) -> None:
    row = Wav2Vec2FeatureExtractor(do_normalize=False)(sound_bytes(CLIPS[2], kind)).input_values[0]
    assert row.shape == CLIPS[2].shape
    assert np.abs(row - CLIPS[2]).max() <= tolerance


def test_stereo_files_need_mono() -> None:
    pytest.importorskip("soundfile")
    content = wav_bytes(np.stack([CLIPS[0], -CLIPS[0]], axis=1))
    with pytest.raises(InputError, match=r"The clip has 2 channels.*mono=True"):
        Wav2Vec2FeatureExtractor()(content)
    row = Wav2Vec2FeatureExtractor(do_normalize=False)(content, mono=True).input_values[0]
    assert np.abs(row).max() <= 2**-15


def test_files_of_another_rate_are_refused_or_resampled() -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    time = np.arange(8000) / 8000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    with pytest.raises(InputError, match=r"8000 samples a second, and 16000 are needed.*resample=True"):
        extractor(wav_bytes(tone, rate=8000))
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / RATE)
    for clip, given in ((wav_bytes(tone, rate=8000), None), (tone, 8000)):
        row = extractor(clip, sampling_rate=given, resample=True).input_values[0]
        assert row.shape == (16000,)
        assert np.abs(row - expected)[500:-500].max() < 1e-3


@pytest.mark.parametrize("promised", [0x7FFFFFFF, 0xFFFFFF00, 2 * 3001 + 2])
def test_a_header_that_promises_more_is_refused_and_takes_no_memory(promised: int) -> None:
    pytest.importorskip("soundfile")
    import tracemalloc

    content = bytearray(wav_bytes(CLIPS[2]))
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", promised)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=rf"Clip 1 is cut short: .*{promised} bytes of sound, and 6002 are"):
            Wav2Vec2FeatureExtractor()([wav_bytes(CLIPS[0]), bytes(content)])
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


def test_a_wav_that_was_streamed_without_a_length_is_read_to_its_end() -> None:
    pytest.importorskip("soundfile")
    content = bytearray(wav_bytes(CLIPS[2]))
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    assert Wav2Vec2FeatureExtractor()(bytes(content)).input_values[0].shape == (3001,)


def test_a_flac_that_promises_more_is_refused_and_takes_no_memory() -> None:
    import tracemalloc

    content = bytearray(sound_bytes(CLIPS[2], "FLAC"))
    content[21] |= 0x0F  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = b"\xff" * 4
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="The clip"):
            Wav2Vec2FeatureExtractor()(bytes(content))
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


def test_a_flac_without_a_length_is_refused() -> None:
    content = bytearray(sound_bytes(CLIPS[2], "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    with pytest.raises(FileFormatError, match="The clip breaks off: its header promises no length"):
        Wav2Vec2FeatureExtractor()(bytes(content))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_files_that_are_cut_short_are_refused(kind: str, share: float) -> None:
    content = sound_bytes(make_clip(32000), kind)
    with pytest.raises(FileFormatError, match="Clip 0"):
        Wav2Vec2FeatureExtractor()([content[: int(len(content) * share)]])


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_damaged_headers_are_refused_or_harmless(kind: str) -> None:
    content = sound_bytes(CLIPS[2], kind)
    chance = np.random.default_rng(3)
    refused = 0
    for _ in range(100):
        damaged = bytearray(content)
        for place in chance.integers(0, 64, 3):
            damaged[place] = chance.choice([0, 255, chance.integers(256)])
        try:
            samples, rate = read_file(bytes(damaged))
        except FileFormatError:
            refused += 1
        else:
            assert samples.nbytes <= 64 * len(content)
            assert rate > 0
    assert refused > 20


@pytest.mark.parametrize("content", [b"", b"no sound at all" * 9, b"RIFF\x00\x00\x00\x00WAVE", b"RIFF" + b"\0" * 90])
def test_what_is_no_sound_file_is_refused(content: bytes) -> None:
    pytest.importorskip("soundfile")
    with pytest.raises(FileFormatError, match="Clip 0 is no sound file"):
        Wav2Vec2FeatureExtractor()([content])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(MissingFileError, match=rf"Clip 1 \('{path}'\) cannot be opened"):
            Wav2Vec2FeatureExtractor()([CLIPS[0], str(path)], sampling_rate=RATE)


def test_a_file_that_decodes_to_too_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maquette.audio.files.MOST_SAMPLES", 100_000)
    silence = sound_bytes(np.zeros(1_000_000, np.float32), "FLAC")
    assert len(silence) < 20_000
    with pytest.raises(InputError, match="more than 100000 samples"):
        Wav2Vec2FeatureExtractor()(silence)


@pytest.mark.parametrize(("module", "call"), [("soundfile", "files"), ("soxr", "resampling")])
def test_missing_packages_are_named(module: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"{module}.*maquette\[audio\]"):
        if call == "files":
            Wav2Vec2FeatureExtractor()(b"RIFF")
        else:
            Wav2Vec2FeatureExtractor()(CLIPS[0], sampling_rate=8000, resample=True)


# Bad input ---------------------------------------------------------------------------------------------------------

BAD: list[tuple[Any, str]] = [
    ([], "no clips"),
    (np.zeros((0, 5)), "no clips"),
    ([CLIPS[0], []], "Clip 1 is empty"),
    (np.zeros(0, np.float32), "The clip is empty"),
    ([CLIPS[0], np.array([0, np.nan, 0])], "Clip 1 is not finite: sample 1 is nan"),
    ([CLIPS[0], np.array([0, 0, -np.inf, np.inf])], "Clip 1 is not finite: sample 2 is -inf, the first of 2"),
    ([np.array([1e300, 0.0])], "Clip 0 is not finite"),
    ([CLIPS[0], np.array([1, 2], np.int16)], r"Clip 1 holds int16 .*rescale=True to divide by 32768"),
    ([CLIPS[0], [3, 4, 5]], r"Clip 1 holds whole numbers without a known full scale.*32768"),
    (np.zeros((16000, 2)), r"would be 16000 clips of 2 samples; .*mono=True"),
    (np.zeros((2, 2, 5)), r"shape \(2, 2, 5\) is no clip"),
    ([np.zeros((2, 100))], r"Clip 0 has 2 channels, its shape is \(2, 100\).*mono=True"),
    (np.float32(3.0), "Sounds are"),
    (np.array(3.0), "no clip"),
    (None, "not NoneType"),
    ({"path": "x"}, "mapping without 'array'. It has: path"),
    ([{"array": CLIPS[0], "sampling_rate": -3}], "sampling_rate of clip 0=-3"),
    ([[0.1, [0.2]]], "Clip 0"),
    ([[0.1, None]], "Clip 0"),
    ([np.array(["a"])], "Clip 0"),
    ([np.array([True, False])], "Clip 0 is bool values"),
    ([np.array([1j])], "Clip 0 is complex128 values"),
]


@pytest.mark.parametrize(("clips", "message"), BAD, ids=range(len(BAD)))
def test_bad_clips_are_named(clips: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Wav2Vec2FeatureExtractor()(clips, sampling_rate=RATE)


@pytest.mark.parametrize("shape", [(20, 30), (3, 4)])
def test_an_unclear_axis_of_channels_is_not_guessed(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"which axis are the channels.*clip.mean\(axis=0\)"):
        Wav2Vec2FeatureExtractor()(np.zeros(shape), mono=True, sampling_rate=RATE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 8000}, r"Clip 0 has 8000 .* and 16000 are needed.*soxr\.resample\(clip, 8000, 16000\)"),
        ({"sampling_rate": "16k"}, "sampling_rate='16k': must be a positive number"),
        ({"sampling_rate": 0}, "sampling_rate=0"),
        ({"padding": "longst"}, "Did you mean 'longest'"),
        ({"padding": "max_length"}, "need max_length"),
        ({"truncation": True}, "need max_length"),
        ({"truncation": True, "max_length": 0}, "max_length=0: must be a whole number"),
        ({"padding": True, "pad_to_multiple_of": 2.5}, "pad_to_multiple_of=2.5"),
        ({"padding_side": "top"}, "padding_side='top'"),
        ({"return_tensors": "np"}, "clip 0 has a length of 400, clip 2 of 3001. Pass padding=True"),
        (
            {"return_tensors": "np", "padding": "max_length", "max_length": 2000},
            "clip 0 has a length of 2000, clip 2 of 3001.*truncation=True",
        ),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Wav2Vec2FeatureExtractor()(CLIPS, **{"sampling_rate": RATE, **options})


def test_a_misspelt_keyword_is_an_error() -> None:
    with pytest.raises(UnknownFieldError, match=r"the call takes no 'sampling_rte'\. Did you mean 'sampling_rate'"):
        Wav2Vec2FeatureExtractor()(CLIPS, sampling_rte=RATE)
    with pytest.raises(UnknownFieldError, match=r"no setting 'do_normalise'\. Did you mean 'do_normalize'"):
        Wav2Vec2FeatureExtractor(do_normalise=False)
    with pytest.raises(ConfigurationError, match="padding_side"):
        Wav2Vec2FeatureExtractor(padding_side="top")
    with pytest.raises(ConfigurationError, match="sampling_rate"):
        Wav2Vec2FeatureExtractor(sampling_rate=0)


def test_an_unknown_rate_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_unknown_rate.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            Wav2Vec2FeatureExtractor()(CLIPS)
    assert [record.getMessage() for record in caplog.records if "sampling_rate was not given" in record.getMessage()]
    assert len(caplog.records) == 1
    caplog.clear()
    _warn_of_unknown_rate.cache_clear()
    Wav2Vec2FeatureExtractor()({"array": CLIPS[0], "sampling_rate": RATE})
    assert not caplog.records


# pad ---------------------------------------------------------------------------------------------------------------


def test_a_feature_extractor_of_ones_own_reads_pads_saves_and_loads(tmp_path: Path) -> None:
    batch = Frames(padding_value=-9.0)(CLIPS, sampling_rate=RATE, return_tensors="np")
    assert batch.input_features.shape == (4, 30, 3)
    assert batch.attention_mask.sum(1).tolist() == [4, 10, 30, 7]
    assert (batch.input_features[0, 4:] == -9).all()
    assert np.allclose(batch.input_features[0, :4, 0], CLIPS[0].reshape(4, 100).mean(1))
    AutoConfig.register("frames-for-tests", FramesConfig, exist_ok=True)
    AutoFeatureExtractor.register(FramesConfig, Frames, exist_ok=True)
    Frames(stretch=50).save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert (type(again), again.stretch, again.feature_size) == (Frames, 50, 3)


def test_pad_collates_examples() -> None:
    torch = pytest.importorskip("torch")
    extractor = Wav2Vec2FeatureExtractor(padding_value=2.0)
    examples = [{"input_values": clip, "labels": i} for i, clip in enumerate(CLIPS)]
    batch = extractor.pad(examples, return_attention_mask=True, return_tensors="pt", pad_to_multiple_of=100)
    assert batch.labels.tolist() == [0, 1, 2, 3]
    assert batch.input_values.shape == (4, 3100)
    expected = torch.stack([torch.nn.functional.pad(torch.from_numpy(c), (0, 3100 - len(c)), value=2.0) for c in CLIPS])
    assert torch.equal(batch.input_values, expected)
    assert batch.attention_mask.sum(1).tolist() == [len(clip) for clip in CLIPS]


def test_pad_keeps_the_framework_and_a_mask_that_is_given() -> None:
    torch = pytest.importorskip("torch")
    rows = [torch.arange(3.0), torch.arange(5.0)]
    masks = [torch.tensor([1, 1, 0]), torch.ones(5, dtype=torch.long)]
    batch = Wav2Vec2FeatureExtractor(padding_side="left").pad({"input_values": rows, "attention_mask": masks})
    assert batch.input_values.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert isinstance(batch.input_values, torch.Tensor)
    assert batch.attention_mask.tolist() == [[0, 0, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_pad_takes_one_example_and_none() -> None:
    extractor = Wav2Vec2FeatureExtractor()
    assert extractor.pad({"input_values": [0.5, 1.0]}, "max_length", max_length=3).input_values.tolist() == [
        [0.5, 1, 0]
    ]
    assert extractor.pad({"input_values": []}, return_attention_mask=True) == {"input_values": [], "attention_mask": []}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"input_vals": [[1.0]]}, "pad\\(\\) needs 'input_values'. Did you mean"),
        ([{"input_values": [1.0]}, {"values": [1.0]}], "number 1"),
        ({"input_values": [np.zeros((4, 2)), np.zeros((4, 3))]}, r"input_values\[1\] has the shape \(4, 3\)"),
        ({"input_values": [[1.0], ["a"]]}, r"input_values\[1\] is no array"),
        ({"input_values": [[1.0]], "attention_mask": [[1, 1]]}, r"attention_mask\[0\] has the shape \(2,\)"),
        ({"input_values": [[1.0], [2.0]], "attention_mask": [[1]]}, "attention_mask has 1 rows, and there are 2"),
        (3, "not int"),
    ],
)
def test_pad_names_what_does_not_fit(features: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Wav2Vec2FeatureExtractor().pad(features)


def test_a_feature_extractor_without_a_call_says_so() -> None:
    with pytest.raises(NotImplementedError, match="must define __call__"):
        FeatureExtractionMixin()(CLIPS)


# Settings ----------------------------------------------------------------------------------------------------------


def test_settings_travel_through_a_file(tmp_path: Path) -> None:
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, padding_value=1, padding_side="left")
    extractor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "left",
        "padding_value": 1.0,
        "return_attention_mask": False,
        "sampling_rate": 8000,
    }
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path) == extractor
    changed = AutoFeatureExtractor.from_pretrained(tmp_path, do_normalize=False)
    assert (type(changed), changed.do_normalize, changed.sampling_rate) == (Wav2Vec2FeatureExtractor, False, 8000)


def test_no_framework_is_imported(run_fresh) -> None:
    code = """
import sys
from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor
batch = Wav2Vec2FeatureExtractor()([[0.0, 0.5], [0.1]], padding=True, sampling_rate=16000, return_tensors="np")
print(batch.input_values.shape, sorted({"torch", "tensorflow", "jax", "keras", "tokenizers"} & set(sys.modules)))
"""
    assert run_fresh(code) == "(2, 2) []\n"
