"""What every tokenizer does, of either kind: the call, padding, decoding, special tokens; files are in tokenizer_files.

A kind adds one method, `_encode`, which turns texts into rows, and says what its vocabulary is.
"""

import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from tokenizers import AddedToken

from maquette.batch.padding import SIDES, as_columns, attention_mask, check_choice, pad, padded_length, plain_rows
from maquette.batch.tensors import check_framework, framework_of, to_tensor
from maquette.errors import InputError, MaquetteError, UnknownFieldError, did_you_mean
from maquette.text.chat_templates import ChatTemplates, read_template
from maquette.text.encoding import BatchEncoding
from maquette.text.special_tokens import FURTHER, SPECIAL_TOKENS, part_special
from maquette.text.templates import Scratch
from maquette.text.text_input import Options, Texts, read_texts
from maquette.text.tokenizer_files import NOT_ARGUMENTS, SETTINGS, TokenizerFiles
from maquette.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

NO_VOCABULARY = (AttributeError, LookupError, TypeError)  # what get_vocab() may end in before there is one
UNLIMITED = int(1e30)  # the model_max_length that says there is none, as Transformers writes it


@dataclass(slots=True)
class Encoded:
    """Rows before padding: what a kind's `_encode` gives.

    Attributes:
        ids, types, special, offsets: one list for each row; None where it was not asked for.
        samples: for each row, which text it comes from; None where each text has one row.
        encodings: what the Rust library knows of each row.
    """

    ids: list[list[int]]
    types: list[list[int]] | None = None
    special: list[list[int]] | None = None
    offsets: list[Any] | None = None
    samples: list[int] | None = None
    encodings: Sequence[Any] | None = None


