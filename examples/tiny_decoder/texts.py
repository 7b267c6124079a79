"""What Python says about itself: the help topics of every Python, as paragraphs, and a tokenizer made from them."""

import re
from pydoc_data.topics import topics

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from maquette import PreTrainedTokenizerFast

END = "<end>"
LONGEST = 1200  # letters of a paragraph; longer ones are left out


def load_paragraphs() -> tuple[list[str], list[str]]:
    """Give paragraphs to learn from, and those of every eighth topic, which are held out."""
    learnt: list[str] = []
    held_out: list[str] = []
    seen: set[str] = set()
    for number, name in enumerate(sorted(topics)):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(paragraph.split())
            if 40 <= len(text) <= LONGEST and text not in seen:  # topics share some paragraphs
                seen.add(text)
                (held_out if number % 8 == 7 else learnt).append(text)
    return learnt, held_out


def train_tokenizer(paragraphs: list[str], size: int = 2000) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, padding_side="left")
