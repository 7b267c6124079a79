"""Tokens that a text is cut at before the tokenizer proper sees it: the special ones, and those that a user adds."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from maquette.text.characters import SPACES, is_word_character

_SPACES = "".join(map(chr, (code for a, b in zip(SPACES.starts, SPACES.ends, strict=True) for code in range(a, b + 1))))
_SPACES += "\x0b\x0c\x85"


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds a set of tokens in a text, each by its flags; leftmost first, and the longest that starts there."""

    pattern: "re.Pattern[str]"
    tokens: dict[str, tuple[AddedToken, int]]
    starts: frozenset[str]  # their first two characters: `<|` is soon looked for, and 256 tokens are not

    @classmethod
    def of(cls, tokens: Iterable[tuple[str, AddedToken, int]]) -> "Finder | None":
        """Make the finder of `(spelling, token, id)`; None where there are none to find."""
        known: dict[str, tuple[AddedToken, int]] = {}
        for spelling, token, index in tokens:
            known.setdefault(spelling, (token, index))
        if not known:
            return None
        starts = frozenset(spelling[:2] for spelling in known)
        return cls(re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True)))), known, starts)

    def appears_in(self, text: str) -> bool:
        """Tell quickly whether any of the spellings occurs at all."""
        return any(start in text for start in self.starts) and any(spelling in text for spelling in self.tokens)

    def cut(self, text: str, *, split_special: bool = False) -> Iterator[str | int]:
        """Give the text's pieces in order: what lies between the tokens as text, each token as its id."""
        end = 0
        for match in self.pattern.finditer(text):
            token, index = self.tokens[match.group()]
            start, stop = match.span()
            if split_special and token.special:
                continue
            if token.single_word and not _stands_alone(text, start, stop):
                continue
            if token.lstrip:
                start = max(len(text[:start].rstrip(_SPACES)), end)
            if token.rstrip:
                stop = len(text) - len(text[stop:].lstrip(_SPACES))
            if end < start:
                yield text[end:start]
            yield index
            end = stop
        if end < len(text):
            yield text[end:]


def _stands_alone(text: str, start: int, stop: int) -> bool:
    before = start > 0 and is_word_character(text[start - 1])
    return not before and not (stop < len(text) and is_word_character(text[stop]))


class AddedTokens:
    """The added tokens of one tokenizer, by id, and the finders for them.

    A token with `normalized=True` is looked for in the normalised text, in its own normalised spelling; the others
    are looked for in the text as it came, and come first.
    """

    def __init__(self, normalize: Callable[[str], str] | None = None) -> None:
        self.by_id: dict[int, AddedToken] = {}
        self.ids: dict[str, int] = {}
        self.normalize = normalize
        self.split_special = False
        self._finders: tuple[Finder | None, Finder | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_finders": None}

    def put(self, token: AddedToken, index: int) -> None:
        """Add a token, or replace the flags of one that is there."""
        self.by_id[index] = token
        self.ids[token.content] = index
        self._finders = None

    def spelling(self, token: AddedToken) -> str:
        """Give the token as it is looked for."""
        return self.normalize(token.content) if token.normalized and self.normalize else token.content

    @property
    def finders(self) -> tuple[Finder | None, Finder | None]:
        """The finder for texts as they came, and the one for normalised texts."""
        if self._finders is None:
            special_first = sorted(self.by_id.items(), key=lambda item: not item[1].special)
            entries = [(self.spelling(token), token, index) for index, token in special_first]
            apart = self.normalize is not None
            raw = Finder.of(entry for entry in entries if not (apart and entry[1].normalized))
            self._finders = raw, Finder.of(entry for entry in entries if apart and entry[1].normalized)
        return self._finders

    def cut(self, text: str) -> list[str | int]:
        """Cut a text at the added tokens: normalised pieces of text, and ids."""
        raw, normalized = self.finders
        pieces: list[str | int] = []
        for piece in raw.cut(text, split_special=self.split_special) if raw else [text]:
            if isinstance(piece, int):
                pieces.append(piece)
                continue
            spelled = self.normalize(piece) if self.normalize else piece
            pieces.extend(normalized.cut(spelled, split_special=self.split_special) if normalized else [spelled])
        return pieces
