"""Wav2Vec2's tokenizer: characters to train on, and what a speech recognition model heard, as text with times."""

import logging
import os
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from maquette import AddedToken, FileFormatError, InputError, ModelOutput, PreTrainedTokenizer, UnknownNameError
from maquette.errors import did_you_mean
from maquette.storage.json_files import to_json
from maquette.text.added_tokens import AddedTokens
from maquette.text.ctc import CTCCharacters, FrameTable, collapse, drop, time_characters, time_words
from maquette.text.id_rows import IdRows, read_id_rows
from maquette.text.special_tokens import SpecialToken, SpecialTokenId, as_added_token
from maquette.text.vocabulary_files import check_ids, read_json_or_lines

logger = logging.getLogger(__name__)

REQUIRED = ("unk_token", "pad_token", "word_delimiter_token")


class Wav2Vec2CTCTokenizerOutput(ModelOutput):
    """A text, and on request the frames in which its characters and words were heard; of a batch, lists of these.

    Attributes:
        text: the text.
        char_offsets: `{"char": "H", "start_offset": 3, "end_offset": 5}` for every character, the spaces included.
        word_offsets: `{"word": "HELLO", "start_offset": 3, "end_offset": 17}` for every word.

    Offsets count the model's frames; `end_offset` is the first one after it. A frame begins at
    `offset * model.config.inputs_to_logits_ratio / feature_extractor.sampling_rate` seconds.
    """

    text: str | list[str] = ""
    char_offsets: list[Any] | None = None
    word_offsets: list[Any] | None = None


