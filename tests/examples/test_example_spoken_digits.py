"""The speech example: who speaks in which set, how errors are counted, and the way from espeak-ng to a recogniser."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from stored_arrays import read_arrays

from maquette import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "spoken_digits"

speaks = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng, which speaks, is not installed")


def import_example(name: str) -> Any:
    spec = util.spec_from_file_location(f"example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


make_speech, word_errors = import_example("make_speech"), import_example("word_errors")
Clip = make_speech.Clip


def run(script: str, *arguments: Any, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLE / script), *map(str, arguments)]
    options: Any = {"cwd": cwd, "env": {**os.environ, "OMP_NUM_THREADS": "1", **environment}}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, **options)


# Who speaks ------------------------------------------------------------------------------------------------------


def test_no_accent_variant_or_speed_is_in_two_sets() -> None:
    for part in ("accents", "variants"):
        names = [name for cast in make_speech.CASTS.values() for name in getattr(cast, part).split()]
        assert len(names) == len({*names})
    speeds = [speed for cast in make_speech.CASTS.values() for speed in cast.speeds]
    assert len(speeds) == len({*speeds})


def test_no_longer_sequence_is_in_two_sets() -> None:
    texts = {name: {clip.text for clip in make_speech.plan(name, 1_000)} for name in make_speech.CASTS}
    long = {name: {text for text in texts[name] if len(text.split()) > 2} for name in texts}
    assert all(len(some) > 300 for some in long.values())
    assert sum(map(len, long.values())) == len(set.union(*long.values()))


@pytest.mark.parametrize("name", list(make_speech.CASTS))
def test_a_set_is_the_same_every_time_and_even(name: str) -> None:
    cast = make_speech.CASTS[name]
    count = 5 * len(cast.voices) * len(cast.speeds)
    clips = make_speech.plan(name, count)
    assert make_speech.plan(name, count) == clips
    assert make_speech.plan(name, 7) == clips[:7]
    assert Counter((clip.voice, clip.speed) for clip in clips) == {(v, s): 5 for v in cast.voices for s in cast.speeds}
    assert Counter(len(clip.text.split()) for clip in clips) == dict.fromkeys(range(1, 6), count // 5)
    assert {word for clip in clips for word in clip.text.split()} == {*make_speech.WORDS}


@speaks
def test_every_accent_and_variant_is_a_voice_of_its_own(tmp_path: Path) -> None:
    """Espeak-ng says nothing where it takes another voice."""
    program, casts = make_speech.find_program(), make_speech.CASTS.values()
    accents = [accent for cast in casts for accent in cast.accents.split()]
    variants = [variant for cast in casts for variant in cast.variants.split()]
    voices = [*accents, *(f"{accent}+m1" for accent in accents), *(f"en+{name}" for name in variants if name != "m1")]
    sounds = set()
    for voice in voices:
        make_speech.speak(program, Clip("zero one two three four seven nine", voice, 160, 50), tmp_path / "x.wav")
        sounds.add((tmp_path / "x.wav").read_bytes())
    assert len(sounds) == len(voices) > 50


@speaks
def test_speed_and_text_are_heard(tmp_path: Path) -> None:
    seconds = {}
    for text, speed in [("four five", 120), ("four five", 200), ("four five six one", 120)]:
        make_speech.speak(make_speech.find_program(), Clip(text, "en+m7", speed, 50), tmp_path / "x.wav")
        info = soundfile.info(str(tmp_path / "x.wav"))
        assert (info.samplerate, info.channels) == (22_050, 1)
        seconds[text, speed] = info.duration
    assert seconds["four five", 200] < 0.8 * seconds["four five", 120]
    assert seconds["four five six one", 120] > 1.3 * seconds["four five", 120]


@speaks
def test_speech_is_made_once_and_again_when_another_is_wanted(tmp_path: Path) -> None:
    paths, texts = make_speech.make_speech(tmp_path, "test", 6)
    assert texts == [clip.text for clip in make_speech.plan("test", 6)]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    make_speech.make_speech(tmp_path, "test", 6)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before
    paths, _ = make_speech.make_speech(tmp_path, "test", 3)
    assert sorted((tmp_path / "test").glob("*.wav")) == paths
    assert [path.read_bytes() for path in paths] == [content for content, _ in before[:3]]


@speaks
def test_voices_that_are_missing_are_named() -> None:
    cast = make_speech.Cast("en-gb en-moon", "m1 m99", (100,))
    with pytest.raises(make_speech.SpeechError, match="has no voice en-moon, m99"):
        make_speech.check_voices(make_speech.find_program(), cast)


@pytest.mark.parametrize("script", ["make_speech.py", "train.py"])
def test_a_missing_espeak_is_an_error_that_says_how_to_install_it(script: str, tmp_path: Path) -> None:
    finished = run(script, "--output", tmp_path / "out", cwd=tmp_path, PATH=str(tmp_path))
    assert (finished.returncode, finished.stdout, finished.stderr.count("\n")) == (1, "", 1)
    assert "espeak-ng, which is not installed. Install it with: apt install espeak-ng" in finished.stderr
    assert not (tmp_path / "out").exists()


# Errors ----------------------------------------------------------------------------------------------------------


@cache
def distance(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
    """Say the same by the definition: the least number of words to change."""
    if not said or not heard:
        return len(said) + len(heard)
    if said[0] == heard[0]:
        return distance(said[1:], heard[1:])
    return 1 + min(distance(said[1:], heard), distance(said, heard[1:]), distance(said[1:], heard[1:]))


def test_errors_are_the_least_number_of_changes() -> None:
    draw = random.Random(0)
    for _ in range(500):
        said, heard = (tuple(draw.choices("abc", k=draw.randint(0, 6))) for _ in range(2))
        assert word_errors.count_errors(" ".join(said), " ".join(heard)) == distance(said, heard)


def test_the_report_counts_words_by_voice_and_speed() -> None:
    clips = [
        Clip("one two", "en-gb+m1", 120, 50),
        Clip("one two three", "en-gb+f1", 150, 50),
        Clip("nine four five", "en-us+f1", 150, 50),
    ]
    assert word_errors.report(clips, ["one two", "one tree", "nine four five five"]).splitlines() == [
        "Word error rate on unseen voices and speeds: 37.5 % (3 of 8 words, 3 voices).",
        "  by accent: en-gb 40.0 %, en-us 33.3 %",
        "  by variant: f1 50.0 %, m1 0.0 %",
        "  by words a minute: 120 0.0 %, 150 50.0 %",
        "  by words in a clip: 2 0.0 %, 3 50.0 %",
    ]


# From speech to a recogniser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a short training, and what it printed."""
    root = tmp_path_factory.mktemp("speech")
    options = {"--output": root / "out", "--clips": 48, "--steps": 24, "--judged": 10}
    finished = run("train.py", *(part for option in options.items() for part in option), cwd=root)
    assert finished.returncode == 0, finished.stderr
    assert {line.split()[0] for line in finished.stderr.splitlines()} == {"step"}  # how far it is, and nothing else
    return root / "out", finished.stdout


