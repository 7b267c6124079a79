"""The family's tokenizers: those of Llama 1, 2 and Mistral, of SentencePiece, and those of Qwen2 and Qwen3."""

from typing import ClassVar

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast, SentencePieceTokenizerFast
from maquette.text.byte_pairs import QWEN2_PATTERN


class LlamaTokenizerFast(SentencePieceTokenizerFast):
    """The tokenizer of Llama 1 and 2, and of Mistral: rows begin with `<s>`, and batches are padded on the left.

    Takes what `SentencePieceTokenizerFast` takes. Llama 3's folders name the tokenizer of any `tokenizer.json`.
    """

    default_edges: ClassVar[tuple[bool, bool]] = (True, False)
    default_tokens: ClassVar[dict[str, str]] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    padding_side = "left"


LlamaTokenizer = LlamaTokenizerFast  # there is one kind only, and two names for it in other people's code


class Qwen2Tokenizer(ByteLevelBPETokenizer):
    """The tokenizer of Qwen2 and Qwen3 in Python: byte-level BPE of composed characters, each digit by itself.

    Takes what `ByteLevelBPETokenizer` takes.
    """

    pattern: ClassVar[str] = QWEN2_PATTERN
    normal_form: ClassVar[str | None] = "NFC"
    default_tokens: ClassVar[dict[str, str]] = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")


class Qwen2TokenizerFast(ByteLevelBPETokenizerFast):
    """The tokenizer of Qwen2 and Qwen3 over the Rust library; gives the same ids, and where each token is from."""

    pattern: ClassVar[str] = QWEN2_PATTERN
    normal_form: ClassVar[str | None] = "NFC"
    default_tokens: ClassVar[dict[str, str]] = Qwen2Tokenizer.default_tokens
    slow_tokenizer_class = Qwen2Tokenizer
