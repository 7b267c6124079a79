"""The family's tokenizers: BERT's of WordPiece, RoBERTa's of bytes, and XLM-RoBERTa's of SentencePiece."""

from dataclasses import replace
from typing import ClassVar

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from maquette import (
    ByteLevelBPETokenizer,
    ByteLevelBPETokenizerFast,
    SentencePieceTokenizerFast,
    WordPieceTokenizer,
    WordPieceTokenizerFast,
)
from maquette.text.roberta_tokens import TOKENS, RobertaTokens
from maquette.text.sentencepiece_files import CONTROL, SentencePieceModel


class BertTokenizer(WordPieceTokenizer):
    """BERT's tokenizer in Python: WordPiece, `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, with token types.

    Takes `vocab_file`, `do_lower_case`, `never_split`, `strip_accents`, `tokenize_chinese_chars`, the special tokens,
    and what every tokenizer takes.
    """

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012
    model_max_length = 512


class BertTokenizerFast(WordPieceTokenizerFast):
    """BERT's tokenizer over the Rust library; gives the same ids, and where in the text each token is from."""

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012
    model_max_length = 512
    slow_tokenizer_class = BertTokenizer


class RobertaTokenizer(RobertaTokens, ByteLevelBPETokenizer):
    """RoBERTa's tokenizer in Python: byte-level BPE, `<s> A </s>` or `<s> A </s></s> B </s>`.

    Takes what `ByteLevelBPETokenizer` takes. A word after a space has other ids than one without: pass
    `add_prefix_space=True` for words that come by themselves.
    """


class RobertaTokenizerFast(RobertaTokens, ByteLevelBPETokenizerFast):
    """RoBERTa's tokenizer over the Rust library; gives the same ids, and where each token is from.

    Args:
        trim_offsets: leave spaces out of where tokens are from; of a `tokenizer_file`, what that says.
    """

    slow_tokenizer_class = RobertaTokenizer


class XLMRobertaTokenizerFast(SentencePieceTokenizerFast):
    """XLM-RoBERTa's tokenizer, of SentencePiece: `<s> A </s>` or `<s> A </s></s> B </s>`.

    The model file's pieces come one place later than there, after `<s>`, `<pad>`, `</s>` and `<unk>`, and `<mask>` is
    last. Takes what `SentencePieceTokenizerFast` takes.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        **SentencePieceTokenizerFast.vocab_files_names,
        "vocab_file": "sentencepiece.bpe.model",
    }
    default_tokens: ClassVar[dict[str, str]] = TOKENS
    model_max_length = 512

    def _arrange_pieces(self, model: SentencePieceModel) -> SentencePieceModel:
        """Put the pieces where the checkpoints have them."""
        begin, pad, end, unknown = (TOKENS[f"{name}_token"] for name in ("bos", "pad", "eos", "unk"))
        kinds = {piece: kind for piece, _, kind in model.pieces}
        rest = [entry for entry in model.pieces if entry[0] not in (begin, pad, end, unknown)]
        first = [(token, 0.0, CONTROL) for token in (begin, pad, end)] + [(unknown, 0.0, kinds[unknown])]
        special = {"bos_token": 0, "pad_token": 1, "eos_token": 2, "unk_token": 3}
        return replace(model, pieces=[*first, *rest, (TOKENS["mask_token"], 0.0, CONTROL)], special=special)

    def _complete_backend(self, backend: Tokenizer) -> Tokenizer:
        begin, end, mask = TOKENS["bos_token"], TOKENS["eos_token"], TOKENS["mask_token"]
        backend.add_special_tokens([AddedToken(mask, lstrip=True, normalized=False, special=True)])
        backend.post_processor = TemplateProcessing(
            single=[begin, "$A", end], pair=[begin, "$A", end, end, "$B", end], special_tokens=[(begin, 0), (end, 2)]
        )
        return backend


XLMRobertaTokenizer = XLMRobertaTokenizerFast  # there is one kind only, and two names for it in other people's code
