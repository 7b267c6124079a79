"""The fast kind: where tokens come from, training, what it is made from, and hostile `tokenizer.json` files."""

import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from maquette.errors import FileFormatError, InputError, MaquetteError, UnknownFieldError
from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast
from maquette.text.backend import read_backend
from maquette.text.encoding import CharSpan, TokenSpan
from maquette.text.tokenization import PreTrainedTokenizer
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##able", "dog", "##s", "ran", "."]
VOCABULARY = {token: index for index, token in enumerate(TOKENS)}


@pytest.fixture
def tokenizer() -> DistilBertTokenizerFast:
    return DistilBertTokenizerFast(vocab=VOCABULARY)


def test_tokens_words_and_characters(tokenizer: Any) -> None:
    text = "The unable  dogs."
    found = tokenizer(text, "ran", return_offsets_mapping=True)
    assert found.is_fast
    assert found.n_sequences == 2
    assert found.tokens() == ["[CLS]", "the", "un", "##able", "dog", "##s", ".", "[SEP]", "ran", "[SEP]"]
    assert found.word_ids() == [None, 0, 1, 1, 2, 2, 3, None, 0, None]
    assert found.sequence_ids() == [None, 0, 0, 0, 0, 0, 0, None, 1, None]
    assert [text[start:stop] for start, stop in found.offset_mapping[1:7]] == ["The", "un", "able", "dog", "s", "."]
    assert found.char_to_token(4) == 2
    assert found.char_to_token(10) is None
    assert found.char_to_token(0, 1, sequence_index=1) == 8
    assert found.token_to_chars(3) == CharSpan(6, 10)
    assert found.token_to_chars(0) is None
    assert found.word_to_tokens(2) == TokenSpan(4, 6)
    assert found.word_to_tokens(0, 0, sequence_index=1) == TokenSpan(8, 9)
    assert found.word_to_chars(1) == CharSpan(4, 10)
    assert found.char_to_word(5) == 1
    assert (found.token_to_word(5), found.token_to_word(0), found.token_to_sequence(8), found.token_to_sequence(7)) == (
        2,
        None,
        1,
        None,
    )
    assert found.token_to_word(-2) == 0
    assert found[0].ids == found.input_ids
    with pytest.raises(IndexError):
        found.tokens(3)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows_keep_their_map(tokenizer: Any, side: str) -> None:
    found = tokenizer(
        ["dogs", "the dogs ran."], padding=True, padding_side=side, return_tensors="np", return_offsets_mapping=True
    )
    assert found.offset_mapping.shape == (2, 7, 2)
    for row in range(2):
        assert len(found.word_ids(row)) == len(found.tokens(row)) == found.input_ids.shape[1]
        assert found.tokens(row) == tokenizer.convert_ids_to_tokens(found.input_ids[row])
    start, stop = found.offset_mapping[0, found.char_to_token(0, 3)]
    assert "dogs"[start:stop] == "s"
    pads = [token == "[PAD]" for token in found.tokens(0)]
    assert [word is None for word, pad in zip(found.word_ids(0), pads, strict=True) if pad] == [True] * 3


def test_words_given_by_the_caller_keep_their_numbers(tokenizer: Any) -> None:
    found = tokenizer([["The", "dogs."], ["ran"]], is_split_into_words=True)
    assert found.word_ids(0) == [None, 0, 1, 1, 1, None]


def test_windows_keep_their_offsets(tokenizer: Any) -> None:
    options: dict[str, Any] = {"truncation": "only_second", "max_length": 6, "stride": 1}
    found = tokenizer("ran", "the dogs ran the", return_overflowing_tokens=True, return_offsets_mapping=True, **options)
    text = "the dogs ran the"
    spans = [
        [text[a:b] for (a, b), s in zip(row, found.sequence_ids(i), strict=True) if s == 1]
        for i, row in enumerate(found.offset_mapping)
    ]
    assert spans == [["the", "dog"], ["dog", "s"], ["s", "ran"], ["ran", "the"]]
    assert found.overflow_to_sample_mapping == [0] * 4


