"""The call, of both kinds: padding and truncation as the Rust library does them, options, special tokens, decoding."""

import copy
import itertools
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from maquette.errors import InputError, UnknownFieldError, UnknownNameError
from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast
from maquette.text.encoding import BatchEncoding
from maquette.text.tokenization import PreTrainedTokenizer
from maquette.text.wordpiece_tokenization import make_backend

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "the", "cat", "sat", "on", "mat", "a", "dog", "ran", ".", ",", "'", "don", "t", "s"]
WORDS += ["un", "##able", "##s", "hello", "world"]
VOCABULARY = {token: index for index, token in enumerate(WORDS)}
TEXTS = ["The cat sat on the mat.", "a dog", "", "Hello, world! unable dogs ran on a mat", "don't"]
PAIRS = ["a dog ran", "the cats sat on a mat.", "hello", "", "a a a a a a a a a a"]


@pytest.fixture(params=[DistilBertTokenizer, DistilBertTokenizerFast], ids=["python", "rust"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param(vocab=VOCABULARY)


@pytest.fixture
def oracle() -> Tokenizer:
    """The Rust library, which pads and truncates by itself here."""
    backend = make_backend(
        VOCABULARY, unk_token="[UNK]", do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True
    )
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokens = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair=pair, special_tokens=tokens)
    return backend


def rows_of(encodings: list[Any]) -> dict[str, list[list[int]]]:
    rows = [row for encoding in encodings for row in (encoding, *encoding.overflowing)]
    return {
        "input_ids": [row.ids for row in rows],
        "token_type_ids": [row.type_ids for row in rows],
        "attention_mask": [row.attention_mask for row in rows],
        "special_tokens_mask": [row.special_tokens_mask for row in rows],
    }


ALL = {"return_token_type_ids": True, "return_attention_mask": True, "return_special_tokens_mask": True}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("padding", "multiple"), [(True, None), ("longest", 8), ("max_length", None), ("max_length", 7)]
)
def test_padding(
    tokenizer: Any, oracle: Tokenizer, side: str, paired: bool, padding: Any, multiple: int | None
) -> None:
    length = 30 if padding == "max_length" else None
    oracle.enable_padding(direction=side, pad_id=0, pad_token="[PAD]", length=length, pad_to_multiple_of=multiple)
    wanted = rows_of(oracle.encode_batch(list(zip(TEXTS, PAIRS, strict=True)) if paired else TEXTS))
    options = {"padding": padding, "max_length": length, "pad_to_multiple_of": multiple, "padding_side": side, **ALL}
    found = tokenizer(TEXTS, PAIRS if paired else None, truncation=False, **options)
    assert found.data == wanted
    arrays = tokenizer(TEXTS, PAIRS if paired else None, truncation=False, return_tensors="np", **options)
    for name, rows in wanted.items():
        np.testing.assert_array_equal(arrays[name], np.array(rows))
        assert arrays[name].dtype == np.int64


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize(("max_length", "stride"), [(8, 0), (9, 1), (12, 2), (100, 3)])
def test_truncation(tokenizer: Any, oracle: Tokenizer, side: str, strategy: str, max_length: int, stride: int) -> None:
    tokenizer.truncation_side = side
    sizes = {text: len(oracle.encode(text, add_special_tokens=False).ids) for text in (*TEXTS, *PAIRS)}
    oracle.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
    fits = 0
    for first, second in itertools.product(TEXTS, PAIRS):
        lengths = [sizes[first], sizes[second]]
        cut = {"only_first": lengths[0], "only_second": lengths[1]}.get(strategy, 100)
        kept = cut - (sum(lengths) + 3 - max_length)
        options = {"truncation": strategy, "max_length": max_length, "stride": stride, **ALL}
        over = sum(lengths) + 3 > max_length
        if over and kept <= stride and strategy != "longest_first":
            with pytest.raises(InputError, match=r"[Rr]ow 0"):
                tokenizer([first], [second], return_overflowing_tokens=True, **options)
            continue
        fits += over
        wanted = oracle.encode(first, second)
        found = tokenizer([first], [second], return_overflowing_tokens=True, **options)
        assert found.pop("overflow_to_sample_mapping") == [0] * (1 + len(wanted.overflowing))
        assert found.data == rows_of([wanted])
        alone = tokenizer(first, second, **options)
        assert alone.data == {name: rows[0] for name, rows in rows_of([wanted]).items()}
    assert fits or max_length == 100