@pytest.fixture
def copied(trained: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "out"))


@speaks
def test_the_loss_falls_and_errors_are_reported(trained: tuple[Path, str]) -> None:
    output, printed = trained
    assert re.search(r"^Learnt [\d,]+ parameters from 48 clips, 24 batches in \d+\.\d s ", printed)
    found = re.search(r"The loss fell from (\d+\.\d\d) to (\d+\.\d\d)\.", printed)
    assert found and float(found[1]) > float(found[2]) + 0.5
    log = [json.loads(line)["loss"] for line in (output / "training" / "log.jsonl").read_text().splitlines()]
    assert (f"{log[0]:.2f}", f"{log[-1]:.2f}", len(log)) == (found[1], found[2], 3)
    assert (output / "training" / "report.html").is_file()
    assert re.search(r"Word error rate on unseen .*: \d+\.\d % \(\d+ of 30 words, \d+ voices\)\.", printed)


@speaks
def test_a_fresh_process_gets_equal_logits_and_takes_sound_files(copied: Path) -> None:
    sounds = [copied / "speech" / "test" / "0001.wav", copied / "high.flac"]
    soundfile.write(str(sounds[1]), 0.1 * np.random.default_rng(0).standard_normal((44_100, 2)), 44_100)
    finished = run("recognise.py", "--output", copied, *sounds, cwd=copied)
    assert (finished.returncode, finished.stderr) == (0, "")
    first, *rest = finished.stdout.splitlines()
    logits = read_arrays(copied / "expected.npz")["logits"]
    assert logits.ndim == 3 and logits.std() > 0.01
    assert first == f"All {logits.size:,} logits for 8 clips of unseen voices equal the saved ones, bit for bit."
    assert [line.partition(":")[0] for line in rest] == [str(sound) for sound in sounds]


