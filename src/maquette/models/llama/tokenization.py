"""The tokenizers of Qwen2 and Qwen3, of both kinds."""

from typing import ClassVar

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast
from maquette.text.byte_pairs import QWEN2_PATTERN


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
