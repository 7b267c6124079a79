"""SigLIP's tokenizer, of SentencePiece: small letters, without punctuation."""

import string
from dataclasses import replace
from typing import Any, ClassVar

from tokenizers import Regex, Tokenizer, normalizers

from maquette import SentencePieceTokenizerFast
from maquette.text.sentencepiece_files import SentencePieceModel

PUNCTUATION = "[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]"


class SiglipTokenizerFast(SentencePieceTokenizerFast):
    """SigLIP's tokenizer: `A </s>` or `A </s> B </s>`, of small letters without punctuation, padded with `</s>`.

    Takes what `SentencePieceTokenizerFast` takes.

    Args:
        do_lower_case: False keeps large letters; a `tokenizer.json` says that itself.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        **SentencePieceTokenizerFast.vocab_files_names,
        "vocab_file": "spiece.model",
    }
    default_edges: ClassVar[tuple[bool, bool]] = (False, True)
    default_tokens: ClassVar[dict[str, str]] = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    model_input_names = ["input_ids"]  # noqa: RUF012 - the model was trained on padding
    model_max_length = 64

    def __init__(self, *args: Any, do_lower_case: bool = True, **kwargs: Any) -> None:
        self.do_lower_case = do_lower_case
        super().__init__(*args, **kwargs)

    def _arrange_pieces(self, model: SentencePieceModel) -> SentencePieceModel:
        return replace(model, special={"unk_token": model.special["unk_token"]})  # padding is `</s>`, whatever it says

    def _complete_backend(self, backend: Tokenizer) -> Tokenizer:
        lower = [normalizers.Lowercase()] if self.do_lower_case else []
        blanks = [normalizers.Replace(Regex(PUNCTUATION), ""), normalizers.Replace(Regex(r"\s+"), " ")]
        backend.normalizer = normalizers.Sequence([*lower, *blanks, normalizers.Strip(), backend.normalizer])
        return backend


SiglipTokenizer = SiglipTokenizerFast  # there is one kind only, and two names for it in other people's code
