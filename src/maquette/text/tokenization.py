"""`PreTrainedTokenizer`: a tokenizer in Python, yours or ours."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from tokenizers import AddedToken

from maquette.batch.padding import TRUNCATIONS, check_choice, truncate, windows
from maquette.errors import FileFormatError, InputError, MaquetteError
from maquette.text.added_tokens import AddedTokens
from maquette.text.encoding import BatchEncoding
from maquette.text.special_tokens import same
from maquette.text.templates import Ids, Part
from maquette.text.text_input import Options, Texts, check_budget, check_windows
from maquette.text.tokenization_base import CALL_OPTIONS, Encoded, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class PreTrainedTokenizer(PreTrainedTokenizerBase):
    """A tokenizer in Python.

    For one of your own, write `_tokenize` and what the vocabulary is:

        class Characters(PreTrainedTokenizer):
            vocab_files_names = {"vocab_file": "characters.txt"}

            def __init__(self, vocab_file, unk_token="?", **kwargs):
                self.characters = Path(vocab_file).read_text()
                super().__init__(unk_token=unk_token, **kwargs)

            def _tokenize(self, text): return list(text)
            def _convert_token_to_id(self, token): ...
            def _convert_id_to_token(self, index): ...
            def get_vocab(self): ...
            vocab_size = property(lambda self: len(self.characters))
            def save_vocabulary(self, save_directory, filename_prefix=None): ...

    Store what the constructor takes under the same name: it is saved, and given to the constructor again. Special
    tokens go where `single_template` and `pair_template` say, or `build_inputs_with_special_tokens`, if you write it.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._added = AddedTokens(self._normalizer())
        super().__init__(**kwargs)

    # What a tokenizer of your own supplies

    def _tokenize(self, text: str) -> list[str]:
        """Cut a text, in which there are no added tokens, into tokens."""
        raise NotImplementedError(f"{type(self).__name__} must define _tokenize(text).")

    def _convert_token_to_id(self, token: str) -> int | None:
        raise NotImplementedError(f"{type(self).__name__} must define _convert_token_to_id(token).")

    def _convert_id_to_token(self, index: int) -> str | None:
        raise NotImplementedError(f"{type(self).__name__} must define _convert_id_to_token(index).")

    def _normalizer(self) -> Callable[[str], str] | None:
        """Give what normalises a text before tokens with `normalized=True` are looked for in it, if anything does."""
        return None

    def prepare_for_tokenization(self, text: str, is_split_into_words: bool = False, **kwargs: Any) -> tuple[str, Any]:
        """Change a text before it is cut; gives it with the keywords left over."""
        return text, kwargs

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that tokens stand for; with spaces between, unless a class knows better."""
        return " ".join(tokens)

    # Vocabulary

    def __len__(self) -> int:
        size = self.vocab_size
        return size + sum(index >= size for index in self._added.by_id)

    def _find_id(self, token: str) -> int | None:
        index = self._added.ids.get(token)
        return self._convert_token_to_id(token) if index is None else index

    def _find_token(self, index: int) -> str | None:
        if (added := self._added.by_id.get(index)) is not None:
            return added.content
        return self._convert_id_to_token(index) if 0 <= index < self.vocab_size else None

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by id."""
        return dict(sorted(self._added.by_id.items()))

    def _put_tokens(self, tokens: list[AddedToken]) -> None:
        vocabulary = self.get_vocab() if tokens else {}
        for token in tokens:
            index = self._added.ids.get(token.content, vocabulary.get(token.content))
            if index is None:
                index = self._free_id()
            elif (old := self._added.by_id.get(index)) is not None and same(old, token):
                continue
            self._check_spelling(token)
            self._added.put(token, index)

    def _free_id(self) -> int:
        """Give the id that a new token gets: the one after all there are."""
        return max([self.vocab_size, *(known + 1 for known in self._added.by_id)])

    def _put_added(self, tokens: dict[int, AddedToken]) -> None:
        vocabulary = self.get_vocab() if tokens else {}
        for index, token in sorted(tokens.items()):
            known = vocabulary.get(token.content)
            if index < 0 or (known != index if known is not None else index < self.vocab_size):
                raise FileFormatError(
                    f"The added token {token.content!r} has the id {index}, and the vocabulary "
                    + (
                        f"has it as {known}."
                        if known is not None
                        else f"has another token there ({len(vocabulary)} in all)."
                    )
                )
            self._added.put(token, index)

    def _check_spelling(self, token: AddedToken) -> None:
        if token.normalized and self._added.normalize and not self._added.spelling(token).strip():
            raise InputError(
                f"The token {token.content!r} is empty once normalised, so no text has it. Pass "
                "AddedToken(…, normalized=False)."
            )

    # From text to rows

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Cut a text into tokens, without turning them into ids."""
        if add_special_tokens:
            found: list[str] = self.convert_ids_to_tokens(self.encode(text, pair))
            return found
        self._added.split_special = self.split_special_tokens
        tokens: list[str] = []
        for piece in self._cut(text):
            tokens += [self._added.by_id[piece].content] if isinstance(piece, int) else self._tokenize(piece)
        return tokens + (self.tokenize(pair) if pair is not None else [])

    def _cut(self, text: str) -> list[str | int]:
        return self._added.cut(self.prepare_for_tokenization(text)[0])

    def _encode_texts(self, texts: list[str]) -> list[Ids]:
        """Give the ids of each text, without special tokens around: what kinds of tokenizers differ in."""
        ids: list[Ids] = []
        for text in texts:
            try:
                ids.append(self._encode_text(text))
            except Exception as problem:
                if not isinstance(problem, MaquetteError):
                    problem.add_note(f"{type(self).__name__} was turning this text into ids: {text!r:.80}")
                raise
        return ids

    def _encode_text(self, text: str) -> Ids:
        ids: Ids = []
        for piece in self._cut(text):
            ids += [piece] if isinstance(piece, int) else map(self._id_of, self._tokenize(piece))
        return ids

    def _spell(self, text: str) -> Ids:
        """Give the ids of a text without regard to added tokens."""
        plain = copy.copy(self)
        plain._added = AddedTokens(self._normalizer())
        return plain._encode_texts([text])[0]

    def _id_of(self, token: str) -> int:
        index: int | None = self.convert_tokens_to_ids(token)
        if index is None:
            raise InputError(
                f"The token {token!r} is not in the vocabulary, and there is no unk_token to stand for it."
            )
        return index

    def _encode(self, texts: Texts, options: Options) -> Encoded:
        if options.return_offsets_mapping:
            raise InputError(
                "return_offsets_mapping needs a fast tokenizer: use the class of the same name that ends in Fast."
            )
        self._added.split_special = self.split_special_tokens
        firsts = self._encode_rows(texts.firsts, texts.words)
        seconds = None if texts.seconds is None else self._encode_rows(texts.seconds, texts.words)
        return self._assemble(firsts, seconds, options)

    def _encode_rows(self, rows: list[Any], words: bool) -> list[Ids]:
        if not words:
            return self._encode_texts(rows)
        ids = iter(self._encode_texts(list(chain.from_iterable(rows))))
        return [list(chain.from_iterable(islice(ids, len(row)))) for row in rows]

    def _assemble(self, firsts: list[Ids], seconds: list[Ids] | None, options: Options) -> Encoded:
        """Cut the ids to length and put the special tokens around them."""
        special = options.add_special_tokens
        count = self.num_special_tokens_to_add(seconds is not None) if special else 0
        budget = check_budget(options, count, pair=seconds is not None)
        pairs: Iterable[tuple[Ids, Ids | None]] = (
            ((first, None) for first in firsts) if seconds is None else zip(firsts, seconds, strict=True)
        )
        samples = None
        if budget is not None:
            cut = [(row, part) for row, pair in enumerate(pairs) for part in _shorten(*pair, budget, options, row)]
            samples, pairs = [row for row, _ in cut], [part for _, part in cut]
        kept = list(pairs)
        encoded = Encoded([self.build_inputs_with_special_tokens(*pair) if special else _plain(*pair) for pair in kept])
        if options.return_token_type_ids:
            make = self.create_token_type_ids_from_sequences if special else _plain_types
            encoded.types = [make(*pair) for pair in kept]
        if options.return_special_tokens_mask:
            masks = (self.get_special_tokens_mask(*pair) if special else [0] * len(_plain(*pair)) for pair in kept)
            encoded.special = list(masks)
        if options.return_overflowing_tokens:
            encoded.samples = list(range(len(kept))) if samples is None else samples
        return encoded

    def _read_template(self, *, pair: bool) -> list[Part]:
        parts = (part.partition(":") for part in (self.pair_template if pair else self.single_template).split())
        found = [(name if name[0] == "$" else getattr(self, f"{name}_id"), int(kind or 0)) for name, _, kind in parts]
        return [part for part in found if part[0] is not None]

    # From ids to rows

    def prepare_for_model(self, ids: Ids, pair_ids: Ids | None = None, **options: Any) -> BatchEncoding:
        """Do what the call does after a text has become ids: cut, put special tokens around, pad.

        Args:
            ids, pair_ids: from `convert_tokens_to_ids(tokenize(text))`.
            options: those of the call, and `prepend_batch_axis`.
        """
        prepend = options.pop("prepend_batch_axis", False)
        options.pop("verbose", None)
        self._refuse_unknown(options.keys() - {*CALL_OPTIONS}, "the call")
        checked = Options(**options).settle(self)
        encoded = self._assemble([ids], None if pair_ids is None else [pair_ids], checked)
        return self._finish(encoded, checked, batched=prepend)

    def truncate_sequences(
        self,
        ids: Ids,
        pair_ids: Ids | None = None,
        *,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[Ids, Ids | None, Ids]:
        """Take so many tokens from the ids of a text or pair; gives both, and what was taken with `stride` tokens more.

        What was taken is empty where both texts are cut.
        """
        strategy = check_choice("truncation_strategy", truncation_strategy, TRUNCATIONS)
        total = len(ids) + len(pair_ids or ())
        kept = truncate(
            len(ids),
            None if pair_ids is None else len(pair_ids),
            budget=total - num_tokens_to_remove,
            strategy=strategy,
        )
        side = self.truncation_side
        first = _keep(ids, kept[0], side)
        second = None if pair_ids is None or kept[1] is None else _keep(pair_ids, kept[1], side)
        removed: Ids = []
        if second is None or len(second) == len(pair_ids or ()):
            removed = _lose(ids, len(ids) - kept[0], stride, side)
        elif len(first) == len(ids):
            removed = _lose(pair_ids or [], len(pair_ids or ()) - len(second), stride, side)
        return first, second, removed


class DictionaryTokenizer(PreTrainedTokenizer):
    """A tokenizer in Python whose constructor sets `vocab`, the id of every token, and the inverse, `ids_to_tokens`."""

    vocab: dict[str, int]
    ids_to_tokens: dict[int, str]

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones not counted."""
        return len(self.vocab)

    def get_vocab(self) -> dict[str, int]:
        """Give every token, added ones included, with its id."""
        return {**self.vocab, **self._added.ids}

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.vocab.get(token)

    def _convert_id_to_token(self, index: int) -> str | None:
        return self.ids_to_tokens.get(index)

    def _find_token(self, index: int) -> str | None:
        added = self._added.by_id.get(index)
        return self.ids_to_tokens.get(index) if added is None else added.content


