"""Wav2Vec2CTCTokenizer: decoding what a model heard, encoding texts, languages, files, and what is refused."""

import itertools
import json
import pickle
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from maquette.auto.preprocessors import AutoTokenizer
from maquette.errors import FileFormatError, InputError, MissingFileError, UnknownFieldError, UnknownNameError
from maquette.models.distilbert.tokenization import DistilBertTokenizer
from maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer, Wav2Vec2CTCTokenizerOutput

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
TOKENS = [*SPECIAL, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
VOCAB = {token: index for index, token in enumerate(TOKENS)}
ENGLISH = {token: index for index, token in enumerate([*SPECIAL, *"abch'.", "ch", "sh"])}
FRENCH = {token: index for index, token in enumerate([*SPECIAL, *"éabcç.", "qu", "ch"])}
LETTERS = "etaon .,'?!nt ß é ABC abc XYZ ch sh qu 漢"


@pytest.fixture
def tokenizer() -> Wav2Vec2CTCTokenizer:
    return Wav2Vec2CTCTokenizer(vocab=VOCAB)


def ids(tokens: str) -> list[int]:
    return [VOCAB[token] for token in tokens.split()]


HEARD = ids("<pad> H H <pad> E L L <pad> L O <pad> | | W <pad> O O R L D <pad>")


# Decoding


def test_frames_become_characters_and_words(tokenizer: Any) -> None:
    assert tokenizer.decode(HEARD) == "HELLO WORLD"
    output = tokenizer.decode(HEARD, output_char_offsets=True, output_word_offsets=True)
    assert output.text == output["text"] == output[0] == "HELLO WORLD"
    assert output.word_offsets == [
        {"word": "HELLO", "start_offset": 1, "end_offset": 10},
        {"word": "WORLD", "start_offset": 13, "end_offset": 20},
    ]
    assert output.char_offsets[2:6] == [
        {"char": "L", "start_offset": 5, "end_offset": 7},
        {"char": "L", "start_offset": 8, "end_offset": 9},
        {"char": "O", "start_offset": 9, "end_offset": 10},
        {"char": " ", "start_offset": 11, "end_offset": 13},
    ]
    assert json.loads(json.dumps(output.char_offsets)) == output.char_offsets


def test_only_the_offsets_that_are_asked_for(tokenizer: Any) -> None:
    characters = tokenizer.decode(HEARD, output_char_offsets=True)
    assert isinstance(characters, Wav2Vec2CTCTokenizerOutput)
    assert (set(characters), characters.word_offsets) == ({"text", "char_offsets"}, None)
    words = tokenizer.batch_decode([HEARD, []], output_word_offsets=True)
    assert (set(words), words.text, words.word_offsets[1]) == ({"text", "word_offsets"}, ["HELLO WORLD", ""], [])
    assert tokenizer.decode([], output_char_offsets=True).to_tuple() == ("", [])


def test_labels_are_no_frames(tokenizer: Any) -> None:
    labels = tokenizer("HELLO").input_ids
    assert tokenizer.decode(labels) == "HELO"
    assert tokenizer.decode(labels, group_tokens=False) == "HELLO"
    padded = [*labels, VOCAB["<pad>"], VOCAB["</s>"]]
    assert tokenizer.decode(padded, group_tokens=False) == "HELLO</s>"
    assert tokenizer.decode(padded, skip_special_tokens=True, group_tokens=False) == "HELLO"


def test_what_stands_between() -> None:
    mine = Wav2Vec2CTCTokenizer(vocab=VOCAB, do_lower_case=True, replace_word_delimiter_char="_")
    assert mine.decode(HEARD) == "hello_world"
    assert mine.decode(HEARD, spaces_between_special_tokens=True) == "h e l l o _ w o r l d"
    assert mine.decode(HEARD, output_char_offsets=True).char_offsets[0]["char"] == "H"
    mine.replace_word_delimiter_char = " "
    assert mine.decode(HEARD) == "hello world"
    assert mine.convert_tokens_to_string(mine.convert_ids_to_tokens(HEARD)) == "hello world"


def test_cleaning_up() -> None:
    mine = Wav2Vec2CTCTokenizer(vocab={**VOCAB, "?": 32}, clean_up_tokenization_spaces=True)
    row = [*ids("D O | I T |"), 32]
    assert mine.decode(row) == "DO IT?"
    assert mine.decode(row, clean_up_tokenization_spaces=False) == "DO IT ?"


def test_every_kind_of_ids(tokenizer: Any) -> None:
    wanted = ["HELLO WORLD", "HELLO WORLD"]
    array = np.array([HEARD, HEARD], dtype=np.int32)
    objects = np.empty(2, dtype=object)
    objects[:] = [np.array(HEARD), np.array(HEARD[:-1])]
    kinds: list[Any] = [array.tolist(), [tuple(HEARD)] * 2, array, array.astype(np.uint8), list(array), objects]
    kinds += [torch.tensor(array), list(torch.tensor(array)), [HEARD, torch.tensor(HEARD)], iter([HEARD, HEARD])]
    for kind in kinds:
        assert tokenizer.batch_decode(kind) == wanted
    assert tokenizer.decode(array) == tokenizer.decode(array[:, ::-1][:, ::-1]) == wanted
    for row in (HEARD, tuple(HEARD), array[0], torch.tensor(HEARD), list(torch.tensor(HEARD)), list(array[0])):
        assert tokenizer.decode(row) == wanted[0]
    for one in (5, np.int64(5), torch.tensor(5), [5]):
        assert tokenizer.decode(one) == "E"
    assert tokenizer.batch_decode([5, 6]) == tokenizer.batch_decode(np.array([5, 6])) == ["E", "T"]
    assert tokenizer.batch_decode([]) == []
    assert tokenizer.decode([]) == tokenizer.decode(np.array([])) == ""


def read_slowly(row: list[int], *, group: bool, apart: bool) -> tuple[str, list[Any], list[Any]]:
    """CTC by the book, one frame after another."""
    runs: list[list[Any]] = []
    for frame, index in enumerate(row):
        if group and runs and runs[-1][0] == index:
            runs[-1][2] = frame + 1
        else:
            runs.append([index, frame, frame + 1])
    heard = [(" " if TOKENS[i] == "|" else TOKENS[i], start, end) for i, start, end in runs if TOKENS[i] != "<pad>"]
    words = [
        list(characters) for space, characters in itertools.groupby(heard, key=lambda one: one[0] == " ") if not space
    ]
    return (
        (" " if apart else "").join(character for character, _, _ in heard).strip(),
        [{"char": c, "start_offset": start, "end_offset": end} for c, start, end in heard],
        [
            {"word": "".join(c for c, _, _ in word), "start_offset": word[0][1], "end_offset": word[-1][2]}
            for word in words
        ],
    )


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 0, 1, 4, 4, 5, 6]), max_size=30), max_size=6),
    group=st.booleans(),
    apart=st.booleans(),
)
def test_decoding_by_the_book(rows: list[list[int]], group: bool, apart: bool) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(vocab=VOCAB)
    options = {"group_tokens": group, "spaces_between_special_tokens": apart}
    output = tokenizer.batch_decode(rows, output_char_offsets=True, output_word_offsets=True, **options)
    wanted = [read_slowly(row, group=group, apart=apart) for row in rows]
    assert list(zip(output.text, output.char_offsets, output.word_offsets, strict=True)) == wanted
    assert tokenizer.batch_decode(rows, **options) == output.text


