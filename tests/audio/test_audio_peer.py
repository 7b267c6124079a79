"""Sounds and processors against the peer: equal numbers for every combination of options, and folders both ways.

Where the peer normalises a clip together with its padding (no attention mask, or padding on the left), its numbers
depend on the other clips of the batch. Ours do not; they are then the ones that the peer gives for the clip alone.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import CLIPS, RATE, make_clip

from maquette import AutoFeatureExtractor, AutoProcessor
from maquette.models.wav2vec2.feature_extraction import Wav2Vec2FeatureExtractor
from maquette.models.wav2vec2.processing import Wav2Vec2Processor
from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer

SETTINGS = [
    {"do_normalize": normalise, "padding_value": value, "return_attention_mask": mask, "padding_side": side}
    for normalise, value, mask, side in itertools.product((True, False), (0.0, 1.5), (True, False), ("right", "left"))
]
OPTIONS: list[dict[str, Any]] = [
    {"padding": padding, "pad_to_multiple_of": multiple, **lengths}
    for padding, multiple, lengths in itertools.product(
        (False, True, "max_length"), (None, 64), ({"max_length": 900, "truncation": True}, {"max_length": 20_100}, {})
    )
    if padding != "max_length" or lengths
]
CASES = {f"{i}-{j}": {"settings": s, "options": o} for i, s in enumerate(SETTINGS) for j, o in enumerate(OPTIONS)}
PADS = {
    f"pad-{i}-{width}": {
        "settings": {"feature_size": width, "padding_value": 0.25, **more},
        "options": o,
        "width": width,
    }
    for width in (1, 4)
    for i, (more, o) in enumerate(
        [
            ({}, {}),
            ({"padding_side": "left", "return_attention_mask": True}, {"pad_to_multiple_of": 50}),
            ({}, {"padding": "max_length", "max_length": 1000, "truncation": True, "return_attention_mask": True}),
        ]
    )
}
VOCABULARY = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abc"])}


PEER_CLIPS = [*CLIPS[:2], CLIPS[2][:3000], CLIPS[3][:776], make_clip(20_000, 9)]  # lengths that frames of 4 divide


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> Path:
    """A folder through which both libraries went."""
    folder = tmp_path_factory.mktemp("exchange")
    np.savez(folder / "clips.npz", **{f"clip{i}": clip for i, clip in enumerate(PEER_CLIPS)})
    for name, content in {"cases": CASES, "pads": PADS, "vocab": VOCABULARY}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    extractor = Wav2Vec2FeatureExtractor(padding_value=0.5, sampling_rate=8000, return_attention_mask=True)
    extractor.save_pretrained(folder / "ours/extractor")
    tokenizer = Wav2Vec2CTCTokenizer(vocab_file=str(folder / "vocab.json"))
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder / "ours/processor")
    run_peer(Path(__file__).parent / "peer_audio.py", folder)
    return folder


@pytest.fixture(scope="module")
def theirs(exchange: Path) -> dict[str, np.ndarray]:
    with np.load(exchange / "results.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def told(exchange: Path) -> dict[str, Any]:
    return json.loads((exchange / "results.json").read_text())


def rows_of(theirs: dict[str, np.ndarray], name: str, key: str) -> list[np.ndarray]:
    found = [theirs[f"{name}/{key}/{i}"] for i in range(len(PEER_CLIPS)) if f"{name}/{key}/{i}" in theirs]
    assert found
    return found


def is_independent(settings: dict[str, Any], options: dict[str, Any]) -> bool:
    """Tell whether the peer's numbers for a clip depend on that clip alone."""
    masked = settings["return_attention_mask"] and settings["padding_side"] == "right"
    return not settings["do_normalize"] or not options["padding"] or masked


