"""Which tokens of a spoken text are a word: by spaces, or by characters where a language has none between words."""

import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

BEFORE = "\"'“¡¿([{-"  # belongs to the word behind it
BEHIND = "\"'.。,，!！?？:：”)]}、"  # and to the one before it
UNSPACED = frozenset(
    {"chinese", "mandarin", "japanese", "thai", "lao", "myanmar", "burmese", "cantonese"}
    | {"zh", "ja", "th", "lo", "my", "yue"}
)
BROKEN = "\ufffd"


class Word(NamedTuple):
    """A word, and the places of its first and last token."""

    text: str
    first: int
    last: int

    def join(self, other: "Word") -> "Word":
        """Give this word with the one behind it."""
        return Word(self.text + other.text, self.first, other.last)


def find_words(ids: Sequence[int], decode: Callable[[list[int]], str], *, language: str | None = None) -> list[Word]:
    """Give the words of a text, with the punctuation that belongs to each.

    Args:
        ids: of the text alone, without times.
        decode: gives the text of ids.
        language: of the text; its name or code says whether words have spaces between.
    """
    words = _find_characters(ids, decode)
    if (language or "").lower().strip("<|>") not in UNSPACED:
        words = _join_at_spaces(words)
    if not words:
        return []
    found = [words[-1]]
    for word in reversed(words[:-1]):
        if word.text.startswith(" ") and word.text.strip() in BEFORE:
            found[0] = word.join(found[0])
        else:
            found.insert(0, word)
    joined = [found[0]]
    for word in found[1:]:
        if not joined[-1].text.endswith(" ") and word.text in BEHIND:
            joined[-1] = joined[-1].join(word)
        else:
            joined.append(word)
    return joined


def _find_characters(ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[Word]:
    """Give the shortest runs of tokens that are whole characters."""
    whole, found, first, length = decode([*ids]), [], 0, 0
    for place in range(len(ids)):
        text = decode([*ids[first : place + 1]])
        at = length + text.find(BROKEN)
        if BROKEN not in text or at >= len(whole) or whole[at] == BROKEN:
            found.append(Word(text, first, place))
            first, length = place + 1, length + len(text)
    return found


def _join_at_spaces(words: Sequence[Word]) -> list[Word]:
    found: list[Word] = []
    for word in words:
        if found and not word.text.startswith(" ") and word.text.strip() not in string.punctuation:
            found[-1] = found[-1].join(word)
        else:
            found.append(word)
    return found