def test_backend_is_at_work(tokenizer: Any) -> None:
    assert isinstance(tokenizer.backend_tokenizer, Tokenizer)
    assert tokenizer.backend_tokenizer.encode("the dogs").ids == tokenizer("the dogs").input_ids
    assert isinstance(tokenizer.decoder, decoders.WordPiece)
    given_object = copy.deepcopy(tokenizer.backend_tokenizer)
    other = DistilBertTokenizerFast(tokenizer_object=given_object)
    other.add_tokens("zzz")
    assert given_object.token_to_id("zzz") is None


# From a Python tokenizer


def test_a_python_tokenizer_becomes_a_fast_one() -> None:
    slow = DistilBertTokenizer(vocab=VOCABULARY, do_lower_case=False, model_max_length=9, padding_side="left")
    slow.add_tokens([AddedToken("<x>", rstrip=True)])
    slow.add_special_tokens({"additional_special_tokens": ["<s>"], "sep_token": "<sep>"})
    fast = DistilBertTokenizerFast.from_slow(slow)
    texts = ["the <x>  dogs", "THE dog<s>", "[MASK]"]
    assert fast(texts, padding=True).data == slow(texts, padding=True).data
    assert (fast.model_max_length, fast.sep_token, fast.additional_special_tokens) == (9, "<sep>", ["<s>"])
    with pytest.raises(InputError, match=r"never_split"):
        DistilBertTokenizerFast.from_slow(DistilBertTokenizer(vocab=VOCABULARY, never_split=["the"]))
    with pytest.raises(InputError, match=r"its rules are its own Python code"):
        PreTrainedTokenizerFast.from_slow(PreTrainedTokenizer.__new__(PreTrainedTokenizer))


# Training


CORPUS = ["the quick brown fox", "the lazy dog", "quick quick foxes", "brown dogs and lazy foxes"] * 5


def byte_level() -> Tokenizer:
    backend = Tokenizer(models.BPE({"<s>": 0, "a": 1}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>"])
    backend.post_processor = processors.RobertaProcessing(("<s>", 0), ("<s>", 0))
    return backend


def unigram() -> Tokenizer:
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def test_training_anew(tokenizer: Any, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer.padding_side = "left"
    options = {"new_special_tokens": ["<new>"], "special_tokens_map": {"[CLS]": "<s>"}, "show_progress": False}
    fresh = tokenizer.train_new_from_iterator((text for text in CORPUS), 60, length=len(CORPUS), **options)
    assert capfd.readouterr().err == ""
    assert type(fresh) is DistilBertTokenizerFast
    assert (fresh.cls_token, fresh.padding_side, fresh.model_max_length) == ("<s>", "left", 512)
    ids = fresh("the quick fox").input_ids
    assert (ids[0], ids[-1]) == (fresh.cls_token_id, fresh.sep_token_id)
    assert fresh.decode(ids, skip_special_tokens=True) == "the quick fox"
    assert fresh.unk_token_id not in ids
    assert "<new>" in fresh.additional_special_tokens
    assert fresh.tokenize("<new>") == ["<new>"]
    assert len(fresh) <= 61
    assert "dogs" not in tokenizer.get_vocab()


@pytest.mark.skipif(
    not hasattr(os, "openpty"), reason="the library draws its bars on terminals, and there is no pseudo-terminal"
)
@pytest.mark.parametrize("shown", [True, False])
def test_training_shows_its_progress_on_a_terminal(shown: bool) -> None:
    code = (
        "from maquette.models.distilbert.tokenization import DistilBertTokenizerFast as T\n"
        f"T(vocab={VOCABULARY!r}).train_new_from_iterator({CORPUS!r}, 40, length={len(CORPUS)}, show_progress={shown})"
    )
    near, far = os.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=far, stderr=far, check=True, timeout=120)
    os.set_blocking(near, False)
    drawn = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(near, 4096):
            drawn += part
    os.close(near), os.close(far)
    assert ("merges" in drawn.decode()) == shown


@pytest.mark.parametrize("make", [byte_level, unigram])
def test_training_other_models(make: Any) -> None:
    old = PreTrainedTokenizerFast(tokenizer_object=make())
    fresh = old.train_new_from_iterator(CORPUS, 300, show_progress=False)
    text = "the quick foxes"
    assert fresh.decode(fresh(text, add_special_tokens=False).input_ids) == text
    assert len(fresh) > len(old)


def test_training_says_what_is_wrong(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"Training failed"):
        tokenizer.train_new_from_iterator([1, 2], 40, show_progress=False)
    with pytest.raises(UnknownFieldError, match=r"takes no 'min_freqency'. Did you mean 'min_frequency'"):
        tokenizer.train_new_from_iterator(CORPUS, 40, show_progress=False, min_freqency=3)


# Hostile files


def good() -> dict[str, Any]:
    backend = DistilBertTokenizerFast(vocab=VOCABULARY).backend_tokenizer
    backend.enable_padding()
    backend.enable_truncation(10, stride=2)
    content: dict[str, Any] = json.loads(backend.to_str())
    return content


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no tokenizer that works"),
        ("[]", "has no model"),
        ("{}", "has no model"),
        ('{"model": {"vocab": 3}}', "vocab is int"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}', "merge 0 is of 'b'"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}', "merge 0 is 'a', which is no pair"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 3}}', "merges are not a list"),
        (
            '{"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"}}',
            "unknown token.*not in the vocabulary",
        ),
        ('{"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 0}}}', "share the id 0"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": -1}}}', "the id -1"),
        (
            '{"model": {"type": "WordPiece", "vocab": {"a": 1}}, "added_tokens": [{"id": 0, "content": ""}]}',
            "added token is empty",
        ),
    ],
)
def test_files_that_are_no_tokenizer(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_backend(text, "tokenizer.json")


def test_templates_with_undefined_tokens() -> None:
    content = good()
    content["post_processor"]["single"][0]["SpecialToken"]["id"] = "[NONE]"
    with pytest.raises(FileFormatError, match=r"the single template has the token '\[NONE\]'"):
        read_backend(json.dumps(content), "tokenizer.json")


MODELS = [good(), json.loads(byte_level().to_str()), json.loads(unigram().to_str())]
PLACES = [(index, path) for index, content in enumerate(MODELS) for path in paths(content)]
VALUES = [KeyError, None, 0, -1, 10**12, "", "x", [], {}, True, 1.5, ["a"], {"type": "Sequence"}]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(VALUES))
def test_a_changed_file_works_or_is_refused(place: tuple[int, tuple[Any, ...]], value: Any) -> None:
    content = changed(MODELS[place[0]], place[1], value)
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=read_backend(json.dumps(content), "tokenizer.json"))
        tokenizer(["the dog", "a"], ["ran", "a a"], return_offsets_mapping=True)
        tokenizer("a " * 20, truncation=True, max_length=6)
        tokenizer.decode([0])
    except MaquetteError:
        pass