def test_a_vocabulary_with_gaps() -> None:
    apart = {token: 7 * index + 2**40 * (index > 20) for index, token in enumerate(TOKENS)}
    tokenizer = Wav2Vec2CTCTokenizer(vocab=apart)
    assert tokenizer.decode([apart[TOKENS[index]] for index in HEARD]) == "HELLO WORLD"
    with pytest.raises(InputError, match=r"The id 8, at place 1,"):
        tokenizer.decode([7, 8])
    tokenizer.add_tokens("<new>")
    assert tokenizer("<new>").input_ids == [max(apart.values()) + 1]
    assert tokenizer.decode(tokenizer("<new> A").input_ids) == "<new> A"


# Encoding


def test_texts_become_characters(tokenizer: Any) -> None:
    assert tokenizer("HELLO WORLD").input_ids == ids("H E L L O | W O R L D")
    assert tokenizer("A Bé").input_ids == ids("A | B <unk>")
    assert tokenizer.tokenize("A <s> |B") == ["A", "<s>", "|", "B"]
    assert tokenizer(["AT", "HE"], is_split_into_words=True).input_ids == ids("A T H E")
    small = Wav2Vec2CTCTokenizer(vocab=VOCAB, do_lower_case=True)
    assert small("Hello straße").input_ids == ids("H E L L O | S T R A S S E")


