"""How RoBERTa and BART lay out what their byte-level tokenizers give: `<s> A </s>`, or `<s> A </s></s> B </s>`."""

from typing import Any, ClassVar

from tokenizers import AddedToken
from tokenizers.processors import RobertaProcessing

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"}
TOKENS |= {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}


class RobertaTokens:
    """What both kinds of such a tokenizer share, before the kind: how rows are laid out, unless a file says it.

    A space before `<mask>` belongs to it.
    """

    default_tokens: ClassVar[dict[str, str]] = TOKENS
    model_max_length = 512
    _lays_out = False

    def __init__(self: Any, *args: Any, trim_offsets: bool = True, **kwargs: Any) -> None:
        self.trim_offsets = trim_offsets
        is_read = kwargs.get("tokenizer_file") is not None or kwargs.get("tokenizer_object") is not None
        if not is_read:
            mask = kwargs.get("mask_token", "<mask>")
            kwargs["mask_token"] = AddedToken(mask, lstrip=True, special=True) if isinstance(mask, str) else mask
        super().__init__(*args, **kwargs)
        self._lays_out = not is_read and self._backend.post_processor is None  # a file that says nothing adds nothing
        self._specials_changed()

    def _specials_changed(self: Any) -> None:
        if self._lays_out and self.sep_token is not None and self.cls_token is not None:
            pairs = (self.sep_token, self.sep_token_id), (self.cls_token, self.cls_token_id)
            self._backend.post_processor = RobertaProcessing(*pairs, self.trim_offsets, self.add_prefix_space)
        super()._specials_changed()  # type: ignore[misc]