def test_padding_saved_in_the_file_becomes_the_tokenizers_own() -> None:
    content = good()
    content["padding"] |= {"direction": "Left", "pad_token": "[MASK]", "pad_id": 4}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))
    assert (tokenizer.padding_side, tokenizer.pad_token_id) == ("left", 4)
    assert tokenizer(["the", "the dog"]).input_ids == [[2, 5, 3], [2, 5, 8, 3]]


def test_a_batch_finds_out_where_tokens_lie_when_asked(tokenizer: Any) -> None:
    texts, pairs = ["the unable dogs ran", "dogs. unable"], ["ran the dog", "ran"]
    cut = {"truncation": "only_first", "max_length": 9, "stride": 1, "return_overflowing_tokens": True}
    for second in (None, pairs):
        for form in ({}, {"padding": True}, {"padding": True, **cut}):
            quick = tokenizer(texts, second, **form)
            known = tokenizer(texts, second, return_offsets_mapping=True, **form)
            assert quick.input_ids == known.input_ids
            places = [(row.offsets, row.word_ids, row.sequence_ids) for row in known.encodings]
            assert any(offsets != (0, 0) for row, _, _ in places for offsets in row)
            for found in (quick, pickle.loads(pickle.dumps(tokenizer(texts, second, **form)))):
                assert [(row.offsets, row.word_ids, row.sequence_ids) for row in found.encodings] == places


def test_a_tokenizer_that_changed_does_not_guess_where_tokens_lay(tokenizer: Any) -> None:
    batch = tokenizer(["the dog ran", "dogs"])
    tokenizer.add_tokens(["the dog"])
    with pytest.raises(InputError, match="was changed after it gave these rows"):
        batch.char_to_token(4)