@pytest.mark.parametrize("side", ["right", "left"])
def test_windows_of_single_texts(tokenizer: Any, oracle: Tokenizer, side: str) -> None:
    tokenizer.truncation_side = side
    oracle.enable_truncation(6, stride=2, direction=side)
    found = tokenizer(TEXTS, truncation=True, max_length=6, stride=2, return_overflowing_tokens=True, **ALL)
    wanted = oracle.encode_batch(TEXTS)
    samples = [index for index, row in enumerate(wanted) for _ in range(1 + len(row.overflowing))]
    assert found.pop("overflow_to_sample_mapping") == samples
    assert found.data == rows_of(wanted)


def test_model_max_length_is_the_default(tokenizer: Any) -> None:
    tokenizer.model_max_length = 6
    assert [len(row) for row in tokenizer(TEXTS, truncation=True).input_ids] == [6, 4, 2, 6, 5]
    assert {len(row) for row in tokenizer(["a"], padding="max_length").input_ids} == {6}
    assert len(tokenizer(TEXTS[0], max_length=4).input_ids) == 4


def test_shapes_of_what_comes_back(tokenizer: Any) -> None:
    assert tokenizer("a dog").data == {"input_ids": [2, 10, 11, 3], "attention_mask": [1, 1, 1, 1]}
    assert tokenizer(["a dog"]).data == {"input_ids": [[2, 10, 11, 3]], "attention_mask": [[1, 1, 1, 1]]}
    assert tokenizer("a dog", return_tensors="np").input_ids.shape == (1, 4)
    assert tokenizer([], padding=True).data == {"input_ids": [], "attention_mask": []}
    assert tokenizer(["a", "a dog"], return_length=True, padding=True)["length"] == [4, 4]
    assert tokenizer("a", return_attention_mask=False).data == {"input_ids": [2, 10, 3]}
    assert tokenizer(("a", "dog")).input_ids == [[2, 10, 3], [2, 11, 3]]


def test_pairs_in_every_form(tokenizer: Any) -> None:
    row = [2, 10, 3, 11, 3]
    assert tokenizer("a", "dog").input_ids == row
    assert tokenizer([("a", "dog")]).input_ids == tokenizer(["a"], ["dog"]).input_ids == [row]
    assert tokenizer.encode("a", "dog") == tokenizer.encode_plus("a", "dog").input_ids == row
    assert tokenizer.batch_encode_plus([["a", "dog"]]).input_ids == [row]
    assert tokenizer("a", "dog", add_special_tokens=False, return_token_type_ids=True).token_type_ids == [0, 1]


def test_words_that_were_split_before(tokenizer: Any) -> None:
    words = ["The", "cats", "sat."]
    assert tokenizer(words, is_split_into_words=True).input_ids == tokenizer("The cats sat .").input_ids
    batch = tokenizer([words, ["a"]], [["dog"], ["mat", "s"]], is_split_into_words=True)
    assert batch.input_ids == tokenizer(["The cats sat .", "a"], ["dog", "mat s"]).input_ids
    assert tokenizer([(words, ["dog"])], is_split_into_words=True).input_ids == batch.input_ids[:1]


def test_every_framework_gets_its_tensors(tokenizer: Any) -> None:
    found = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert isinstance(found.input_ids, torch.Tensor)
    assert found.input_ids.dtype == torch.int64
    np.testing.assert_array_equal(
        found.input_ids.numpy(), tokenizer(TEXTS, padding=True, return_tensors="np").input_ids
    )
    assert found.to("meta").input_ids.device.type == "meta"


