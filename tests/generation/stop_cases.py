"""Stop strings, texts to find them in, and a byte-level tokenizer that cuts them in odd places."""

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    "the stop sign stops here, then goes on and on: stopping, STOP! \n\nUser: what?",
    "naïve café über straße 日本語 テスト 🙂🙃 end. End\nthe end of the stop",
    "aab aaab baab abab aaaaa bbbbb a b a",
    "top of the shop, s t o p and st op <|end|> more <|end|>",
]
STOPS: list[tuple[list[str], list[str]]] = [
    (["stop"], TEXTS),
    (["a"], TEXTS),
    ([" "], TEXTS),
    (["\n\nUser:", "on: st", "é"], TEXTS),
    (["日本語", "🙃", "ß"], TEXTS),
    (["aab", "bb"], TEXTS),
    (["the end of the stop", ", s t o p and"], TEXTS),
    (["<|end|>"], TEXTS),
    (["never there"], TEXTS),
]


def make_tokenizer() -> Tokenizer:
    """Train a byte-level BPE of few merges, so that most characters beyond ASCII are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([tokenizers.AddedToken("<|end|>", special=True)])
    return tokenizer
