"""Between tokens, ids and texts, once there is a vocabulary."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from maquette.batch.tensors import framework_of, to_numpy
from maquette.errors import InputError, UnknownFieldError, did_you_mean
from maquette.text.id_rows import read_id_rows
from maquette.text.special_tokens import SpecialTokens
from maquette.text.templates import Templates

FRAME_OFFSETS = ("output_char_offsets", "output_word_offsets")
NO_FRAMES = (
    " Its ids are of a text, which has no frames; return_offsets_mapping=True in the call of a fast tokenizer gives "
    "where in the text each token is from."
)


class Vocabulary(Templates, SpecialTokens):
    """What follows from a vocabulary: looking tokens and ids up, and decoding."""

    model_max_length: int
    clean_up_tokenization_spaces: bool

    # What each kind supplies

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones not counted."""
        raise NotImplementedError

    def _find_token(self, index: int) -> str | None:
        raise NotImplementedError

    def _find_id(self, token: str) -> int | None:
        raise NotImplementedError

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        *,
        spaces_between_special_tokens: bool = True,
        **unknown: Any,
    ) -> Any:
        """Give the text of ids: a list, an array or a tensor of them; a batch gives a list of texts.

        Args:
            skip_special_tokens: leave the special tokens out.
            clean_up_tokenization_spaces: take out the spaces before punctuation and inside contractions; the
                tokenizer's own setting, unless given. The setting has no effect on byte pairs, whose spaces are true.

        Raises:
            InputError: an id is not in the vocabulary, or what is given are no ids.
        """
        self._check_decoding(unknown)
        rows = read_id_rows(token_ids)
        if rows.batched:
            options: Any = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
            return self.batch_decode(rows.split(), skip_special_tokens, **options)
        tokens = self.convert_ids_to_tokens(rows.ids.tolist(), skip_special_tokens)
        text = self.convert_tokens_to_string(tokens)
        return self.clean_up_tokenization(text) if self._tidies(clean_up_tokenization_spaces) else text

    def _tidies(self, given: bool | None) -> bool:
        return self.clean_up_tokenization_spaces if given is None else given

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """Give the text of each row of ids."""
        rows = to_numpy(sequences) if framework_of(sequences) else sequences
        return [self.decode(row, skip_special_tokens, **options) for row in rows]

    def _check_decoding(self, unknown: Mapping[str, Any]) -> None:
        """Refuse keywords that decoding does not take, with the nearest that it does."""
        if not unknown:
            return
        parameters = inspect.signature(self.decode).parameters.values()
        known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "token_ids"]
        lines = [
            f"{type(self).__name__}: decoding takes no {name!r}."
            + (NO_FRAMES if name in FRAME_OFFSETS and name not in known else did_you_mean(name, known))
            for name in unknown
        ]
        raise UnknownFieldError("\n".join(lines))

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """Take out the spaces that cutting a text at its punctuation left."""
        for mark in (".", "?", "!", ","):
            text = text.replace(f" {mark}", mark)
        text = text.replace(" ' ", "'")
        for ending in ("n't", "'m", "'s", "'ve", "'re"):
            text = text.replace(f" {ending}", ending)
        return text

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Give the token of an id, or the tokens of a list of ids.

        Raises:
            InputError: an id is not in the vocabulary, or what is given are no ids of one text.
        """
        if isinstance(ids, int | np.integer):
            return self._token_of(int(ids))
        rows = read_id_rows(ids)
        if rows.batched:
            raise InputError("convert_ids_to_tokens takes the ids of one text; these are of several. Go row by row.")
        skipped = self._skipped_ids() if skip_special_tokens else ()
        return [self._token_of(index) for index in rows.ids.tolist() if index not in skipped]

    def _skipped_ids(self) -> set[int]:
        special = {index for index, token in self.added_tokens_decoder.items() if token.special}
        return special | {index for index in self.all_special_ids if index is not None}

    def _token_of(self, index: int) -> str:
        token = self._find_token(index)
        if token is None:
            raise InputError(
                f"The id {index} is not in the vocabulary, which has {len(self)} tokens. Ids come from a tokenizer "
                "with the same vocabulary; labels use -100 for places to ignore, which have no text."
            )
        return token

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Give the id of a token, or the ids of a list of tokens; one that is unknown has the unknown token's."""
        if isinstance(tokens, str):
            found = self._find_id(tokens)
            return self._find_id(self.unk_token) if found is None and self.unk_token else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    # Vocabulary

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The added tokens' ids, by the tokens' text."""
        return {token.content: index for index, token in sorted(self.added_tokens_decoder.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """Give the added tokens' ids, by the tokens' text."""
        return self.added_tokens_encoder

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of one text the model takes beside the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair of texts the model takes beside the special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Tell of each id whether it is a special token's (1) or the text's own (0).

        Args:
            token_ids_0, token_ids_1: the ids of the texts, which are then taken with the special tokens added.
            already_has_special_tokens: the ids are a whole row; every special token's id in it counts.
        """
        if not already_has_special_tokens:
            return self._template_mask(token_ids_0, token_ids_1)
        if token_ids_1 is not None:
            raise InputError("A row that already has its special tokens is one list; leave token_ids_1 out.")
        special = self._skipped_ids()
        return [int(index in special) for index in token_ids_0]
