"""Added tokens come back as they are written, and texts with the spaces that they had."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from maquette import AutoTokenizer, PreTrainedTokenizerFast

CORPUS = ["the cat sat on the mat", "x != y and a , b ! do n't", "2023 was 1 2 3"] * 9
WORDS = ["đem", "ilÖveyou", "naïve", "Größe", "é", "<ā>", "日本", "plain", "Ġodd", "<0x41>"]


def byte_pairs() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["</s>"], show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def sentence_pieces() -> Tokenizer:
    """Build a tokenizer as Gemma's: spaces written ▁, in the vocabulary also as runs that are added tokens."""
    letters = [*"abcdefghijklmnopqrstuvwxyz▁", "▁▁"]
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    vocabulary |= {letter: 257 + place for place, letter in enumerate(letters)}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "▁")], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_tokens([AddedToken("▁▁", normalized=False)])
    return backend


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), eos_token="</s>")
    made.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    return made


@pytest.mark.parametrize("word", WORDS)
def test_byte_level_tokens_come_back(word: str, tokenizer: PreTrainedTokenizerFast) -> None:
    for text in (word, f"the {word} sat", f"{word}{word} ü {word}", f"鿋 {word} 日 é"):
        row = tokenizer(text).input_ids
        assert tokenizer.convert_tokens_to_ids(word) in row
        assert tokenizer.decode(row) == text
    assert tokenizer.decode(tokenizer(f"\U00100000 {word}").input_ids) == f"\U00100000 {word}"
    assert tokenizer.batch_decode([tokenizer(word).input_ids]) == [word]


def test_bytes_in_front_of_an_added_token_stay_apart(tokenizer: PreTrainedTokenizerFast) -> None:
    half = tokenizer("ü", add_special_tokens=False).input_ids[:1]
    if tokenizer.decode(half) == "ü":
        pytest.fail("the test needs a letter of two tokens")
    assert tokenizer.decode([*half, tokenizer.convert_tokens_to_ids("đem")]) == "\ufffdđem"


def test_special_tokens_come_back_or_are_skipped(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|fähig|>"]})
    row = tokenizer("a <|fähig|> b").input_ids
    assert tokenizer.decode(row) == "a <|fähig|> b"
    assert tokenizer.decode(row, skip_special_tokens=True) == "a  b"


def test_pieces_with_spaces_in_them() -> None:
    """Tokens of the model's own vocabulary are in its code, also where they are added tokens; new ones are not."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=sentence_pieces())
    tokenizer.add_tokens([AddedToken("a▁b", normalized=False), AddedToken("<0x42>!", normalized=False)])
    for text in ("ab  cd", "xa▁by  ü", "<0x42>! a", "鿋"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_word_pieces_are_as_the_library_has_them() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "cat": 2, "##s": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(cleanup=True)
    backend.add_tokens(["!", "<x>", "naïve"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    row = backend.encode("the cats <x> naïve !").ids
    assert tokenizer.decode(row) == backend.decode(row) == "the cats <x> naïve!"


# Spaces before punctuation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x != y", "a , b", "what ? no !", "do n't", "it 's", "print ( 'x' , y )"])
def test_byte_pairs_keep_their_spaces(text: str, tmp_path: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), eos_token="</s>").save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "clean_up_tokenization_spaces": True}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    row = tokenizer(text).input_ids
    assert tokenizer.decode(row) == text
    assert tokenizer.batch_decode([row, row]) == [text, text]
    asked = tokenizer.decode(row, clean_up_tokenization_spaces=True)
    assert asked == tokenizer.clean_up_tokenization(text)


def test_word_pieces_are_tidied() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, ",": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=True)
    assert tokenizer.decode(tokenizer("a , b").input_ids) == "a, b"


# Settings of the library, and classes that are unknown here ----------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_wrapped_tokenizer_keeps_its_sides(side: str, tmp_path: Path) -> None:
    backend = byte_pairs()
    backend.enable_truncation(max_length=6, direction=side)
    backend.enable_padding(direction=side, pad_id=backend.token_to_id("</s>"), pad_token="</s>")
    backend.save(str(tmp_path / "tokenizer.json"))
    kept = backend.encode("the cat sat on the mat and the cat").ids
    for given in ({"tokenizer_object": backend}, {"tokenizer_file": str(tmp_path / "tokenizer.json")}):
        tokenizer = PreTrainedTokenizerFast(**given)
        assert (tokenizer.truncation_side, tokenizer.padding_side, tokenizer.pad_token) == (side, side, "</s>")
        row = tokenizer("the cat sat on the mat and the cat", truncation=True, max_length=6).input_ids
        assert row == kept
        tokenizer.save_pretrained(tmp_path / "again")
        assert AutoTokenizer.from_pretrained(tmp_path / "again").truncation_side == side
        other = "left" if side == "right" else "right"
        assert PreTrainedTokenizerFast(**given, truncation_side=other).truncation_side == other


OTHERS = ["TokenizersBackend", "LlamaTokenizerFast", "GPT2Tokenizer", "MyOwnTokenizer", None]
OTHERS += ["RobertaTokenizerFast", "RobertaTokenizer", "BartTokenizerFast", "XLMRobertaTokenizer", "T5TokenizerFast"]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("use_fast", [True, False])
def test_tokenizer_json_is_believed_whatever_the_class(name: str | None, use_fast: bool, tmp_path: Path) -> None:
    backend = byte_pairs()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    content = json.loads(backend.to_str())
    del content["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "eos_token": "</s>"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody-knows"}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, use_fast=use_fast)
    for text in ("2023 was 650", "\n\nhello", "حسنا 你好"):
        assert tokenizer(text).input_ids == backend.encode(text).ids
        assert tokenizer.decode(backend.encode(text).ids) == text
