"""From what a CTC model says of each frame to characters, words and their times; for all rows at once.

Connectionist temporal classification (Graves et al. 2006): neighbours that are equal are one character, and a blank,
which is none, stands between the two letters of "LL".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from maquette.errors import InputError
from maquette.text.id_rows import IdRows

Array = np.ndarray[Any, Any]
Offsets = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FrameTable:
    """What ids stand for.

    Attributes:
        ids: the ids there are, sorted; the other arrays have their order. Everything else works with places in it.
        parts: what each is in a text.
        spaces: whether it stands between words.
        skipped: whether `skip_special_tokens` leaves it out.
        blank: the place of the blank; -1 where there is none.
        between: what stands between words.
    """

    ids: Array
    parts: Array
    spaces: Array
    skipped: Array
    blank: int
    between: str

    @classmethod
    def of(
        cls, tokens: Mapping[int, str], *, special: set[str], blank: int | None, delimiter: str | None, between: str
    ) -> "FrameTable":
        """Make the table of tokens by id; `delimiter` is the token between words, and is never skipped."""
        ids = sorted(tokens)
        parts = [between if tokens[index] == delimiter else tokens[index] for index in ids]
        return cls(
            np.array(ids),
            np.array(parts, dtype=object),
            np.array([part == between for part in parts]),
            np.array([tokens[index] in special and tokens[index] != delimiter for index in ids]),
            -1 if blank is None else ids.index(blank),
            between,
        )

    def find(self, rows: IdRows) -> Array:
        """Give the places of ids.

        Raises:
            InputError: an id is not there; which, and where it is.
        """
        ids, last = rows.ids, len(self.ids) - 1
        if not ids.size:
            return ids
        if self.ids[-1] == last:  # no gaps, so that an id is its place
            if ids.min() >= 0 and ids.max() <= last:
                return ids
            wrong = (ids < 0) | (ids > last)
        else:
            places = np.minimum(np.searchsorted(self.ids, ids), last)
            wrong = self.ids[places] != ids
            if not wrong.any():
                return places
        raise self._unknown_id(rows, int(wrong.argmax()))

    def _unknown_id(self, rows: IdRows, index: int) -> InputError:
        ends = rows.lengths.cumsum()
        row = int(np.searchsorted(ends, index, side="right"))
        place = f"place {index - int(ends[row] - rows.lengths[row])}" + (f" of row {row}" if rows.batched else "")
        return InputError(
            f"The id {rows.ids[index]}, at {place}, is not in the vocabulary, which has {len(self.ids)} tokens. Ids "
            "come from a model or a tokenizer with the same vocabulary; where labels have -100 for places to ignore, "
            "put the pad_token_id first."
        )


@dataclass(frozen=True, slots=True)
class CTCCharacters:
    """The characters of all rows behind one another.

    Attributes:
        places: which characters, as places in a `FrameTable`, `(characters,)`.
        starts, ends: their frames, counted through all rows, `(characters,)`.
        bounds: where the characters of each row begin, and where the last one's end, `(rows + 1,)`.
        frames: where the frames of each row begin, `(rows,)`.
    """

    places: Array
    starts: Array
    ends: Array
    bounds: Array
    frames: Array

    def cut(self, items: list[Any], bounds: Array | None = None) -> list[list[Any]]:
        """Give the items of each row."""
        return [items[a:b] for a, b in pairwise((self.bounds if bounds is None else bounds).tolist())]


def drop(places: Array, lengths: Array, unwanted: Array) -> tuple[Array, Array]:
    """Take frames out; gives the others, and how many each row has left."""
    kept = np.append(0, (~unwanted).cumsum())
    return places[~unwanted], np.diff(kept[np.append(0, lengths.cumsum())])


def collapse(places: Array, lengths: Array, *, blank: int, group: bool) -> CTCCharacters:
    """Make one character of neighbours that are equal, unless not `group`, and take the blanks out."""
    row_ends = lengths.cumsum()
    begins = np.ones(places.size, dtype=bool)
    if group:
        np.not_equal(places[1:], places[:-1], out=begins[1:])
        begins[(row_ends - lengths)[lengths > 0]] = True
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], places.size)
    kept = places[starts] != blank
    starts, ends = starts[kept], ends[kept]
    bounds = np.searchsorted(starts, np.append(0, row_ends))
    return CTCCharacters(places[starts], starts, ends, bounds, row_ends - lengths)


def time_characters(found: CTCCharacters, parts: list[str]) -> list[Offsets]:
    """Give each row's characters with the frames they begin in and end before."""
    shift = np.repeat(found.frames, np.diff(found.bounds))
    frames = zip(parts, (found.starts - shift).tolist(), (found.ends - shift).tolist(), strict=True)
    return found.cut([{"char": part, "start_offset": start, "end_offset": end} for part, start, end in frames])


def time_words(found: CTCCharacters, parts: list[str], spaces: Array) -> list[Offsets]:
    """Give each row's words, what stands between spaces, with the frames they begin in and end before.

    Args:
        parts: the text of each character.
        spaces: whether it is a space, `(characters,)`.
    """
    edges = np.append(True, spaces[1:] != spaces[:-1])[: len(parts)]  # where words and spaces take turns
    edges[found.bounds[found.bounds < len(parts)]] = True
    turns = np.append(np.flatnonzero(edges), len(parts))
    words = np.flatnonzero(~spaces[turns[:-1]])
    first, last = turns[words], turns[words + 1]
    bounds = np.searchsorted(first, found.bounds)
    shift = np.repeat(found.frames, np.diff(bounds))
    frames = zip((found.starts[first] - shift).tolist(), (found.ends[last - 1] - shift).tolist(), strict=True)
    texts = ("".join(parts[a:b]) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    offsets = [{"word": text, "start_offset": a, "end_offset": b} for text, (a, b) in zip(texts, frames, strict=True)]
    return found.cut(offsets, bounds)
