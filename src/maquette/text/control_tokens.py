"""Special tokens that a user types into a conversation, read as the letters they are.

They are put between marks before the template runs, so that afterwards they can be told from the template's own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maquette.errors import InputError

if TYPE_CHECKING:
    from tokenizers import AddedToken

START, END = "\U000f0000", "\U000f0001"  # for private use: they stand for no character
ESCAPED = (r"\udb80\udc00", r"\udb80\udc01")  # the same, as a template's tojson may write them


def control_tokens(added: "Sequence[AddedToken]", literals: str) -> re.Pattern[str]:
    """Give what finds the tokens that steer a model: the special ones, and others that the template writes.

    Args:
        added: the tokenizer's added tokens.
        literals: every text that stands in the template.
    """
    found = [t.content for t in added if t.special or (t.content in literals and not t.content.isspace())]
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))) or "(?!)")


def mark(value: Any, tokens: re.Pattern[str]) -> Any:
    """Put every such token in a user's texts between marks; keys of mappings are left alone."""
    if isinstance(value, str):
        return tokens.sub(rf"{START}\g<0>{END}", value.replace(START, "").replace(END, ""))
    if isinstance(value, Mapping):
        return {key: mark(item, tokens) for key, item in value.items()}
    return [mark(item, tokens) for item in value] if isinstance(value, list | tuple) else value


def encode_marked(
    text: str,
    added: Mapping[str, int],
    encode: Callable[[str], list[int]],
    spell: Callable[[str], list[int]],
) -> list[int]:
    """Give the ids of a conversation: what is between marks is spelt out, the rest encoded as ever.

    Args:
        text: with the marks; those that a template tore apart are left out, and keep what is around them apart.
        added: the tokenizer's added tokens with their ids.
        encode: gives the ids of a text.
        spell: gives the ids of a text without regard to added tokens.

    Raises:
        InputError: a token that the tokenizer has no other way to write.
    """
    if any(escaped in text for escaped in ESCAPED):
        raise InputError(
            "sanitize_control_tokens=True: the chat template writes texts as JSON in ASCII, in which special tokens "
            "that a user typed cannot be found again. Take them out of the messages first."
        )
    names = "|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)"
    pieces = re.split(f"{START}({names}){END}|[{START}{END}]", text)
    newline, ids = encode("\n"), encode(pieces[0])
    for place, piece in enumerate(pieces[1:], 1):
        if not piece:
            continue
        way = spell if place % 2 else encode
        behind = way("\n" + piece)  # as within a text: some tokenizers put a space before the first word
        found = behind[len(newline) :] if behind[: len(newline)] == newline else way(piece)
        if place % 2 and added[piece] in found:
            raise InputError(f"sanitize_control_tokens=True: this tokenizer has no other way to write {piece!r}.")
        ids += found
    return ids
