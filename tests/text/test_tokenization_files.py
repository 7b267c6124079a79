"""A tokenizer's folder: saved and loaded by both kinds, old layouts, and files that are wrong or hostile."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from maquette.errors import FileFormatError, MaquetteError, MissingFileError, SaveError, UnknownFieldError
from maquette.models.distilbert.tokenization import DistilBertTokenizer, DistilBertTokenizerFast
from maquette.text.tokenization_fast import PreTrainedTokenizerFast

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "ran", "Dog", "##s", "é", "e"]
VOCABULARY = {token: index for index, token in enumerate(TOKENS)}
TEXTS = ["A dogs ran", "é <x> é", "[MASK] NEW dog", "漢 a"]
KINDS = [DistilBertTokenizer, DistilBertTokenizerFast]


def make(kind: Any, **options: Any) -> Any:
    tokenizer = kind(vocab=VOCABULARY, **options)
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True, normalized=False), "new"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>"], "eos_token": "</s>"})
    return tokenizer


def vocabulary_file(folder: Path, text: str) -> str:
    path = folder / "vocab.txt"
    path.write_bytes(text.encode("utf-8"))
    return str(path)


@pytest.mark.parametrize("saver", KINDS)
@pytest.mark.parametrize("loader", KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"do_lower_case": False, "padding_side": "left"}, {"strip_accents": False, "model_max_length": 7}]
)
def test_either_kind_loads_what_either_saved(saver: Any, loader: Any, options: dict[str, Any], tmp_path: Path) -> None:
    first = make(saver, **options)
    first.save_pretrained(tmp_path)
    again = loader.from_pretrained(tmp_path)
    assert again(TEXTS, padding=True).data == first(TEXTS, padding=True).data
    assert again.get_vocab() == first.get_vocab()
    assert {i: t.__getstate__() for i, t in again.added_tokens_decoder.items()} == {
        i: t.__getstate__() for i, t in first.added_tokens_decoder.items()
    }
    assert again.special_tokens_map == first.special_tokens_map
    for name in ("padding_side", "model_max_length", "do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        assert getattr(again, name) == getattr(first, name)
    assert again.name_or_path == str(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_one_vocabulary_file_is_enough(kind: Any, file: str, tmp_path: Path) -> None:
    DistilBertTokenizer(vocab=VOCABULARY).save_pretrained(tmp_path / "saved")
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "saved" / file, tmp_path / "alone" / file)
    wanted = DistilBertTokenizer(vocab=VOCABULARY)(TEXTS).data
    assert kind.from_pretrained(tmp_path / "alone")(TEXTS).data == wanted
    assert kind.from_pretrained(tmp_path / "alone" / file)(TEXTS).data == wanted


def test_the_guide_makes_one_from_a_vocabulary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_vocab_file.txt").write_text("\n".join(TOKENS))
    mine = DistilBertTokenizer(vocab_file="my_vocab_file.txt", do_lower_case=False, padding_side="left")
    assert mine(["Dog a", "a"], padding=True).input_ids == [[2, 8, 5, 3], [0, 2, 5, 3]]


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_given_while_loading_win(kind: Any, tmp_path: Path) -> None:
    make(kind).save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path, do_lower_case=False, padding_side="left", sep_token="</s>")
    assert (again.do_lower_case, again.padding_side, again.sep_token) == (False, "left", "</s>")
    assert again("Dog").input_ids == [2, 8, again.sep_token_id]
    with pytest.raises(UnknownFieldError, match=r"Did you mean 'do_lower_case'"):
        kind.from_pretrained(tmp_path, do_lowercase=True)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_keys_of_a_file_are_kept(kind: Any, tmp_path: Path) -> None:
    make(kind).save_pretrained(tmp_path / "a")
    path = tmp_path / "a" / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"from_the_future": {"x": [1]}}
    path.write_text(json.dumps(config))
    kind.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    again = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert again["from_the_future"] == {"x": [1]}


def test_settings_of_the_saved_files_are_what_the_tokenizer_is_now(tmp_path: Path) -> None:
    tokenizer = make(DistilBertTokenizer)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["padding_side"], config["tokenizer_class"], config["model_max_length"]) == (
        "left",
        "DistilBertTokenizer",
        512,
    )
    assert config["added_tokens_decoder"]["12"] == {
        "content": "<x>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": False
    }  # fmt: skip
    assert json.loads((tmp_path / "added_tokens.json").read_text()) == {"<x>": 12, "new": 13, "<s>": 15, "</s>": 14}
    assert "vocab_file" not in config
    make(DistilBertTokenizerFast).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "DistilBertTokenizer"


def test_old_folders_keep_added_tokens_in_files_of_their_own(tmp_path: Path) -> None:
    vocabulary_file(tmp_path, "\n".join(TOKENS))
    (tmp_path / "added_tokens.json").write_text('{"<x>": 12, "<s>": 13}')
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps(
            {
                "bos_token": {
                    "content": "<s>",
                    "lstrip": True,
                    "rstrip": False,
                    "single_word": False,
                    "normalized": False,
                }
            }
        )
    )
    for kind in KINDS:
        tokenizer = kind.from_pretrained(tmp_path)
        assert (tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<x>")) == (13, 12)
        assert tokenizer("a <s>", add_special_tokens=False).input_ids == [5, 13]


# Wrong files


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[PAD]\n[UNK]\na\n[UNK]\n", r"line 4: the token '\[UNK\]' is on line 2 too"),
        ("", "is empty"),
        ("[PAD]\na\n", r"no line '\[UNK\]'"),
    ],
)
def test_wrong_vocabularies(kind: Any, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=message):
        kind(vocab_file=vocabulary_file(tmp_path, text))
    with pytest.raises(FileFormatError, match=message):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_vocabulary(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot be read: No such file"):
        kind(vocab_file=str(tmp_path / "none.txt"))
    with pytest.raises(MissingFileError, match=r"no vocabulary for DistilBertTokenizer.*vocab.txt"):
        kind.from_pretrained(tmp_path)
    with pytest.raises(MaquetteError, match=r"needs a vocabulary: pass vocab_file"):
        kind()
    (tmp_path / "latin.txt").write_bytes(b"[UNK]\n\xe9\n")
    with pytest.raises(FileFormatError, match=r"UTF-8"):
        kind(vocab_file=tmp_path / "latin.txt")


def test_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    tokenizer = DistilBertTokenizer(vocab_file=vocabulary_file(tmp_path, "\ufeff[UNK]\r\na\r\n\u2028\r\n"))
    assert {name: index for name, index in tokenizer.get_vocab().items() if index < 3} == {
        "[UNK]": 0,
        "a": 1,
        "\u2028": 2,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", "[]", "object"),
        ("tokenizer_config.json", "{", "not JSON"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "must map ids to tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}', "added_tokens_decoder"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"3": {"content": "a"}}}', "'a' has the id 3, .* as 5"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"3": {"content": "zz"}}}',
            "'zz' has the id 3, .* another token",
        ),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"99": {"content": ""}}}', "is no token"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"99": {"content": "z", "lstrip": 1}}}', "lstrip=1"),
        ("tokenizer_config.json", '{"padding_side": "up"}', "padding_side='up'"),
        ("special_tokens_map.json", '{"cls_token": {"lstrip": true}}', "is no token"),
        ("special_tokens_map.json", '{"cls_token": 3}', "is no token"),
    ],
)
def test_wrong_json(kind: Any, file: str, content: str, message: str, tmp_path: Path) -> None:
    vocabulary_file(tmp_path, "\n".join(TOKENS))
    (tmp_path / file).write_text(content)
    with pytest.raises(MaquetteError, match=message):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_names_another_file(kind: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "vocab.txt").write_text("[UNK]\nstolen\n")
    (elsewhere / "tokenizer.json").write_text("{}")
    folder = tmp_path / "folder"
    folder.mkdir()
    vocabulary_file(folder, "\n".join(TOKENS))
    paths = {"vocab_file": str(elsewhere / "vocab.txt"), "tokenizer_file": str(elsewhere / "tokenizer.json")}
    paths |= {"special_tokens_map_file": "../elsewhere/x.json", "vocab": {"[UNK]": 0}, "name_or_path": "/etc/passwd"}
    (folder / "tokenizer_config.json").write_text(json.dumps(paths))
    tokenizer = kind.from_pretrained(folder)
    assert "stolen" not in tokenizer.get_vocab()
    assert tokenizer("a").input_ids == [2, 5, 3]
    assert tokenizer.name_or_path == str(folder)


def test_a_python_tokenizer_reads_only_wordpiece(tmp_path: Path) -> None:
    content = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"no WordPiece tokenizer.*PreTrainedTokenizerFast"):
        DistilBertTokenizer.from_pretrained(tmp_path)
    with pytest.raises(FileFormatError, match=r"needs a WordPiece model, and this is a BPE"):
        DistilBertTokenizerFast.from_pretrained(tmp_path)


def test_vocabularies_that_cannot_be_lines() -> None:
    with pytest.raises(SaveError, match=r"gaps"):
        DistilBertTokenizer(vocab={**VOCABULARY, "z": 50}).save_pretrained("unused-because-nothing-is-written")
    assert not Path("unused-because-nothing-is-written").exists()


def test_a_save_removes_the_files_of_another_tokenizer(tmp_path: Path) -> None:
    make(DistilBertTokenizer).save_pretrained(tmp_path)
    assert (tmp_path / "added_tokens.json").exists()
    DistilBertTokenizer(vocab=VOCABULARY, never_split=["Dog"]).save_pretrained(tmp_path)
    assert not (tmp_path / "added_tokens.json").exists()
    assert not (tmp_path / "tokenizer.json").exists()
    assert DistilBertTokenizer.from_pretrained(tmp_path).never_split == ["Dog"]
    with pytest.raises(MaquetteError, match=r"never_split.*Load it with DistilBertTokenizer"):
        DistilBertTokenizerFast.from_pretrained(tmp_path)


def test_any_tokenizer_json_loads_as_a_fast_tokenizer(tmp_path: Path) -> None:
    tokenizer = make(DistilBertTokenizerFast)
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again(TEXTS).input_ids == tokenizer(TEXTS).input_ids
    alone = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="[PAD]")
    assert alone(TEXTS, padding=True).input_ids == tokenizer(TEXTS, padding=True).input_ids
    assert alone.build_inputs_with_special_tokens([7], [8]) == [2, 7, 3, 8, 3]