def _shorten(
    first: Ids, second: Ids | None, budget: int, options: Options, row: int
) -> Iterator[tuple[Ids, Ids | None]]:
    """Cut one row to its budget; with `return_overflowing_tokens`, give its other windows too."""
    if len(first) + len(second or ()) <= budget:
        yield first, second
        return
    try:
        kept = truncate(len(first), None if second is None else len(second), budget=budget, strategy=options.truncation)
    except InputError as error:
        raise InputError(f"Row {row}: {error}") from None
    side = options.truncation_side
    if not options.return_overflowing_tokens:
        yield _keep(first, kept[0], side), None if second is None else _keep(second, kept[1] or 0, side)
        return
    ones = _windows(first, kept[0], options, row)
    twos = [None] if second is None else _windows(second, kept[1] or 0, options, row)
    yield ones[0], twos[0]
    yield from ((one, two) for one in ones[1:] for two in twos)
    yield from ((ones[0], two) for two in twos[1:])


def _windows(ids: Ids, size: int, options: Options, row: int) -> list[Ids]:
    if len(ids) > size:
        check_windows(size, options.stride, row)
    spans = windows(len(ids), size, stride=options.stride, side=options.truncation_side)
    return [ids[start:stop] for start, stop in spans]


def _keep(ids: Ids, count: int, side: str) -> Ids:
    return ids[:count] if side == "right" else ids[len(ids) - count :]


def _lose(ids: Ids, count: int, stride: int, side: str) -> Ids:
    size = min(len(ids), count + stride) if count else 0
    return ids[len(ids) - size :] if side == "right" else ids[:size]


def _plain(first: Ids, second: Ids | None = None) -> Ids:
    return first if second is None else [*first, *second]


def _plain_types(first: Ids, second: Ids | None = None) -> Ids:
    return [0] * len(first) + [1] * len(second or ())