@pytest.mark.parametrize(("framework", "package", "extra"), [("tf", "tensorflow", "tf"), ("jax", "jax.numpy", "flax")])
def test_a_framework_that_is_not_installed(
    tokenizer: Any, framework: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'maquette\[{extra}\]'"):
        tokenizer("a", return_tensors=framework)


def test_tensors_need_rows_of_one_length(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"rows of 2 to .* Pass padding=True"):
        tokenizer(TEXTS, return_tensors="np")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'pt'"):
        tokenizer(TEXTS, return_tensors="ptt")


def test_empty_batches_and_texts(tokenizer: Any) -> None:
    assert tokenizer([], return_tensors="np").input_ids.shape == (0,)
    assert tokenizer("", add_special_tokens=False, return_tensors="np").input_ids.shape == (1, 0)
    assert tokenizer(["", ""], add_special_tokens=False, padding=True).data == {
        "input_ids": [[], []],
        "attention_mask": [[], []],
    }
    assert tokenizer([[]], is_split_into_words=True).input_ids == [[2, 3]]
    assert tokenizer([], is_split_into_words=True).input_ids == [2, 3]


def test_arrays_of_texts(tokenizer: Any) -> None:
    assert tokenizer(np.array(["a", "dog"])).data == tokenizer(["a", "dog"]).data
    assert tokenizer(np.array(["a", "dog"], dtype=object), np.array(["a", "a"])).input_ids[1] == [2, 11, 3, 10, 3]


# What was encoded earlier


def test_pad_is_what_the_call_does(tokenizer: Any) -> None:
    wanted = tokenizer(TEXTS, padding=True, return_tensors="np")
    rows = [tokenizer(text) for text in TEXTS]
    found = tokenizer.pad(rows, return_tensors="np")
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    tensors = [{"input_ids": torch.tensor(row.input_ids), "labels": torch.tensor(1)} for row in rows]
    again = tokenizer.pad(tensors)
    assert isinstance(again.input_ids, torch.Tensor)
    assert again.labels.tolist() == [1] * 5
    np.testing.assert_array_equal(again.input_ids.numpy(), wanted.input_ids)
    np.testing.assert_array_equal(again.attention_mask.numpy(), wanted.attention_mask)
    assert tokenizer.pad({"input_ids": [2, 3]}, padding="max_length", max_length=4).input_ids == [2, 3, 0, 0]
    assert tokenizer.pad({"input_ids": [[2, 3], [2]]}, padding_side="left").attention_mask == [[1, 1], [0, 1]]


def test_pad_says_what_is_wrong(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"needs 'input_ids'.*Did you mean 'input_idss'"):
        tokenizer.pad({"input_idss": [[1]]})
    with pytest.raises(InputError, match=r"labels: not as many rows as the 2"):
        tokenizer.pad({"input_ids": [[1], [2]], "labels": [1]})
    with pytest.raises(InputError, match=r"number 1 has"):
        tokenizer.pad([{"input_ids": [1]}, {"input_ids": [1], "labels": 1}])


def test_prepare_for_model_and_truncate_sequences() -> None:
    tokenizer = DistilBertTokenizer(vocab=VOCABULARY)
    first, second = (tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in (TEXTS[0], PAIRS[0]))
    options: dict[str, Any] = {
        "truncation": True,
        "max_length": 8,
        "padding": "max_length",
        "return_token_type_ids": True,
    }
    assert tokenizer.prepare_for_model(first, second, **options).data == tokenizer(TEXTS[0], PAIRS[0], **options).data
    prepended = tokenizer.prepare_for_model(first, return_tensors="np", prepend_batch_axis=True)
    assert prepended.input_ids.shape == (1, len(first) + 2)
    assert tokenizer.truncate_sequences([1, 2, 3, 4], num_tokens_to_remove=2, stride=1) == ([1, 2], None, [2, 3, 4])
    kept = tokenizer.truncate_sequences([1, 2], [3, 4, 5], num_tokens_to_remove=1, truncation_strategy="only_second")
    assert kept == ([1, 2], [3, 4], [5])
    with pytest.raises(UnknownFieldError, match=r"Did you mean 'padding'"):
        tokenizer.prepare_for_model(first, paddin=True)


def test_layout_methods(tokenizer: Any) -> None:
    assert tokenizer.build_inputs_with_special_tokens([7], [8]) == [2, 7, 3, 8, 3]
    assert tokenizer.build_inputs_with_special_tokens([7, 9]) == [2, 7, 9, 3]
    assert tokenizer.create_token_type_ids_from_sequences([7], [8, 8]) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.get_special_tokens_mask([7], [8]) == [1, 0, 1, 0, 1]
    assert tokenizer.get_special_tokens_mask([2, 7, 0], already_has_special_tokens=True) == [1, 0, 1]
    assert (tokenizer.num_special_tokens_to_add(), tokenizer.num_special_tokens_to_add(pair=True)) == (2, 3)
    assert (tokenizer.max_len_single_sentence, tokenizer.max_len_sentences_pair) == (510, 509)


# Decoding


def test_decoding(tokenizer: Any) -> None:
    ids = tokenizer("Don't, unable cats.").input_ids
    assert tokenizer.decode(ids) == "[CLS] don't, unable cats. [SEP]"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "don't, unable cats."
    assert (
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == "don ' t , unable cats ."
    )
    assert tokenizer.decode(torch.tensor(ids)) == tokenizer.decode(np.array(ids)) == tokenizer.decode(ids)
    assert tokenizer.decode(10) == "a"
    assert tokenizer.batch_decode(torch.tensor([[10, 11], [11, 10]])) == ["a dog", "dog a"]
    assert tokenizer.decode([[10], [11]]) == ["a", "dog"]
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("wrong", [len(WORDS), -1, -100, 10**9, 2**40])
def test_ids_that_are_not_in_the_vocabulary(tokenizer: Any, wrong: int) -> None:
    with pytest.raises(InputError, match=f"The id {wrong} is not in the vocabulary, which has {len(WORDS)} tokens"):
        tokenizer.decode([10, wrong])
    with pytest.raises(InputError, match=str(wrong)):
        tokenizer.convert_ids_to_tokens(wrong)


def test_tokens_and_ids(tokenizer: Any) -> None:
    assert tokenizer.tokenize("Unable cats!") == ["un", "##able", "cat", "##s", "[UNK]"]
    assert tokenizer.tokenize("a", "dog", add_special_tokens=True) == ["[CLS]", "a", "[SEP]", "dog", "[SEP]"]
    assert tokenizer.convert_tokens_to_ids(["cat", "nonsense"]) == [6, 1]
    assert tokenizer.convert_tokens_to_ids("cat") == 6
    assert tokenizer.convert_ids_to_tokens([2, 6], skip_special_tokens=True) == ["cat"]
    assert tokenizer.convert_tokens_to_string(["un", "##able", "cat"]) == "unable cat"
    assert tokenizer.get_vocab() == VOCABULARY
    assert (tokenizer.vocab_size, len(tokenizer)) == (len(WORDS), len(WORDS))


# Special and added tokens


def test_special_tokens(tokenizer: Any) -> None:
    assert (tokenizer.cls_token, tokenizer.cls_token_id, tokenizer.bos_token, tokenizer.bos_token_id) == (
        "[CLS]",
        2,
        None,
        None,
    )
    tokenizer.bos_token = tokenizer.cls_token
    tokenizer.eos_token_id = 3
    assert (tokenizer.bos_token_id, tokenizer.eos_token) == (2, "[SEP]")
    added = tokenizer.add_special_tokens({"mask_token": "<m>", "additional_special_tokens": ["<a>", AddedToken("<b>")]})
    size = len(WORDS)
    assert (added, tokenizer.mask_token_id, tokenizer.additional_special_tokens_ids) == (3, size, [size + 1, size + 2])
    assert tokenizer.additional_special_tokens == tokenizer.extra_special_tokens == ["<a>", "<b>"]
    assert tokenizer("a<b>a", add_special_tokens=False).input_ids == [10, size + 2, 10]
    assert tokenizer.decode([10, size + 2, 10], skip_special_tokens=True) == "a a"
    assert tokenizer.all_special_tokens == ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "<m>", "<a>", "<b>"]
    assert tokenizer.all_special_ids == [2, 3, 1, 0, size, size + 1, size + 2]
    assert tokenizer.special_tokens_map["additional_special_tokens"] == ["<a>", "<b>"]