class Wav2Vec2CTCTokenizer(PreTrainedTokenizer):
    """Writes texts as characters, and reads the ids that a CTC model gives for the frames of a recording.

    A model says something of every frame. Decoding makes one character of neighbours that are equal, and takes out the
    blank, the padding token, which keeps the two letters of "LL" apart (Graves et al. 2006, equation 1).

    Args:
        vocab_file: a JSON object, `{token: id}`, or one token a line. With `target_lang`, `{language: {token: id}}`.
        bos_token, eos_token: are added where the vocabulary lacks them.
        unk_token, pad_token, word_delimiter_token: the vocabulary's tokens for what it cannot write, for the blank, and
            for the space between words; None where there is no such token.
        replace_word_delimiter_char: what stands between words in a decoded text.
        do_lower_case: take texts in small letters, and give them, where the vocabulary has capitals.
        target_lang: which of the vocabulary's languages to use.
        vocab: the vocabulary itself instead of a file.

    Raises:
        FileFormatError: the vocabulary is empty, has a token or an id twice, or lacks one of its three tokens.
        UnknownNameError: it has no such language; the message has the nearest.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "vocab.json"}
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    word_delimiter_token, word_delimiter_token_id = SpecialToken(), SpecialTokenId()

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        *,
        bos_token: str | AddedToken | None = "<s>",  # noqa: S107 - a token of the vocabulary
        eos_token: str | AddedToken | None = "</s>",  # noqa: S107
        unk_token: str | AddedToken | None = "<unk>",  # noqa: S107
        pad_token: str | AddedToken | None = "<pad>",  # noqa: S107
        word_delimiter_token: str | AddedToken | None = "|",  # noqa: S107
        replace_word_delimiter_char: str = " ",
        do_lower_case: bool = False,
        target_lang: str | None = None,
        vocab: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._place = "The vocabulary given" if vocab_file is None else str(vocab_file)
        self.vocab = _take_vocabulary(vocab_file, vocab)
        if not isinstance(replace_word_delimiter_char, str):
            raise InputError(f"replace_word_delimiter_char={replace_word_delimiter_char!r}: must be a str.")
        self.do_lower_case, self.replace_word_delimiter_char = do_lower_case, replace_word_delimiter_char
        required = dict(zip(REQUIRED, (unk_token, pad_token, word_delimiter_token), strict=True))
        added = kwargs.get("added_tokens_decoder") or {}
        self._use_language(target_lang, required, {token.content for token in added.values()})
        if target_lang is not None:
            kwargs["added_tokens_decoder"] = self._of_no_language(added)
        super().__init__(bos_token=bos_token, eos_token=eos_token, **required, **kwargs)
        self._put_long_tokens()

    # Vocabulary

    def _use_language(self, language: str | None, required: Mapping[str, Any], added: set[str]) -> None:
        """Make the vocabulary of a language, or the only one, the one in use."""
        place = self._place if language is None else f"{self._place}, language {language!r}"
        encoder = check_ids(_choose_language(self.vocab, language, self._place), place)
        _check_tokens(encoder, required, added, place)
        self.target_lang, self.encoder = language, encoder
        self.decoder = {index: token for token, index in encoder.items()}

    def _of_no_language(self, tokens: Mapping[int, AddedToken]) -> dict[int, AddedToken]:
        """Keep those added tokens that the vocabulary in use has no place for; the others were another language's."""
        return {i: t for i, t in tokens.items() if i not in self.decoder and t.content not in self.encoder}

    def _put_long_tokens(self) -> None:
        """Have texts cut at tokens of several characters, with the spaces around them."""
        special = {*self.all_special_tokens}
        flags = {"lstrip": True, "rstrip": True, "normalized": False}
        long = [AddedToken(token, special=token in special, **flags) for token in self.encoder if len(token) > 1]
        self._put_tokens(long)
        self._specials_changed()

    def set_target_lang(self, target_lang: str) -> None:
        """Use the vocabulary of another language; added tokens stay, unless one of its own has their id.

        Raises:
            InputError: the vocabulary is of one language only.
            UnknownNameError: it has no such language; the message has the nearest.
        """
        beyond = {index: token for index, token in self._added.by_id.items() if index not in self.decoder}
        flagged = {token.content: token for token in beyond.values()}
        self._use_language(target_lang, {name: self._special.get(name) for name in REQUIRED}, set())
        kept = self._of_no_language(beyond)
        have = {*self.encoder, *self.all_special_tokens, *(token.content for token in kept.values())}
        if lost := [token.content for token in beyond.values() if token.content not in have]:
            logger.warning("set_target_lang(%r): its tokens have the ids of %s, which are gone.", target_lang, lost)
        self._added = AddedTokens()
        for index, token in kept.items():
            self._added.put(token, index)
        special = (*self._special.values(), *self._additional)
        self._put_tokens([as_added_token(token, special=True, known=flagged) for token in special])
        self._put_long_tokens()

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones not counted."""
        return len(self.decoder)

    def get_vocab(self) -> dict[str, int]:
        """Give every token, added ones included, with its id."""
        return {**self.encoder, **self._added.ids}

    def _free_id(self) -> int:
        return max(super()._free_id(), max(self.decoder) + 1)

    def _find_token(self, index: int) -> str | None:
        token = self.decoder.get(index)
        return token if token is not None else super()._find_token(index)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self.encoder.get(token)

    def _convert_id_to_token(self, index: int) -> str | None:
        return self.decoder.get(index)

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens that texts are cut at before anything else, as they are written, whatever `do_lower_case` says."""
        items = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        known = {"", *self._added.ids}
        plain = [AddedToken(t, normalized=False) if isinstance(t, str) and t not in known else t for t in items]
        return super().add_tokens(plain, special_tokens)

    # From text to ids

    def _encode(self, texts: Any, options: Any) -> Any:
        if options.return_offsets_mapping:
            raise InputError(
                f"{type(self).__name__} has no fast kind that knows where in a text a token is from. For the frames of "
                "a recording: decode(ids, output_char_offsets=True), or output_word_offsets=True."
            )
        return super()._encode(texts, options)

    def _cut(self, text: str) -> list[str | int]:
        return [text] if self.split_special_tokens else super()._cut(text)

    def _tokenize(self, text: str) -> list[str]:
        characters = list(text.upper() if self.do_lower_case else text)
        delimiter = self.word_delimiter_token
        return characters if delimiter is None else [delimiter if c == " " else c for c in characters]

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = []
        known: dict[str, int] = self._scratch.get("ids") or self._scratch.setdefault("ids", self.get_vocab())
        find, unknown = known.get, self.unk_token_id
        for piece in self._cut(text):
            ids += [piece] if isinstance(piece, int) else [find(token, unknown) for token in self._tokenize(piece)]
        if unknown is None and None in ids:
            return super()._encode_text(text)  # says which character it is
        return ids

    # From ids to text

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that the tokens of successive frames stand for."""
        kept = [token for token, _ in groupby(tokens) if token != self.pad_token]
        delimiter, between = self.word_delimiter_token, self.replace_word_delimiter_char
        return self._finish_text("".join(between if token == delimiter else token for token in kept), tidy=False)

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        *,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        **unknown: Any,
    ) -> Any:
        """Give the text of a row of ids, one for each frame; a batch gives what `batch_decode` does.

        Args:
            token_ids: a list, an array, or a tensor of any framework.
            skip_special_tokens: leave the special tokens out beforehand, the blank with them: for labels and
                `group_tokens=False`. Repeated letters of a recording become one, and offsets count what is left.
            clean_up_tokenization_spaces: take out the spaces before punctuation and inside contractions.
            output_char_offsets, output_word_offsets: give a `Wav2Vec2CTCTokenizerOutput`, which has them in frames.
            group_tokens: make one of neighbours that are equal; False for labels, which are no frames.
            spaces_between_special_tokens: put a space between all tokens.

        Raises:
            InputError: an id is not in the vocabulary (which, and where), or what is given are no ids.
            UnknownFieldError: a keyword that this does not take, with the nearest that it does.
        """
        self._check_decoding(unknown)
        rows = read_id_rows(token_ids)
        found = self._find_characters(rows, skip=skip_special_tokens, group=group_tokens)
        parts = self._table().parts[found.places].tolist()
        between = " " if spaces_between_special_tokens else ""
        tidy = self._tidies(clean_up_tokenization_spaces)
        texts = [self._finish_text(between.join(row), tidy=tidy) for row in found.cut(parts)]
        if not output_char_offsets and not output_word_offsets:
            return texts if rows.batched else texts[0]
        characters = time_characters(found, parts) if output_char_offsets else None
        words = time_words(found, parts, self._spaces()[found.places]) if output_word_offsets else None
        columns = texts, characters, words
        return Wav2Vec2CTCTokenizerOutput(*(columns if rows.batched else (column and column[0] for column in columns)))

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, *options: Any, **more: Any) -> Any:
        """Give the text of each row of ids; the options are those of `decode`.

        With offsets, the `Wav2Vec2CTCTokenizerOutput` has lists with one item for each row.
        """
        return self.decode(read_id_rows(sequences, batched=True), skip_special_tokens, *options, **more)

    def _find_characters(self, rows: IdRows, *, skip: bool, group: bool) -> CTCCharacters:
        table = self._table()
        places, lengths = table.find(rows), rows.lengths
        if skip:
            places, lengths = drop(places, lengths, table.skipped[places])
        return collapse(places, lengths, blank=table.blank, group=group)

    def _table(self) -> FrameTable:
        """Give what ids stand for, made anew when what it is made of has changed."""
        table: FrameTable | None = self._scratch.get("frames")
        if table is None or table.between != self.replace_word_delimiter_char:
            table = self._scratch["frames"] = FrameTable.of(
                {**{index: token.content for index, token in self._added.by_id.items()}, **self.decoder},
                special={*self.all_special_tokens},
                blank=self.pad_token_id,
                delimiter=self.word_delimiter_token,
                between=self.replace_word_delimiter_char,
            )
        return table

    def _spaces(self) -> Any:
        spaces = self._table().spaces
        if not spaces.any():
            raise InputError(
                f"{type(self).__name__}: output_word_offsets needs words, and there is no word_delimiter_token between "
                "them. Ask for output_char_offsets, or name the vocabulary's: word_delimiter_token=…"
            )
        return spaces

    def _finish_text(self, text: str, *, tidy: bool) -> str:
        text = text.strip().lower() if self.do_lower_case else text.strip()
        return self.clean_up_tokenization(text) if tidy else text

    # Files

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the `vocab.json`, of all languages, into a folder, and give its path."""
        path = Path(save_directory) / "-".join(filter(None, (filename_prefix, "vocab.json")))
        path.write_text(to_json(self.vocab), encoding="utf-8", newline="")
        return (str(path),)