def test_labels_are_padded_as_any_ids(tokenizer: Any) -> None:
    batch = tokenizer(["AT", "HELLO"], padding=True, return_tensors="pt")
    assert batch.input_ids.tolist() == [ids("A T <pad> <pad> <pad>"), ids("H E L L O")]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    padded = tokenizer.pad({"input_ids": [[5], [6, 7]]}, return_tensors="np")
    assert padded.input_ids.tolist() == [[5, 0], [6, 7]]


def test_added_tokens_are_cut_out_as_written() -> None:
    tokenizer = Wav2Vec2CTCTokenizer(vocab=VOCAB, do_lower_case=True)
    assert tokenizer.add_tokens(["<laugh>", AddedToken("ab", lstrip=True, normalized=False)]) == 2
    assert tokenizer("at  <laugh> ab AB").input_ids == [*ids("A T | |"), 32, 33, *ids("| A B")]
    assert tokenizer.decode([32, 32, 0, 5]) == "<laugh>e"
    assert tokenizer.decode([32, 5], skip_special_tokens=True) == "<laugh>e"
    tokenizer.add_special_tokens({"additional_special_tokens": ["<laugh>"]})
    assert tokenizer.decode([32, 5], skip_special_tokens=True) == "e"


def test_special_tokens_as_plain_text() -> None:
    tokenizer = Wav2Vec2CTCTokenizer(vocab=VOCAB, split_special_tokens=True)
    assert tokenizer("<s>A").input_ids == ids("<unk> <unk> <unk> A")


def test_the_word_delimiter_can_be_another(tokenizer: Any) -> None:
    assert (tokenizer.word_delimiter_token, tokenizer.word_delimiter_token_id) == ("|", 4)
    tokenizer.word_delimiter_token = "'"
    assert tokenizer("A T").input_ids == ids("A ' T")
    assert tokenizer.decode(ids("A ' | T")) == "A |T"
    space = Wav2Vec2CTCTokenizer(vocab={"<pad>": 0, "<unk>": 1, " ": 2, "a": 3}, word_delimiter_token=" ")
    assert space("a a").input_ids == [3, 2, 3]
    assert space.decode([2, 3, 2, 3], output_word_offsets=True).word_offsets[1] == {
        "word": "a",
        "start_offset": 3,
        "end_offset": 4,
    }
    long = Wav2Vec2CTCTokenizer(vocab={"<pad>": 0, "<unk>": 1, "[sp]": 2, "a": 3}, word_delimiter_token="[sp]")
    assert long("a a").input_ids == [3, 2, 3]
    assert long.decode([3, 2, 3]) == "a a"


def test_a_vocabulary_without_words() -> None:
    phones = Wav2Vec2CTCTokenizer(vocab={"<pad>": 0, "a": 1, "b": 2}, unk_token=None, word_delimiter_token=None)
    assert phones.decode(phones("ab").input_ids) == "ab"
    with pytest.raises(InputError, match=r"The token ' ' is not in the vocabulary, and there is no unk_token"):
        phones("a b")
    with pytest.raises(
        InputError, match=r"there is no word_delimiter_token between them\. Ask for output_char_offsets"
    ):
        phones.decode([1], output_word_offsets=True)


