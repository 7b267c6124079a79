"""CLIP's tokenizers, of both kinds: byte-level BPE of small letters, whose words end in a mark."""

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.processors import RobertaProcessing

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class CLIPTokens:
    """What both kinds share, before the kind: small letters, ends of words, `<|startoftext|> A <|endoftext|>`."""

    default_tokens: ClassVar[dict[str, str]] = {
        "bos_token": BEGIN,
        **dict.fromkeys(("unk_token", "eos_token", "pad_token"), END),
    }
    suffix: ClassVar[str | None] = "</w>"
    model_max_length = 77
    _lays_out = False

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lays_out = self._backend.post_processor is None
        self._specials_changed()

    def _assemble_backend(self, vocab: Any, merges: Any, settings: Mapping[str, Any]) -> Tokenizer:
        backend: Tokenizer = super()._assemble_backend(vocab, merges, settings)  # type: ignore[misc]
        spaces = normalizers.Replace(Regex(r"\s+"), " ")
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
        cut = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        return backend

    def _specials_changed(self: Any) -> None:
        if self._lays_out and self.eos_token is not None and self.bos_token is not None:
            pairs = (self.eos_token, self.eos_token_id), (self.bos_token, self.bos_token_id)
            self._backend.post_processor = RobertaProcessing(*pairs, trim_offsets=False, add_prefix_space=False)
        super()._specials_changed()  # type: ignore[misc]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Give the text that tokens stand for, with a space between words."""
        text: str = super().convert_tokens_to_string(tokens)  # type: ignore[misc]
        return text.replace(str(self.suffix), " ").strip()


class CLIPTokenizer(CLIPTokens, ByteLevelBPETokenizer):
    """CLIP's tokenizer in Python. Takes what `ByteLevelBPETokenizer` takes."""


class CLIPTokenizerFast(CLIPTokens, ByteLevelBPETokenizerFast):
    """CLIP's tokenizer over the Rust library; gives the same ids, and where each token is from."""

    slow_tokenizer_class = CLIPTokenizer
