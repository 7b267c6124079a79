"""What an incremental decoder gives, put together, is what `decode` gives of the whole row, for every decoder."""

import time
from itertools import pairwise
from typing import Any

import pytest
from byte_level import TEXTS, train
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast, WordPieceTokenizer, WordPieceTokenizerFast
from maquette.errors import InputError
from maquette.text.decoding_stages import Tidying
from maquette.text.incremental_decoding import IncrementalDecoder, plan_for
from maquette.text.tokenization import PreTrainedTokenizer
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

PIECES = [
    "[UNK]",
    "[PAD]",
    "▁",
    "▁the",
    "▁▁",
    "a",
    "é",
    "日",
    "n",
    "'",
    "t",
    "s",
    ".",
    ",",
    "▁'",
    "▁n",
    "▁.",
    "##s",
    "##'",
    "x",
]
PIECES += ["re", "##re", "</w>", "a</w>", "\u2581x", " ", "  ", "\ufffd", "<0x0>", "<0xZZ>", "'ve", "?", "!", "m"]
PIECES += [f"<0x{byte:02X}>" for byte in (*"日é🙂 a\n".encode(), 0xFF, 0xC3, 0xE3, 0x81, 0x80)]
ADDED = [
    AddedToken("[SEP]", special=True, normalized=False),
    AddedToken("▁beyond é", normalized=False),
    AddedToken(" spaced ", normalized=False),
    AddedToken("##joined", normalized=False),
    AddedToken("▁▁", normalized=False),  # of the vocabulary itself
    AddedToken("é", normalized=False),
]
LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
DECODERS: dict[str, Any] = {
    "llama": decoders.Sequence(LLAMA),
    "gemma": decoders.Sequence(LLAMA[:3]),
    "bytes alone": decoders.ByteFallback(),
    "metaspace": decoders.Metaspace(),
    "metaspace, no first": decoders.Metaspace(prepend_scheme="never"),
    "wordpiece": decoders.WordPiece(),
    "wordpiece, plain": decoders.WordPiece(cleanup=False),
    "suffix": decoders.BPEDecoder(),
    "byte level": decoders.ByteLevel(),
    "strip": decoders.Sequence([decoders.Strip(" ", 1, 0), decoders.Metaspace()]),
    "none": None,
}


def wrap(decoder: Any, **options: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(dict.fromkeys(PIECES))}, unk_token="[UNK]")
    )
    if decoder is not None:
        backend.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", **options)
    tokenizer.add_tokens(ADDED)
    return tokenizer


class Joined(PreTrainedTokenizer):
    """One whose way back is its own."""

    def __init__(self, **kwargs: Any) -> None:
        self.tokens = list(dict.fromkeys(PIECES))
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def get_vocab(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)} | self.added_tokens_encoder

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.tokens.index(token) if token in self.tokens else None

    def _convert_id_to_token(self, index: int) -> str:
        return self.tokens[index]


class Own(Joined):
    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def byte_level(kind: Any, **options: Any) -> Any:
    vocabulary, merges = train(None)
    tokenizer = kind(vocab=vocabulary, merges=merges, eos_token="<|endoftext|>", **options)
    tokenizer.add_tokens(ADDED)
    return tokenizer


def wordpiece(kind: Any) -> Any:
    tokenizer = kind(vocab={t: i for i, t in enumerate(dict.fromkeys(["[CLS]", "[SEP]", "[MASK]", *PIECES]))})
    tokenizer.add_tokens(ADDED[1:4])
    return tokenizer


TOKENIZERS: dict[str, Any] = {name: wrap(decoder) for name, decoder in DECODERS.items()}
TOKENIZERS |= {
    f"{name}, tidy": wrap(DECODERS[name], clean_up_tokenization_spaces=True) for name in ("none", "metaspace")
}
TOKENIZERS |= {kind.__name__: wordpiece(kind) for kind in (WordPieceTokenizer, WordPieceTokenizerFast)}
TOKENIZERS |= {kind.__name__: byte_level(kind) for kind in (ByteLevelBPETokenizer, ByteLevelBPETokenizerFast)}
TOKENIZERS |= {"ignoring": byte_level(ByteLevelBPETokenizer, errors="ignore"), "default": Joined(), "own": Own()}
BYTES = ["Ã", "©", "æ", "Ĺ", "¥", "ð", "Ł", "Ļ", "Ĥ", "Ġ", "a", "é", "▁▁"]


