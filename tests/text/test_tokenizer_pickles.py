"""A tokenizer's pickle, and with it the fingerprint of a data set, is that of its settings; calls change nothing."""

import copy
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest
from datasets.fingerprint import Hasher
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from maquette import DistilBertTokenizer, DistilBertTokenizerFast, PreTrainedTokenizerFast, Wav2Vec2CTCTokenizer
from maquette.text.tokenization import PreTrainedTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "é", "##s", "[X]"]
TEXTS = ["the cats sat", "The É [X] cat", "the the the the the the"]


class Letters(PreTrainedTokenizer):
    def __init__(self, unk_token: str = "?", pad_token: str = "_", **kwargs: Any) -> None:
        self.letters = "?_ abcdehst"
        super().__init__(unk_token=unk_token, pad_token=pad_token, **kwargs)

    @cached_property
    def places(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(self.letters)}

    @property
    def vocab_size(self) -> int:
        return len(self.letters)

    def get_vocab(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(self.letters)} | self.added_tokens_encoder

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.places.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.letters[index]


def over_rust() -> Any:
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", additional_special_tokens=["[X]"])


def vocabulary(words: Any) -> dict[str, int]:
    return {word: place for place, word in enumerate(words)}


KINDS: dict[str, Callable[[], Any]] = {
    "rust": over_rust,
    "word pieces": lambda: DistilBertTokenizer(vocab=vocabulary(WORDS), additional_special_tokens=["[X]"]),
    "word pieces, rust": lambda: DistilBertTokenizerFast(vocab=vocabulary(WORDS), additional_special_tokens=["[X]"]),
    "characters": lambda: Wav2Vec2CTCTokenizer(vocab=vocabulary(["<pad>", "<unk>", "|", *"acehst"])),
    "a user's own": Letters,
}


def use(tokenizer: Any) -> list[Any]:
    """Call a tokenizer in every way that leaves something behind."""
    tokenizer.model_max_length = 4
    seen: list[Any] = [tokenizer(TEXTS, truncation=True, max_length=5).input_ids]
    seen.append(tokenizer(TEXTS, truncation=True, max_length=6, padding=True).input_ids)
    seen.append(tokenizer(TEXTS).input_ids)
    seen.append(tokenizer(TEXTS[0], TEXTS[1], return_token_type_ids=True, return_special_tokens_mask=True).data)
    seen += [tokenizer.decode(row, skip_special_tokens=True) for row in seen[2]]
    tokenizer.get_special_tokens_mask(seen[2][0], already_has_special_tokens=True)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_calls_leave_the_fingerprint_as_it_was(kind: str) -> None:
    tokenizer = KINDS[kind]()
    tokenizer.model_max_length = 4

    def tokenize(rows: Any) -> Any:
        return tokenizer(rows["text"], truncation=True)

    before, fingerprint = Hasher.hash(tokenizer), Hasher.hash(tokenize)
    seen = use(tokenizer)
    assert (Hasher.hash(tokenizer), Hasher.hash(tokenize)) == (before, fingerprint)
    again = KINDS[kind]()
    again.model_max_length = 4
    assert Hasher.hash(again) == before
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer), copy.copy(tokenizer)):
        assert Hasher.hash(other) == before
        assert use(other) == seen
        assert other.added_tokens_decoder.keys() == tokenizer.added_tokens_decoder.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_changes_the_fingerprint(kind: str) -> None:
    tokenizer = KINDS[kind]()
    hashes = [Hasher.hash(tokenizer)]
    for change in (
        lambda: setattr(tokenizer, "padding_side", "left"),
        lambda: setattr(tokenizer, "model_max_length", 9),
        lambda: tokenizer.add_tokens(["new"]),
        lambda: setattr(tokenizer, "mask_token", "new"),
        lambda: setattr(tokenizer, "split_special_tokens", True),
    ):
        change()
        hashes.append(Hasher.hash(tokenizer))
    assert len({*hashes}) == len(hashes)


@pytest.mark.parametrize("kind", ["rust", "word pieces", "word pieces, rust"])
def test_special_tokens_are_split_in_copies_too(kind: str) -> None:
    tokenizer = KINDS[kind]()
    whole = tokenizer("[X]", add_special_tokens=False).input_ids
    tokenizer.split_special_tokens = True
    split = tokenizer("[X]", add_special_tokens=False).input_ids
    assert len(whole) == 1 != len(split)
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert other("[X]", add_special_tokens=False).input_ids == split
    tokenizer.split_special_tokens = False
    assert tokenizer("[X]", add_special_tokens=False).input_ids == whole