@speaks
def test_recognising_notices_the_smallest_difference(copied: Path) -> None:
    saved = read_arrays(copied / "expected.npz")
    saved["logits"][3, 1, 4] = np.nextafter(saved["logits"][3, 1, 4], np.float32(np.inf))
    np.savez(copied / "expected.npz", **saved)
    finished = run("recognise.py", "--output", copied, cwd=copied)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "The logits differ from the saved ones" in finished.stderr


@speaks
def test_the_picture_is_a_png_and_can_be_drawn_of_any_sound(copied: Path) -> None:
    check_picture(copied / "recognised.png")
    (copied / "recognised.png").unlink()
    finished = run("picture.py", copied / "speech" / "train" / "0004.wav", "--output", copied, cwd=copied)
    assert (finished.returncode, finished.stderr) == (0, "")
    check_picture(copied / "recognised.png")


class Listener:
    """Hears "one two" in any sound: these letters, one of 40 frames each."""

    frames: ClassVar[dict[int, str]] = {4: "o", 6: "n", 8: "e", 11: "|", 20: "t", 25: "w", 26: "o"}

    def __init__(self, processor: Any) -> None:
        self.config = Wav2Vec2Config(conv_dim=(4,), conv_stride=(240,), conv_kernel=(240,))
        self.logits = torch.zeros(1, 40, len(processor.tokenizer))
        for frame in range(40):
            token = self.frames.get(frame, processor.tokenizer.pad_token)
            self.logits[0, frame, processor.tokenizer.convert_tokens_to_ids(token)] = 5

    def eval(self) -> "Listener":
        return self

    def __call__(self, input_values: torch.Tensor, **_: Any) -> "Listener":
        assert input_values.shape == (1, 40 * 240)
        return self


def test_letters_stand_where_they_were_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setitem(sys.modules, "recognise", import_example("recognise"))
    tokens = ["<pad>", "<unk>", "|", *"enotw"]
    tokenizer = Wav2Vec2CTCTokenizer(vocab={token: number for number, token in enumerate(tokens)})
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=8_000), tokenizer)
    silence = tmp_path / "silence.wav"
    soundfile.write(str(silence), np.zeros(40 * 240), 8_000)
    import_example("picture").draw_clip(tmp_path / "x.png", Listener(processor), processor, silence)
    with Image.open(tmp_path / "x.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    line = pixels[330]  # below the letters, above the middle, where silence is drawn
    orange = np.flatnonzero(line[:, 0] - line[:, 2] > 40)
    starts = orange[np.flatnonzero(np.diff(orange, prepend=-9) > 1)]
    letters = [frame for frame, token in Listener.frames.items() if token != "|"]
    assert len(starts) == len(letters)
    places = np.polyfit(letters, starts, 1)
    assert np.abs(np.polyval(places, letters) - starts).max() < 2  # equal steps for equal times


def check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (2_000, 1_000))
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (abs(pixels[:500] - [0x00, 0x72, 0xB2]).sum(-1) < 30).sum()  # the waveform, in the upper half
    assert blue > 5_000


@pytest.mark.parametrize("script", ["recognise.py", "picture.py"])
def test_without_a_recogniser_the_scripts_say_what_to_run(script: str, tmp_path: Path) -> None:
    finished = run(script, "--output", tmp_path, "x.wav", cwd=tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert "Run train.py first." in finished.stderr
