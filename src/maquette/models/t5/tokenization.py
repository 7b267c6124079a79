"""T5's tokenizer, of SentencePiece, with the sentinels that stand for what a text leaves out."""

import re
from typing import Any, ClassVar

from tokenizers import AddedToken, Tokenizer

from maquette import SentencePieceTokenizerFast

SENTINEL = re.compile(r"<extra_id_(\d+)>")


class T5TokenizerFast(SentencePieceTokenizerFast):
    """T5's tokenizer: `A </s>` or `A </s> B </s>`; behind the model's pieces come the sentinels, the first one last.

    Takes what `SentencePieceTokenizerFast` takes.

    Args:
        extra_ids: how many sentinels there are, `<extra_id_0>` and so on; a `tokenizer.json` has them already.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        **SentencePieceTokenizerFast.vocab_files_names,
        "vocab_file": "spiece.model",
    }
    default_edges: ClassVar[tuple[bool, bool]] = (False, True)
    default_tokens: ClassVar[dict[str, str]] = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    model_max_length = 512

    def __init__(self, *args: Any, extra_ids: int = 100, **kwargs: Any) -> None:
        self.extra_ids = extra_ids
        super().__init__(*args, **kwargs)

    def _read_model(self, path: Any, legacy: bool | None) -> Tokenizer:
        backend = super()._read_model(path, legacy)
        names = [f"<extra_id_{number}>" for number in reversed(range(self.extra_ids))]
        backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
        return backend

    def get_sentinel_tokens(self) -> list[str]:
        """Give the sentinels, `<extra_id_0>` first."""
        found = {token: SENTINEL.fullmatch(token) for token in self.get_vocab()}
        return sorted((token for token, match in found.items() if match), key=lambda t: int(t[10:-1]))

    def get_sentinel_token_ids(self) -> list[int]:
        """Give their ids."""
        return [self.get_vocab()[token] for token in self.get_sentinel_tokens()]


T5Tokenizer = T5TokenizerFast  # there is one kind only, and two names for it in other people's code
