"""Model files of SentencePiece and tiktoken: the ids that those libraries give."""

import argparse
import base64
import inspect
import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sentencepiece
import tiktoken
from byte_level import TEXTS, train

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast, SentencePieceTokenizerFast
from maquette.errors import FileFormatError, InputError, MissingFileError
from maquette.text.byte_pairs import BYTES, LLAMA3_PATTERN
from maquette.text.incremental_decoding import IncrementalDecoder
from maquette.text.sentencepiece_files import read_sentencepiece

IDENTITY: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
SYMBOLS = ["<turn>", "\n\n", "▁▁", "▁▁▁", "<b>"]
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True, **IDENTITY},
    "gemma": {
        "model_type": "bpe", "vocab_size": 700, "byte_fallback": True, **IDENTITY, "add_dummy_prefix": False,
        "user_defined_symbols": SYMBOLS, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    },
    "t5": {
        "model_type": "unigram", "vocab_size": 600, "normalization_rule_name": "nmt_nfkc",
        "user_defined_symbols": ["<x>"], "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1,
    },
    "folded": {
        "model_type": "unigram", "vocab_size": 800, "byte_fallback": True, "normalization_rule_name": "nmt_nfkc_cf",
    },
    "plain": {"model_type": "unigram", "vocab_size": 600, **IDENTITY, "add_dummy_prefix": False},
    "tidy": {"model_type": "unigram", "vocab_size": 600, "normalization_rule_name": "identity"},
    "across": {"model_type": "bpe", "vocab_size": 700, "normalization_rule_name": "nfkc", "split_by_whitespace": False},
}  # fmt: skip
# The Rust library drops a mark after a character that its map of normal forms changes, for Transformers as for us.
MARKS = ("\u0301", "\u0323")


@cache
def train_model(name: str) -> bytes:
    lines = [line for text in TEXTS for line in text.splitlines() if line.strip() and "\0" not in line] * 5
    lines += inspect.getsource(argparse).splitlines()
    made = io.BytesIO()
    options: dict[str, Any] = {"character_coverage": 0.98, "minloglevel": 2, "num_threads": 1, **MODELS[name]}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=made, **options)
    return made.getvalue()


def hard_texts() -> list[str]:
    draw, alphabet = random.Random(0), "  ab é日本\t\n①Å<turn>.,'▁ 🙂zq<x>ﬁ\u3000"
    drawn = ["".join(draw.choice(alphabet) for _ in range(draw.randrange(14))) for _ in range(300)]
    more = ["a<turn>b <turn> c  <x>  d<b>", "<x>", "<turn>", " <x> ", "<0x41>", "foo <x><x>", "a\n\n\nb    c", "▁ ▁▁x▁"]
    return [text for text in TEXTS if not any(mark in text for mark in MARKS)] + drawn + more


def write(folder: Path, name: str) -> str:
    path = folder / "tokenizer.model"
    path.write_bytes(train_model(name))
    return str(path)


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_sentencepieces(name: str, tmp_path: Path) -> None:
    oracle = sentencepiece.SentencePieceProcessor(model_proto=train_model(name))
    tokenizer = SentencePieceTokenizerFast(write(tmp_path, name))
    # literal bytes where the vocabulary lacks "<": the Rust library then takes the piece for a byte
    texts = [text for text in hard_texts() if name != "folded" or text != "<0x41>"]
    wanted = oracle.encode(texts)
    found = tokenizer(texts, add_special_tokens=False).input_ids
    wrong = [(text, a, b) for text, a, b in zip(texts, wanted, found, strict=True) if a != b]
    assert not wrong, (len(wrong), wrong[:3])
    assert tokenizer.vocab_size == oracle.get_piece_size()
    assert tokenizer.convert_ids_to_tokens(range(100)) == [oracle.id_to_piece(index) for index in range(100)]
    ids = {"unk": oracle.unk_id(), "bos": oracle.bos_id(), "eos": oracle.eos_id(), "pad": oracle.pad_id()}
    for which, index in ids.items():
        assert getattr(tokenizer, f"{which}_token_id") == (None if index < 0 else index)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert SentencePieceTokenizerFast.from_pretrained(tmp_path / "saved")(texts).input_ids == tokenizer(texts).input_ids


@pytest.mark.parametrize("name", ["llama", "gemma", "t5"])
def test_texts_come_back(name: str, tmp_path: Path) -> None:
    oracle = sentencepiece.SentencePieceProcessor(model_proto=train_model(name))
    tokenizer = SentencePieceTokenizerFast(write(tmp_path, name))
    for text in hard_texts():
        row = oracle.encode(text)
        if oracle.unk_id() in row:
            continue
        assert tokenizer.decode(row) == oracle.decode(row), text
        if MODELS[name].get("byte_fallback"):
            assert tokenizer.decode(row) == text.replace("▁", " ")
        decoder = IncrementalDecoder(tokenizer)
        assert "".join([*map(decoder.feed, row), decoder.finish()]) == tokenizer.decode(row)


