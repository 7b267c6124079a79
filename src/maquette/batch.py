"""What a tokenizer gives back, and the only padding and truncation there are.

Rows of different lengths become an array by filling one flat numpy array; Python lists are never padded for that.
"""

from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from maquette.errors import InputError, did_you_mean
from maquette.tensors import check_framework, framework_of, move, to_numpy, to_tensor

Rows = Sequence[Sequence[Any]]
SIDES = ("right", "left")
PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")


class CharSpan(NamedTuple):
    """Characters `start` up to, but without, `end` of a text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` up to, but without, `end` of a row."""

    start: int
    end: int


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Give back a value that is one of the choices, or say which there are.

    Raises:
        InputError: with the nearest choice.
    """
    text = getattr(value, "value", value)
    if text in choices:
        return str(text)
    raise InputError(
        f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}.{did_you_mean(str(text), choices)}"
    )


# Truncation --------------------------------------------------------------------------------------------------------


def truncate(first: int, second: int | None, *, budget: int, strategy: str) -> tuple[int, int | None]:
    """Decide how many tokens of a text, and of its pair, are kept.

    Args:
        first, second: how many tokens they have.
        budget: how many may be kept together, the special tokens not counted.
        strategy: "longest_first" cuts the longer one, and both to halves where both are longer than that (the longer
            one, else the second, has the odd token); "only_first" and "only_second" cut that one and must leave some.

    Raises:
        InputError: the one text that may be cut is too short for that.
    """
    excess = first + (second or 0) - budget
    if excess <= 0 or strategy == "do_not_truncate":
        return first, second
    if strategy == "longest_first":
        if second is None:
            return budget, None
        short = min(first, second, budget // 2)
        return (budget - short, short) if first > second else (short, budget - short)
    cut = first if strategy == "only_first" else second
    if cut is None:
        raise InputError("truncation='only_second', but there is no second text. Use 'only_first' or True.")
    if cut <= excess:
        raise InputError(
            f"truncation={strategy!r} cannot bring {first} + {second or 0} tokens down to {budget}: the text that may "
            f"be cut has only {cut}. Raise max_length, or use truncation=True."
        )
    return (first - excess, second) if strategy == "only_first" else (first, cut - excess)


def windows(length: int, size: int, *, stride: int, side: str) -> list[tuple[int, int]]:
    """Give the stretches of at most `size` tokens that cover a text, each sharing `stride` tokens with the one before.

    The first is the one that truncation keeps: at the start, or with `side="left"` at the end.
    """
    if length <= size:
        return [(0, length)]
    if size <= 0:
        return [(0, 0)]
    starts = range(0, length - stride, size - stride)
    spans = [(start, min(start + size, length)) for start in starts]
    return spans if side == "right" else [(length - stop, length - start) for start, stop in spans]


# Padding -----------------------------------------------------------------------------------------------------------


def padded_length(lengths: Sequence[int], padding: str, *, max_length: int | None, multiple: int | None) -> int | None:
    """Give the length that rows are padded to, or None where they stay as they are.

    Rows that are longer than `max_length` are not cut by padding; they stay as long as they are.
    """
    if padding == "do_not_pad" or not lengths:
        return None
    width = max(lengths) if padding == "longest" else max(max_length or 0, 0)
    return -(-width // multiple) * multiple if multiple else width


def pad(
    columns: Mapping[str, Any], fills: Mapping[str, Any], *, width: int | None, side: str, arrays: bool
) -> dict[str, Any]:
    """Bring the rows of the columns that `fills` names to one length.

    Args:
        columns: by name, rows of numbers (or of tuples of numbers).
        fills: what to pad each column with; the other columns are passed on.
        width: the length of every row afterwards; None leaves the lengths, which arrays then need to be equal.
        side: "right" or "left", where the padding goes.
        arrays: give int64 arrays, `(rows, width, …)`, instead of lists.

    Raises:
        InputError: rows of different lengths cannot become one array.
    """
    return {name: _pad_column(name, rows, fills, width, side, arrays) for name, rows in columns.items()}


def _pad_column(name: str, rows: Any, fills: Mapping[str, Any], width: int | None, side: str, arrays: bool) -> Any:
    if arrays:
        return _column_array(name, rows, fills.get(name), width if name in fills else None, side)
    if name not in fills or width is None:
        return rows
    return [pad_row(row, width, fills[name], side) for row in rows]


def pad_row(row: Sequence[Any], width: int, fill: Any, side: str) -> list[Any]:
    """Give one row with `fill` added until it has the length `width`."""
    filling = [fill] * (width - len(row))
    return [*row, *filling] if side == "right" else [*filling, *row]


def _column_array(name: str, rows: Any, fill: Any, width: int | None, side: str) -> "np.ndarray[Any, Any]":
    if not len(rows) or not isinstance(rows[0], Sequence) or isinstance(fill, tuple):
        if isinstance(fill, tuple) and width is not None:
            rows = [pad_row(row, width, fill, side) for row in rows]
        return _as_array(name, rows)
    if len(rows) == 1 and width in (None, len(rows[0])):
        return _as_array(name, rows) if not rows[0] else np.array(rows)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    if not lengths.sum() or isinstance(next(chain.from_iterable(rows)), Sequence):
        return _as_array(name, rows if width is None else [pad_row(row, width, fill, side) for row in rows])
    if width is None:
        if (lengths != lengths[0]).any():
            raise _ragged(name, lengths.tolist())
        width = int(lengths[0])
    return fill_array(rows, lengths, width, fill or 0, side)


def fill_array(rows: Rows, lengths: "np.ndarray[Any, Any]", width: int, fill: int, side: str) -> "np.ndarray[Any, Any]":
    """Write rows of numbers into one int64 array `(len(rows), width)`, the rest of which is `fill`."""
    width = max(width, int(lengths.max()))
    total = int(lengths.sum())
    flat = np.fromiter(chain.from_iterable(rows), np.int64, total)
    if total == len(rows) * width:
        return flat.reshape(len(rows), width)
    array = np.full(len(rows) * width, fill, np.int64) if fill else np.zeros(len(rows) * width, np.int64)
    starts = np.arange(len(rows)) * width + (width - lengths if side == "left" else 0)
    array[np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(total)] = flat
    return array.reshape(len(rows), width)


def attention_mask(lengths: Sequence[int], *, width: int | None, side: str, arrays: bool) -> Any:
    """Give ones where the rows' own tokens are, and zeros where they are padded to `width`."""
    if not arrays:
        return [pad_row([1] * length, width or 0, 0, side) for length in lengths]
    longest = max(lengths, default=0)
    if width is None and lengths and longest > min(lengths):
        raise _ragged("attention_mask", lengths)
    width = max(width or 0, longest)
    if len(lengths) == 1 and width == longest:
        return np.ones((1, width), np.int64)
    real, places = np.array(lengths, np.int64)[:, None], np.arange(width)
    return (places < real if side == "right" else places >= width - real).astype(np.int64)


