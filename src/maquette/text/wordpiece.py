"""WordPiece in Python: BERT's normaliser, and words that are looked up instead of cut up.

Source: Devlin et al. 2018, "BERT", and Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1, for
the greedy longest match. Natural text repeats its words, so each word is cut once and its ids are kept. The normaliser
of the Rust library gives the same texts, and takes twice as long (on ASCII fifty times): hence one in Python.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from maquette.text.characters import (
    IDEOGRAPHS,
    MARKS,
    PUNCTUATION,
    REMOVED,
    SPACES,
    arrange,
    decompose,
    lower,
)

END = "\0"  # parts texts that are treated as one; the normaliser takes it out of the texts themselves
CONTINUATION = "##"
LONGEST_WORD = 100
WORDS_KEPT = 1 << 20

_ASCII_PUNCTUATION = [bytes([code]) for code in range(128) if code in PUNCTUATION]
_ASCII_REMOVED = bytes(code for code in range(1, 128) if code in REMOVED)
_TO_SPACES = bytes(32 if code in SPACES else code for code in range(256))


class Spelling(dict[int, str]):
    """What each character becomes, found out when it first occurs."""

    def __init__(self, spell: Callable[[int], str]) -> None:
        self.spell = spell

    def __missing__(self, code: int) -> str:
        spelled = self[code] = self.spell(code)
        return spelled

    def __reduce__(self) -> tuple[Any, ...]:
        return Spelling, (self.spell,)


class Normalizer:
    """Turns text into the form that the vocabulary is of: clean, and as asked without case, accents, or joined CJK.

    Args:
        lowercase: write small letters.
        strip_accents: take accents off; None means as `lowercase`.
        separate_ideographs: make each CJK ideograph a word of its own.
    """

    def __init__(self, *, lowercase: bool, strip_accents: bool | None, separate_ideographs: bool) -> None:
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.separate_ideographs = separate_ideographs
        self._plain = Spelling(self._spell)
        self._spaced = Spelling(self._spell_apart)
        self._apart = Spelling(_space_punctuation_at)
        self._ascii = _TO_SPACES.lower() if lowercase else _TO_SPACES

    def normalize(self, text: str) -> str:
        """Give the normalised text; punctuation stays where it is."""
        if text.isascii():
            return self.normalize_ascii(text.replace(END, ""))
        return self._arranged(text).translate(self._plain)

    def separate(self, text: str) -> str:
        """Give the normalised words and punctuation marks, with spaces between."""
        if text.isascii():
            return space_ascii(self.normalize_ascii(text.replace(END, "")))
        return self._arranged(text).translate(self._spaced)

    def space_punctuation(self, text: str) -> str:
        """Put spaces around the punctuation of normalised text."""
        return space_ascii(text) if text.isascii() else text.translate(self._apart)

    def normalize_ascii(self, text: str) -> str:
        """Normalise ASCII texts joined by `END`, which is kept."""
        return text.encode("ascii").translate(self._ascii, _ASCII_REMOVED).decode("ascii")

    def _arranged(self, text: str) -> str:
        return arrange(text) if self.strip_accents else text

    def _spell(self, code: int) -> str:
        if code in SPACES:
            return " "
        if code in REMOVED or 0xD800 <= code < 0xE000:
            return ""
        spelled = chr(code)
        if self.strip_accents:
            spelled = "".join(part for part in decompose(spelled) if ord(part) not in MARKS)
        if self.lowercase:
            spelled = "".join(map(lower, spelled))
        return f" {spelled} " if self.separate_ideographs and code in IDEOGRAPHS else spelled

    def _spell_apart(self, code: int) -> str:
        return _space_punctuation(self._spell(code))


def space_ascii(text: str) -> str:
    """Put spaces around the punctuation of normalised ASCII text."""
    raw = text.encode("ascii")
    for mark in _ASCII_PUNCTUATION:
        if mark in raw:
            raw = raw.replace(mark, b" " + mark + b" ")
    return raw.decode("ascii")


def _space_punctuation_at(code: int) -> str:
    return _space_punctuation(chr(code))


def _space_punctuation(text: str) -> str:
    return "".join(f" {part} " if ord(part) in PUNCTUATION else part for part in text)


class WordPiece(dict[str, tuple[int, ...]]):
    """Maps words to the ids of their pieces; a word is cut up when it first occurs, the longest piece first.

    A word that no pieces make up, or of more than 100 characters, is the unknown token. A word that is `END` and an
    id stands for that id, which is how added tokens travel among words.
    """

    def __init__(self, vocabulary: Mapping[str, int], unknown_id: int) -> None:
        self.starts = vocabulary
        self.rests = {piece[2:]: index for piece, index in vocabulary.items() if piece.startswith(CONTINUATION)}
        self.longest = max(map(len, vocabulary), default=1)
        self.unknown = (unknown_id,)
        self[END] = (-1,)

    def __reduce__(self) -> tuple[Any, ...]:
        return WordPiece, (self.starts, *self.unknown)  # without the words: a copy finds its own

    def __missing__(self, word: str) -> tuple[int, ...]:
        if word[0] == END:
            return (int(word[1:]),)
        if len(word) > LONGEST_WORD:
            return self.unknown
        if len(self) > WORDS_KEPT:
            self.clear()
            self[END] = (-1,)
        pieces = self[word] = self._cut(word)
        return pieces

    def _cut(self, word: str) -> tuple[int, ...]:
        pieces: list[int] = []
        start, known = 0, self.starts
        while start < len(word):
            for end in range(min(len(word), start + self.longest), start, -1):
                index = known.get(word[start:end])
                if index is not None:
                    break
            else:
                return self.unknown
            pieces.append(index)
            start, known = end, self.rests
        return tuple(pieces)

    def encode(self, words: str) -> Iterator[list[int]]:
        """Give the ids of each text, from the words of all of them, parted by `END`."""
        flat = list(chain.from_iterable(map(self.__getitem__, words.split())))
        start = 0
        for _ in range(words.count(f" {END} ")):
            stop = flat.index(-1, start)
            yield flat[start:stop]
            start = stop + 1
        yield flat[start:] if start else flat


def join(texts: Sequence[str]) -> str:
    """Join the words of texts so that `WordPiece.encode` can part them again."""
    return f" {END} ".join(texts)
