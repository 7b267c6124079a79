"""`PreTrainedTokenizerFast`: a tokenizer over the Rust library `tokenizers`; it knows where each token comes from."""

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenizers import AddedToken, Tokenizer, models

from maquette.errors import FileFormatError, InputError
from maquette.storage.transaction import Transaction
from maquette.text.backend import (
    ask,
    copy_backend,
    decode_tokens,
    is_refusal,
    read_backend_file,
    replace_surrogates,
    settings_in,
    train_backend,
    write_backend,
)
from maquette.text.edge_tokens import EdgeTokens
from maquette.text.encoding import LaterRows
from maquette.text.special_tokens import ADDITIONAL, same
from maquette.text.text_input import Options, Texts, check_budget, check_windows
from maquette.text.tokenization_base import Encoded, PreTrainedTokenizerBase
from maquette.text.tokenizer_files import TOKENIZER_FILE


class PreTrainedTokenizerFast(EdgeTokens, PreTrainedTokenizerBase):
    """A tokenizer over the Rust library, from its `tokenizer.json` or from one of its objects.

    Args:
        tokenizer_file: a `tokenizer.json`.
        tokenizer_object: a `tokenizers.Tokenizer`; it is copied.
        add_bos_token, add_eos_token: put these around each text; what the tokenizer's file says, unless given.
        kwargs: special tokens, and the settings of every tokenizer.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"tokenizer_file": TOKENIZER_FILE}
    slow_tokenizer_class: ClassVar[type | None] = None
    reads_tokenizer_json = True
    is_fast = True

    def __init__(
        self,
        *,
        tokenizer_file: str | None = None,
        tokenizer_object: Tokenizer | None = None,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self._backend = self._make_backend(tokenizer_file, tokenizer_object)
        self._note_edges(add_bos_token, add_eos_token, is_read=tokenizer_file is not None)
        self._lock = threading.Lock()
        self._note_added()
        super().__init__(**{**self._settings_in_file(), **kwargs})
        self._backend.no_padding()
        self._backend.no_truncation()
        if kwargs.get("model_input_names") is None and not self._tells_texts_apart():
            self.model_input_names = [name for name in self.model_input_names if name != "token_type_ids"]

    def _make_backend(self, file: str | None, tokenizer: Tokenizer | None) -> Tokenizer:
        if tokenizer is not None:
            return copy_backend(tokenizer)
        if file is None:
            raise InputError(
                f"{type(self).__name__} needs a tokenizer: pass tokenizer_file='tokenizer.json' or tokenizer_object=…, "
                "or load one with from_pretrained."
            )
        return read_backend_file(file)

    def _settings_in_file(self) -> dict[str, Any]:
        """Take over what a `tokenizer.json` says of truncation and padding, as this tokenizer's own."""
        return settings_in(self._backend)

    def __getstate__(self) -> dict[str, Any]:
        state = {n: v for n, v in super().__getstate__().items() if n not in ("_lock", "_contents", "_beyond")}
        with self._lock:
            return state | {"_backend": write_backend(self._backend)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _backend=Tokenizer.from_str(state["_backend"]))
        self._note_added()

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The Rust library's tokenizer, at work in this one."""
        return self._backend

    @property
    def decoder(self) -> Any:
        """The Rust library's decoder."""
        return self._backend.decoder

    # Vocabulary

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones not counted."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def get_vocab(self) -> dict[str, int]:
        """Give every token, added ones included, with its id."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    @property
    def vocab(self) -> dict[str, int]:
        """Every token, added ones included, with its id."""
        return self.get_vocab()

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def _find_id(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def _find_token(self, index: int) -> str | None:
        """Give a token's own text, where the library would give that of an added token as normalised."""
        if (content := self._contents.get(index)) is not None:
            return content
        return self._backend.id_to_token(index) if 0 <= index < 2**32 else None

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._backend.get_added_tokens_decoder().items()))

    def _put_tokens(self, tokens: list[AddedToken]) -> None:
        there = self._backend.get_added_tokens_decoder() if tokens else {}
        for token in tokens:
            index = self._backend.token_to_id(token.content)
            old = None if index is None else there.get(index)
            if old is not None and same(old, token):
                continue
            normalizer = self._backend.normalizer if token.normalized else None
            if normalizer and not ask(partial(normalizer.normalize_str, token.content)).strip():
                raise InputError(
                    f"The token {token.content!r} is empty once normalised, so no text has it. Pass "
                    "AddedToken(…, normalized=False)."
                )
            ask(partial(self._backend.add_special_tokens if token.special else self._backend.add_tokens, [token]))
        self._note_added()

    def _note_added(self) -> None:
        """Note the texts of the added tokens, and which of them the model's own vocabulary lacks."""
        model = self._backend.model
        self._contents = {i: token.content for i, token in self._backend.get_added_tokens_decoder().items()}
        self._beyond = {content: model.id_to_token(index) is None for index, content in self._contents.items()}

    def _put_added(self, tokens: dict[int, AddedToken]) -> None:
        for index, token in sorted(tokens.items()):
            known = self._backend.token_to_id(token.content)
            if known is None and index >= self.vocab_size:
                self._put_tokens([token])
                known = self._backend.token_to_id(token.content)
            if known != index:
                raise FileFormatError(
                    f"The added token {token.content!r} has the id {index}, and the vocabulary has "
                    + ("another token there." if known is None else f"it as {known}.")
                )
            self._put_tokens([token])

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that tokens stand for."""
        decoder = self._backend.decoder
        if decoder is None:
            return " ".join(tokens)

        return decode_tokens(decoder, tokens, self._beyond)

    def _tidies(self, given: bool | None) -> bool:
        """Byte pairs keep the spaces of a text, so that a file's setting would take out true ones."""
        return super()._tidies(given) and (given is not None or not isinstance(self._backend.model, models.BPE))

    # From text to rows

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Cut a text into tokens, without turning them into ids."""
        texts = Texts([text], None if pair is None else [pair], False, False)
        options = Options(add_special_tokens=add_special_tokens).settle(self)
        return [self._token_of(index) for index in self._encode(texts, options).ids[0]]

    def _encode(self, texts: Texts, options: Options) -> Encoded:
        pair = texts.seconds is not None
        count = self._backend.num_special_tokens_to_add(pair) if options.add_special_tokens else 0
        budget = check_budget(options, count, pair=pair)
        inputs = texts.firsts if texts.seconds is None else list(zip(texts.firsts, texts.seconds, strict=True))
        if budget is not None and options.return_overflowing_tokens and texts.seconds is not None:
            self._check_overflow(texts, options, budget)
        quick = len(inputs) > 1 and not options.return_offsets_mapping
        samples, rows = self._find_rows(inputs, texts, options, budget, quick=quick)
        ids = [row.ids for row in rows]
        later = partial(self._find_again, ids, inputs, texts, options, budget)
        return Encoded(
            ids,
            [row.type_ids for row in rows] if options.return_token_type_ids else None,
            [row.special_tokens_mask for row in rows] if options.return_special_tokens_mask else None,
            [row.offsets for row in rows] if options.return_offsets_mapping else None,
            samples,
            LaterRows(later, len(rows)) if quick else rows,
        )

    def _spell(self, text: str) -> list[int]:
        """Give the ids of a text without regard to added tokens."""
        cutter, normalizer = self._backend.pre_tokenizer, self._backend.normalizer
        text = normalizer.normalize_str(text) if normalizer is not None else text
        pieces = [piece for piece, _ in cutter.pre_tokenize_str(text)] if cutter is not None else [text]
        return [token.id for piece in pieces for token in self._backend.model.tokenize(piece)]

    def _find_rows(
        self, inputs: list[Any], texts: Texts, options: Options, budget: int | None, *, quick: bool
    ) -> tuple[list[int] | None, list[Any]]:
        """Give the rows, and each one's sample where a text can have several; `quick` leaves out where tokens lie."""
        with self._lock:
            self._set_truncation(options, budget)
            self._backend.encode_special_tokens = self.split_special_tokens
            encodings = self._run(inputs, texts, options, quick=quick)
        if not options.return_overflowing_tokens:
            return None, encodings
        rows = [(index, row) for index, first in enumerate(encodings) for row in (first, *first.overflowing)]
        return [index for index, _ in rows], [row for _, row in rows]

    def _find_again(self, ids: list[list[int]], *call: Any) -> list[Any]:
        """Encode once more, for someone who asks where the tokens of a batch lie in their texts."""
        rows = self._find_rows(*call, quick=False)[1]
        if [row.ids for row in rows] != ids:
            raise InputError(
                "The tokenizer was changed after it gave these rows, and no longer knows where their tokens lie. "
                "Call it again, or pass return_offsets_mapping=True in the call."
            )
        return rows

    def _set_truncation(self, options: Options, budget: int | None) -> None:
        """Have the Rust library cut rows to length; it keeps this, so it is only told when it changes."""
        current = self._backend.truncation
        if budget is None:
            if current is not None:
                self._backend.no_truncation()
            return
        wanted: dict[str, Any] = {
            "max_length": options.max_length,
            "stride": options.stride if options.return_overflowing_tokens else 0,
            "strategy": options.truncation,
            "direction": options.truncation_side,
        }
        if current is None or any(current[name] != value for name, value in wanted.items()):
            ask(lambda: self._backend.enable_truncation(**wanted), InputError)

    def _run(self, inputs: list[Any], texts: Texts, options: Options, *, quick: bool) -> list[Any]:
        """Encode; only where that fails is it found out why: halves of surrogate pairs, or a row that cannot be cut."""
        form: Any = {"is_pretokenized": texts.words, "add_special_tokens": options.add_special_tokens}

        def encode(row: int) -> Any:
            parts = (inputs[row], None) if texts.seconds is None else inputs[row]
            return self._backend.encode(*parts, **form)

        try:
            batch = self._backend.encode_batch_fast if quick else self._backend.encode_batch
            return [encode(0)] if len(inputs) == 1 else list(batch(inputs, **form))
        except BaseException as problem:
            if not is_refusal(problem):
                raise
            clean = list(map(replace_surrogates, inputs))
        if clean != inputs:
            return self._run(clean, texts, options, quick=quick)
        return [ask(partial(encode, row), partial(_name_row, row)) for row in range(len(inputs))]

    def _check_overflow(self, texts: Texts, options: Options, budget: int) -> None:
        """Refuse windows that would not move on: the library panics about them."""
        if options.truncation == "longest_first" or texts.seconds is None:
            return
        other = texts.seconds if options.truncation == "only_first" else texts.firsts
        cut = texts.firsts if options.truncation == "only_first" else texts.seconds
        form: Any = {"is_pretokenized": texts.words, "add_special_tokens": False}
        with self._lock:
            self._backend.no_truncation()
            sizes = [
                [
                    len(row.ids)
                    for row in ask(partial(self._backend.encode_batch, list(map(replace_surrogates, rows)), **form))
                ]
                for rows in (cut, other)
            ]
        for row, (size, beside) in enumerate(zip(*sizes, strict=True)):
            if size + beside > budget:
                check_windows(budget - beside, options.stride, row)

    def _tells_texts_apart(self) -> bool:
        """Tell whether the two texts of a pair are of different types, with a separator between that ends the first.

        Decoders number their texts too, and take no types: there, what stands between is the end or the next begin.
        """
        try:
            parts = self._read_template(pair=True)
        except InputError:
            return True
        places = {part: place for place, (part, _) in enumerate(parts) if part in ("$A", "$B")}
        if len(places) < 2 or parts[places["$B"]][1] == parts[places["$A"]][1]:
            return False
        between, kind = parts[places["$A"] + 1]
        return between not in ("$B", self.eos_token_id) and kind == parts[places["$A"]][1]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Count the special tokens of a row, of one text or of a pair."""
        return int(self._backend.num_special_tokens_to_add(pair))

    # From another tokenizer

    @classmethod
    def from_slow(cls, tokenizer: Any, **kwargs: Any) -> Self:
        """Give the fast tokenizer that does what a Python one does, its added tokens and settings included.

        Raises:
            InputError: that class of Python tokenizer has no counterpart in the Rust library.
        """
        make = getattr(tokenizer, "to_backend", None)
        if make is None:
            raise InputError(
                f"{type(tokenizer).__name__} cannot become a fast tokenizer: its rules are its own Python code. "
                "WordPiece tokenizers can; for another, build a tokenizers.Tokenizer and pass it as tokenizer_object."
            )
        return cls(tokenizer_object=make(), **cls._settings_of(tokenizer), **kwargs)

    @classmethod
    def _settings_of(cls, tokenizer: Any) -> dict[str, Any]:
        known = cls._known_arguments()
        values = {name: value for name, value in tokenizer._arguments().items() if name in known}
        additional = {ADDITIONAL: list(tokenizer._additional)} if tokenizer._additional else {}
        return {**values, **tokenizer._special, **additional}

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[Any],
        vocab_size: int,
        *,
        length: int | None = None,
        new_special_tokens: Iterable[str | AddedToken] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        show_progress: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Learn a vocabulary from your texts, for a tokenizer that works as this one does.

        Args:
            text_iterator: texts, or lists of texts.
            vocab_size: how many tokens to learn, the special ones included.
            length: how many texts there are, for the progress bar.
            new_special_tokens: further special tokens.
            special_tokens_map: new texts for special tokens, `{"[CLS]": "<s>"}`.
            show_progress: show a progress bar for each step.
            kwargs: what the library's trainer takes, such as `min_frequency`.

        Raises:
            InputError: the trainer does not take it, or an item is no text.
        """
        renamed = dict(special_tokens_map or {})
        fresh = ask(
            lambda: train_backend(
                self._backend,
                text_iterator,
                vocab_size,
                length=length,
                renamed=renamed,
                new_special_tokens=new_special_tokens or (),
                show_progress=show_progress,
                options=kwargs,
            ),
            lambda why: InputError(f"Training failed: {why}"),
        )
        settings: dict[str, Any] = {n: v for n, v in self._arguments().items() if n in self._known_arguments()}
        settings |= {name: renamed.get(token, token) for name, token in self._special.items()}
        more = [renamed.get(token, token) for token in self._additional] + list(new_special_tokens or ())
        return type(self)(tokenizer_object=fresh, **settings | ({ADDITIONAL: more} if more else {}))

    # Files

    def _write_vocabulary(self, transaction: Transaction) -> None:
        transaction.write(TOKENIZER_FILE, self._backend_text())

    def _backend_text(self) -> str:
        with self._lock:
            return write_backend(self._backend, pretty=True)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the `tokenizer.json` into a folder, and give its path."""
        path = Path(save_directory) / "-".join(filter(None, (filename_prefix, TOKENIZER_FILE)))
        path.write_text(self._backend_text(), encoding="utf-8")
        return (str(path),)


def _name_row(row: int, problem: str) -> InputError:
    return InputError(f"Row {row}: {problem}")