class Llama(SentencePieceTokenizerFast):
    default_edges = (True, False)
    default_tokens: ClassVar = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}


def test_edges_and_special_tokens(tmp_path: Path) -> None:
    tokenizer = Llama(write(tmp_path, "llama"))
    plain = tokenizer("a cat", add_special_tokens=False).input_ids
    assert tokenizer("a cat").input_ids == [1, *plain]
    assert tokenizer("<s>a cat</s>", add_special_tokens=False).input_ids == [1, *plain, 2]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")
    assert Llama(write(tmp_path, "llama"), add_bos_token=False, add_eos_token=True)("a cat").input_ids == [*plain, 2]
    later = Llama(write(tmp_path, "llama"), legacy=False)
    assert later("a cat").input_ids == [1, *plain]
    bare = later.convert_tokens_to_ids(later.tokenize("<s>a cat"))
    assert later.convert_ids_to_tokens(bare)[1] == "a" and tokenizer.tokenize("<s>a cat")[1] == "▁a"


def write_tiktoken(folder: Path) -> tuple[str, dict[bytes, int]]:
    vocabulary, _ = train(LLAMA3_PATTERN)
    tokens = [token for token in sorted(vocabulary, key=vocabulary.__getitem__) if token != "<|endoftext|>"]
    ranks = {bytes(map(BYTES.__getitem__, token)): rank for rank, token in enumerate(tokens)}
    lines = [base64.b64encode(token) + f" {rank}\n".encode() for token, rank in ranks.items()]
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    return str(folder / "tokenizer.model"), ranks


def test_ids_are_tiktokens(tmp_path: Path) -> None:
    path, ranks = write_tiktoken(tmp_path)
    oracle = tiktoken.Encoding("test", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={})
    draw, alphabet = random.Random(0), "  aa aaa\n\n\t'sS12345é日🙂.!<|end|>"
    texts = ["".join(draw.choice(alphabet) for _ in range(draw.randrange(24))) for _ in range(400)]
    texts += [text.replace("<|endoftext|>", "") for text in TEXTS]
    wanted = [oracle.encode(text, disallowed_special=()) for text in texts]
    kinds = [
        type(kind.__name__, (kind,), {"pattern": LLAMA3_PATTERN})
        for kind in (ByteLevelBPETokenizer, ByteLevelBPETokenizerFast)
    ]
    for kind in (SentencePieceTokenizerFast, *kinds):
        tokenizer: Any = kind(path)
        assert tokenizer(texts).input_ids == wanted
        assert tokenizer.batch_decode(wanted) == [oracle.decode(row) for row in wanted]
    decoder = {
        str(len(ranks) + place): {"content": token, "special": True}
        for place, token in enumerate(["<|begin|>", "<|end|>"])
    }
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": decoder, "bos_token": "<|begin|>"})
    )
    tokenizer = Llama.from_pretrained(tmp_path)
    assert tokenizer("a<|end|>").input_ids == [len(ranks), *oracle.encode("a"), len(ranks) + 1]


def test_files_that_are_neither(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    with pytest.raises(InputError, match=r"vocab_file='tokenizer\.model'"):
        SentencePieceTokenizerFast()
    with pytest.raises(MissingFileError, match=r"tokenizer\.model"):
        SentencePieceTokenizerFast(str(path))
    whole = train_model("llama")
    for raw in (b"", b"hello world, no model\n", whole[: len(whole) // 2 + 1], b"\xff" * 50, b"{}"):
        path.write_bytes(raw)
        with pytest.raises(FileFormatError, match=r"tokenizer\.model is no model of SentencePiece"):
            SentencePieceTokenizerFast(str(path))
    path.write_bytes(b"IQ== 0\nIg== 1\nIw==\n")
    with pytest.raises(FileFormatError, match="line 3"):
        SentencePieceTokenizerFast(str(path))


def test_kinds_without_a_counterpart_are_said(tmp_path: Path) -> None:
    for options, why in (
        ({"model_type": "char"}, "words or characters"),
        ({"treat_whitespace_as_suffix": True}, "suffix"),
    ):
        made = io.BytesIO()
        form: Any = {"vocab_size": 40, "minloglevel": 2, "hard_vocab_limit": False, **options}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a cat sat"] * 9), model_writer=made, **form)
        (tmp_path / "spiece.model").write_bytes(made.getvalue())
        with pytest.raises(FileFormatError, match=why):
            read_sentencepiece(tmp_path / "spiece.model")