class TokenizerMeta(type):
    """Keeps what a tokenizer was made with, whoever wrote its constructor, so that it can be saved.

    Special tokens that met no vocabulary yet, since the constructor makes it after `super().__init__`, are taken in at
    its end.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        tokenizer: Any = cls.__new__(cls)  # type: ignore[call-overload]
        bound = inspect.signature(cls.__init__).bind_partial(tokenizer, *args, **kwargs)  # type: ignore[misc]
        given = dict(list(bound.arguments.items())[1:])
        for parameter in inspect.signature(cls.__init__).parameters.values():  # type: ignore[misc]
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name, {})
        saved = {name: value for name, value in given.items() if name not in NOT_ARGUMENTS}
        tokenizer.__dict__.update(_given=saved, _extra={}, _special={}, _additional=[], _scratch=Scratch())
        tokenizer.__init__(*args, **kwargs)
        if "name_or_path" not in tokenizer.__dict__:
            raise TypeError(f"{cls.__name__}.__init__ must call super().__init__(**kwargs).")
        if late := tokenizer.__dict__.pop("_late", None):
            try:
                tokenizer._take_tokens(*late)
            except MaquetteError:
                raise
            except NO_VOCABULARY as problem:
                raise InputError(
                    f"{cls.__name__}: its special tokens could not be looked up, {type(problem).__name__}: {problem}. "
                    "get_vocab() and vocab_size must work when its __init__ is through."
                ) from problem
        return tokenizer


class PreTrainedTokenizerBase(ChatTemplates, TokenizerFiles, Vocabulary, metaclass=TokenizerMeta):
    """What the Python and the Rust kind of tokenizer share; write yours over one of the two.

    Class attributes:
        vocab_files_names: the constructor's arguments that are files, and what those are called in a saved folder.
        model_input_names: what a call gives unless told otherwise; its first is what `pad` goes by.
        single_template, pair_template: where the special tokens go, by attribute: `"cls_token $A sep_token"`. `:1`
            after a part sets its token type.
    """

    model_input_names: list[str] = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012 - replaced, never changed
    padding_side: str = "right"
    truncation_side: str = "right"
    model_max_length: int = UNLIMITED
    clean_up_tokenization_spaces: bool = False
    single_template: ClassVar[str] = "$A"
    pair_template: ClassVar[str] = "$A $B:1"
    is_fast: ClassVar[bool] = False

    def __init__(self, **kwargs: Any) -> None:
        settings = {name: kwargs.pop(name, default) for name, default in SETTINGS.items()}
        special = {name: kwargs.pop(name) for name in list(kwargs) if _is_special(name, kwargs[name])}
        self._refuse_unknown({name for name in kwargs if name not in self._own_arguments()}, "the constructor")
        self._settle(settings)
        named, more = part_special(special | {name: settings[name] for name in FURTHER})
        tokens = settings["added_tokens_decoder"] or {}, {n: t for n, t in named.items() if t is not None}, more
        try:
            self._take_tokens(*tokens)
        except MaquetteError:
            raise
        except NO_VOCABULARY:
            self._late = tokens

    def _settle(self, settings: Mapping[str, Any]) -> None:
        """Set the plain settings, those that were not given from the class."""
        for name in ("padding_side", "truncation_side"):
            given = settings[name]
            setattr(self, name, check_choice(name, getattr(self, name) if given is None else given, SIDES))
        length = settings["model_max_length"]
        self.model_max_length = type(self).model_max_length if length is None else length
        names = settings["model_input_names"]
        self.model_input_names = list(self.model_input_names if names is None else names)
        tidy = settings["clean_up_tokenization_spaces"]
        self.clean_up_tokenization_spaces = self.clean_up_tokenization_spaces if tidy is None else bool(tidy)
        self.pad_token_type_id = settings["pad_token_type_id"]
        self.split_special_tokens = bool(settings["split_special_tokens"])
        self.name_or_path = str(settings["name_or_path"])
        template = read_template(settings["chat_template"], self.name_or_path or type(self).__name__)
        self.chat_template = type(self).chat_template if template is None else template

    def _take_tokens(self, decoder: Mapping[Any, AddedToken], named: Mapping[str, Any], more: Sequence[Any]) -> None:
        """Take in the tokens a file brings with their ids, then the special ones that the vocabulary may not have."""
        self._special.update({name: str(token) for name, token in named.items()})
        self._additional = list(map(str, more))
        self._put_added({int(index): token for index, token in decoder.items()})
        self._put_special(named, more)

    @classmethod
    def _own_arguments(cls) -> set[str]:
        """Name what the constructors of the class and its bases take."""
        constructors = [
            vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base) and base is not object
        ]
        parameters = [p for one in constructors for p in list(inspect.signature(one).parameters.values())[1:]]
        return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def _refuse_unknown(self, names: set[str], place: str) -> None:
        if names:
            known = {*CALL_OPTIONS} if place == "the call" else {*SETTINGS, *SPECIAL_TOKENS, *self._own_arguments()}
            lines = [
                f"{type(self).__name__}: {place} takes no {name!r}.{did_you_mean(name, known)}"
                for name in sorted(names)
            ]
            raise UnknownFieldError("\n".join(lines))

    def __getstate__(self) -> dict[str, Any]:
        made = {n for c in type(self).__mro__ for n, value in vars(c).items() if isinstance(value, cached_property)}
        return {name: value for name, value in self.__dict__.items() if name not in made}

    # What each kind supplies

    def _encode(self, texts: Texts, options: Options) -> Encoded:
        """Turn texts into rows with their special tokens, truncated, not padded."""
        raise NotImplementedError

    def _put_added(self, tokens: dict[int, AddedToken]) -> None:
        """Take in added tokens that have their ids already."""
        raise NotImplementedError

    # The call

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        *,
        text_target: Any = None,
        text_pair_target: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        **unknown: Any,
    ) -> BatchEncoding:
        """Turn a text, or a batch of texts, into what a model takes.

        Args:
            text: a text; or a batch, a list of texts or of pairs of texts. With `is_split_into_words`, each text is a
                list of words.
            text_pair: a second text for the text, or one for each text of the batch.
            text_target: what is to be said of the text, or of each: its ids are given as `labels`; without `text`, all
                of it is given as that of a text is.
            text_pair_target: a second text for that.
            add_special_tokens: put the special tokens where the model expects them.
            padding: True or "longest", to the longest row; "max_length", to that length.
            truncation: True or "longest_first", "only_first" or "only_second": what to cut where a row is longer than
                `max_length`, special tokens counted.
            max_length: the model's `model_max_length`, unless given.
            stride: how many tokens the windows share that `return_overflowing_tokens` gives.
            pad_to_multiple_of: make padded lengths a multiple of this.
            padding_side: "right" or "left"; the tokenizer's own, unless given.
            return_tensors: "np", "pt", "tf" or "jax"; lists, unless given.
            return_overflowing_tokens: give the rest of a text that is cut as further rows; `overflow_to_sample_mapping`
                says which text each row comes from.
            return_offsets_mapping: give each token's place in its text, `(start, end)`. Fast tokenizers only.

        Raises:
            InputError: an item is no text (which one, by index), or lengths and strategies do not go together.
        """
        if unknown:
            self._refuse_unknown(set(unknown), "the call")
        options = Options(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=return_attention_mask,
            return_overflowing_tokens=return_overflowing_tokens,
            return_special_tokens_mask=return_special_tokens_mask,
            return_offsets_mapping=return_offsets_mapping,
            return_length=return_length,
        ).settle(self)
        read: Any = functools.partial(self._encode_given, options=options, words=is_split_into_words, verbose=verbose)
        target = None if text_target is None else read(text_target, text_pair_target)
        found: BatchEncoding = target if text is None and target is not None else read(text, text_pair)
        if text is not None and target is not None:
            found["labels"] = target["input_ids"]
        return found

    def _encode_given(self, text: Any, pair: Any, *, options: Options, words: bool, verbose: bool) -> BatchEncoding:
        """Encode a text, or a batch of texts, and say where one is longer than the model reads."""
        texts = read_texts(text, pair, words=words)
        encoded = self._encode(texts, options)
        if verbose and options.truncation == "do_not_truncate":
            self._warn_of_length(encoded.ids)
        return self._finish(encoded, options, batched=texts.batched)

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """Give the ids of one text, or pair of texts; the options are those of the call."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Do what the call does, for one text or pair."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> BatchEncoding:
        """Do what the call does, for a batch of texts or pairs."""
        return self(batch_text_or_text_pairs, **options)

    def _finish(self, encoded: Encoded, options: Options, *, batched: bool) -> BatchEncoding:
        """Pad the rows and put them together as the caller asked."""
        lengths = list(map(len, encoded.ids))
        width = padded_length(
            lengths, options.padding, max_length=options.max_length, multiple=options.pad_to_multiple_of
        )
        fills = self._fills() if width is not None else {}
        form: Any = {"width": width, "side": options.padding_side, "arrays": options.return_tensors is not None}
        data = pad(_present(input_ids=encoded.ids, token_type_ids=encoded.types), fills, **form)
        if options.return_attention_mask:
            data["attention_mask"] = attention_mask(lengths, **form)
        sizes = [max(width or 0, length) for length in lengths] if options.return_length else None
        later = _present(special_tokens_mask=encoded.special, offset_mapping=encoded.offsets, length=sizes)
        if later or options.return_overflowing_tokens:
            data |= pad(later | _present(overflow_to_sample_mapping=encoded.samples), fills, **form)
        if options.return_tensors not in (None, "np"):
            data = {name: to_tensor(array, str(options.return_tensors)) for name, array in data.items()}
        elif options.return_tensors is None and not batched and not options.return_overflowing_tokens:
            data = {name: rows[0] for name, rows in data.items()}
        return BatchEncoding(data, encoded.encodings, padded=self._encoding_padding(width, options.padding_side))

    def _fills(self) -> dict[str, Any]:
        if (pad_id := self.pad_token_id) is None:
            raise InputError(
                "Padding needs a padding token, and this tokenizer has none. Set one that the vocabulary has, "
                'tokenizer.pad_token = tokenizer.eos_token, or add one: add_special_tokens({"pad_token": "[PAD]"}).'
            )
        fills: dict[str, Any] = {"attention_mask": 0, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
        return fills | {
            self.model_input_names[0]: pad_id,
            "input_ids": pad_id,
            "token_type_ids": self.pad_token_type_id,
        }

    def _encoding_padding(self, width: int | None, side: str | None) -> dict[str, Any] | None:
        if not width:
            return None
        return {
            "length": width,
            "direction": side,
            "pad_id": self.pad_token_id,
            "pad_type_id": self.pad_token_type_id,
            "pad_token": self.pad_token,
        }

    def _warn_of_length(self, rows: list[list[int]]) -> None:
        longest = max(map(len, rows), default=0)
        if longest > self.model_max_length and not self._scratch.get("warned"):
            self._scratch["warned"] = True
            logger.warning(
                "A row has %d tokens, and the model takes %d; pass truncation=True to cut it.",
                longest,
                self.model_max_length,
            )

    # Padding what was encoded earlier

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        *,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Bring encodings to one length, as a data collator does: one encoding, a batch, or a list of encodings.

        Args:
            encoded_inputs: rows of ids, masks and types by name; also arrays and tensors, which come back as such.
                Other columns, such as labels, are passed on as they are.
            padding, max_length, pad_to_multiple_of, padding_side, return_tensors: as in the call.

        Raises:
            InputError: `input_ids` is not there, or columns have different numbers of rows.
        """
        columns = as_columns(encoded_inputs)
        main = self.model_input_names[0]
        if main not in columns:
            raise InputError(f"pad() needs {main!r}.{did_you_mean(main, columns)} It was given: {', '.join(columns)}.")
        tensors = return_tensors or _framework_in(columns[main])
        rows = {name: plain_rows(value) for name, value in columns.items()}
        single = bool(len(rows[main])) and not isinstance(rows[main][0], list | tuple)
        rows = {name: [value] for name, value in rows.items()} if single else rows
        lengths = [len(row) for row in rows[main]]
        if wrong := [
            name for name, value in rows.items() if not hasattr(value, "__len__") or len(value) != len(lengths)
        ]:
            raise InputError(f"{', '.join(wrong)}: not as many rows as the {len(lengths)} of {main!r}.")
        width = self._padding_width(lengths, padding, max_length, pad_to_multiple_of)
        side = check_choice("padding_side", padding_side or self.padding_side, SIDES)
        masked = "attention_mask" in self.model_input_names if return_attention_mask is None else return_attention_mask
        form: Any = {"width": width, "side": side, "arrays": tensors is not None}
        data = pad(rows, self._fills() if width is not None else {}, **form)
        if masked and "attention_mask" not in data and lengths:
            data["attention_mask"] = attention_mask(lengths, **form)
        if single and return_tensors is None:
            data = {name: value[0] for name, value in data.items()}
        framework = check_framework(tensors) if tensors else None
        return BatchEncoding({n: to_tensor(v, framework) for n, v in data.items()} if framework else data)

    def _padding_width(
        self, lengths: list[int], padding: bool | str, max_length: int | None, multiple: int | None
    ) -> int | None:
        options = Options(padding=padding, truncation=False, max_length=max_length, pad_to_multiple_of=multiple)
        options.settle(self)
        return padded_length(lengths, options.padding, max_length=options.max_length, multiple=multiple)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map}, "
            f"added_tokens={len(self.added_tokens_decoder)})"
        )


def _is_special(name: str, value: Any) -> bool:
    return name in SPECIAL_TOKENS or (name.endswith("_token") and isinstance(value, str | AddedToken))


def _present(**columns: Any) -> dict[str, Any]:
    """Leave out what was not asked for."""
    return {name: rows for name, rows in columns.items() if rows is not None}


def _framework_in(rows: Any) -> str | None:
    """Tell which framework's tensors the rows are, if they are any's."""
    return framework_of(rows) or (framework_of(rows[0]) if isinstance(rows, list | tuple) and rows else None)


CALL_OPTIONS = [
    name
    for name, parameter in inspect.signature(PreTrainedTokenizerBase.__call__).parameters.items()
    if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
]
