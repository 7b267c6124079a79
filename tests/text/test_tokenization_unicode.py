"""Ids and offsets on 100,000 random Unicode strings and on the guides: Python kind = Rust kind = the peer."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guides import FOLDER
from stored_arrays import read_arrays

from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast

COUNT = 100_000
# Ranges of code points: what scripts, marks, spaces, controls and symbols there are, and everything.
RANGES = [
    (0x20, 0x7E),
    (0x00, 0xFF),
    (0x100, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0x1100, 0x11FF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x20FF),
    (0x2E80, 0x33FF),
    (0x4E00, 0x4FFF),
    (0xAC00, 0xAD00),
    (0xF900, 0xFFFF),
    (0x1D100, 0x1F6FF),
    (0x0, 0x10FFFF),
]
# Runs in the peer's interpreter: argv names the vocabulary, the strings, and where ids and offsets go.
PEER = """
import itertools, json, sys
import numpy as np
from transformers import DistilBertTokenizer
vocabulary, texts, target = sys.argv[1:]
tokens = open(vocabulary, encoding="utf-8").read().splitlines()
tokenizer = DistilBertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
rows = tokenizer(json.load(open(texts, encoding="utf-8")), return_offsets_mapping=True)
flat = [np.fromiter(itertools.chain.from_iterable(row), np.int32) for row in (
    rows["input_ids"], itertools.chain.from_iterable(rows["offset_mapping"]))]
np.savez(target, lengths=[len(row) for row in rows["input_ids"]], ids=flat[0], offsets=flat[1])
"""


def draw_texts() -> list[str]:
    """Make strings of up to 24 characters, each of one to three ranges, with spaces and common words in between."""
    source = random.Random(20)
    texts = []
    for _ in range(COUNT):
        ranges = source.sample(RANGES, source.randint(1, 3))
        spans = [source.choice(ranges) for _ in range(source.randint(0, 24))]
        letters = (chr(source.randint(*span)) if source.random() < 0.85 else source.choice(" e'.") for span in spans)
        texts.append("".join(letter for letter in letters if not 0xD800 <= ord(letter) <= 0xDFFF))
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*draw_texts(), *(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt")))]


@pytest.fixture(scope="module")
def vocabulary(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a vocabulary of common characters of every range, so that few words are unknown as a whole."""
    characters = sorted({letter for text in texts[:5000] for letter in text.lower() if not letter.isspace()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{letter}" for letter in characters)]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in dict.fromkeys(tokens) if token.isprintable()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rust(texts: list[str], vocabulary: Path) -> Any:
    return DistilBertTokenizerFast(vocab_file=str(vocabulary))(texts, return_offsets_mapping=True)


def test_python_ids_are_rust_ids(texts: list[str], vocabulary: Path, rust: Any) -> None:
    python = DistilBertTokenizer(vocab_file=str(vocabulary))(texts).input_ids
    different = [index for index, row in enumerate(rust.input_ids) if python[index] != row]
    assert not different, [texts[index] for index in different[:5]]
    known = sum(token != 1 for row in python for token in row[1:-1])
    assert known > 5 * COUNT  # the strings are no mere rows of unknown tokens


def test_ids_and_offsets_are_the_peers(
    texts: list[str], vocabulary: Path, rust: Any, tmp_path: Path, run_peer: Callable[..., str]
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    run_peer(PEER, vocabulary, tmp_path / "texts.json", tmp_path / "peer.npz")
    peer = read_arrays(tmp_path / "peer.npz")
    assert [len(row) for row in rust.input_ids] == peer["lengths"].tolist()
    assert np.array_equal(np.concatenate(rust.input_ids), peer["ids"])
    assert np.array_equal(np.concatenate(rust.offset_mapping).ravel(), peer["offsets"])