def test_a_new_separator_goes_into_the_template(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"sep_token": "<sep>"})
    assert tokenizer("a").input_ids == [2, 10, len(WORDS)]
    tokenizer.cls_token = None
    assert tokenizer("a").input_ids == [10, len(WORDS)]


def test_special_tokens_nobody_has(tokenizer: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"no such token.*Did you mean '\[MASK\]'.*add_special_tokens"):
        tokenizer.eos_token = "[MASQ]"
    with pytest.raises(UnknownNameError, match=r"Did you mean 'pad_token'"):
        tokenizer.add_special_tokens({"pad_tokn": "x"})
    with pytest.raises(InputError, match=r"int"):
        tokenizer.add_tokens([3])
    with pytest.raises(InputError, match=r"empty"):
        tokenizer.add_tokens("")
    with pytest.raises(InputError, match=r"empty once normalised"):
        tokenizer.add_tokens("\u0301")


@pytest.mark.parametrize(
    ("flags", "text", "tokens"),
    [
        ({}, "a newtoken dog", ["a", "NewToken", "dog"]),
        ({"normalized": False}, "a newtoken NewToken", ["a", "[UNK]", "NewToken"]),
        ({"normalized": True}, "anewtokendog", ["a", "NewToken", "dog"]),
        ({"single_word": True}, "anewtoken newtoken,", ["[UNK]", "NewToken", ","]),
        ({"special": True, "normalized": False}, "a NewToken", ["a", "NewToken"]),
    ],
)
def test_added_tokens(tokenizer: Any, flags: dict[str, bool], text: str, tokens: list[str]) -> None:
    assert tokenizer.add_tokens(AddedToken("NewToken", **flags)) == 1
    assert tokenizer.tokenize(text) == tokens
    assert tokenizer.get_added_vocab()["NewToken"] == len(WORDS) == len(tokenizer) - 1
    assert tokenizer.added_tokens_decoder[len(WORDS)].content == "NewToken"
    assert tokenizer.add_tokens(["NewToken", "cat"]) == 0