def _as_array(name: str, rows: Any) -> "np.ndarray[Any, Any]":
    try:
        array = to_numpy(rows)
        if isinstance(array, np.ndarray) and array.dtype != object:
            return array if array.size or array.dtype.kind not in "f" else array.astype(np.int64)
    except ValueError:
        pass
    raise _ragged(name, [len(row) for row in rows if isinstance(row, Sequence | np.ndarray)])


def _ragged(name: str, lengths: Sequence[int]) -> InputError:
    sizes = sorted({*lengths})
    found = f"rows of {sizes[0]} to {sizes[-1]} items" if len(sizes) > 1 else "values that are no numbers"
    return InputError(
        f"{name!r} cannot become one tensor: it has {found}. Pass padding=True, and truncation=True where texts are "
        "too long, or leave return_tensors out."
    )


# The result --------------------------------------------------------------------------------------------------------


class BatchEncoding(UserDict[str, Any]):
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
            if item not in self.data:
                raise KeyError(
                    f"{item!r} is not in this encoding.{did_you_mean(item, self.data)} It has: {', '.join(self.data)}."
                )
            return self.data[item]
        if isinstance(item, slice):
            return {name: rows[item] for name, rows in self.data.items()}
        return self._all()[item]

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"This encoding has no {name!r}.{did_you_mean(name, data)} It has: {', '.join(data)}.")

    def __copy__(self) -> "BatchEncoding":
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, data=dict(self.data))
        return other

    # Tensors

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> "BatchEncoding":
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
                self.data[name] = to_tensor(_column_array(name, rows, None, None, "right"), framework)
        return self

    def to(self, device: Any, *, non_blocking: bool = False) -> "BatchEncoding":
        """Put the torch tensors on a device, in place; gives itself."""
        self.data = {name: move(value, device, non_blocking=non_blocking) for name, value in self.data.items()}
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


def as_columns(encoded: Any) -> dict[str, Any]:
    """Give one encoding, or a list of encodings, as rows by name.

    Raises:
        InputError: the encodings of the list have different keys; the message says which one and which keys.
    """
    if isinstance(encoded, Mapping | UserDict):
        return dict(encoded)
    if not isinstance(encoded, Iterable) or isinstance(encoded, str):
        raise InputError(f"pad() takes an encoding or a list of encodings, not {type(encoded).__name__}.")
    items = list(encoded)
    names = list(items[0]) if items else []
    for index, item in enumerate(items):
        if set(item) != set(names):
            raise InputError(
                f"The encodings to pad differ in their keys: number {index} has {sorted(item)}, "
                f"number 0 {sorted(names)}."
            )
    return {name: [item[name] for item in items] for name in names}


def plain_rows(value: Any) -> Any:
    """Give tensors and arrays, also in lists, as plain lists; plain values as they are."""
    if framework_of(value):
        return to_numpy(value).tolist()
    return [plain_rows(item) for item in value] if isinstance(value, list | tuple) and _holds_tensors(value) else value


def _holds_tensors(values: Iterable[Any]) -> bool:
    return any(framework_of(item) or (isinstance(item, list | tuple) and _holds_tensors(item[:1])) for item in values)
