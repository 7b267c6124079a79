"""Time stamps among a text's tokens (Radford et al. 2022): how they may follow each other, and what lies between them.

Ids from `begin` on are times, counted from the start of a window; a stretch of speech stands between two of them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maquette.generation.logits import LogitsProcessor
from maquette.generation.ragged_ids import RaggedIds


class WhisperTimeStampLogitsProcessor(LogitsProcessor):
    """Lets a text begin with a time, has times come in pairs and never fall, and prefers them where they are likelier.

    Args:
        no_timestamps_token_id: the token that switches times off; the first time is the id after it.
        eos_token_id: the end of a text; ids before it are words.
        max_initial_timestamp_index: the latest time that a text may begin with, in steps; None for any.
    """

    def __init__(
        self, no_timestamps_token_id: int, eos_token_id: int, max_initial_timestamp_index: int | None = None
    ) -> None:
        self.no_times, self.begin, self.end = no_timestamps_token_id, no_timestamps_token_id + 1, eos_token_id
        self.latest = max_initial_timestamp_index

    def process(self, rows: RaggedIds, scores: Tensor) -> Tensor:
        """Give scores with `-inf` for what may not follow."""
        allowed = torch.ones_like(scores, dtype=torch.bool)
        allowed[:, self.no_times] = False
        for row, prompt in enumerate(rows.prompts):
            self._forbid(allowed[row], rows.row(row)[prompt:].tolist())
        scores = scores.masked_fill(~allowed, -math.inf)
        logs = scores.float().log_softmax(-1)
        is_time = logs[:, self.begin :].logsumexp(-1) > logs[:, : self.begin].amax(-1)
        scores[:, : self.begin] = scores[:, : self.begin].masked_fill(is_time[:, None], -math.inf)
        return scores

    def _forbid(self, allowed: Tensor, tokens: list[int]) -> None:
        begin = self.begin
        if not tokens:
            allowed[:begin] = False
            if self.latest is not None:
                allowed[begin + self.latest + 1 :] = False
            return
        is_time = tokens[-1] >= begin
        is_second = is_time and (len(tokens) < 2 or tokens[-2] >= begin)
        if is_second:
            allowed[begin:] = False
        elif is_time:
            allowed[: self.end] = False
        if times := [token for token in tokens if token >= begin]:
            allowed[begin : times[-1] + (is_second or not is_time)] = False


class Stretch(NamedTuple):
    """What is said between two times.

    Attributes:
        start, end: in steps from the start of the window; None for the end of what was heard.
        first, last: the tokens, from the one to before the other.
    """

    start: int
    end: int | None
    first: int
    last: int


def split_at_times(tokens: Sequence[int], begin: int) -> tuple[list[Stretch], int | None]:
    """Cut what a window gave where one stretch ends and another begins.

    Where such a place is the last that is told, what stands behind it is unfinished, and left out.

    Args:
        tokens: of the window, without the end.
        begin: the id of the first time.

    Returns:
        The stretches, and at which step the next window begins; None where this one is done.
    """
    is_time = [token >= begin for token in tokens]
    cuts = [place + 1 for place in range(len(tokens) - 1) if is_time[place] and is_time[place + 1]]
    if not cuts:
        places = [place for place, found in enumerate(is_time) if found]
        last = tokens[places[-1]] - begin if places else 0
        return [Stretch(0, last or None, 0, len(tokens))], None
    is_complete = is_time[-2:] == [False, True]
    if is_complete:
        cuts.append(len(tokens))
    else:
        cuts[-1] += 1  # both of the last pair belong to the last stretch
    stretches = []
    for first, last in zip([0, *cuts], cuts, strict=False):
        is_open = last == cuts[-1] and not is_complete
        stretches.append(Stretch(tokens[first] - begin, tokens[last - 1 - is_open] - begin, first, last))
    return stretches, None if is_complete else tokens[cuts[-1] - 2] - begin
