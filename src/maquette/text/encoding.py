"""What a tokenizer gives back: rows by name, and from a fast one the way between tokens, words and characters."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from maquette.batch.features import BatchFeature
from maquette.batch.padding import column_array
from maquette.batch.tensors import check_framework, framework_of, to_tensor
from maquette.errors import InputError


class CharSpan(NamedTuple):
    """Characters `start` up to, but without, `end` of a text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` up to, but without, `end` of a row."""

    start: int
    end: int


class LaterRows(Sequence[Any]):
    """What the Rust library knows of a batch's rows, asked for only when someone looks: most never do.

    Args:
        find: gives the rows.
        count: how many there are.
    """

    def __init__(self, find: Callable[[], list[Any]], count: int) -> None:
        self._find, self._count = find, count

    @functools.cached_property
    def _rows(self) -> list[Any]:
        return self._find()

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self._rows,)  # another process has neither the texts nor the tokenizer


class BatchEncoding(BatchFeature):
    """What a tokenizer gives: a mapping from `input_ids` and the like to rows or tensors, also as attributes.

    From a fast tokenizer it also maps between tokens, words and characters. In those methods, leave the batch index
    out for the first text: `char_to_token(5)`, or `char_to_token(batch_index, 5)`.

    Args:
        data: the rows or tensors, by name.
        encoding: what the Rust library knows of each row; None from a Python tokenizer.
        tensor_type: "np", "pt", "tf" or "jax", to turn the rows into.
        prepend_batch_axis: the rows are one text's; add the axis of the batch.
        padded: how the rows were padded, as `Encoding.pad` takes it.
    """

    _called: ClassVar[str] = "encoding"

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Any = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
        *,
        padded: Mapping[str, Any] | None = None,
    ) -> None:
        self.data: dict[str, Any] = dict(data or {})
        self._encodings = [encoding] if encoding is not None and not isinstance(encoding, Sequence) else encoding
        self._padded = padded
        self._n_sequences = n_sequences
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis=prepend_batch_axis)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return super().__getitem__(item)
        if isinstance(item, slice):
            return {name: rows[item] for name, rows in self.data.items()}
        return self._all()[item]

    # Tensors

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> Self:
        """Turn every row into a tensor of the given kind, in place; gives itself.

        Raises:
            InputError: rows of different lengths.
        """
        if tensor_type is None:
            return self
        framework = check_framework(tensor_type)
        for name, value in self.data.items():
            if framework_of(value) != framework:
                rows = [value] if prepend_batch_axis else value
                self.data[name] = to_tensor(column_array(name, rows, None, None, "right"), framework)
        return self

    # Tokens, words and characters

    @property
    def is_fast(self) -> bool:
        """Whether the mapping between tokens, words and characters is there."""
        return self._encodings is not None

    @property
    def encodings(self) -> list[Any] | None:
        """What the Rust library knows of each row, padded as the rows are; None from a Python tokenizer."""
        if self._encodings is not None and self._padded:
            padding, self._padded = self._padded, None
            for encoding in self._encodings:
                encoding.pad(**padding)
        return None if self._encodings is None else list(self._encodings)

    @property
    def n_sequences(self) -> int | None:
        """1 for texts, 2 for pairs of texts; None from a Python tokenizer."""
        if self._n_sequences is None and self._encodings:
            return int(self._encodings[0].n_sequences)
        return self._n_sequences

    def _all(self) -> list[Any]:
        encodings = self.encodings
        if encodings is None:
            raise InputError(
                "Only a fast tokenizer maps between tokens, words and characters, and these rows come from a Python "
                "one or from pad(). Use the class of the same name that ends in Fast."
            )
        return encodings

    def _place(self, batch_or_index: int, index: int | None) -> tuple[Any, int]:
        encodings = self._all()
        row, place = (0, batch_or_index) if index is None else (batch_or_index, index)
        encoding = encodings[row]
        return encoding, place + len(encoding.ids) if place < 0 else place

    def tokens(self, batch_index: int = 0) -> list[str]:
        """List the tokens of a row, special ones and padding included."""
        return list(self._all()[batch_index].tokens)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Tell of each token which text it is of, 0 or 1; None for special tokens and padding."""
        return list(self._all()[batch_index].sequence_ids)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Tell of each token which word of its text it is of; None for special tokens and padding."""
        return list(self._all()[batch_index].word_ids)

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Tell which text a token is of, 0 or 1; None for a special token."""
        encoding, place = self._place(batch_or_token_index, token_index)
        found: int | None = encoding.token_to_sequence(place)
        return found

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Tell which word of its text a token is of; None for a special token."""
        encoding, place = self._place(batch_or_token_index, token_index)
        found: int | None = encoding.token_to_word(place)
        return found

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """Give the characters of the text that a token stands for; None for a special token."""
        encoding, place = self._place(batch_or_token_index, token_index)
        found = encoding.token_to_chars(place)
        return None if found is None else CharSpan(*found)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """Give the tokens of a word; None where truncation or cleaning left none."""
        encoding, place = self._word(batch_or_word_index, word_index, sequence_index)
        found = encoding.word_to_tokens(place, sequence_index)
        return None if found is None else TokenSpan(*found)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """Give the characters of the text that a word stands for; None where there is no such word."""
        encoding, place = self._word(batch_or_word_index, word_index, sequence_index)
        found = encoding.word_to_chars(place, sequence_index)
        return None if found is None else CharSpan(*found)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Tell which token a character of the text went into; None for spaces and what was taken out."""
        encoding, place = self._character(batch_or_char_index, char_index)
        found: int | None = encoding.char_to_token(place, sequence_index)
        return found

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Tell which word a character of the text is of; None for spaces and what was taken out."""
        encoding, place = self._character(batch_or_char_index, char_index)
        found: int | None = encoding.char_to_word(place, sequence_index)
        return found

    def _word(self, batch_or_word: int, word: int | None, sequence: int) -> tuple[Any, int]:
        """Find the encoding and the word; a negative index counts from the last word of that text."""
        encoding, place = self._character(batch_or_word, word)
        if place < 0:
            pairs = zip(encoding.word_ids, encoding.sequence_ids, strict=True)
            place += 1 + max((w for w, s in pairs if w is not None and s == sequence), default=-1)
        return encoding, place

    def _character(self, batch_or_char: int, char: int | None) -> tuple[Any, int]:
        row, place = (0, batch_or_char) if char is None else (batch_or_char, char)
        return self._all()[row], place
