"""Byte-level BPE tokenizers of both kinds: what GPT-2, Llama 3, Qwen and their relatives use."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tokenizers import Tokenizer
from tokenizers.normalizers import NFC, NFKC

from maquette.errors import FileFormatError, InputError, MissingFileError, SaveError
from maquette.hub.sources import Source
from maquette.storage.json_files import read_json
from maquette.storage.paths import user_path
from maquette.storage.transaction import Transaction
from maquette.text.backend import (
    ask,
    check_merges,
    copy_backend,
    decode_tokens,
    read_backend_file,
    replace_surrogates,
    settings_in,
    without_added,
)
from maquette.text.byte_pairs import (
    END,
    GPT2_PATTERN,
    ByteDecoder,
    BytePairs,
    is_byte_level,
    make_backend,
    settle_prefix_space,
)
from maquette.text.edge_tokens import EdgeTokens
from maquette.text.text_input import Options, Texts
from maquette.text.tiktoken_files import is_tiktoken, read_tiktoken, spell
from maquette.text.tokenization import DictionaryTokenizer
from maquette.text.tokenization_fast import PreTrainedTokenizerFast
from maquette.text.tokenizer_files import TOKENIZER_FILE
from maquette.text.vocabulary_files import LARGEST_ID, check_ids

Ids = list[int]
FilePath = str | os.PathLike[str]
VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"


def read_merges(path: FilePath) -> list[tuple[str, str]]:
    """Read merges, a pair a line, the first of which come first; a line `#version` may stand above them.

    Raises:
        MissingFileError: there is no such file.
        FileFormatError: it is not UTF-8, or a line is no pair (which).
    """
    try:
        lines = user_path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not text in UTF-8: {error}.") from None
    except OSError as error:
        raise MissingFileError(f"The merges {str(path)!r} cannot be read: {error.strerror}.") from None
    return [
        _pair(line.rstrip("\r"), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#version")
    ]


def _pair(merge: Any, place: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    if len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise FileFormatError(f"{place}: {merge!r:.60} is no merge, which is two tokens with a space between.")
    return parts[0], parts[1]


def check_byte_level(backend: Tokenizer, place: str) -> Tokenizer:
    """Give back a tokenizer that merges pairs of bytes."""
    if not is_byte_level(backend):
        raise FileFormatError(
            f"{place} is no byte-level BPE tokenizer: its model is {type(backend.model).__name__}, and its "
            f"pre_tokenizer {type(backend.pre_tokenizer).__name__}. Load it as PreTrainedTokenizerFast."
        )
    return backend


class _ByteLevel(EdgeTokens):
    """What the two kinds share: how they are made of files.

    Class attributes:
        pattern: what texts are cut into before pairs are merged.
        normal_form: the form of Unicode that texts are brought to, such as "NFC", where the model has one.
        suffix: the mark of a word's end in the vocabulary, where it has one.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCABULARY_FILE,
        "merges_file": MERGES_FILE,
        "tokenizer_file": TOKENIZER_FILE,
    }
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    pattern: ClassVar[str] = GPT2_PATTERN
    normal_form: ClassVar[str | None] = None
    suffix: ClassVar[str | None] = None

    def _assemble_backend(self, vocab: Any, merges: Any, settings: Mapping[str, Any]) -> Tokenizer:
        """Make the Rust library's tokenizer of a vocabulary and merges, given as such or as files."""
        if merges is None and isinstance(vocab, str | os.PathLike) and is_tiktoken(vocab):
            ranks = read_tiktoken(vocab)
            return make_backend(*spell(ranks), pattern=self.pattern, normal_form=self.normal_form, ignore_merges=True)
        if vocab is None or merges is None:
            raise InputError(
                f"{type(self).__name__} needs a vocabulary and its merges: pass vocab_file='{VOCABULARY_FILE}' and "
                f"merges_file='{MERGES_FILE}', or tokenizer_file='{TOKENIZER_FILE}', or load one with from_pretrained."
            )
        whole, place = isinstance(vocab, Mapping), "The vocabulary given"
        tokens = check_ids(
            vocab if whole else read_json(user_path(vocab)), place if whole else str(vocab), largest=LARGEST_ID
        )
        paths = isinstance(merges, str | os.PathLike)
        pairs = read_merges(merges) if paths else [_pair(merge, "The merges given") for merge in merges]
        for problem in check_merges(list(map(list, pairs)), {*tokens}, {}):
            raise FileFormatError(f"The vocabulary and its merges do not go together: {problem}.")
        unknown = settings.get("unk_token", self.default_tokens.get("unk_token"))
        return make_backend(
            tokens,
            pairs,
            pattern=self.pattern,
            normal_form=self.normal_form,
            unk_token=None if unknown is None else str(unknown),
            suffix=self.suffix,
        )

    @classmethod
    def _read_files(cls, source: Source, files: dict[str, Path], saved: dict[str, Any]) -> dict[str, Any]:
        """Go by the `tokenizer.json` where there is one: it says more than the vocabulary and the merges."""
        if "tokenizer_file" in files:
            return {"tokenizer_file": str(files["tokenizer_file"])}
        if "merges_file" not in files:
            raise MissingFileError(f"{source.label!r} holds no {MERGES_FILE} beside its {VOCABULARY_FILE}.")
        return {argument: str(path) for argument, path in files.items()}

    def _saved_class_name(self) -> str:
        return type(self).__name__.removesuffix("Fast")

    def _tokens_in(self, backend: Tokenizer) -> dict[str, str]:
        """Give those of the class's special tokens that a file's tokenizer has."""
        return {name: token for name, token in self.default_tokens.items() if backend.token_to_id(token) is not None}