# Languages


def nested() -> Any:
    return Wav2Vec2CTCTokenizer(vocab={"eng": ENGLISH, "fra": FRENCH}, target_lang="eng")


def test_another_language_is_as_if_made_with_it(caplog: pytest.LogCaptureFixture) -> None:
    switched, made = nested(), Wav2Vec2CTCTokenizer(vocab={"eng": ENGLISH, "fra": FRENCH}, target_lang="fra")
    assert switched("sh é").input_ids == [ENGLISH["sh"], 3] and switched.decode([5]) == "a"
    switched.set_target_lang("fra")
    assert switched.decode([5, 11]) == made.decode([5, 11]) == "équ"
    for text in ("sh qu é <pad>", "ch|a", "a'b."):
        assert switched(text).input_ids == made(text).input_ids
    assert (switched.get_vocab(), switched.target_lang, len(switched)) == (made.get_vocab(), "fra", len(made))
    assert caplog.text == ""


def test_added_tokens_in_another_language(caplog: pytest.LogCaptureFixture) -> None:
    longer = {**FRENCH, "z": 13}
    tokenizer = Wav2Vec2CTCTokenizer(vocab={"eng": ENGLISH, "fra": longer}, target_lang="eng")
    tokenizer.add_tokens(["<one>", "<two>"])
    assert tokenizer("<one><two>").input_ids == [13, 14]
    tokenizer.set_target_lang("fra")
    assert tokenizer("<two>").input_ids == [14] and tokenizer.decode([13]) == "z"
    assert "<one>" not in tokenizer.get_vocab()
    assert "['<one>']" in caplog.text and "<two>" not in caplog.text


def test_languages_in_files(tmp_path: Path) -> None:
    first = nested()
    first.add_tokens("<x>")
    first.set_target_lang("fra")
    first.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()) == {"eng": ENGLISH, "fra": FRENCH}
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert (again.target_lang, again("é <x>").input_ids) == ("fra", [5, 4, 13])
    english = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, target_lang="eng")
    assert english("sh é <x>").input_ids == [ENGLISH["sh"], 3, 4, 13]


def test_languages_that_are_not_there() -> None:
    tokenizer = nested()
    for wrong in (
        lambda: tokenizer.set_target_lang("fre"),
        lambda: Wav2Vec2CTCTokenizer(vocab={"eng": ENGLISH, "fra": FRENCH}, target_lang="fre"),
    ):
        with pytest.raises(UnknownNameError, match=r"no such language\. Did you mean 'fra'\? It has 2: eng, fra\."):
            wrong()
    assert tokenizer.target_lang == "eng" and tokenizer.decode([5]) == "a"
    with pytest.raises(InputError, match=r"pass target_lang, one of eng, fra\."):
        Wav2Vec2CTCTokenizer(vocab={"eng": ENGLISH, "fra": FRENCH})
    flat = Wav2Vec2CTCTokenizer(vocab=VOCAB)
    with pytest.raises(InputError, match=r"is a vocabulary of one language: target_lang='eng' chooses nothing"):
        flat.set_target_lang("eng")
    with pytest.raises(FileFormatError, match=r"language 'fra' has no '\|', the word_delimiter_token"):
        Wav2Vec2CTCTokenizer(vocab={"fra": {"<pad>": 0, "<unk>": 1}}, target_lang="fra")


# Files


