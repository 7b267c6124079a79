"""WordPiece in Python against the Rust library: the normaliser code point by code point, and ids on any text."""

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from maquette.text.added_tokens import Finder
from maquette.text.backend import replace_surrogates
from maquette.text.characters import is_word_character
from maquette.text.wordpiece import Normalizer, WordPiece, join
from maquette.text.wordpiece_tokenization import WordPieceTokenizer, WordPieceTokenizerFast

CODE_POINTS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FORMS = [
    (lowercase, accents, ideographs)
    for lowercase in (True, False)
    for accents in (None, True, False)
    for ideographs in (True, False)
]

# Texts that have what tokenizers stumble over: joined and lone marks, CJK, controls, zero-width characters, added
# tokens next to each other, halves of surrogate pairs.
MARKS = ["\u0301", "\u0345", "\u302e", "\U0001d165", "\u1100\u1161", "\u1e69", "é"]
CASES = ["Σ", "İ", "ς", "ẞ", "Naïve", "naive", "new token", "a", "B"]
HIDDEN = ["\0", "\x85", "\x1c", "\u200b", "\u200d", "\ufeff", "\ufffd", "\u3000", "\u2028", "  ", "\ud800", "\udfff"]
OTHERS = ["漢", "\uf900", "\U0002f800", "한", "؟", "##", "[SEP]", "[MASK]", "<x>", "_", "9", "²", ".", "-"]
ODDITIES = st.sampled_from([*MARKS, *CASES, *HIDDEN, *OTHERS])
TEXT = st.lists(ODDITIES | st.characters(exclude_categories=()) | st.text(max_size=8), max_size=12).map("".join)


def rust_normalizer(lowercase: bool, accents: bool | None, ideographs: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=ideographs, strip_accents=accents, lowercase=lowercase
    )


def python_normalizer(lowercase: bool, accents: bool | None, ideographs: bool) -> Normalizer:
    return Normalizer(lowercase=lowercase, strip_accents=accents, separate_ideographs=ideographs)


def characters_vocabulary() -> dict[str, int]:
    """Much of Unicode, each character as a word and as the rest of one, so that no difference hides in [UNK]."""
    codes = [*range(0x21, 0x3100), *range(0xAC00, 0xAD00), *range(0x1D100, 0x1D200), *range(0x10D40, 0x10D90)]
    single = [chr(code) for code in codes] + list("漢字豈\ufffd")
    return {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *single, *(f"##{c}" for c in single)]))}


VOCABULARY = characters_vocabulary()


@pytest.mark.parametrize("form", [(True, None, True), (False, None, True), (True, False, False)])
def test_normalizer_agrees_with_rust_on_every_code_point(form: tuple[bool, bool | None, bool]) -> None:
    rust, ours = rust_normalizer(*form), python_normalizer(*form)
    for start in range(0, len(CODE_POINTS), 4096):
        text = "a".join(map(chr, CODE_POINTS[start : start + 4096]))
        assert ours.normalize(text) == rust.normalize_str(text)


def test_words_agree_with_rust_on_every_code_point() -> None:
    ours, cut = python_normalizer(True, None, True), pre_tokenizers.BertPreTokenizer()
    rust = rust_normalizer(True, None, True)
    for start in range(0, len(CODE_POINTS), 4096):
        text = "a".join(map(chr, CODE_POINTS[start : start + 4096]))
        assert ours.separate(text).split() == [word for word, _ in cut.pre_tokenize_str(rust.normalize_str(text))]


@settings(max_examples=150, deadline=None)
@given(TEXT, st.sampled_from(FORMS))
def test_normalizer_agrees_with_rust_on_any_text(text: str, form: tuple[bool, bool | None, bool]) -> None:
    assert python_normalizer(*form).normalize(text) == rust_normalizer(*form).normalize_str(replace_surrogates(text))


def test_marks_that_stay_are_put_in_canonical_order() -> None:
    text = "a\u302e\u0345\U0001d165\u302f\u0334\U0001d16d"
    assert python_normalizer(True, True, True).normalize(text) == rust_normalizer(True, True, True).normalize_str(text)


def test_word_characters_agree_with_rust() -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    backend.add_tokens([AddedToken("Q", single_word=True, normalized=False)])
    codes = [
        *range(0x3100),
        *range(0xA640, 0xA700),
        *range(0xFE00, 0x10140),
        *range(0x1F100, 0x1F1F0),
        0x1E922,
        0x31350,
    ]
    codes = [code for code in codes if not 0xD800 <= code < 0xE000]
    alone = [1 in encoding.ids for encoding in backend.encode_batch([f"Q{chr(code)}" for code in codes])]
    assert [not is_word_character(chr(code)) for code in codes] == alone


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the table says what Python 3.11 lacks; later ones lack less"
)
def test_recent_letters_are_those_this_python_lacks() -> None:
    assert unicodedata.category("\U00031350") == "Cn"
    assert is_word_character("\U00031350")