def ids_of(tokenizer: Any) -> Any:
    """Draw ids, half of them bytes and added tokens."""
    odd = [i for i in map(tokenizer.get_vocab().get, [*BYTES, *map(str, ADDED)]) if i is not None]
    odd += [index for token, index in tokenizer.get_vocab().items() if token.startswith("<0x")]
    odd += list(tokenizer.added_tokens_decoder)
    return st.lists(st.integers(0, len(tokenizer) - 1) | st.sampled_from(odd or [0]), max_size=20)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_all_that_is_given_is_the_text_of_the_whole_row(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert (plan_for(tokenizer) is None) == (name == "own")

    @settings(max_examples=60, deadline=None)
    @given(ids_of(tokenizer), st.booleans(), st.sampled_from([None, True, False]), st.integers(1, 4))
    def check(row: list[int], skip: bool, tidy: bool | None, step: int) -> None:
        options: Any = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": tidy}
        decoder = IncrementalDecoder(tokenizer, **options)
        parts = [
            decoder.feed(row[place] if step == 1 else row[place : place + step]) for place in range(0, len(row), step)
        ]
        assert "".join([*parts, decoder.finish()]) == tokenizer.decode(row, **options)

    check()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([" ", "  ", "'", "n", "t", "'t", "s", "ve", "re", ".", ",", "?", "x", " n't", " ' "]),
        max_size=14,
    )
)
def test_tidying_piece_by_piece_is_tidying_the_whole(pieces: list[str]) -> None:
    tidying = Tidying()
    text = "".join([*map(tidying.feed, pieces), tidying.finish()])
    assert text == PreTrainedTokenizer.clean_up_tokenization("".join(pieces))


@pytest.mark.parametrize("kind", [ByteLevelBPETokenizer, ByteLevelBPETokenizerFast])
def test_characters_come_whole_and_at_once(kind: Any) -> None:
    vocabulary, merges = train(None)
    tokenizer = kind(vocab=vocabulary, merges=merges)
    for text in TEXTS:
        row = tokenizer(text, add_special_tokens=False).input_ids
        decoder, given = IncrementalDecoder(tokenizer), ""
        for place, index in enumerate(row):
            part = decoder.feed(index)
            assert "\ufffd" not in part
            given += part
            whole = tokenizer.decode(row[: place + 1])
            assert whole.rstrip("\ufffd") == given  # nothing is held but half a character
        assert given == text and decoder.finish() == ""


def test_spaces_come_with_the_words_that_follow() -> None:
    tokenizer = TOKENIZERS["llama"]
    decoder = IncrementalDecoder(tokenizer)
    row = tokenizer.convert_tokens_to_ids(["▁the", "▁", "▁the", "<0xC3>", "<0xA9>", "▁the", "<0xC3>"])
    assert [decoder.feed(index) for index in row] == ["the", " ", " the", "", "", "é the", ""]
    assert decoder.finish() == "\ufffd"


def test_the_time_of_a_token_does_not_grow() -> None:
    for name in ("llama", "WordPieceTokenizer", "ByteLevelBPETokenizer", "own", "none, tidy"):
        tokenizer = TOKENIZERS[name]
        row = [index % 11 for index in range(8_000)]
        decoder, marks = IncrementalDecoder(tokenizer), [time.process_time()]
        for place in range(4):
            for index in row[place * 2000 : place * 2000 + 2000]:
                decoder.feed(index)
            marks.append(time.process_time())
        quarters = [b - a for a, b in pairwise(marks)]
        assert min(quarters[2:]) < 4 * quarters[0], name  # 7 times, were the row decoded anew


def test_what_cannot_be_fed_is_an_error() -> None:
    tokenizer = TOKENIZERS["llama"]
    decoder = IncrementalDecoder(tokenizer)
    with pytest.raises(InputError, match="The id 999 is not in the vocabulary"):
        decoder.feed(999)
    with pytest.raises(InputError, match="whole numbers"):
        decoder.feed([0.5])
    decoder.finish()
    with pytest.raises(InputError, match="has finished its row"):
        decoder.feed(1)


def test_added_tokens_and_settings_are_seen() -> None:
    tokenizer = wrap(decoders.Metaspace())
    assert IncrementalDecoder(tokenizer).feed([3, 5]) == "thea"
    tokenizer.add_tokens([AddedToken("▁late", normalized=False)])
    assert IncrementalDecoder(tokenizer).feed([3, len(tokenizer) - 1]) == tokenizer.decode([3, len(tokenizer) - 1])
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece()
    assert IncrementalDecoder(tokenizer).feed([3, 5]) == "▁the a"