@pytest.mark.parametrize("options", [{}, {"do_lower_case": True, "replace_word_delimiter_char": "_"}])
def test_what_is_saved_is_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    first = Wav2Vec2CTCTokenizer(vocab=VOCAB, padding_side="left", **options)
    first.add_tokens([AddedToken("<x>", rstrip=True, normalized=False)])
    first.add_special_tokens({"additional_special_tokens": ["<y>"]})
    first.save_pretrained(tmp_path)
    copies = [Wav2Vec2CTCTokenizer.from_pretrained(tmp_path), pickle.loads(pickle.dumps(first))]
    for again in copies:
        for name in ("do_lower_case", "replace_word_delimiter_char", "padding_side", "target_lang"):
            assert getattr(again, name) == getattr(first, name)
        assert again.special_tokens_map == first.special_tokens_map
        assert again.get_vocab() == first.get_vocab()
        assert again("at <x> <y> <s>").input_ids == first("at <x> <y> <s>").input_ids
        assert again.decode(HEARD) == first.decode(HEARD)
    assert json.loads((tmp_path / "added_tokens.json").read_text()) == {"<x>": 32, "<y>": 33}
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["word_delimiter_token"] == "|"


def test_the_auto_class_finds_it(tmp_path: Path) -> None:
    Wav2Vec2CTCTokenizer(vocab=VOCAB).save_pretrained(tmp_path)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is Wav2Vec2CTCTokenizer
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    (tmp_path / "tokenizer_config.json").write_text('{"do_normalize": true, "return_attention_mask": false}')
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert found.decode(HEARD) == "HELLO WORLD"


@pytest.mark.parametrize("name", ["my_vocab_file.txt", "vocab.json", "json.txt"])
def test_a_vocabulary_file(name: str, tmp_path: Path) -> None:
    """As in the guide, with one token a line, and as the peer writes it."""
    path = tmp_path / name
    lines = "\n".join([*TOKENS, "{"]) + "\n"
    path.write_text(json.dumps({**VOCAB, "{": 32}) if "json" in name else lines, encoding="utf-8-sig")
    assert Wav2Vec2CTCTokenizer(vocab_file=str(path)).get_vocab() == {**VOCAB, "{": 32}
    assert Wav2Vec2CTCTokenizer.from_pretrained(path).decode(HEARD) == "HELLO WORLD"


def test_a_space_and_a_brace_are_tokens_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("{\n<pad>\n<unk>\n \n}")
    tokenizer = Wav2Vec2CTCTokenizer(tmp_path / "v.txt", word_delimiter_token=" ")
    assert tokenizer("} {").input_ids == [4, 3, 0]


def test_bos_and_eos_are_added_where_they_are_missing() -> None:
    tokens = ["[PAD]", "[UNK]", "|", "a", "b"]
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = Wav2Vec2CTCTokenizer(vocab={token: index for index, token in enumerate(tokens)}, **names)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (5, 6, 0)
    assert tokenizer.decode([0, 3, 2, 5, 4]) == "a <s>b"


# What is refused

