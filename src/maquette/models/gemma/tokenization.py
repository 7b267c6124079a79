"""Gemma's tokenizer."""

from typing import ClassVar

from maquette import SentencePieceTokenizerFast


class GemmaTokenizerFast(SentencePieceTokenizerFast):
    """Gemma's tokenizer, of SentencePiece: rows begin with `<bos>`, and batches are padded on the left.

    Takes what `SentencePieceTokenizerFast` takes.
    """

    default_edges: ClassVar[tuple[bool, bool]] = (True, False)
    default_tokens: ClassVar[dict[str, str]] = {
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
    }
    padding_side = "left"


GemmaTokenizer = GemmaTokenizerFast  # there is one kind only, and two names for it in other people's code