TOKENS = st.builds(
    AddedToken,
    st.sampled_from(["<x>", "Naïve", "new token", "é", "漢", "_", "##", "a.", " b", "[SEP]", "9"]),
    single_word=st.booleans(),
    lstrip=st.booleans(),
    rstrip=st.booleans(),
    normalized=st.booleans(),
    special=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.lists(TOKENS, max_size=4), st.sampled_from(FORMS))
def test_ids_of_both_kinds_are_equal(
    texts: list[str], tokens: list[AddedToken], form: tuple[bool, bool | None, bool]
) -> None:
    options = {
        "do_lower_case": form[0],
        "strip_accents": form[1],
        "tokenize_chinese_chars": form[2],
        "vocab": VOCABULARY,
    }
    slow = WordPieceTokenizer(**options)
    fast = fast_like(form)
    for token in tokens:
        assert slow.add_tokens(token) == fast.add_tokens(token)
    assert slow(texts).data == fast(texts).data
    assert (
        slow(texts, texts[::-1], return_special_tokens_mask=True).data
        == fast(texts, texts[::-1], return_special_tokens_mask=True).data
    )
    assert [slow(text).input_ids for text in texts] == fast(texts).input_ids
    assert [slow.tokenize(text) for text in texts] == [fast.tokenize(text) for text in texts]
    words = [text.split() or [text] for text in texts]
    assert slow(words, is_split_into_words=True).data == fast(words, is_split_into_words=True).data
    assert slow.batch_decode(slow(texts).input_ids) == fast.batch_decode(slow(texts).input_ids)


_MADE: dict[tuple[bool, bool | None, bool], WordPieceTokenizerFast] = {}


def fast_like(form: tuple[bool, bool | None, bool]) -> WordPieceTokenizerFast:
    """Copy a tokenizer that is made once: building the Rust one for a large vocabulary takes a while."""
    if form not in _MADE:
        _MADE[form] = WordPieceTokenizerFast(
            vocab=VOCABULARY, do_lower_case=form[0], strip_accents=form[1], tokenize_chinese_chars=form[2]
        )
    return WordPieceTokenizerFast(tokenizer_object=_MADE[form].backend_tokenizer)


def test_greedy_longest_match() -> None:
    vocabulary = {
        token: index for index, token in enumerate(["[UNK]", "un", "una", "##aff", "##ffable", "##able", "##a"])
    }
    pieces = WordPiece(vocabulary, 0)
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    for word in ("unaffable", "una", "unable", "x", "aff", "una" * 40, "u" * 100, "u" * 101):
        assert list(pieces[word]) == backend.encode(word).ids


def test_words_of_several_texts_come_apart_again() -> None:
    pieces = WordPiece({"[UNK]": 0, "a": 1, "b": 2}, 0)
    texts = ["a b", "", "b", "", ""]
    assert list(pieces.encode(join(texts))) == [[1, 2], [], [2], [], []]
    assert list(pieces.encode(join([""]))) == [[]]


def test_longest_added_token_wins_where_several_start() -> None:
    finder = Finder.of([("ab", AddedToken("ab"), 1), ("abc", AddedToken("abc"), 2), ("b", AddedToken("b"), 3)])
    assert finder is not None
    assert list(finder.cut("xabcab b")) == ["x", 2, 1, " ", 3]


def test_a_megabyte_without_spaces_takes_linear_time() -> None:
    tokenizer = WordPieceTokenizer(vocab=VOCABULARY)
    for text in ("a" * 1_000_000, "é" * 1_000_000, ".a" * 500_000):
        tokenizer(text[:1000])
        start = time.perf_counter()
        tokenizer(text)
        whole = time.perf_counter() - start
        start = time.perf_counter()
        tokenizer(text[:100_000])
        tenth = time.perf_counter() - start
        assert whole < 60 * max(tenth, 0.001)


def test_never_split_words_stay_as_they_are() -> None:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "Foo-Bar", "foo", "-", "bar"])}
    tokenizer = WordPieceTokenizer(vocab=vocabulary, never_split=["Foo-Bar"])
    assert tokenizer.tokenize("Foo-Bar foo-bar") == ["foo", "-", "bar", "foo", "-", "bar"]
    assert tokenizer("Foo-Bar foo-bar", add_special_tokens=False).input_ids == [5, 6, 7, 8]