BAD_FILES: list[tuple[str, str, str]] = [
    ("v.txt", "", r"v\.txt has no tokens"),
    ("v.json", "{}", r"v\.json has no tokens"),
    ("v.json", "", r"v\.json is not JSON"),
    ("v.json", '["<pad>"]', r"holds a JSON list"),
    ("v.json", '{"<pad>": 0, "<pad>": 1}', r"gives the key '<pad>' twice"),
    ("v.json", '{"<pad>": "0"}', r"the token '<pad>' has the id '0', where a whole number"),
    ("v.json", '{"<pad>": true}', r"has the id True"),
    ("v.json", '{"<pad>": -1}', r"has the id -1"),
    ("v.json", '{"<pad>": 0, "a": 0}', r"the tokens '<pad>' and 'a' both have the id 0"),
    ("v.json", '{"eng": {"a": 0}, "b": 1}', r"the token 'eng' has the id \{'a': 0\}"),
    ("v.txt", "<pad>\na\na\n", r"v\.txt, line 3: the token 'a' is on line 2 too"),
    ("v.txt", "<pad>\n[UNK]\n|\na\n", r"has no '<unk>', the unk_token\. If .* unk_token=….* It has '<pad>', '\[UNK\]'"),
    ("v.txt", "a\nb\n", r"'<unk>', the unk_token and '<pad>', the pad_token and '\|', the word_delimiter_token"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_vocabularies_that_are_wrong(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match=message):
        Wav2Vec2CTCTokenizer(tmp_path / name)


def test_vocabularies_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"vocab\.json' cannot be read"):
        Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    with pytest.raises(MissingFileError, match=r"vocab\.json is not there"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"pass vocab_file='vocab\.json'"):
        Wav2Vec2CTCTokenizer()
    with pytest.raises(InputError, match=r"replace_word_delimiter_char=None: must be a str"):
        Wav2Vec2CTCTokenizer(vocab=VOCAB, replace_word_delimiter_char=None)
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    with pytest.raises(FileFormatError, match=r"not text in UTF-8"):
        Wav2Vec2CTCTokenizer(tmp_path / "latin.txt")


BAD_IDS: list[tuple[Any, str]] = [
    ([5, 99], r"The id 99, at place 1, is not in the vocabulary, which has 32 tokens"),
    ([[5], [6, 7, -100]], r"The id -100, at place 2 of row 1, .* put the pad_token_id first"),
    (np.full((2, 3), 32), r"The id 32, at place 0 of row 0"),
    ([5, 1.5], r"the row given has 1\.5 \(float\) at place 1.* decode their highest: logits\.argmax\(-1\)"),
    ([[5], [6, None]], r"row 1 has None \(NoneType\) at place 1"),
    ([[5], 2**70], rf"row 1 has {2**70} \(int\)"),
    ([[5], np.zeros((2, 2), dtype=int)], r"row 1 has the shape \(2, 2\)"),
    (torch.zeros(2, 5, 32), r"float32 of the shape \(2, 5, 32\).* logits\.argmax\(-1\)"),
    ([torch.zeros(5, 32)], r"row 0 has float32 of the shape \(5, 32\)"),
    (np.zeros((2, 2, 2), dtype=int), r"the array given has the shape \(2, 2, 2\)"),
    ("HELLO", r"'HELLO' \(str\)"),
    (None, r"None \(NoneType\)"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD_IDS)
def test_ids_that_are_none(wrong: Any, message: str, tokenizer: Any) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer.decode(wrong)


def test_ids_of_a_text_are_read_as_strictly() -> None:
    text = DistilBertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "b": 6})
    assert text.decode(list(torch.tensor([5, 6]))) == text.decode(np.array([5, 6], dtype=np.uint8)) == "a b"
    assert text.decode(np.int64(5)) == "a" and text.decode(torch.tensor([[5], [6]])) == ["a", "b"]
    with pytest.raises(InputError, match=r"float32 of the shape \(3, 7\).* logits\.argmax\(-1\)"):
        text.decode(torch.zeros(3, 7))
    with pytest.raises(InputError, match=r"5\.7 \(float\) at place 0"):
        text.decode([5.7])


def test_keywords_that_are_misspelt(tokenizer: Any) -> None:
    with pytest.raises(UnknownFieldError, match=r"no 'group_token'\. Did you mean 'group_tokens'\?"):
        tokenizer.decode(HEARD, group_token=False)
    with pytest.raises(UnknownFieldError, match=r"Did you mean 'output_word_offsets'\?"):
        tokenizer.batch_decode([HEARD], output_word_offset=True)
    with pytest.raises(UnknownFieldError, match=r"Did you mean 'word_delimiter_token'\?"):
        Wav2Vec2CTCTokenizer(vocab=VOCAB, word_delimiter_tokn="|")
    with pytest.raises(UnknownNameError, match=r"word_delimiter_token = '\*': the vocabulary has no such token"):
        tokenizer.word_delimiter_token = "*"


def test_offsets_where_there_are_none(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"no fast kind .* decode\(ids, output_char_offsets=True\)"):
        tokenizer("HE", return_offsets_mapping=True)
    text = DistilBertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    with pytest.raises(
        UnknownFieldError, match=r"no 'output_word_offsets'\. Its ids are of a text, which has no frames"
    ):
        text.decode([1], output_word_offsets=True)


