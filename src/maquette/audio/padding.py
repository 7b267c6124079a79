"""How clips of many lengths go into one array."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.audio.files import Samples
from maquette.batch.padding import PADDINGS, SIDES, check_choice, padded_length
from maquette.errors import InputError

Put = Callable[[Samples, Samples], None]


@dataclass(frozen=True, slots=True)
class PaddingPlan:
    """Where the rows of a batch go.

    Attributes:
        kept: how much of each row is kept, from its start.
        sizes: how long each row is afterwards.
        side: where padding goes, "right" or "left".
    """

    kept: list[int]
    sizes: list[int]
    side: str

    @classmethod
    def plan(
        cls,
        lengths: list[int],
        *,
        padding: bool | str,
        max_length: int | None,
        truncation: bool,
        multiple: int | None,
        side: str,
    ) -> "PaddingPlan":
        """Decide lengths from a call's options.

        Raises:
            InputError: an option is wrong, or needs `max_length`.
        """
        strategy = _padding_strategy(padding)
        _check_lengths(max_length, multiple, needed=truncation or strategy == "max_length")
        kept = lengths
        if truncation and max_length is not None:
            limit = -(-max_length // multiple) * multiple if multiple else max_length
            kept = [min(length, limit) for length in lengths]
        width = padded_length(kept, strategy, max_length=max_length, multiple=multiple)
        return cls(kept, [max(width or 0, length) for length in kept], check_choice("padding_side", side, SIDES))

    def fill(self, rows: Sequence[Samples], value: Any, put: Put) -> list[Samples] | Samples:
        """Lay the rows out: in one array where their lengths are equal then, in an array for each otherwise.

        Args:
            rows: arrays of one number type, alike in every axis but the first.
            value: what stands in padded places.
            put: writes one row, what is kept of it, to its place.
        """
        table, places = self._make(value, rows[0].shape[1:], rows[0].dtype)
        for row, place, kept in zip(rows, places, self.kept, strict=True):
            start = len(place) - kept if self.side == "left" else 0
            put(row[:kept], place[start : start + kept])
            if value:
                place[:start] = place[start + kept :] = value
        return table

    def mask(self) -> list[Samples] | Samples:
        """Give ones where the rows are and zeros where they are padded, as int32."""
        table, places = self._make(0, (), np.dtype(np.int32))
        for place, kept in zip(places, self.kept, strict=True):
            start = len(place) - kept if self.side == "left" else 0
            place[start : start + kept] = 1
        return table

    def _make(
        self, value: Any, tail: tuple[int, ...], dtype: "np.dtype[Any]"
    ) -> tuple[list[Samples] | Samples, list[Samples]]:
        """Give memory for the rows, zeros where `value` is 0, and the place of each."""
        new = np.empty if value else np.zeros
        if len({*self.sizes}) == 1:
            table = new((len(self.sizes), self.sizes[0], *tail), dtype)
            return table, list(table)
        places = [new((size, *tail), dtype) for size in self.sizes]
        return places, places


def _padding_strategy(padding: Any) -> str:
    if padding is True or padding is False or padding is None:
        return "longest" if padding else "do_not_pad"
    return check_choice("padding", padding, PADDINGS)


def _check_lengths(max_length: Any, multiple: Any, *, needed: bool) -> None:
    for name, value in {"max_length": max_length, "pad_to_multiple_of": multiple}.items():
        if value is not None and (not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1):
            raise InputError(f"{name}={value!r}: must be a whole number from 1 on.")
    if needed and max_length is None:
        raise InputError("truncation=True and padding='max_length' need max_length, the number of samples.")
