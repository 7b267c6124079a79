"""Texts with times among their tokens, as models of speech write them: `<|0.00|> Hello.<|1.20|>`.

Ids from `begin` on are times, in steps from the start of a window. Where a time is less than the one before, another
window has begun: at the end of the last one, or where that was left.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

TIME = re.compile(r"<\|\d+\.\d+\|>")


class Clock:
    """Counts times of successive windows from the start of the recording, in steps.

    Args:
        begin: the id of the first time.
        window: steps of a window.
    """

    def __init__(self, begin: int, window: int) -> None:
        self.begin, self.window = begin, window
        self.before = self.last = self.last_but_one = 0

    def goes_back(self, ids: Sequence[int], place: int) -> bool:
        """Tell whether the time at this place is of another window than the one before."""
        return ids[place] - self.begin < self.last

    def is_whole(self, ids: Sequence[int], place: int) -> bool:
        """Tell whether the window before was heard to its end: a single time stood there."""
        return place >= 2 and not (ids[place - 1] >= self.begin and ids[place - 2] >= self.begin)

    def tell(self, ids: Sequence[int], place: int) -> int:
        """Give the time at a place, and go on to it."""
        step = ids[place] - self.begin
        if self.goes_back(ids, place):
            if self.is_whole(ids, place):
                self.before += self.window
            else:
                self.last = self.last_but_one
                self.before += self.last_but_one
        self.last_but_one, self.last = self.last, step
        return step + self.before


def decode_with_times(
    ids: Sequence[int], decode: Callable[[list[int]], str], *, begin: int, window: int, precision: float
) -> str:
    """Give the text with its times, `<|1.08|>`, counted from the start of the recording.

    Args:
        ids: of the text.
        decode: gives the text of ids without times.
        begin: the id of the first time.
        window: steps of a window.
        precision: seconds of a step.
    """
    clock = Clock(begin, window)
    texts: list[Any] = [[]]
    for place, token in enumerate(ids):
        if token < begin:
            texts[-1].append(token)
            continue
        if clock.goes_back(ids, place) and not clock.is_whole(ids, place):
            del texts[-2:]  # the time at which the window was left comes once more
        texts += [f"<|{clock.tell(ids, place) * precision:.2f}|>", []]
    return "".join(part if isinstance(part, str) else decode(part) if part else "" for part in texts)


class Stretch(NamedTuple):
    """Speech between two times, in steps from the start of the recording, and its ids, the times left out."""

    start: int
    end: int
    ids: list[int]


def find_stretches(ids: Sequence[int], *, begin: int, window: int) -> Iterator[Stretch]:
    """Give the stretches of speech in a text; none where it has fewer than two times."""
    times = [place for place, token in enumerate(ids) if token >= begin]
    cuts = [place + 1 for place in times if place + 1 < len(ids) and ids[place + 1] >= begin]
    if len(times) < 2 and not cuts:
        return
    cuts += [] if times[-1] + 1 in cuts else [times[-1] + 1]
    first, before, last = times[0], 0, 0
    for cut in cuts:
        part, start = ids[first:cut], first
        first = cut
        if len(part) < 2:
            continue
        if part[0] - begin < last:
            is_whole = start >= 2 and not (ids[start - 2] >= begin and ids[start - 1] >= begin)
            before += window if is_whole else last
        last = part[-1] - begin
        yield Stretch(part[0] - begin + before, last + before, [token for token in part if token < begin])
