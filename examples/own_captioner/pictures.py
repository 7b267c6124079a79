"""Pictures of one to three handwritten digits, and the words for them."""

import numpy as np
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, models, pre_tokenizers

from maquette import PreTrainedTokenizerFast

HEIGHT, SLOT, MOST = 12, 12, 3  # pixels of a picture, and of the place of a digit in it; digits at most
SPECIAL = ("[PAD]", "[START]", "[END]")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (*SPECIAL, *NUMBERS)
HELD_OUT = 360  # the last scans, by other writers than most of the first


def make_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, SPECIAL[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def load_scans(*, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give scans `(digits, 8, 8)` from 0 to 1, and which digits they are."""
    scans, digits = load_digits(return_X_y=True)
    part = slice(-HELD_OUT, None) if held_out else slice(-HELD_OUT)
    return scans[part].reshape(-1, 8, 8).astype("float32") / 16, digits[part]


def draw(scans: np.ndarray, digits: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Compose pictures `(count, 1, HEIGHT, SLOT * MOST)` of scans, each somewhere in its place; gives captions, too."""
    pictures, captions = np.zeros((count, 1, HEIGHT, SLOT * MOST), "float32"), []
    for picture in pictures:
        chosen = rng.integers(len(scans), size=rng.integers(1, MOST + 1))
        for place, number in enumerate(chosen):
            top, left = rng.integers(HEIGHT - 7), SLOT * place + rng.integers(SLOT - 7)
            picture[0, top : top + 8, left : left + 8] = scans[number]
        captions.append(" ".join(NUMBERS[digits[number]] for number in chosen))
    return pictures, captions