def peer_rows(theirs: dict[str, np.ndarray], settings: dict[str, Any], options: dict[str, Any]) -> list[np.ndarray]:
    """Give the peer's rows, or where those depend on other clips, what it gives for each alone, padded by numpy."""
    name = next(n for n, case in CASES.items() if case == {"settings": settings, "options": options})
    rows = rows_of(theirs, name, "input_values")
    if is_independent(settings, options):
        return rows
    alone = next(
        n for n, c in CASES.items() if c["settings"] == settings and c["options"] == {**options, "padding": False}
    )
    before, value = settings["padding_side"] == "left", settings["padding_value"]
    return [
        np.pad(own, ((len(row) - len(own)) * before, (len(row) - len(own)) * (not before)), constant_values=value)
        for own, row in zip(rows_of(theirs, alone, "input_values"), rows, strict=True)
    ]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_numbers_equal_the_peers(settings: dict[str, Any], theirs: dict[str, np.ndarray]) -> None:
    extractor = Wav2Vec2FeatureExtractor(**settings)
    for options in OPTIONS:
        ours = extractor(PEER_CLIPS, sampling_rate=RATE, **options)
        expected = peer_rows(theirs, settings, options)
        for row, other in zip(ours.input_values, expected, strict=True):
            assert row.shape == other.shape, options
            assert np.abs(row - other).max() <= 1e-6, options
        assert ("attention_mask" in ours) == settings["return_attention_mask"]
        if "attention_mask" in ours:
            name = next(n for n, case in CASES.items() if case == {"settings": settings, "options": options})
            masks = rows_of(theirs, name, "attention_mask")
            assert all(np.array_equal(m, o) for m, o in zip(ours.attention_mask, masks, strict=True))
            assert ours.attention_mask[0].dtype == masks[0].dtype


@pytest.mark.parametrize("name", list(PADS))
def test_pad_equals_the_peers(name: str, theirs: dict[str, np.ndarray]) -> None:
    case = PADS[name]
    rows = [clip.reshape(-1, case["width"]) if case["width"] > 1 else clip for clip in PEER_CLIPS]
    ours = Wav2Vec2FeatureExtractor(**case["settings"]).pad({"input_values": rows}, **case["options"])
    for key, value in ours.items():
        assert np.array_equal(np.stack(rows_of(theirs, name, key)), value), key
    assert {key.split("/")[1] for key in theirs if key.startswith(f"{name}/")} == set(ours)


# Folders -----------------------------------------------------------------------------------------------------------


def test_the_peer_reads_our_folders(told: dict[str, Any], theirs: dict[str, np.ndarray]) -> None:
    extractor = Wav2Vec2FeatureExtractor(padding_value=0.5, sampling_rate=8000, return_attention_mask=True)
    assert told["extractor"] == told["processor"] == extractor.to_dict()
    assert told["extractor_class"] == "Wav2Vec2FeatureExtractor"
    assert told["processor_class"] == "Wav2Vec2Processor"
    assert told["tokenizer_class"] == "Wav2Vec2CTCTokenizer"
    assert told["decoded"] == "ab c"
    ours = extractor(PEER_CLIPS[0], sampling_rate=8000, return_tensors="np")
    assert np.abs(theirs["ours/input_values/0"] - ours.input_values[0]).max() <= 1e-6


@pytest.mark.parametrize("folder", ["extractor", "processor", "old"])
def test_we_read_the_peers_feature_extractor(folder: str, exchange: Path) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(exchange / "theirs" / folder)
    assert isinstance(extractor, Wav2Vec2FeatureExtractor)
    assert (extractor.padding_value, extractor.sampling_rate, extractor.return_attention_mask) == (0.5, 8000, True)


@pytest.mark.parametrize(("folder", "loader"), [("processor", AutoProcessor), ("old", Wav2Vec2Processor)])
def test_we_read_the_peers_processor(
    folder: str, loader: Any, exchange: Path, told: dict[str, Any], theirs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    processor = loader.from_pretrained(exchange / "theirs" / folder)
    assert isinstance(processor, Wav2Vec2Processor)
    assert isinstance(processor.tokenizer, Wav2Vec2CTCTokenizer)
    batch = processor(PEER_CLIPS[0], text="ab c", sampling_rate=8000, return_tensors="np")
    assert batch.labels.tolist() == [told["label_ids"]]
    assert np.abs(batch.input_values[0] - theirs["theirs/input_values/0"]).max() <= 1e-6
    processor.save_pretrained(tmp_path)
    assert Wav2Vec2Processor.from_pretrained(tmp_path).feature_extractor == processor.feature_extractor
