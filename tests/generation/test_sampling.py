"""Sampling: the generator's published numbers, exact distributions for every setting, rows apart from each other."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from maquette import ConfigurationError, GenerationConfig, NonFiniteError
from maquette.generation.processors import processors_for
from maquette.generation.ragged_ids import RaggedIds
from maquette.generation.sampling import choose_likeliest, draw_seed, philox, pick, sample, sample_several, uniform

DRAWS = 20_000
SCORES = np.array([2.0, 1.2, 0.9, 0.1, 0.1, -0.4, -1.0, -1.7, -2.5, -4.0, 0.7, -0.2])
PROMPT = [0, 1, 1, 7]
Numbers = npt.NDArray[np.float64]


def test_random_numbers_are_philoxs() -> None:
    """The known answers that come with Random123, for 4x32 words and 10 rounds."""
    ones = 0xFFFFFFFF
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones, ones, ones), (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, wanted in known:
        found = philox(tuple(np.array([word], np.uint64) for word in counter), key)  # type: ignore[arg-type]
        assert tuple(int(word[0]) for word in found) == wanted


def test_uniform_numbers_are_uniform_and_follow_from_seed_row_step_and_draw() -> None:
    numbers = uniform(5, range(DRAWS), [3] * DRAWS)
    assert numbers.min() >= 0 and numbers.max() < 1
    check_counts(np.bincount((numbers * 64).astype(int), minlength=64), np.full(64, 1 / 64))
    assert uniform(5, [17], [3])[0] == numbers[17]
    others = [uniform(6, [17], [3]), uniform(5, [18], [3]), uniform(5, [17], [4]), uniform(5, [17], [3], draw=1)]
    others += [uniform(5 + 2**40, [17], [3]), uniform(5, [17 + 2**40], [3])]
    assert len({float(number[0]) for number in [*others, numbers[17:]]}) == 7


# What the settings mean, written anew in float64 ------------------------------------------------------------------


def softmax(scores: Numbers) -> Numbers:
    powers = np.exp(scores - scores[np.isfinite(scores)].max())
    return powers / powers.sum()


def entropy(p: Numbers) -> float:
    return -sum(each * math.log(each) for each in p if each)


def only(scores: Numbers, kept: list[int]) -> Numbers:
    return np.array([score if token in kept else -np.inf for token, score in enumerate(scores)])


def until(p: Numbers, order: list[int], mass: float) -> list[int]:
    count = next(n for n in range(1, len(order) + 1) if p[order[:n]].sum() >= mass - 1e-12)
    return order[:count]


def by_hand(settings: dict[str, Any]) -> Numbers:
    """Give the distribution that settings ask for, one after the other in the documented order."""
    scores = SCORES.copy()
    for token in {*PROMPT}:
        penalty = settings.get("repetition_penalty", 1)
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    scores = scores / settings.get("temperature", 1)
    if "top_h" in settings:
        p = softmax(scores)
        order = [*np.argsort(-p, kind="stable")]
        spent = np.cumsum([-p[t] * math.log(p[t]) for t in order])
        scores = only(scores, order[: max(1, int((spent <= settings["top_h"] * entropy(p)).sum()))])
    if top_k := settings.get("top_k", 50):
        scores = np.where(scores >= np.sort(scores)[-min(top_k, len(scores))], scores, -np.inf)
    p = softmax(scores)
    if "top_p" in settings:
        scores = only(scores, until(p, [*np.argsort(-p, kind="stable")], settings["top_p"]))
        p = softmax(scores)
    if "min_p" in settings:
        scores = only(scores, [t for t in range(len(p)) if p[t] >= settings["min_p"] * p.max()])
        p = softmax(scores)
    if "typical_p" in settings:
        h = entropy(p)
        surprise = [abs(-math.log(each) - h) if each else math.inf for each in p]
        scores = only(scores, until(p, [*np.argsort(surprise, kind="stable")], settings["typical_p"]))
        p = softmax(scores)
    for name in ("epsilon_cutoff", "eta_cutoff"):
        if name in settings:
            e = settings[name]
            least = e if name == "epsilon_cutoff" else min(e, math.sqrt(e) * math.exp(-entropy(p)))
            scores = only(scores, [t for t in range(len(p)) if p[t] >= least])
            p = softmax(scores)
    return p


def check_counts(counts: npt.NDArray[Any], p: Numbers) -> None:
    """Compare counts with a distribution: chi-squared, at one false alarm in a million (Wilson and Hilferty 1931)."""
    assert counts[p == 0].sum() == 0
    seen = p > 0
    expected = counts.sum() * p[seen]
    statistic = ((counts[seen] - expected) ** 2 / expected).sum()
    freedom = int(seen.sum()) - 1
    share = 2 / (9 * freedom) if freedom else 0
    assert statistic <= freedom * (1 - share + 4.75 * math.sqrt(share)) ** 3


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.8},
    {"top_k": 3},
    {"top_k": 4},  # two tokens share the fifth place with it
    {"top_p": 0.7},
    {"min_p": 0.15},
    {"top_h": 0.6},
    {"typical_p": 0.6},
    {"epsilon_cutoff": 0.05},
    {"eta_cutoff": 0.2},
    {"repetition_penalty": 1.5},
    {"temperature": 1.3, "top_k": 8, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.9, "epsilon_cutoff": 0.01},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_follow_the_exact_distribution(settings: dict[str, Any]) -> None:
    scores = torch.from_numpy(SCORES).float()[None]
    rows = RaggedIds.of_prompts([torch.tensor(PROMPT)])
    shaped = processors_for(GenerationConfig(do_sample=True, **settings).settle()).process(rows, scores)
    drawn = sample(shaped.expand(DRAWS, -1), seed=11, numbers=range(DRAWS), steps=[0] * DRAWS)
    check_counts(np.bincount(drawn.numpy(), minlength=len(SCORES)), by_hand(settings))


def test_one_row_draws_the_distribution_over_its_steps() -> None:
    scores = torch.from_numpy(SCORES).float()
    drawn = sample(scores.expand(DRAWS, -1), seed=3, numbers=[5] * DRAWS, steps=range(DRAWS))
    check_counts(np.bincount(drawn.numpy(), minlength=len(SCORES)), softmax(SCORES))


def test_several_draws_are_without_replacement() -> None:
    p = softmax(SCORES)
    pairs = sample_several(
        torch.from_numpy(SCORES).float().expand(DRAWS, -1), 2, seed=1, numbers=range(DRAWS), steps=[0] * DRAWS
    )
    exact = np.outer(p, p) / (1 - p)[:, None]
    np.fill_diagonal(exact, 0)
    likely = exact * DRAWS > 5  # chi-squared needs some in each class
    counts = np.zeros_like(exact)
    np.add.at(counts, (pairs[:, 0].numpy(), pairs[:, 1].numpy()), 1)
    assert np.trace(counts) == 0
    folded = [*counts[likely], counts[~likely].sum()], [*exact[likely], exact[~likely].sum()]
    check_counts(np.array(folded[0]), np.array(folded[1]))


def test_several_draws_of_fewer_tokens_take_others_last() -> None:
    scores = torch.full((1, 5), -math.inf)
    scores[0, [1, 3]] = 0.0
    found = sample_several(scores, 4, seed=1, numbers=[0], steps=[0])[0].tolist()
    assert {*found[:2]} == {1, 3} and len({*found}) == 4


def test_neighbours_and_order_do_not_matter() -> None:
    scores = torch.randn(6, 300, generator=torch.Generator().manual_seed(2))
    numbers, steps = [4, 9, 2, 7, 11, 0], [3, 1, 0, 5, 2, 2]
    together = sample(scores, seed=8, numbers=numbers, steps=steps).tolist()
    for row in range(6):
        assert sample(scores[row : row + 1], seed=8, numbers=[numbers[row]], steps=[steps[row]]).tolist() == [
            together[row]
        ]
    turned = sample(scores.flip(0), seed=8, numbers=numbers[::-1], steps=steps[::-1]).tolist()
    assert turned[::-1] == together


def test_what_has_no_probability_is_never_picked() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    for number, token in ((0.0, 1), (0.29999, 1), (0.30001, 3), (1 - 2**-53, 3)):
        assert pick(weights, np.array([number])).tolist() == [token]


def test_the_likeliest_is_the_first_of_equals() -> None:
    scores = torch.tensor([[0.0, 2.0, 2.0], [5.0, -math.inf, 1.0], [0.0, 0.0, math.inf]])
    assert choose_likeliest(scores).tolist() == [1, 0, 2]


@pytest.mark.parametrize("draws", [False, True])
def test_scores_that_are_none_are_an_error(draws: bool) -> None:
    def choose(values: list[float]) -> torch.Tensor:
        scores = torch.tensor([[0.0, 1.0], values])
        return sample(scores, seed=0, numbers=[0, 1], steps=[0, 0]) if draws else choose_likeliest(scores)

    with pytest.raises(NonFiniteError, match="row 1 hold NaN"):
        choose([math.nan, 1.0])
    with pytest.raises(ConfigurationError, match="no token to follow row 1"):
        choose([-math.inf, -math.inf])


def test_a_seed_that_nobody_gives_follows_from_torchs() -> None:
    torch.manual_seed(4)
    first, second = draw_seed(), draw_seed()
    torch.manual_seed(4)
    assert draw_seed() == first != second
