"""WordPiece tokenizers of both kinds, over one vocabulary file: what BERT and its relatives use."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece as WordPieceModel

from maquette.errors import FileFormatError, InputError, MissingFileError, SaveError
from maquette.hub.sources import CONFIG_NAME, Source
from maquette.storage.json_files import read_json
from maquette.storage.transaction import Transaction
from maquette.text.backend import make_template
from maquette.text.tokenization import DictionaryTokenizer
from maquette.text.tokenization_fast import PreTrainedTokenizerFast
from maquette.text.tokenizer_files import TOKENIZER_FILE, read_token
from maquette.text.vocabulary_files import LARGEST_ID, check_ids, read_lines
from maquette.text.wordpiece import (
    CONTINUATION,
    END,
    LONGEST_WORD,
    Normalizer,
    WordPiece,
    join,
    space_ascii,
)

Ids = list[int]


def read_vocabulary(path: str | os.PathLike[str], *, unk_token: str) -> dict[str, int]:
    """Read a vocabulary with one token a line; the first has the id 0.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is empty, not UTF-8, has a line twice (which), or lacks the unknown token.
    """
    return check_vocabulary(read_lines(path), unk_token, str(path))


def check_vocabulary(vocabulary: Mapping[str, int], unk_token: str, place: str) -> dict[str, int]:
    """Give a vocabulary that has tokens, and the unknown one among them."""
    if not vocabulary:
        raise FileFormatError(f"{place} is empty; a vocabulary has one token a line.")
    if unk_token not in vocabulary:
        raise FileFormatError(
            f"{place} has no line {unk_token!r}, the token for words that no other tokens make up. Add it, or pass "
            "unk_token=… for the one that it has."
        )
    return dict(vocabulary)


def make_backend(
    vocabulary: Mapping[str, int],
    *,
    unk_token: str,
    do_lower_case: bool,
    strip_accents: bool | None,
    tokenize_chinese_chars: bool,
) -> Tokenizer:
    """Make the Rust library's tokenizer for a vocabulary and a way of normalising."""
    backend = Tokenizer(WordPieceModel(dict(vocabulary), unk_token=unk_token))
    backend.normalizer = make_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=False)
    return backend


def make_normalizer(do_lower_case: bool, strip_accents: bool | None, tokenize_chinese_chars: bool) -> Any:
    """Make the Rust library's counterpart of `Normalizer`."""
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )


