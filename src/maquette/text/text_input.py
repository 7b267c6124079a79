"""What a tokenizer was called with: the texts, told apart from pairs, batches and words, and the options, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from maquette.batch.padding import PADDINGS, SIDES, TRUNCATIONS, check_choice
from maquette.batch.tensors import check_framework
from maquette.errors import InputError

LARGEST_LENGTH = 10**20  # a model_max_length above this says that there is no limit


@dataclass(slots=True)
class Texts:
    """The texts of one call.

    Attributes:
        firsts: one item for each row: a text, or with `words` a list of words.
        seconds: their pairs, or None where there are none.
        batched: whether the caller gave a batch, and so gets one.
        words: whether the texts were split into words by the caller.
    """

    firsts: list[Any]
    seconds: list[Any] | None
    batched: bool
    words: bool


@dataclass(slots=True, kw_only=True)
class Options:
    """What else the caller said, by its name in the call; `settle` checks it and fills in the tokenizer's own."""

    add_special_tokens: bool = True
    padding: Any = False  # settled, a text
    truncation: Any = None  # settled, a text
    max_length: int | None = None
    stride: int = 0
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | None = None
    return_token_type_ids: bool | None = None
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False
    truncation_side: str = "right"

    def settle(self, tokenizer: Any) -> Self:
        """Check every choice, and fill in the tokenizer's own where there was none.

        Raises:
            InputError, UnknownNameError: with the option and what it would have to be.
        """
        self.padding = read_padding(self.padding)
        self.truncation = read_truncation(self.truncation, max_length=self.max_length, padding=self.padding)
        self.padding_side = check_choice("padding_side", self.padding_side or tokenizer.padding_side, SIDES)
        self.truncation_side = tokenizer.truncation_side
        if self.return_token_type_ids is None:
            self.return_token_type_ids = "token_type_ids" in tokenizer.model_input_names
        if self.return_attention_mask is None:
            self.return_attention_mask = "attention_mask" in tokenizer.model_input_names
        check_lengths(self, tokenizer.model_max_length)
        self.return_tensors = None if self.return_tensors is None else check_framework(self.return_tensors)
        return self


def read_texts(text: Any, pair: Any, *, words: bool) -> Texts:
    """Tell what the caller gave: one text or a batch, alone or in pairs, whole or split into words.

    Raises:
        InputError: naming the item that is no text, by its index.
    """
    if type(text) is str and pair is None and not words:
        return Texts([text], None, False, False)
    depth = _depth(text) - words
    if depth >= 0 and hasattr(text, "__array__"):
        text = text.tolist()
    if depth < 0:
        raise InputError("is_split_into_words=True takes a list of words, or a list of such lists, not one text.")
    if depth == 0:
        texts = Texts([text], None if pair is None else [pair], False, words)
    elif pair is None and _are_pairs(text, words):
        texts = Texts([one for one, _ in text], [two for _, two in text], True, words)
    else:
        texts = Texts(list(text), None if pair is None else _as_list(pair), True, words)
    _check(texts, "text" if texts.seconds is None or pair is not None else "text pair")
    return texts


def _depth(value: Any) -> int:
    """Count how many lists there are around the texts; a batch may be empty."""
    if isinstance(value, list | tuple):
        return 1 + max((_depth(item) for item in value[:1]), default=0)
    if isinstance(value, str) or not hasattr(value, "__len__") or isinstance(value, bytes | dict):
        return 0
    return _depth(list(value))  # an array or a column of a table


def _are_pairs(batch: Sequence[Any], words: bool) -> bool:
    """`[("a", "b"), …]` is a batch of pairs; where words are given, only tuples of two lists are pairs."""
    kinds = (list, tuple)
    if not words:
        return bool(batch) and all(isinstance(item, kinds) and len(item) == 2 for item in batch)
    return bool(batch) and all(
        isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], kinds) for item in batch
    )


def _as_list(pair: Any) -> list[Any]:
    if isinstance(pair, str) or not hasattr(pair, "__len__"):
        raise InputError("A batch of texts needs a batch of second texts, a list of the same length, not one text.")
    return list(pair)


