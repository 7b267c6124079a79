"""Blueprint's tokenizer: byte pairs, which can write any text."""

from collections.abc import Iterable
from typing import Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from maquette import PreTrainedTokenizerFast

PAD = "<pad>"


class BlueprintTokenizerFast(PreTrainedTokenizerFast):
    """Cuts texts into pieces that are frequent in what it was learnt from."""

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> Self:
        """Make a tokenizer of `size` tokens, at least 257, from texts (Sennrich et al. 2016, on bytes)."""
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return cls(tokenizer_object=backend, pad_token=PAD)