def test_it_brings_no_framework(run_fresh: Any) -> None:
    code = (
        "import sys\nfrom maquette.models.wav2vec2.tokenization import Wav2Vec2CTCTokenizer\n"
        "t = Wav2Vec2CTCTokenizer(vocab={'<pad>': 0, '<unk>': 1, '|': 2, 'A': 3})\n"
        "assert t.batch_decode([[3, 0, 3]], output_word_offsets=True).text == ['AA']\n"
        "print(sorted({'torch', 'tensorflow', 'keras', 'jax'} & {n.partition('.')[0] for n in sys.modules}))"
    )
    assert run_fresh(code).strip() == "[]"


# The peer

CASES: dict[str, dict[str, Any]] = {
    "plain": {"vocab": VOCAB, "options": {}, "added": ["<x>", "new"], "special": ["<y>"]},
    "small letters": {"vocab": VOCAB, "options": {"do_lower_case": True}, "added": ["new"], "special": []},
    "own tokens": {
        "vocab": {t: i for i, t in enumerate(["a", "b", "|", "[UNK]", "ch", ".", "'", "n", "t", "*", "é", "[PAD]"])},
        "options": {"unk_token": "[UNK]", "pad_token": "[PAD]", "replace_word_delimiter_char": "_"},
        "added": [{"content": "c", "lstrip": True, "normalized": False}],
        "special": [],
    },
    "delimiter": {
        "vocab": {t: i for i, t in enumerate(["<pad>", "<unk>", "*", "a", " ", ".", "n", "t", "'"])},
        "options": {"word_delimiter_token": "*", "clean_up_tokenization_spaces": True},
        "added": [],
        "special": [],
    },
    "languages": {
        "vocab": {"eng": ENGLISH, "fra": FRENCH},
        "options": {"target_lang": "eng"},
        "other": "fra",
        "added": ["<x>"],
        "special": [],
    },
}
FLAGS = ("skip_special_tokens", "group_tokens", "spaces_between_special_tokens", "clean_up_tokenization_spaces")
DECODING = [
    dict(zip((*FLAGS, "output_char_offsets", "output_word_offsets"), values, strict=True))
    for values in itertools.product([False, True], repeat=6)
]


def make(case: dict[str, Any]) -> Any:
    tokenizer = Wav2Vec2CTCTokenizer(vocab=case["vocab"], **case["options"])
    tokenizer.add_tokens([AddedToken(**token) if isinstance(token, dict) else token for token in case["added"]])
    if case["special"]:
        tokenizer.add_special_tokens({"additional_special_tokens": case["special"]})
    return tokenizer


def any_character(dice: random.Random) -> str:
    """Any character of Unicode but surrogates and the four separators that Python alone takes for spaces."""
    while True:
        character = chr(dice.randrange(0x3100) if dice.random() < 0.8 else dice.randrange(0x110000))
        if unicodedata.category(character) != "Cs" and not 0x1C <= ord(character) <= 0x1F:
            return character


def make_texts() -> Iterator[str]:
    dice = random.Random(1)
    pieces = [*SPECIAL, *LETTERS, "<x>", "new", "<y>", "[UNK]", "[PAD]", " ", "  ", "ch", "sh", "qu", "*", "İ", "ǆ"]
    for _ in range(1200):
        length = dice.randrange(14)
        yield "".join(any_character(dice) if dice.random() < 0.3 else dice.choice(pieces) for _ in range(length))


def make_rows() -> list[list[int]]:
    """Ids that every vocabulary of the cases has, with repetitions and blanks as a model gives them."""
    dice = random.Random(2)
    rows = []
    for number in range(60):
        row: list[int] = []
        while len(row) < 3 + number:
            row += [dice.choice([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])] * dice.choice([1, 1, 2, 3])
        rows.append(row)
    return [*rows, [0], [0, 0, 0], [4, 4], [2, 0, 2], [3]]


