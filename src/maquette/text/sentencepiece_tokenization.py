"""Tokenizers of SentencePiece's models, over the Rust library: what Llama, Mistral, Gemma and T5 use."""

import os
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer

from maquette.errors import InputError
from maquette.hub.sources import Source
from maquette.text.byte_pairs import LLAMA3_PATTERN, make_backend
from maquette.text.sentencepiece_files import SentencePieceModel, make_sentencepiece_backend, read_sentencepiece
from maquette.text.tiktoken_files import is_tiktoken, read_tiktoken, spell
from maquette.text.tokenization_fast import PreTrainedTokenizerFast
from maquette.text.tokenizer_files import TOKENIZER_FILE

FilePath = str | os.PathLike[str]


class SentencePieceTokenizerFast(PreTrainedTokenizerFast):
    """A tokenizer of a `tokenizer.model`, SentencePiece's or tiktoken's; gives the ids that those libraries give.

    Neither library is needed. Where there is a `tokenizer.json`, it is believed instead. Special tokens are those of
    the model file, unless given. A model's tokenizer adds its edges, lengths and the name of its file.

    Class attributes:
        pattern: what texts are cut into, where the file is tiktoken's, which does not say it.

    Args:
        vocab_file: the model file.
        tokenizer_file, tokenizer_object, kwargs: as in `PreTrainedTokenizerFast`.
        legacy: False leaves the space before texts out after special tokens in a text, as Transformers does then.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "tokenizer.model", "tokenizer_file": TOKENIZER_FILE}
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    pattern: ClassVar[str] = LLAMA3_PATTERN

    def __init__(
        self,
        vocab_file: FilePath | None = None,
        tokenizer_file: FilePath | None = None,
        *,
        tokenizer_object: Tokenizer | None = None,
        legacy: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self._file_tokens: dict[str, str] = {}
        if legacy is not None:
            self.legacy = legacy
        if tokenizer_file is None and tokenizer_object is None:
            tokenizer_object = self._read_model(vocab_file, legacy)
        file = None if tokenizer_file is None else str(tokenizer_file)
        super().__init__(tokenizer_file=file, tokenizer_object=tokenizer_object, **kwargs)
        del self._file_tokens

    def _read_model(self, path: FilePath | None, legacy: bool | None) -> Tokenizer:
        if path is None:
            raise InputError(
                f"{type(self).__name__} needs a tokenizer: pass vocab_file='{self.vocab_files_names['vocab_file']}' or "
                f"tokenizer_file='{TOKENIZER_FILE}', or load one with from_pretrained."
            )
        if is_tiktoken(path):
            return make_backend(*spell(read_tiktoken(path)), pattern=self.pattern, ignore_merges=True)
        model = self._arrange_pieces(read_sentencepiece(path))
        self._file_tokens = model.special_tokens()
        return self._complete_backend(make_sentencepiece_backend(model, legacy=legacy))

    def _arrange_pieces(self, model: SentencePieceModel) -> SentencePieceModel:
        """Put pieces where checkpoints have them; override it where that is not the place in the file."""
        return model

    def _complete_backend(self, backend: Tokenizer) -> Tokenizer:
        """Add what a model's file does not say, such as where special tokens go; override it for that."""
        return backend

    def _settings_in_file(self) -> dict[str, Any]:
        known = {
            name: token for name, token in self.default_tokens.items() if self._backend.token_to_id(token) is not None
        }
        return {**known, **self._file_tokens, **super()._settings_in_file()}

    @classmethod
    def _read_files(cls, source: Source, files: dict[str, Path], saved: dict[str, Any]) -> dict[str, Any]:
        """Go by the `tokenizer.json` where there is one."""
        return {
            argument: str(path)
            for argument, path in files.items()
            if argument == "tokenizer_file" or "tokenizer_file" not in files
        }

    def _saved_class_name(self) -> str:
        return type(self).__name__.removesuffix("Fast")
