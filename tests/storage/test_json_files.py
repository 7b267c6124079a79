"""JSON files that cannot be meant as they are: every reader refuses them in one sentence that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maquette import (
    AutoConfig,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    FileFormatError,
    PretrainedConfig,
    ViTImageProcessor,
    Wav2Vec2CTCTokenizer,
)
from maquette.storage.json_files import DEEPEST, parse_json

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
BROKEN = {
    "long number": (b'{"a": ' + b"7" * 5000 + b"}", "more than 4300 digits"),
    "long negative number inside": (b'{"a": [{"b": -' + b"7" * 5000 + b"}]}", "more than 4300 digits"),
    "too large a float": (b'{"a": 1e999}', "1e999, which is too large"),
    "deep": (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested too deeply"),
    "deep among many": (
        b'{"b": [1, {}, [{"c": ' + b'[3, {"x": ' * 60 + b"1" + b"}]" * 60 + b"}]]}",
        "nested too deeply",
    ),
    "deeper than Python goes": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "one key twice": (b'{"a": {"b": 1, "b": 2}}', "'b' twice"),
    "UTF-16": ("{}".encode("utf-16"), "'utf-8' codec"),
    "cut short": (b'{"a": 1', "is not JSON"),
    "empty": (b"", "is not JSON"),
    "a list": (b"[1]", "a JSON list, where an object"),
}
broken = pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)


def prepare(folder: Path) -> None:
    """Save one of everything that has a JSON file."""
    DistilBertConfig().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(WORDS)}), encoding="utf-8")


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "configuration": ("config.json", PretrainedConfig.from_pretrained),
    "configuration file": ("config.json", lambda at: PretrainedConfig.from_json_file(at / "config.json")),
    "AutoConfig": ("config.json", AutoConfig.from_pretrained),
    "weights": ("model.safetensors.index.json", DistilBertModel.from_pretrained),
    "tokenizer": ("tokenizer_config.json", DistilBertTokenizer.from_pretrained),
    "special tokens": ("special_tokens_map.json", DistilBertTokenizer.from_pretrained),
    "added tokens": ("added_tokens.json", DistilBertTokenizer.from_pretrained),
    "vocabulary": ("vocab.json", Wav2Vec2CTCTokenizer.from_pretrained),
    "tokenizer.json": ("tokenizer.json", DistilBertTokenizerFast.from_pretrained),
    "image processor": ("preprocessor_config.json", ViTImageProcessor.from_pretrained),
}


@pytest.mark.parametrize("reader", READERS)
@broken
def test_every_reader_names_the_file(content: bytes, words: str, reader: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    file, read = READERS[reader]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        read(tmp_path)
    assert file in str(caught.value) and len(str(caught.value)) < 600
    assert reader == "tokenizer.json" or words in str(caught.value)  # the Rust library has words of its own


def test_what_can_be_meant_is_read() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [NaN, -Infinity, 1e308]}', "x")["a"][1:] == [-float("inf"), 1e308]
    nested: Any = parse_json("[" * DEEPEST + "]" * DEEPEST, "x")
    for _ in range(DEEPEST - 1):
        (nested,) = nested
    assert nested == []
    wide = {str(index): [index] for index in range(500)}  # many brackets, none of them deep
    assert parse_json(json.dumps(wide), "x") == wide
    assert parse_json("9" * 4300, "x") == int("9" * 4300)


def test_the_error_stands_alone(tmp_path: Path) -> None:
    """No chain of tracebacks: the cause says nothing that the message does not."""
    (tmp_path / "config.json").write_bytes(BROKEN["long number"][0])
    with pytest.raises(FileFormatError) as caught:
        PretrainedConfig.from_pretrained(tmp_path)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
