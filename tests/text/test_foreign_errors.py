"""What users' own code and the Rust library raise comes with what was being done, and what to do."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from maquette import AutoTokenizer, DistilBertTokenizer, DistilBertTokenizerFast, PreTrainedTokenizerFast
from maquette.errors import FileFormatError, InputError, SaveError
from maquette.text.tokenization import PreTrainedTokenizer

FOREVER = r"(x+x+)+y"  # takes exponential time on a row of x, and the Rust library's engine panics about it
MANY = "x" * 60


class Bases(PreTrainedTokenizer):
    """Builds its vocabulary before or after the constructor of its base runs, or never."""

    def __init__(self, letters: str = "ACGT", when: str = "after", unk_token: str = "N", **kwargs: Any) -> None:
        self.letters, self.when = letters, when
        if when == "before":
            self.places = self.make()
        super().__init__(unk_token=unk_token, **kwargs)
        if when == "after":
            self.places = self.make()

    def make(self) -> dict[str, int]:
        return {letter: place for place, letter in enumerate(["N", *self.letters])}

    @property
    def vocab_size(self) -> int:
        return len(self.places)

    def get_vocab(self) -> dict[str, int]:
        return {**self.places, **self.added_tokens_encoder}

    def _tokenize(self, text: str) -> list[str]:
        if "!" in text:
            raise RuntimeError("no bases")
        return list(text)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.places.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return list(self.places)[index]

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_vocabulary_may_come_after_the_base(when: str, tmp_path: Path) -> None:
    tokenizer = Bases(when=when, pad_token="P", additional_special_tokens=["<x>"], extra_special_tokens={"gap": "-"})
    assert tokenizer("AC<x>-X").input_ids == [1, 2, 7, 6, 0]
    assert (tokenizer.pad_token_id, tokenizer.gap_id, len(tokenizer)) == (5, 6, 8)
    tokenizer.save_pretrained(tmp_path)
    assert Bases.from_pretrained(tmp_path)("AC<x>-X").input_ids == [1, 2, 7, 6, 0]


def test_a_vocabulary_that_never_comes() -> None:
    with pytest.raises(
        InputError, match=r"Bases: its special tokens could not be looked up, AttributeError: .*'places'"
    ):
        Bases(when="never")


def test_errors_of_users_code_keep_their_kind_and_say_where() -> None:
    with pytest.raises(RuntimeError, match="no bases") as caught:
        Bases()(["ACGT", "AC!"])
    assert caught.value.__notes__ == ["Bases was turning this text into ids: 'AC!'"]


# Parts written in Python ---------------------------------------------------------------------------------------


class Triplets:
    def split(self, place: int, text: Any) -> list[Any]:
        return [text[start : start + 3] for start in range(0, len(str(text)), 3)]

    def pre_tokenize(self, text: Any) -> None:
        text.split(self.split)


def in_python() -> Tokenizer:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "ACG": 1, "TTT": 2}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.normalizer = normalizers.Strip()
    backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Triplets())
    backend.decoder = decoders.Fuse()
    backend.add_tokens(["<s>", "<x>"])
    return backend


def test_parts_in_python_work_and_are_not_saved(tmp_path: Path) -> None:
    backend = in_python()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<s>")
    assert tokenizer(" ACGTTT<x>AC").input_ids == backend.encode(" ACGTTT<x>AC").ids
    tokenizer.add_tokens("<new>")
    assert backend.token_to_id("<new>") is None
    for store in (lambda: tokenizer.save_pretrained(tmp_path), lambda: pickle.dumps(tokenizer)):
        with pytest.raises(SaveError, match=r"Custom PreTokenizer cannot be serialized.*set it after loading"):
            store()
    assert list(tmp_path.iterdir()) == []


# Panics of the Rust library ------------------------------------------------------------------------------------


def slow_on(part: str) -> Tokenizer:
    backend = Tokenizer(models.BPE({"x": 0, "y": 1, "z": 2}, []))
    if part == "pre_tokenizer":
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(FOREVER), "isolated")
    if part == "normalizer":
        backend.normalizer = normalizers.Replace(Regex(FOREVER), "z")
    return backend


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer"])
def test_a_pattern_that_panics_is_an_error_of_ours(part: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=slow_on(part), unk_token="z")
    hopeless = r"A pattern .* gave up on the text .*Patterns with a repetition"
    for call in (
        lambda: tokenizer(MANY),
        lambda: tokenizer.tokenize(MANY),
        lambda: tokenizer([MANY, "y"], ["y", "y"]),
        lambda: tokenizer(["y"], [MANY], truncation="only_first", max_length=4, return_overflowing_tokens=True),
    ):
        with pytest.raises(InputError, match=hopeless):
            call()
    with pytest.raises(InputError, match="Row 1: " + hopeless):
        tokenizer(["y", MANY])
    assert tokenizer("xxy").input_ids == tokenizer.backend_tokenizer.encode("xxy").ids  # and it goes on


def test_a_panic_while_tokens_are_added() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=slow_on("normalizer"))
    with pytest.raises(InputError, match="gave up on the text"):
        tokenizer.add_tokens(MANY)


@pytest.mark.parametrize("load", [AutoTokenizer, PreTrainedTokenizerFast, DistilBertTokenizerFast])
def test_a_file_that_panics_is_refused_when_it_is_loaded(load: Any, tmp_path: Path) -> None:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "[SEP]": 1, "[CLS]": 2, "[PAD]": 3, "[MASK]": 4}))
    content = json.loads(backend.to_str())
    pattern = r"^(?=[\s\S])((\S|\S\S|\s\S|\S\s)+)+$\b\B"  # also on the plain text that every file is tried on
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))
    with pytest.raises(FileFormatError, match=r"tokenizer.json is no tokenizer that works: .*gave up on the text"):
        load.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [DistilBertTokenizer, DistilBertTokenizerFast])
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"a": -1}, "the token 'a' has the id -1"),
        ({"a": 0.5}, "the token 'a' has the id 0.5"),
        ({"a": 2**40}, f"the token 'a' has the id {2**40}"),
        ({"a": 0}, r"'\[UNK\]' and 'a' both have the id 0"),
        ({5: 1}, r"5 \(int\) is no token"),
    ],
)
def test_a_vocabulary_given_is_looked_at(kind: Any, more: dict[Any, Any], says: str) -> None:
    with pytest.raises(FileFormatError, match=f"The vocabulary given: .*{says}"):
        kind(vocab={"[UNK]": 0, **more})