TEXTS, ROWS = list(make_texts()), make_rows()
CALLS: list[dict[str, Any]] = [
    {"texts": [TEXTS[:20]], "options": {"padding": True}},
    {"texts": [TEXTS[:20]], "options": {"padding": "max_length", "max_length": 9, "truncation": True}},
    {
        "texts": [TEXTS[:20], TEXTS[20:40]],
        "options": {"return_token_type_ids": True, "return_special_tokens_mask": True},
    },
    {"texts": [["at home", "a<s>b", "éa"]], "options": {"is_split_into_words": True}},
    {"texts": [[["at", "home "], ["A", "ch"]]], "options": {"is_split_into_words": True, "padding": True}},
    {"texts": [TEXTS[:5]], "options": {"padding": True, "padding_side": "left", "pad_to_multiple_of": 8}},
    {"texts": [TEXTS[:5]], "options": {"add_special_tokens": False, "return_attention_mask": False}},
]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> tuple[Path, dict[str, Any]]:
    """A folder through which both libraries went, and what the peer gave; the peer runs once."""
    folder = tmp_path_factory.mktemp("exchange")
    for name, case in CASES.items():
        make(case).save_pretrained(folder / "ours" / name)
    task = {"cases": CASES, "rows": ROWS, "decoding": DECODING, "texts": TEXTS, "calls": CALLS}
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    run_peer(Path(__file__).parent / "peer_ctc_tokenizer.py", folder)
    return folder, json.loads((folder / "results.json").read_text(encoding="utf-8"))


def compare(tokenizer: Any, peer: dict[str, Any]) -> None:
    assert tokenizer.get_vocab() == peer["vocabulary"]
    assert len(tokenizer) == peer["length"]
    assert sorted(tokenizer.all_special_tokens) == peer["special"]
    found = {name: getattr(tokenizer, f"{name}_token_id") for name in peer["attributes"]}
    assert (found, tokenizer.word_delimiter_token_id) == (peer["attributes"], peer["delimiter"])
    assert [tokenizer.tokenize(text) for text in TEXTS] == peer["tokens"]
    assert tokenizer(TEXTS).input_ids == peer["ids"]
    for call, wanted in zip(CALLS, peer["calls"], strict=True):
        assert dict(tokenizer(*call["texts"], **call["options"])) == wanted


@pytest.mark.parametrize("name", CASES)
def test_encoding_is_the_peers(name: str, exchange: Any) -> None:
    compare(make(CASES[name]), exchange[1][name])


@pytest.mark.parametrize("name", CASES)
def test_decoding_is_the_peers(name: str, exchange: Any) -> None:
    """Every combination of options; also with `skip_special_tokens`, which takes the blanks out before all else."""
    tokenizer, peer = make(CASES[name]), exchange[1][name]
    for row, wanted in zip(ROWS, peer["decoded"], strict=True):
        for options, one in zip(DECODING, wanted, strict=True):
            output = tokenizer.decode(row, **options)
            found = (
                [output, None, None]
                if isinstance(output, str)
                else [output.text, output.char_offsets, output.word_offsets]
            )
            assert found == one, (row, options)
    batch = tokenizer.batch_decode(ROWS, output_char_offsets=True, output_word_offsets=True)
    assert [batch.text, batch.char_offsets, batch.word_offsets] == peer["batch"]


@pytest.mark.parametrize("name", CASES)
def test_folders_load_both_ways(name: str, exchange: Any) -> None:
    folder, peer = exchange
    compare(Wav2Vec2CTCTokenizer.from_pretrained(folder / "theirs" / name), peer[name])
    if name != "delimiter":  # the peer forgets a word delimiter other than "|" when it loads a folder, its own too
        compare(make(CASES[name]), peer[f"{name}, saved by ours"])
    assert make(CASES[name]).get_vocab() == peer[f"{name}, saved by ours"]["vocabulary"]
    assert peer[f"{name}, found"] == "Wav2Vec2CTCTokenizer"
    assert (folder / "theirs" / name / "vocab.json").read_bytes() == (
        folder / "ours" / name / "vocab.json"
    ).read_bytes()


def test_the_other_language_is_the_peers(exchange: Any) -> None:
    tokenizer = make(CASES["languages"])
    tokenizer.set_target_lang("fra")
    compare(tokenizer, exchange[1]["languages, other language"])
