"""GPT-2's tokenizers, of both kinds."""

from typing import ClassVar

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast


class GPT2Tokenizer(ByteLevelBPETokenizer):
    """GPT-2's tokenizer in Python: byte-level BPE, nothing before or after a text, one special token for all uses.

    Takes what `ByteLevelBPETokenizer` takes.
    """

    default_tokens: ClassVar[dict[str, str]] = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
    model_max_length = 1024


class GPT2TokenizerFast(ByteLevelBPETokenizerFast):
    """GPT-2's tokenizer over the Rust library; gives the same ids, and where in the text each token is from."""

    default_tokens: ClassVar[dict[str, str]] = GPT2Tokenizer.default_tokens
    model_max_length = 1024
    slow_tokenizer_class = GPT2Tokenizer
