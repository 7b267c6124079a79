"""`draw_tokens`: a text with its tokens marked on it, and what each of them is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from maquette.errors import InputError
from maquette.storage.html_view import View, escape, frame

MOST_TOKENS = 2_000
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
SPACE_MARKS = ("Ġ", "▁")  # of byte-level tokenizers, and of SentencePiece
SIGNS = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥"})

STYLE = """
.maquette .text { font-size: 15px; line-height: 2; overflow-wrap: anywhere; margin: 6px 0 10px; white-space: pre-wrap; }
.maquette .text span { border-radius: 3px; padding: 2px 0; }
.maquette .tint0 { background: rgba(47, 134, 201, 0.28); }
.maquette .tint1 { background: rgba(226, 150, 40, 0.30); }
.maquette .tint2 { background: rgba(60, 160, 110, 0.30); }
.maquette .chips { display: flex; flex-wrap: wrap; gap: 6px; }
.maquette .chip { border-radius: 4px; padding: 2px 7px; text-align: center; font-size: 13px; max-width: 100%;
  overflow-wrap: anywhere; border: 1px solid transparent; }
.maquette .chip small { display: block; opacity: 0.75; font-size: 11px; font-variant-numeric: tabular-nums; }
.maquette .chip.special { border: 1px dashed rgba(128, 128, 128, 0.8); }
.maquette .chip.unknown { border: 2px solid #c2640a; }
.maquette .chip.byte { border: 1px dotted currentColor; }
"""


@dataclass(frozen=True)
class Piece:
    """One token: `start` to `end` are its characters in the text, None where it has none there.

    Attributes:
        kind: "special", "unknown", "byte" (one of several that make a character together), or "".
    """

    token: str
    number: int
    start: int | None
    end: int | None
    kind: str = ""

    @property
    def place(self) -> str:
        """The characters, as `3–7`."""
        return "" if self.start is None else f"{self.start}–{self.end}"


def draw_tokens(tokenizer: Any, text: str, *, add_special_tokens: bool = True) -> View:
    """Draw how a tokenizer cuts a text: the tokens marked on it, and each with its id and its characters.

    Args:
        tokenizer: a tokenizer; a fast one knows where its tokens are in the text, of others tokens alone are shown.
        text: one text.
        add_special_tokens: as in a call of the tokenizer.

    Returns:
        A view that shows itself in notebooks, is plain text for `print`, and has `save(path)`. Special tokens have a
        dashed edge, unknown ones a thick one, and bytes of a character that several tokens make a dotted one. Spaces
        are written ·, ends of lines ⏎.

    Raises:
        InputError: it is no text.
    """
    if not isinstance(text, str):
        raise InputError(
            f"draw_tokens draws one text, not a {type(text).__name__}. For a batch, call it for each text."
        )
    pieces = _cut(tokenizer, text, add_special_tokens)
    shown = pieces[:MOST_TOKENS]
    about = f"{type(tokenizer).__name__}: {len(text):,} characters, {len(pieces):,} tokens"
    more = f"<div class='quiet'>and {len(pieces) - len(shown):,} more</div>" if len(shown) < len(pieces) else ""
    chips = "".join(_chip(piece, number) for number, piece in enumerate(shown))
    has_places = any(piece.start is not None for piece in shown)
    above = f"<div class='text'>{''.join(_mark(text, shown))}</div>" if has_places else ""
    markup = frame("Tokens", about, above, f"<div class='chips'>{chips}</div>", more, style=STYLE)
    return View("Tokens", markup, "\n".join(_lines(text, shown, about, len(pieces) - len(shown))))


def _cut(tokenizer: Any, text: str, add_special_tokens: bool) -> list[Piece]:
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_offsets_mapping": True} if is_fast else {}
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, **options)
    ids = list(encoded["input_ids"])
    tokens = tokenizer.convert_ids_to_tokens(ids)
    places = encoded["offset_mapping"] if is_fast else [(0, 0)] * len(ids)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    pieces: list[Piece] = []
    for token, number, (start, end) in zip(tokens, ids, places, strict=True):
        is_there = end > start
        kind = "unknown" if number == tokenizer.unk_token_id else "special" if number in special else ""
        first, last = (start, end) if is_there else (None, None)
        pieces.append(Piece(str(token), int(number), first, last, kind))
    shared = {n for n in range(1, len(pieces)) if _overlap(pieces[n - 1], pieces[n])}
    shared |= {number - 1 for number in shared}
    return [
        Piece(p.token, p.number, p.start, p.end, "byte")
        if not p.kind and (n in shared or BYTE.fullmatch(p.token))
        else p
        for n, p in enumerate(pieces)
    ]


def _overlap(one: Piece, other: Piece) -> bool:
    """Tell whether two tokens are of one character."""
    return one.end is not None and other.start is not None and other.start < one.end


def _mark(text: str, pieces: list[Piece]) -> Iterator[str]:
    """Write the text with tokens in tints; what several tokens share is marked once."""
    reached = 0
    for number, piece in enumerate(pieces):
        if piece.start is None or piece.end is None or piece.end <= reached:
            continue
        start = max(piece.start, reached)
        if start > reached:
            yield f"<span class='quiet'>{_cell(text[reached:start])}</span>"
        title = f"{escape(piece.token)} {piece.number}"
        yield f"<span class='tint{number % 3}' title='{title}'>{_cell(text[start : piece.end])}</span>"
        reached = piece.end
    if reached < len(text):
        yield f"<span class='quiet'>{_cell(text[reached:])}</span>"


def _cell(text: str) -> str:
    return escape(text[:2_000].replace("\n", "⏎\n").replace("\t", "⇥")) if len(text) <= 200 else escape(text)


def _chip(piece: Piece, number: int) -> str:
    tint = "" if piece.kind == "special" else f" tint{number % 3}"
    kind = f" {piece.kind}" if piece.kind else ""
    below = " · ".join(part for part in (str(piece.number), piece.place, piece.kind) if part)
    return f"<span class='chip{tint}{kind}'>{escape(_sign(piece.token))}<small>{below}</small></span>"


def _sign(token: str) -> str:
    """Write a token with its mark of a space as ·."""
    for mark in SPACE_MARKS:
        token = token.replace(mark, "·")
    return token.translate(SIGNS)


def _lines(text: str, pieces: list[Piece], about: str, more: int) -> Iterator[str]:
    yield about
    wide = max((len(piece.token) for piece in pieces), default=0)
    for piece in pieces:
        cut = "" if piece.start is None or piece.end is None else repr(text[piece.start : piece.end])
        yield f"  {piece.number:>6}  {piece.token:<{min(wide, 24)}}  {piece.place:<9}  {cut:<12}  {piece.kind}".rstrip()
    if more:
        yield f"  and {more:,} more"
