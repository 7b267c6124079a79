"""The steps from tokens to text, each for tokens that come one after another.

A stage takes the next tokens and gives what is settled of them; `finish` gives the rest. It holds back no more than
what the following tokens may still change: half a character, a run of bytes, the last token.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from tokenizers import decoders

from maquette.text.backend import decode_tokens
from maquette.text.byte_pairs import BYTES, ByteDecoder, bytes_of
from maquette.text.vocabulary import Vocabulary

Decode = Callable[[Sequence[str]], str]

MARK, ANCHOR = "\U00100000", "x"  # stand for a token that is written out, and for the one before
PATIENCE = 16  # how many tokens a window waits for the rest of a character
# What `clean_up_tokenization` may change once more text follows: spaces, and beginnings of what it joins.
_UNSETTLED = re.compile(r" (?:[ ']|n(?=[ ']|$)|(?:(?<=')|(?<=' ))(?:[tms]|[vr]e?))*+$")


class Written(str):
    """An added token, which stands in the text as it is written."""

    __slots__ = ()


class Stage(Protocol):
    """One step."""

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Take the next tokens; gives what is settled."""

    def finish(self) -> list[str]:
        """Give the rest."""


class Tokens:
    """Changes each token for itself, and the first of a row in a way of its own.

    Args:
        decode: gives the text of tokens.
        known: texts of tokens that are known already, `(first, token)`; rows share it.
    """

    def __init__(self, decode: Decode, known: dict[tuple[bool, str], str]) -> None:
        self.decode, self.known, self.first = decode, known, True

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Change the next tokens."""
        return [self._change(token) for token in tokens]

    def finish(self) -> list[str]:
        """Give nothing: each token is settled at once."""
        return []

    def _change(self, token: str) -> str:
        key = (self.first, token)
        text = self.known.get(key)
        if text is None or isinstance(token, Written):
            shown = MARK if isinstance(token, Written) else token
            text = self.decode([shown]) if self.first else self.decode([ANCHOR, shown]).removeprefix(ANCHOR)
            if isinstance(token, Written):
                text = token if text == MARK else text.replace(MARK, token)
            else:
                self.known[key] = text
        self.first = False
        return text


class Bytes:
    """Puts the bytes of tokens together to characters.

    Args:
        errors: what becomes of bytes that are no UTF-8.
        unclear: added tokens of the vocabulary that may stand for bytes or for themselves; what follows tells.
    """

    def __init__(self, errors: str, unclear: Mapping[str, bool]) -> None:
        self.errors, self.unclear = errors, unclear
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self.held: list[str] = []

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Give the characters that are whole."""
        texts: list[str] = []
        for token in tokens:
            written = isinstance(token, Written)
            raw = b"" if written else bytes_of(token)
            if self.held and (written or (raw and raw[0] < 0x80)):
                texts += self._release()
            if written:
                texts += [self._end(), token]
            elif self.held or token in self.unclear:
                self._hold(token)
            else:
                texts.append(self.decoder.decode(raw))
        return texts

    def finish(self) -> list[str]:
        """Give what is no whole character."""
        return [*self._release(), self._end()]

    def _end(self) -> str:
        text = self.decoder.decode(b"", final=True)
        self.decoder.reset()
        return text

    def _hold(self, token: str) -> None:
        """Hold tokens back, with the bytes before them, up to one that begins a character whatever came before."""
        if not self.held and (pending := self.decoder.getstate()[0]):
            self.held.append("".join(map(CHARACTERS.__getitem__, pending)))
            self.decoder.reset()
        self.held.append(token)

    def _release(self) -> list[str]:
        held, self.held = self.held, []
        return [decode_tokens(ByteDecoder(self.errors), held, self.unclear)] if held else []


CHARACTERS = {byte: character for character, byte in BYTES.items()}


class ByteRuns:
    """Puts tokens such as `<0xE3>` together; a run of them is text or not as a whole, so it is held until it ends.

    Args:
        unclear: as in `Bytes`.
    """

    def __init__(self, unclear: Mapping[str, bool]) -> None:
        self.unclear = unclear
        self.decoder = decoders.ByteFallback()
        self.run: list[str] = []

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Give the other tokens, and the runs that have ended."""
        texts: list[str] = []
        for token in tokens:
            if self._is_byte(token):
                self.run.append(token)
            else:
                texts += [*self.finish(), token] if self.run else [token]
        return texts

    def finish(self) -> list[str]:
        """Give the run that is held."""
        run, self.run = self.run, []
        return [decode_tokens(self.decoder, run, self.unclear)] if run else []

    def _is_byte(self, token: str) -> bool:
        return (
            len(token) == 6
            and token.startswith("<0x")
            and not isinstance(token, Written)
            and self.decoder.decode([token]) != token
        )


class LastToken:
    """Changes each token for itself, and the last of a row in a way of its own, so that one is always held."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self.held: list[str] = []

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Give all but the last token."""
        self.held += tokens
        ready, self.held = self.held[:-1], self.held[-1:]
        return [self._change([token, ANCHOR]).removesuffix(ANCHOR) for token in ready]

    def finish(self) -> list[str]:
        """Give the last token."""
        return [self._change([token]) for token in self.held]

    def _change(self, tokens: list[str]) -> str:
        if not isinstance(tokens[0], Written):
            return self.decode(tokens)
        return self.decode([MARK, *tokens[1:]]).replace(MARK, tokens[0])


class Start:
    """Takes up to `count` characters from the start of the text, as long as they are `content`."""

    def __init__(self, content: str, count: int) -> None:
        self.content, self.count = content, count

    def feed(self, tokens: Iterable[str]) -> list[str]:
        """Give the tokens, without what the text is not to start with."""
        if not self.count:
            return list(tokens)
        texts: list[str] = []
        for token in tokens:
            while self.count and token.startswith(self.content) and not isinstance(token, Written):
                token, self.count = token[1:], self.count - 1
            self.count = 0 if token else self.count
            texts.append(token)
        return texts

    def finish(self) -> list[str]:
        """Give nothing."""
        return []


class Tidying:
    """Cleans text up as `clean_up_tokenization` does, once it is sure which spaces go."""

    def __init__(self) -> None:
        self.held = ""

    def feed(self, text: str) -> str:
        """Give what more text cannot change."""
        text = self.held + text
        found = _UNSETTLED.search(text)
        settled = found.start() if found else len(text)
        self.held = text[settled:]
        return Vocabulary.clean_up_tokenization(text[:settled])

    def finish(self) -> str:
        """Give the rest."""
        held, self.held = self.held, ""
        return Vocabulary.clean_up_tokenization(held)


class Windows:
    """Gives the text of ids whose decoder is anyone's own code, by decoding a few ids at a time with those before.

    Args:
        decode: gives the text of ids.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode = decode
        self.ids: list[int] = []
        self.given = 0  # how many ids of the window have been given as text

    def feed(self, ids: list[int]) -> str:
        """Give the text of the next ids, unless it ends within a character."""
        self.ids += ids
        text, new = self._compare()
        if not new or (text.endswith("\ufffd") and len(self.ids) - self.given < PATIENCE):
            return ""
        self.ids, self.given = self.ids[self.given :], len(self.ids) - self.given
        return new

    def finish(self) -> str:
        """Give the rest."""
        return self._compare()[1]

    def _compare(self) -> tuple[str, str]:
        text = self.decode(self.ids)
        before = self.decode(self.ids[: self.given]) if self.given else ""
        return text, text[len(before) :]