class ByteLevelBPETokenizer(_ByteLevel, DictionaryTokenizer):
    """Byte-level BPE in Python, with cached words; a model's tokenizer adds its pattern, special tokens and lengths.

    Args:
        vocab_file: a JSON object of tokens and ids, `vocab.json`; or a vocabulary of tiktoken, which needs no merges.
        merges_file: a pair a line, `merges.txt`.
        errors: what decoding does with bytes that are no UTF-8: "replace", "ignore" or "strict".
        tokenizer_file: all of it, and the way texts are cut, in one `tokenizer.json`.
        add_prefix_space: put a space before a text that has none; what `tokenizer_file` says, unless given.
        add_bos_token, add_eos_token: put these before and after each text; what `tokenizer_file` says, unless given.
        vocab, merges: the vocabulary `{token: id}` and the merges themselves, instead of files.
        kwargs: special tokens, and the settings of every tokenizer.
    """

    reads_tokenizer_json = True

    def __init__(
        self,
        vocab_file: FilePath | None = None,
        merges_file: FilePath | None = None,
        errors: str = "replace",
        *,
        tokenizer_file: FilePath | None = None,
        add_prefix_space: bool | None = None,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
        vocab: Mapping[str, int] | None = None,
        merges: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.errors = errors
        if tokenizer_file is None:
            self._backend = self._assemble_backend(vocab_file or vocab, merges_file or merges, kwargs)
            kwargs = {**self.default_tokens, **kwargs}
        else:
            whole = check_byte_level(read_backend_file(tokenizer_file), str(tokenizer_file))
            self._backend = without_added(whole)
            added = whole.get_added_tokens_decoder() | (kwargs.pop("added_tokens_decoder", None) or {})
            kwargs = {**self._tokens_in(whole), **settings_in(whole), **kwargs, "added_tokens_decoder": added}
        self.add_prefix_space = settle_prefix_space(self._backend, add_prefix_space)
        self.vocab: dict[str, int] = self._backend.get_vocab(with_added_tokens=False)
        self.ids_to_tokens = {index: token for token, index in self.vocab.items()}
        self._note_edges(add_bos_token, add_eos_token, is_read=tokenizer_file is not None)
        super().__init__(**kwargs)

    @cached_property
    def _words(self) -> BytePairs:
        return BytePairs(self._backend)

    def _normalizer(self) -> Callable[[str], str] | None:
        return None if self._backend.normalizer is None else self._normalize

    def _normalize(self, text: str) -> str:
        normalizer = self._backend.normalizer
        if normalizer is None or (text.isascii() and self._keeps_ascii):
            return text
        return str(ask(lambda: normalizer.normalize_str(replace_surrogates(text))))

    @cached_property
    def _keeps_ascii(self) -> bool:
        return isinstance(self._backend.normalizer, NFC | NFKC)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that tokens stand for; `errors` says what becomes of bytes that are no characters."""
        beyond = {content: content not in self.vocab for content in self._added.ids}
        return decode_tokens(ByteDecoder(self.errors), tokens, beyond)

    def _tidies(self, given: bool | None) -> bool:
        return bool(given)  # byte pairs keep the spaces of a text: a file's setting would take out true ones

    # From text to ids

    def _tokenize(self, text: str) -> list[str]:
        return [self.ids_to_tokens[index] for index in self._words.encode([text])[0]]

    def _encode_texts(self, texts: list[str]) -> list[Ids]:
        """Encode all texts at once; those with added tokens in pieces."""
        raw, normalized = self._added.finders
        joined = END.join(texts)
        if raw is None or not raw.appears_in(joined):
            normal = self._normalize(joined)
            if normalized is None or not normalized.appears_in(normal):
                plain = texts if normal is joined else normal.split(END)
                return self._words.encode(plain if len(plain) == len(texts) else list(map(self._normalize, texts)))
        cut = [self._added.cut(text) for text in texts]
        ids = iter(self._words.encode([piece for row in cut for piece in row if isinstance(piece, str)]))
        rows = ([[piece] if isinstance(piece, int) else next(ids) for piece in row] for row in cut)
        return [list(chain.from_iterable(row)) for row in rows]

    # Files

    def to_backend(self) -> Tokenizer:
        """Make the Rust library's tokenizer that gives the same ids.

        Raises:
            InputError: the ids of added tokens have gaps, which that library closes.
        """
        backend = copy_backend(self._backend)
        for index, token in self.added_tokens_decoder.items():
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])
            if (there := backend.token_to_id(token.content)) != index:
                raise InputError(
                    f"The added token {token.content!r} has the id {index}, and would have {there} in a fast "
                    "tokenizer, which leaves no gaps between ids."
                )
        return backend

    def _write_vocabulary(self, transaction: Transaction) -> None:
        super()._write_vocabulary(transaction)
        with suppress(InputError):  # without that file, a folder is read by the others
            transaction.write(TOKENIZER_FILE, self.to_backend().to_str(pretty=True))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `vocab.json` and `merges.txt` into a folder, and give their paths."""
        paths = ask(lambda: self._backend.model.save(save_directory, filename_prefix), SaveError)
        return tuple(map(str, paths))


class ByteLevelBPETokenizerFast(_ByteLevel, PreTrainedTokenizerFast):
    """Byte-level BPE over the Rust library; a model's tokenizer adds its pattern, special tokens and lengths.

    Args:
        vocab_file, merges_file: `vocab.json` and `merges.txt`; or give a `tokenizer_file`, whose way of cutting and
            laying out texts is then believed.
        add_prefix_space, vocab, merges, kwargs: as in `ByteLevelBPETokenizer`.
    """

    slow_tokenizer_class: ClassVar[type | None] = ByteLevelBPETokenizer
    _keeps_words = True

    def __init__(
        self,
        vocab_file: FilePath | None = None,
        merges_file: FilePath | None = None,
        tokenizer_file: FilePath | None = None,
        *,
        tokenizer_object: Tokenizer | None = None,
        add_prefix_space: bool | None = None,
        vocab: Mapping[str, int] | None = None,
        merges: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._made = tokenizer_file is None and tokenizer_object is None
        if self._made:
            tokenizer_object = self._assemble_backend(vocab_file or vocab, merges_file or merges, kwargs)
        self._wanted = add_prefix_space
        file = None if tokenizer_file is None else str(tokenizer_file)
        super().__init__(tokenizer_file=file, tokenizer_object=tokenizer_object, **kwargs)

    def _make_backend(self, file: str | None, tokenizer: Tokenizer | None) -> Tokenizer:
        self._backend = check_byte_level(super()._make_backend(file, tokenizer), file or "The tokenizer_object")
        self.add_prefix_space = settle_prefix_space(self._backend, self.__dict__.pop("_wanted"))
        return self._backend

    def _settings_in_file(self) -> dict[str, Any]:
        tokens = self.default_tokens if self.__dict__.pop("_made") else self._tokens_in(self._backend)
        return {**tokens, **super()._settings_in_file()}

    # From text to ids

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The Rust library's tokenizer, at work in this one; as it may be changed from now on, no words are kept."""
        self._keeps_words = False
        return self._backend

    @cached_property
    def _words(self) -> BytePairs:
        return BytePairs(self._backend)

    def _find_rows(
        self, inputs: list[Any], texts: Texts, options: Options, budget: int | None, *, quick: bool
    ) -> tuple[list[int] | None, list[Any]]:
        """Look the words of a batch up where nothing is asked for but ids, and no added token is in the texts."""
        more = options.return_overflowing_tokens or options.return_token_type_ids or options.return_special_tokens_mask
        plain = texts.seconds is None and not texts.words and not more and options.truncation != "only_second"
        if not (quick and plain and self._keeps_words and self._words.cuts and self._is_plain(END.join(inputs))):
            return super()._find_rows(inputs, texts, options, budget, quick=quick)
        before, after = self._around() if options.add_special_tokens else ([], [])
        rows = self._words.encode(inputs)
        if budget is not None:
            left = options.truncation_side == "left"
            rows = [row[max(len(row) - budget, 0) :] if left else row[:budget] for row in rows]
        return None, [Row([*before, *row, *after]) for row in rows]

    def _is_plain(self, joined: str) -> bool:
        """Tell whether texts have no added tokens, and no characters that a normal form may change."""
        added = self._contents.values()
        if any(start in joined for start in {token[:2] for token in added}) and any(one in joined for one in added):
            return False
        normalizer = self._backend.normalizer
        return normalizer is None or (
            isinstance(normalizer, NFC | NFKC) and joined.isascii() and all(map(str.isascii, added))
        )


class Row(NamedTuple):
    """A row of a batch of which only the ids are known."""

    ids: Ids
