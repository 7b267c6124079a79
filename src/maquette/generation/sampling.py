"""Which token comes next: the likeliest, or one drawn with a random number of the row's own.

A row's random numbers follow from the seed, the row's number and the step alone (Philox-4x32-10, a counter-based
generator; Salmon et al. 2011), so that neither its neighbours nor the order of work matter.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maquette.errors import ConfigurationError, NonFiniteError

Words = npt.NDArray[np.uint64]  # of 32 bits each

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counters: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Give four random words for each counter of four, under a key of two."""
    a, b, c, d = counters
    low, high = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (second >> _HALF) ^ b ^ low, second & _LOW
        c, d = (first >> _HALF) ^ d ^ high, first & _LOW
        low, high = (low + _STEPS[0]) & _LOW, (high + _STEPS[1]) & _LOW
    return a, b, c, d


def uniform(seed: int, numbers: Sequence[int], steps: Sequence[int], *, draw: int = 0) -> npt.NDArray[np.float64]:
    """Give one number from [0, 1) for each row, of 53 bits.

    Args:
        seed: of the whole call; its lowest 64 bits count.
        numbers: the rows' own numbers.
        steps: how many tokens each row was given before.
        draw: tells several numbers of one step apart.
    """
    rows, counts = np.asarray(numbers, np.uint64), np.asarray(steps, np.uint64)
    counters = (counts & _LOW, rows & _LOW, rows >> _HALF, np.full_like(rows, draw))
    high, low, *_ = philox(counters, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    return ((high >> np.uint64(5)) * 67108864.0 + (low >> np.uint64(6))) / 9007199254740992.0


def draw_seed() -> int:
    """Draw a seed from torch's own random numbers, so that `torch.manual_seed` decides where no seed is given."""
    return int(torch.randint(2**62, ()))


def choose_likeliest(scores: Tensor) -> Tensor:
    """Give the likeliest token of each row, `(rows,)`, the first where several are.

    Raises:
        NonFiniteError, ConfigurationError: the scores are none, or allow no token.
    """
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):  # numpy is several times faster
        values = scores.detach().numpy()
        index = values.argmax(-1)
        best, found = values[np.arange(len(index)), index].tolist(), torch.from_numpy(index)
    else:
        most, found = scores.max(-1)
        best = most.tolist()
    if not all(-math.inf < value for value in best):
        check_best(torch.tensor(best).nan_to_num(nan=math.nan, posinf=0.0, neginf=-math.inf))
    return found


def sample(scores: Tensor, *, seed: int, numbers: Sequence[int], steps: Sequence[int], draw: int = 0) -> Tensor:
    """Draw a token for each row from `softmax(scores)`, `(rows,)`.

    Raises:
        NonFiniteError, ConfigurationError: the scores are none, or allow no token.
    """
    check_best(scores.amax(-1))
    return pick(scores.softmax(-1), uniform(seed, numbers, steps, draw=draw))


def sample_several(
    scores: Tensor, count: int, *, seed: int, numbers: Sequence[int], steps: Sequence[int], draw: int = 0
) -> Tensor:
    """Draw `count` different tokens for each row, one after the other, `(rows, count)`.

    Where fewer have a probability, the rest are the first that were not drawn.
    """
    check_best(scores.amax(-1))
    probabilities = scores.softmax(-1)
    chosen: list[Tensor] = []
    for number in range(count):
        token = pick(probabilities, uniform(seed, numbers, steps, draw=draw + number))
        chosen.append(token)
        probabilities = probabilities.scatter(-1, token[:, None], 0.0)
        empty = probabilities.sum(-1, keepdim=True) == 0
        if bool(empty.any()):
            rest = torch.ones_like(probabilities).scatter(-1, torch.stack(chosen, -1), 0.0)
            probabilities = torch.where(empty, rest, probabilities)
    return torch.stack(chosen, -1)


def pick(weights: Tensor, numbers: npt.NDArray[np.float64]) -> Tensor:
    """Give the token at which the weights of a row, added up, pass its number's share of their sum, `(rows,)`."""
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[:, -1:]
    wanted = torch.from_numpy(numbers).to(sums.device)[:, None] * total
    wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, wanted, right=True)[:, 0]


def check_best(best: Tensor) -> None:
    """Look at the best score of each row.

    Raises:
        NonFiniteError: a score is NaN or infinite. ConfigurationError: all are `-inf`.
    """
    values = best.tolist()
    rows = [row for row, value in enumerate(values) if not math.isfinite(value)]
    if not rows:
        return
    if all(values[row] == -math.inf for row in rows):
        raise ConfigurationError(
            f"The settings leave no token to follow row {rows[0]}: all scores are -inf. Forbid less, or see which of "
            "your own logits processors does."
        )
    raise NonFiniteError(
        f"The scores of row {rows[0]} hold NaN or infinity. Look at the model's weights and their type, or set "
        "remove_invalid_values=True."
    )
