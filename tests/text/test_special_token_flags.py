"""Special tokens keep the flags that are known of them, in whichever file or form they are named."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from maquette import AutoTokenizer, DistilBertTokenizer, DistilBertTokenizerFast, PreTrainedTokenizerFast
from maquette.errors import InputError, UnknownNameError

TEXTS = ["the cat <mask> sat", "a<mask>b", "x <w> y<w>z w", "  <r>  the", "THE <low> cat <LOW>"]
FLAGGED = {
    "<mask>": {"lstrip": True, "normalized": False, "special": True},
    "<w>": {"single_word": True, "normalized": False, "special": True},
    "<r>": {"rstrip": True, "normalized": False, "special": True},
    "<low>": {"normalized": True, "special": True},
}
PLAIN = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*NAMES, "the", "cat", "sat", "mask", "low", "##s", *"abxyzwr<>", "##z", "##w"]


def byte_pairs() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>", "<pad>"], show_progress=False, initial_alphabet=alphabet
    )
    backend.train_from_iterator(["the cat sat on the mat", "x != y , a"] * 5, trainer)
    return backend


@pytest.fixture(scope="module")
def library() -> Tokenizer:
    """The Rust library's tokenizer, with flags of every kind; its ids are the right ones."""
    backend = byte_pairs()
    backend.add_tokens([AddedToken(content, **flags) for content, flags in FLAGGED.items()])
    return backend


@pytest.fixture(scope="module")
def file(library: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("flags") / "tokenizer.json"
    library.save(str(path))
    return str(path)


def ids(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]


def right(library: Tokenizer) -> list[list[int]]:
    return [library.encode(text).ids for text in TEXTS]


NAMED = {"mask_token": "<mask>", "pad_token": "<pad>", "additional_special_tokens": ["<w>", "<r>", "<low>"]}


def by_assignment(file: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file)
    tokenizer.mask_token = "<mask>"
    tokenizer.additional_special_tokens = ["<w>", "<r>", "<low>"]
    return tokenizer


def by_id(file: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file)
    tokenizer.mask_token_id = tokenizer.convert_tokens_to_ids("<mask>")
    return tokenizer


def by_adding(file: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file)
    assert tokenizer.add_special_tokens(NAMED) == 0
    assert tokenizer.add_tokens(["<w>", "<low>"]) == tokenizer.add_tokens("<r>", special_tokens=True) == 0
    return tokenizer


WAYS = {
    "keywords": lambda file: PreTrainedTokenizerFast(tokenizer_file=file, **NAMED),
    "keywords, names": lambda file: PreTrainedTokenizerFast(
        tokenizer_file=file, extra_special_tokens={"w_token": "<w>"}
    ),
    "assignment": by_assignment,
    "assignment of an id": by_id,
    "adding": by_adding,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_text_keeps_the_flags_of_its_token(way: str, library: Tokenizer, file: str, tmp_path: Path) -> None:
    tokenizer = WAYS[way](file)
    assert ids(tokenizer) == right(library)
    tokenizer.save_pretrained(tmp_path)
    assert ids(AutoTokenizer.from_pretrained(tmp_path)) == ids(copy.deepcopy(tokenizer)) == right(library)


@pytest.mark.parametrize(
    ("config", "special"),
    [
        ({"mask_token": "<mask>", "extra_special_tokens": ["<w>", "<r>"]}, {}),
        (
            {"additional_special_tokens": ["<w>"], "extra_special_tokens": {"mask_token": "<mask>", "r_token": "<r>"}},
            {},
        ),
        ({"model_specific_special_tokens": {"w_token": "<w>"}, "extra_special_tokens": ["<r>"]}, {}),
        ({}, {"mask_token": "<mask>", "additional_special_tokens": ["<w>", "<r>"]}),
    ],
)
def test_folders_that_name_tokens_as_texts(
    config: dict[str, Any], special: dict[str, Any], library: Tokenizer, tmp_path: Path
) -> None:
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "TokenizersBackend"}))
    if special:
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert ids(tokenizer) == right(library)
    assert {"<w>"} <= {*tokenizer.all_special_tokens}
    assert ids(AutoTokenizer.from_pretrained(tmp_path, mask_token="<mask>")) == right(library)


def test_an_old_folder_with_flags_in_tokenizer_json_only(library: Tokenizer, tmp_path: Path) -> None:
    """Folders of years ago list ids in added_tokens.json, which says nothing of flags."""
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    added = {content: library.token_to_id(content) for content in FLAGGED}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert ids(AutoTokenizer.from_pretrained(tmp_path)) == right(library)