def test_split_special_tokens(tokenizer: Any) -> None:
    other = type(tokenizer)(vocab=VOCABULARY, split_special_tokens=True)
    assert other.tokenize("[SEP] a") == ["[UNK]", "[UNK]", "[UNK]", "a"]
    assert tokenizer.tokenize("[SEP] a") == ["[SEP]", "a"]


# Input that cannot be


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, r"text is None \(NoneType\)"),
        (["a", None], r"text\[1\] is None"),
        (["a", "b", 3], r"text\[2\] is 3 \(int\)"),
        ([b"a"], r"text\[0\] is b'a' \(bytes\).*Decode it first"),
        ([("a", "b"), ("a", 1.5)], r"text_pair\[1\] is 1.5"),
        ({"a": 1}, r"text is \{'a': 1\} \(dict\)"),
        ([["a", "b", "c"]], r"text\[0\] is \['a', 'b', 'c'\] \(list\)"),
    ],
)
def test_items_that_are_no_texts(tokenizer: Any, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "maxlength"}, "Did you mean 'max_length'"),
        ({"truncation": "longest"}, "must be one of 'longest_first'"),
        ({"padding_side": "top", "padding": True}, "padding_side='top': must be one of 'right', 'left'"),
        ({"truncation": True, "max_length": 1}, "no room for the 2 special tokens"),
        ({"max_length": -1}, "max_length=-1"),
        ({"max_length": 2.5}, "max_length=2.5"),
        (
            {"truncation": True, "max_length": 5, "stride": 3, "return_overflowing_tokens": True},
            "stride=3 must be less",
        ),
        ({"truncation": True, "padding": True, "max_length": 9, "pad_to_multiple_of": 8}, "Use max_length=8"),
        ({"pad_to_multiple_of": 0, "padding": True}, "pad_to_multiple_of=0"),
        ({"truncation": "only_second", "max_length": 4}, "no second text|Row 0|row 0"),
    ],
)
def test_options_that_cannot_be(tokenizer: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer(["The cat sat on the mat."], **options)


def test_misspelt_keywords(tokenizer: Any) -> None:
    with pytest.raises(UnknownFieldError, match=r"the call takes no 'paddding'. Did you mean 'padding'"):
        tokenizer("a", paddding=True)
    with pytest.raises(
        UnknownFieldError, match=r"the constructor takes no 'do_lowercase'. Did you mean 'do_lower_case'"
    ):
        type(tokenizer)(vocab=VOCABULARY, do_lowercase=True)
    with pytest.raises(InputError, match=r"padding_side='lft'.*Did you mean 'left'"):
        type(tokenizer)(vocab=VOCABULARY, padding_side="lft")
    with pytest.raises(InputError, match=r"5 texts and 1 second"):
        tokenizer(TEXTS, ["a"])
    with pytest.raises(InputError, match=r"batch of second texts"):
        tokenizer(TEXTS, "a")
    with pytest.raises(InputError, match=r"is_split_into_words=True takes a list"):
        tokenizer("a", is_split_into_words=True)


def test_no_padding_token(tokenizer: Any) -> None:
    tokenizer.pad_token = None
    assert tokenizer("a").input_ids == [2, 10, 3]
    with pytest.raises(InputError, match=r"tokenizer.pad_token = tokenizer.eos_token"):
        tokenizer(TEXTS, padding=True)


def test_long_rows_are_warned_of_once(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer.model_max_length = 3
    tokenizer("a a a a"), tokenizer("a a a a a")
    assert [record.message for record in caplog.records] == [
        "A row has 6 tokens, and the model takes 3; pass truncation=True to cut it."
    ]


def test_halves_of_surrogate_pairs_do_no_harm(tokenizer: Any) -> None:
    assert tokenizer(["a \ud800 dog\udfff", "\ud83d"]).input_ids == [[2, 10, 11, 3], [2, 3]]
    assert tokenizer(["a", "\ud800dog"], is_split_into_words=True).input_ids == [2, 10, 11, 3]
    assert tokenizer("a\ud800", "\ud800").input_ids == [2, 10, 3, 3]


# As an object


def test_copies_and_pickles(tokenizer: Any) -> None:
    tokenizer.add_tokens("newtoken")
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other(TEXTS).data == tokenizer(TEXTS).data
        other.add_tokens("another")
        assert len(other) == len(tokenizer) + 1
    found = tokenizer(TEXTS, padding=True)
    assert pickle.loads(pickle.dumps(found)).data == found.data
    assert copy.copy(found).data == found.data


def test_threads_do_not_disturb_each_other(tokenizer: Any) -> None:
    wanted = {length: tokenizer(TEXTS, truncation=True, max_length=length).data for length in (4, 6, 512)}
    wrong: list[Any] = []

    def work(length: int) -> None:
        for _ in range(40):
            if tokenizer(TEXTS, truncation=True, max_length=length).data != wanted[length]:
                wrong.append(length)

    threads = [threading.Thread(target=work, args=(length,)) for length in wanted for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_batch_encoding_is_a_mapping(tokenizer: Any) -> None:
    found = tokenizer(["a", "dog"])
    assert set(found) == {"input_ids", "attention_mask"}
    assert found["input_ids"] is found.input_ids is {**found}["input_ids"]
    with pytest.raises(KeyError, match=r"Did you mean 'input_ids'"):
        found["input_id"]
    with pytest.raises(AttributeError, match=r"Did you mean 'input_ids'"):
        _ = found.input_id
    assert found[:1] == {"input_ids": [[2, 10, 3]], "attention_mask": [[1, 1, 1]]}
    assert BatchEncoding({"a": [1, 2]}, tensor_type="np", prepend_batch_axis=True)["a"].shape == (1, 2)


# One's own tokenizer


class Letters(PreTrainedTokenizer):
    """As the peer's documentation has it: what a vocabulary is, and how a text is cut."""

    vocab_files_names = {"vocab_file": "letters.txt"}  # noqa: RUF012 - as a reader of the documentation writes it
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str, shout: bool = False, unk_token: str = "?", **kwargs: Any) -> None:
        self.letters = Path(vocab_file).read_text().split()
        self.shout = shout
        super().__init__(unk_token=unk_token, shout=shout, **kwargs)

    @property
    def vocab_size(self) -> int:
        return len(self.letters)

    def get_vocab(self) -> dict[str, int]:
        return {self.convert_ids_to_tokens(i): i for i in range(self.vocab_size)} | self.added_tokens_encoder

    def _tokenize(self, text: str) -> list[str]:
        return list(text.upper() if self.shout else text)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.letters.index(token) if token in self.letters else None

    def _convert_id_to_token(self, index: int) -> str:
        return self.letters[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [*token_ids_0, self.eos_token_id, *(token_ids_1 or [])]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        path = Path(save_directory) / "letters.txt"
        path.write_text("\n".join(self.letters))
        return (str(path),)


def test_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("? a b c A B C")
    letters = Letters(str(tmp_path / "some.txt"), shout=True, eos_token="</s>", pad_token="?")
    assert letters("abx").input_ids == [4, 5, 0, 7]
    assert letters(["ab", "c"], padding=True).input_ids == [[4, 5, 7], [6, 7, 0]]
    assert letters("a", "b", return_special_tokens_mask=True).special_tokens_mask == [0, 1, 0]
    assert letters.tokenize("a</s>b") == ["A", "</s>", "B"]
    assert letters("abcabc", truncation=True, max_length=3).input_ids == [4, 5, 7]
    letters.add_tokens(["<n>", AddedToken("<m>", lstrip=True)])
    letters.save_pretrained(tmp_path / "saved")
    again = Letters.from_pretrained(tmp_path / "saved")
    assert (again.shout, len(again)) == (True, 10)
    text = "ab<n>c  <m>"
    assert again(text).data == letters(text).data == {"input_ids": [4, 5, 8, 6, 9, 7], "attention_mask": [1] * 6}
    assert again.decode(again(text).input_ids, skip_special_tokens=True) == "AB<n>C<m>"
    assert not Letters.from_pretrained(tmp_path / "saved", shout=False).shout


def test_offsets_need_a_fast_tokenizer() -> None:
    tokenizer = DistilBertTokenizer(vocab=VOCABULARY)
    with pytest.raises(InputError, match=r"needs a fast tokenizer"):
        tokenizer("a", return_offsets_mapping=True)
    with pytest.raises(InputError, match=r"Only a fast tokenizer"):
        tokenizer("a").word_ids()
    assert tokenizer("a").encodings is None
    assert not tokenizer("a").is_fast


def test_only_the_ids_of_one_text_become_tokens(tokenizer: Any) -> None:
    assert tokenizer.convert_ids_to_tokens(np.int64(5)) == "the"
    assert tokenizer.convert_ids_to_tokens(np.array([5, 6])) == ["the", "cat"]
    for wrong in ([[5], [6]], [5.5], np.array([0.5])):
        with pytest.raises(InputError):
            tokenizer.convert_ids_to_tokens(wrong)