class WordPieceTokenizer(DictionaryTokenizer):
    """WordPiece in Python; a model's tokenizer adds its templates and lengths.

    Args:
        vocab_file: one token a line.
        do_lower_case: write small letters, and take accents off unless `strip_accents` says otherwise.
        never_split: words that stay as they are; they should be in the vocabulary.
        tokenize_chinese_chars: make each CJK ideograph a word of its own.
        vocab: the vocabulary itself, `{token: id}`, instead of a file.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "vocab.txt"}
    reads_tokenizer_json = True
    clean_up_tokenization_spaces = True
    single_template = "cls_token $A sep_token"
    pair_template = "cls_token $A sep_token $B:1 sep_token:1"

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        do_lower_case: bool = True,
        *,
        never_split: Iterable[str] | None = None,
        unk_token: str | AddedToken = "[UNK]",  # noqa: S107 - a token of the vocabulary
        sep_token: str | AddedToken | None = "[SEP]",  # noqa: S107
        pad_token: str | AddedToken | None = "[PAD]",  # noqa: S107
        cls_token: str | AddedToken | None = "[CLS]",  # noqa: S107
        mask_token: str | AddedToken | None = "[MASK]",  # noqa: S107
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        vocab: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab = _take_vocabulary(type(self).__name__, vocab_file, vocab, str(unk_token))
        self.ids_to_tokens = {index: token for token, index in self.vocab.items()}
        self.do_lower_case, self.strip_accents = do_lower_case, strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.never_split = sorted(never_split or ())
        self._normal = Normalizer(
            lowercase=do_lower_case, strip_accents=strip_accents, separate_ideographs=tokenize_chinese_chars
        )
        self._words = WordPiece(self.vocab, self.vocab[str(unk_token)])
        special = {"unk_token": unk_token, "sep_token": sep_token, "pad_token": pad_token}
        super().__init__(**special, cls_token=cls_token, mask_token=mask_token, **kwargs)

    def _normalizer(self) -> Callable[[str], str]:
        return self._normal.normalize

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that tokens stand for: pieces joined to words, words with spaces between."""
        parts = [t.removeprefix(CONTINUATION) if t.startswith(CONTINUATION) else f" {t}" for t in tokens[1:]]
        return "".join((*tokens[:1], *parts))

    # From text to ids

    def _tokenize(self, text: str) -> list[str]:
        return [self.ids_to_tokens[index] for index in self._encode_words(self._normal.space_punctuation(text))]

    def _encode_words(self, words: str) -> Ids:
        return next(self._words.encode(words))

    def _encode_texts(self, texts: list[str]) -> list[Ids]:
        """Encode all texts at once: plain ASCII ones as one string, and the others, put in words, after it."""
        if self.never_split or not texts:
            return [self._encode_words(self._in_words(text)) for text in texts]
        joined = END.join(texts)
        if joined.isascii() and (words := self._plain_words(joined, len(texts))) is not None:
            return list(self._words.encode(words))
        if len(texts) == 1:
            return [self._encode_words(self._in_words(texts[0]))]
        plain = self._are_plain(texts, joined)
        words = self._plain_words(
            END.join(text for text, simple in zip(texts, plain, strict=True) if simple), sum(plain)
        )
        if words is None:
            return list(self._words.encode(join(list(map(self._in_words, texts)))))
        ready = iter(words.split(f" {END} "))
        parts = [next(ready) if simple else self._in_words(text) for text, simple in zip(texts, plain, strict=True)]
        return list(self._words.encode(join(parts)))

    def _are_plain(self, texts: list[str], joined: str) -> list[bool]:
        """Tell which texts are ASCII, without added tokens and without `END`."""
        raw, _ = self._added.finders
        tokens = [] if raw is None else [token for token in raw.tokens if token in joined]
        if joined.count(END) == len(texts) - 1 and not tokens:
            return list(map(str.isascii, texts))
        return [text.isascii() and END not in text and not any(token in text for token in tokens) for text in texts]

    def _plain_words(self, joined: str, count: int) -> str | None:
        """Give the words of ASCII texts joined by `END`; None if added tokens may be in them, or `END` itself."""
        raw, normalized = self._added.finders
        if (raw and raw.appears_in(joined)) or joined.count(END) != max(count - 1, 0):
            return None
        normal = self._normal.normalize_ascii(joined)
        if normalized and normalized.appears_in(normal):
            return None
        return space_ascii(normal).replace(END, f" {END} ")

    def _in_words(self, text: str) -> str:
        """Give a text's words with spaces between; an added token as `END` and its id."""
        raw, normalized = self._added.finders
        if not self.never_split and normalized is None and not (raw and raw.appears_in(text)):
            return self._normal.separate(text)
        pieces = self._added.cut(text) if not self.never_split else self._cut_apart(text)
        return " ".join(
            f"{END}{piece}" if isinstance(piece, int) else self._normal.space_punctuation(piece) for piece in pieces
        )

    def _cut_apart(self, text: str) -> Iterable[str | int]:
        """Cut a text at added tokens, and at the words that are never split."""
        clean = Normalizer(lowercase=False, strip_accents=False, separate_ideographs=self.tokenize_chinese_chars)
        for word in clean.normalize(text).split():
            if word in self.never_split:
                index = self._find_id(word)
                yield self.vocab[str(self.unk_token)] if index is None else index
            else:
                yield from self._added.cut(word)

    # Files

    @classmethod
    def _read_files(cls, source: Source, files: dict[str, Path], saved: dict[str, Any]) -> dict[str, Any]:
        if "vocab_file" in files and files["vocab_file"].suffix != ".json":
            found = {"vocab_file": str(files["vocab_file"])}
            there = source.config_name == CONFIG_NAME and source.find(TOKENIZER_FILE)
            return found | (_added_tokens(source, TOKENIZER_FILE, saved) if there else {})
        name = source.config_name if source.config_name.endswith(TOKENIZER_FILE) else TOKENIZER_FILE
        return read_tokenizer_json(source, name, saved)

    def to_backend(self) -> Tokenizer:
        """Make the Rust library's tokenizer that gives the same ids.

        Raises:
            InputError: `never_split` is set, which that library does not know.
        """
        if self.never_split:
            raise InputError(
                "never_split has no counterpart in a fast tokenizer; add the words with add_tokens instead."
            )
        backend = make_backend(
            self.vocab,
            unk_token=str(self.unk_token),
            do_lower_case=self.do_lower_case,
            strip_accents=self.strip_accents,
            tokenize_chinese_chars=self.tokenize_chinese_chars,
        )
        for token in self.added_tokens_decoder.values():
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        backend.post_processor = make_template(self)
        return backend

    def _write_vocabulary(self, transaction: Transaction) -> None:
        transaction.write("vocab.txt", self._vocabulary_text())
        if self.never_split:
            transaction.remove(TOKENIZER_FILE)
        else:
            transaction.write(TOKENIZER_FILE, self.to_backend().to_str(pretty=True))

    def _vocabulary_text(self) -> str:
        return vocabulary_text(self.vocab)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the `vocab.txt` into a folder, and give its path."""
        path = Path(save_directory) / "-".join(filter(None, (filename_prefix, "vocab.txt")))
        path.write_text(self._vocabulary_text(), encoding="utf-8", newline="")
        return (str(path),)


class WordPieceTokenizerFast(PreTrainedTokenizerFast):
    """WordPiece over the Rust library; a model's tokenizer adds its templates and lengths.

    Args:
        vocab_file: one token a line; or give a `tokenizer_file`, or the vocabulary itself as `vocab`.
        do_lower_case, strip_accents, tokenize_chinese_chars: as in `WordPieceTokenizer`; what `tokenizer_file` says,
            unless given.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "vocab.txt", "tokenizer_file": TOKENIZER_FILE}
    slow_tokenizer_class: ClassVar[type | None] = WordPieceTokenizer
    clean_up_tokenization_spaces = True
    single_template = WordPieceTokenizer.single_template
    pair_template = WordPieceTokenizer.pair_template

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        tokenizer_file: str | os.PathLike[str] | None = None,
        *,
        tokenizer_object: Tokenizer | None = None,
        do_lower_case: bool | None = None,
        unk_token: str | AddedToken = "[UNK]",  # noqa: S107 - a token of the vocabulary
        sep_token: str | AddedToken | None = "[SEP]",  # noqa: S107
        pad_token: str | AddedToken | None = "[PAD]",  # noqa: S107
        cls_token: str | AddedToken | None = "[CLS]",  # noqa: S107
        mask_token: str | AddedToken | None = "[MASK]",  # noqa: S107
        tokenize_chinese_chars: bool | None = None,
        strip_accents: bool | None = None,
        vocab: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        if tokenizer_file is None and tokenizer_object is None:
            tokenizer_object = make_backend(
                _take_vocabulary(type(self).__name__, vocab_file, vocab, str(unk_token)),
                unk_token=str(unk_token),
                do_lower_case=do_lower_case is not False,
                strip_accents=strip_accents,
                tokenize_chinese_chars=tokenize_chinese_chars is not False,
            )
        self._wanted = (do_lower_case, strip_accents, tokenize_chinese_chars)
        special: dict[str, Any] = {"unk_token": unk_token, "sep_token": sep_token, "pad_token": pad_token}
        file = None if tokenizer_file is None else str(tokenizer_file)
        super().__init__(
            tokenizer_file=file,
            tokenizer_object=tokenizer_object,
            **special,
            cls_token=cls_token,
            mask_token=mask_token,
            **kwargs,
        )

    def _make_backend(self, file: str | None, tokenizer: Tokenizer | None) -> Tokenizer:
        """Read the library's tokenizer, and have it normalise as the arguments say."""
        backend = super()._make_backend(file, tokenizer)
        if not isinstance(backend.model, WordPieceModel):
            raise FileFormatError(
                f"{type(self).__name__} needs a WordPiece model, and this is a {type(backend.model).__name__}."
            )
        lowercase, accents, ideographs = self.__dict__.pop("_wanted")
        normal = backend.normalizer
        known = isinstance(normal, normalizers.BertNormalizer)
        there = (normal.lowercase, normal.strip_accents, normal.handle_chinese_chars) if known else (True, None, True)
        self.do_lower_case = there[0] if lowercase is None else lowercase
        self.strip_accents = there[1] if accents is None else accents
        self.tokenize_chinese_chars = there[2] if ideographs is None else ideographs
        wanted = (self.do_lower_case, self.strip_accents, self.tokenize_chinese_chars)
        if wanted != there:
            backend.normalizer = make_normalizer(*wanted)
        return backend

    def _specials_changed(self) -> None:
        super()._specials_changed()
        self._backend.post_processor = make_template(self)

    @classmethod
    def _adapt(cls, arguments: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        if arguments.get("never_split"):
            raise InputError(
                f"This tokenizer was saved with never_split={arguments['never_split']!r}, which a fast tokenizer does "
                f"not know. Load it with {cls.__name__.removesuffix('Fast')}."
            )
        if "tokenizer_file" in arguments:
            arguments.pop("vocab_file", None)
        return {name: value for name, value in arguments.items() if name != "never_split"}

    def _write_vocabulary(self, transaction: Transaction) -> None:
        super()._write_vocabulary(transaction)
        transaction.write("vocab.txt", vocabulary_text(self._backend.get_vocab(with_added_tokens=False)))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the `vocab.txt` into a folder, and give its path."""
        path = Path(save_directory) / "-".join(filter(None, (filename_prefix, "vocab.txt")))
        path.write_text(vocabulary_text(self._backend.get_vocab(with_added_tokens=False)), encoding="utf-8", newline="")
        return (str(path),)

    def _saved_class_name(self) -> str:
        return type(self).__name__.removesuffix("Fast")


def _take_vocabulary(
    name: str, vocab_file: str | os.PathLike[str] | None, vocab: Mapping[str, int] | None, unk_token: str
) -> dict[str, int]:
    if vocab is not None:
        place = "The vocabulary given"
        return check_vocabulary(check_ids(vocab, place, largest=LARGEST_ID), unk_token, place)
    if vocab_file is None:
        raise InputError(f"{name} needs a vocabulary: pass vocab_file='vocab.txt', or load one with from_pretrained.")
    return read_vocabulary(vocab_file, unk_token=unk_token)


def vocabulary_text(vocabulary: Mapping[str, int]) -> str:
    """Write a vocabulary with one token a line.

    Raises:
        SaveError: the ids have gaps, or a token has a line end in it.
    """
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[token] for token in ordered] != list(range(len(ordered))) or any("\n" in token for token in ordered):
        raise SaveError(
            "This vocabulary cannot be one token a line: its ids have gaps, or a token has a line end in it."
        )
    return "".join(f"{token}\n" for token in ordered)


def read_tokenizer_json(source: Source, name: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a `tokenizer.json` says, as arguments of `WordPieceTokenizer`; saved arguments come first.

    Raises:
        FileFormatError: it is not of the WordPiece that this class does.
    """
    path = source.find(name)
    if path is None:
        raise MissingFileError(f"{source.label!r} has neither a vocab.txt nor a {TOKENIZER_FILE}.")
    place = f"{source.label}/{name}"
    content = read_json(path, label=place)
    model, normal = content.get("model") or {}, content.get("normalizer") or {}
    vocabulary = model.get("vocab")
    form = (model.get("continuing_subword_prefix", CONTINUATION), model.get("max_input_chars_per_word", LONGEST_WORD))
    if (
        not isinstance(vocabulary, dict)
        or model.get("type", "WordPiece") != "WordPiece"
        or form != (CONTINUATION, LONGEST_WORD)
    ):
        raise FileFormatError(
            f"{place} is no WordPiece tokenizer with the prefix '##'; load it as PreTrainedTokenizerFast."
        )
    found: dict[str, Any] = {}
    if normal.get("type") == "BertNormalizer":
        found["do_lower_case"] = normal.get("lowercase", True)
        found["strip_accents"] = normal.get("strip_accents")
        found["tokenize_chinese_chars"] = normal.get("handle_chinese_chars", True)
    found = {argument: value for argument, value in found.items() if argument not in saved}
    return {**found, **_added_tokens(source, name, saved), "vocab": vocabulary}


def _added_tokens(source: Source, name: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Give the added tokens of a `tokenizer.json` with their flags, where the folder has them nowhere else."""
    path, place = source.find(name), f"{source.label}/{name}"
    if path is None or saved.get("added_tokens_decoder"):
        return {}
    added = read_json(path, label=place).get("added_tokens") or []
    try:
        return {"added_tokens_decoder": {int(token["id"]): read_token(token, place) for token in added}}
    except (KeyError, TypeError, ValueError) as error:
        raise (
            error
            if isinstance(error, FileFormatError)
            else FileFormatError(f"{place}: added_tokens must be a list of tokens, each with its id.")
        ) from None