def _check(texts: Texts, name: str) -> None:
    if texts.seconds is not None and len(texts.seconds) != len(texts.firsts):
        raise InputError(
            f"There are {len(texts.firsts)} texts and {len(texts.seconds)} second texts; give one for each."
        )
    for rows, place in ((texts.firsts, name), (texts.seconds or [], "text_pair")):
        if texts.words:
            for index, row in enumerate(rows):
                if not isinstance(row, list | tuple):
                    raise _no_text(row, place, index if texts.batched else None, "a list of words")
                _check_strings(row, f"{place}[{index}]" if texts.batched else place, indexed=True)
        else:
            _check_strings(rows, place, indexed=texts.batched)


def _check_strings(items: Sequence[Any], place: str, *, indexed: bool) -> None:
    if set(map(type, items)) <= {str}:
        return
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise _no_text(item, place, index if indexed else None, "a text")


def _no_text(item: Any, place: str, index: int | None, wanted: str) -> InputError:
    where = place if index is None else f"{place}[{index}]"
    hint = " Decode it first: item.decode('utf-8')." if isinstance(item, bytes) else ""
    return InputError(f"{where} is {item!r:.60} ({type(item).__name__}), where {wanted} (str) belongs.{hint}")


def read_padding(padding: Any) -> str:
    """Give the padding strategy that True, False or a name stands for."""
    if padding is True or padding is False or padding is None:
        return "longest" if padding else "do_not_pad"
    return check_choice("padding", padding, PADDINGS)


def read_truncation(truncation: Any, *, max_length: int | None, padding: str) -> str:
    """Give the truncation strategy; a `max_length` alone, without padding, asks for truncation to it."""
    if truncation is True:
        return "longest_first"
    if truncation is None:
        return "longest_first" if max_length is not None and padding == "do_not_pad" else "do_not_truncate"
    return "do_not_truncate" if truncation is False else check_choice("truncation", truncation, TRUNCATIONS)


def check_lengths(options: Options, model_max_length: int) -> None:
    """Fill in the model's length where none was given, and refuse numbers that do not go together.

    Raises:
        InputError: with the number and what it would have to be.
    """
    for name, value, least in (
        ("max_length", options.max_length, 0),
        ("stride", options.stride, 0),
        ("pad_to_multiple_of", options.pad_to_multiple_of, 1),
    ):
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value < least):
            raise InputError(f"{name}={value!r}: must be a whole number, {least} or more.")
    limit = None if model_max_length > LARGEST_LENGTH else int(model_max_length)
    if options.max_length is None and (options.padding == "max_length" or options.truncation != "do_not_truncate"):
        options.max_length = limit
        if limit is None:
            options.truncation = "do_not_truncate"
    if options.padding == "max_length" and options.max_length is None:
        raise InputError("padding='max_length' needs max_length: this tokenizer has no model_max_length of its own.")
    if options.pad_to_multiple_of and options.max_length and options.padding != "do_not_pad":
        _check_multiple(options.max_length, options.pad_to_multiple_of, options.truncation)


def _check_multiple(max_length: int, multiple: int, truncation: str) -> None:
    if truncation != "do_not_truncate" and max_length % multiple:
        raise InputError(
            f"max_length={max_length} is not a multiple of pad_to_multiple_of={multiple}: rows cut to the one would be "
            f"padded beyond it. Use max_length={max_length // multiple * multiple or multiple}."
        )


def check_budget(options: Options, specials: int, *, pair: bool) -> int | None:
    """Give how many tokens of the texts themselves are kept, or None where nothing is cut.

    Raises:
        InputError: there is no room for the special tokens, or none beside what windows share.
    """
    if options.truncation == "do_not_truncate" or options.max_length is None:
        return None
    budget = options.max_length - specials
    if budget < 0:
        raise InputError(
            f"max_length={options.max_length} has no room for the {specials} special tokens of each row. Raise it, or "
            "pass add_special_tokens=False."
        )
    room = budget // 2 if pair and options.truncation == "longest_first" else budget
    if options.return_overflowing_tokens and options.stride >= room:
        raise InputError(
            f"stride={options.stride} must be less than the {room} tokens of a text that "
            f"max_length={options.max_length} leaves in a row, or windows would not move on."
        )
    return budget


def check_windows(kept: int, stride: int, row: int) -> None:
    """Refuse windows of one row that would not move on."""
    if kept <= stride:
        raise InputError(
            f"In row {row} the other text leaves {max(kept, 0)} tokens for the one that is cut, and "
            f"stride={stride} must be less than that. Raise max_length, or lower stride."
        )
