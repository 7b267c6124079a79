"""BART's tokenizers, of both kinds: RoBERTa's, with lengths of their own."""

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast
from maquette.text.roberta_tokens import RobertaTokens


class BartTokenizer(RobertaTokens, ByteLevelBPETokenizer):
    """BART's tokenizer in Python: byte-level BPE, `<s> A </s>` or `<s> A </s></s> B </s>`.

    Takes what `ByteLevelBPETokenizer` takes. A word after a space has other ids than one without: pass
    `add_prefix_space=True` for words that come by themselves.
    """

    model_max_length = 1024


class BartTokenizerFast(RobertaTokens, ByteLevelBPETokenizerFast):
    """BART's tokenizer over the Rust library; gives the same ids, and where each token is from.

    Args:
        trim_offsets: leave spaces out of where tokens are from; of a `tokenizer_file`, what that says.
    """

    model_max_length = 1024
    slow_tokenizer_class = BartTokenizer
