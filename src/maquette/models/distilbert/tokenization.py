"""DistilBERT's tokenizers, of both kinds."""

from maquette import WordPieceTokenizer, WordPieceTokenizerFast


class DistilBertTokenizer(WordPieceTokenizer):
    """DistilBERT's tokenizer in Python: WordPiece, `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, no token types.

    Takes `vocab_file`, `do_lower_case`, `never_split`, `strip_accents`, `tokenize_chinese_chars`, the special tokens,
    and what every tokenizer takes.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    model_max_length = 512


class DistilBertTokenizerFast(WordPieceTokenizerFast):
    """DistilBERT's tokenizer over the Rust library; gives the same ids, and where in the text each token is from."""

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    model_max_length = 512
    slow_tokenizer_class = DistilBertTokenizer