# Vocabularies


def _take_vocabulary(path: str | os.PathLike[str] | None, vocabulary: Mapping[str, Any] | None) -> dict[str, Any]:
    if vocabulary is not None:
        return dict(vocabulary)
    if path is None:
        raise InputError("A tokenizer needs a vocabulary: pass vocab_file='vocab.json', or load one: from_pretrained.")
    return read_json_or_lines(path)


def _choose_language(vocabulary: Mapping[str, Any], language: str | None, place: str) -> Mapping[str, Any]:
    languages = [name for name, tokens in vocabulary.items() if isinstance(tokens, Mapping)]
    shown = ", ".join(languages[:12]) + (", …" if len(languages) > 12 else "")
    if len(languages) < max(len(vocabulary), 1):
        if language is not None:
            raise InputError(f"{place} is a vocabulary of one language: target_lang={language!r} chooses nothing.")
        return vocabulary
    if language is None:
        raise InputError(f"{place} has a vocabulary for each language: pass target_lang, one of {shown}.")
    if language not in languages:
        raise UnknownNameError(
            f"target_lang={language!r}: {place} has no such language.{did_you_mean(language, languages)} "
            f"It has {len(languages)}: {shown}."
        )
    chosen: Mapping[str, Any] = vocabulary[language]
    return chosen


def _check_tokens(encoder: Mapping[str, int], required: Mapping[str, Any], added: set[str], place: str) -> None:
    """Refuse a vocabulary without the tokens that decoding and unknown characters need."""
    wanted = {name: str(token) for name, token in required.items() if token is not None}
    missing = {name: token for name, token in wanted.items() if token not in encoder and token not in added}
    if missing:
        named = " and ".join(f"{token!r}, the {name}" for name, token in missing.items())
        likely = [token for token in encoder if not token.isalnum()][:8]
        raise FileFormatError(
            f"{place} has no {named}. If it has others for that, name them: "
            f"{', '.join(f'{name}=…' for name in missing)}; None says that there is none."
            + (f" It has {', '.join(map(repr, likely))}." if likely else "")
        )