@pytest.mark.parametrize("kind", [DistilBertTokenizer, DistilBertTokenizerFast])
def test_both_kinds_read_the_flags(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    fast = DistilBertTokenizerFast(str(tmp_path / "vocab.txt"))
    fast.add_tokens([AddedToken(content, **flags) for content, flags in FLAGGED.items()])
    expected = [fast.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    fast.save_vocabulary(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text(fast.backend_tokenizer.to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": "<mask>"}))
    assert ids(kind.from_pretrained(tmp_path)) == expected
    assert ids(kind.from_pretrained(tmp_path, mask_token="<mask>", additional_special_tokens=["<w>"])) == expected


def test_an_added_token_says_its_flags_anew(file: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, mask_token=AddedToken("<mask>", rstrip=True))
    assert tokenizer.added_tokens_encoder["<mask>"] in tokenizer.all_special_ids
    token = tokenizer.added_tokens_decoder[tokenizer.mask_token_id]
    assert (token.rstrip, token.lstrip, token.special) == (True, False, True)
    both = PreTrainedTokenizerFast(
        tokenizer_file=file, mask_token=AddedToken("<new>", lstrip=True), additional_special_tokens=["<new>"]
    )
    assert both.added_tokens_decoder[both.mask_token_id].lstrip


# Further special tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"image_token": "[IMG]"},
        {"image_token": {"__type": "AddedToken", "content": "[IMG]", **PLAIN}},
        {"image_token": {"content": "[IMG]", **PLAIN, "lstrip": True}},
        ["[IMG]"],
        [{"__type": "AddedToken", "content": "[IMG]", **PLAIN}],
        [{"content": "[IMG]", **PLAIN}],
    ],
)
@pytest.mark.parametrize("key", ["extra_special_tokens", "additional_special_tokens"])
def test_further_tokens_in_files(key: str, value: Any, tmp_path: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), pad_token="<pad>").save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    for _ in range(2):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        assert tokenizer.all_special_tokens == ["<pad>", "[IMG]"]
        assert len(tokenizer("[IMG]").input_ids) == 1
        if isinstance(value, dict):
            assert tokenizer.image_token == "[IMG]"
            assert [tokenizer.image_token_id] == tokenizer("[IMG]").input_ids
        tokenizer.save_pretrained(tmp_path)


def test_named_tokens_are_attributes() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(), eos_token="</s>", extra_special_tokens={"image_token": "<img>", "boi": "<boi>"}
    )
    assert (tokenizer.image_token, tokenizer.boi) == ("<img>", "<boi>")
    assert [tokenizer.image_token_id, tokenizer.boi_id] == tokenizer.convert_tokens_to_ids(["<img>", "<boi>"])
    tokenizer.image_token = "</s>"
    assert tokenizer.image_token_id == tokenizer.eos_token_id
    tokenizer.image_token_id = tokenizer.boi_id
    assert tokenizer.special_tokens_map["image_token"] == "<boi>"
    with pytest.raises(UnknownNameError, match="image_token = '<nowhere>': the vocabulary has no such token"):
        tokenizer.image_token = "<nowhere>"
    tokenizer.add_special_tokens({"extra_special_tokens": {"audio_token": "<sound>"}})
    assert tokenizer.audio_token == copy.deepcopy(tokenizer).audio_token == "<sound>"
    assert not hasattr(tokenizer, "video_token")
    with pytest.raises(AttributeError, match="no attribute 'image_tokn'"):
        tokenizer.image_tokn  # noqa: B018


def test_a_property_that_fails_says_what_it_lacks() -> None:
    class Broken(PreTrainedTokenizerFast):
        @property
        def alphabet(self) -> Any:
            return self.letters

    with pytest.raises(AttributeError, match="'letters'"):
        Broken(tokenizer_object=byte_pairs()).alphabet  # noqa: B018


@pytest.mark.parametrize("key", ["additional_special_tokens", "extra_special_tokens"])
def test_one_text_is_no_list(key: str) -> None:
    with pytest.raises(InputError, match=f"{key}='<img>': give a list of tokens"):
        PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), **{key: "<img>"})


def test_both_lists_count() -> None:
    both: dict[str, Any] = {"additional_special_tokens": ["[A]"], "extra_special_tokens": ["[B]", "[A]"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), **both)
    assert tokenizer.all_special_tokens == ["[A]", "[B]"]
    other = PreTrainedTokenizerFast(tokenizer_object=byte_pairs())
    other.add_special_tokens(both)
    assert other.additional_special_tokens == ["[A]", "[B]"]
