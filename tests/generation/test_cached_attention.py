"""Attention that reads and fills a cache, against softmax over the whole row, written out for each token."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette.generation.cache import Cache
from maquette.modeling.packing import attention, lay_out

HEADS, KEY_HEADS, WIDTH = 4, 2, 8
# How many tokens of each of three rows come in each forward.
STEPS = {
    "one by one": [(3, 5, 1), *[(1, 1, 1)] * 4],
    "ragged": [(4, 0, 7), (1, 3, 0), (0, 2, 5), (1, 1, 1)],
    "all alike": [(4, 4, 4), (1, 1, 1), (2, 2, 2)],
    "long": [(70, 3, 131), (1, 1, 1), (5, 70, 9), (1, 1, 1), (140, 1, 66), (1, 1, 1)],
    "beyond the ring": [(150, 2, 90), (1, 1, 1), (66, 1, 3), (1, 1, 1)],
}
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=torch.float64)


def alibi(queries: Tensor, keys: Tensor) -> Tensor:
    """Fall with the distance (Press et al. 2022)."""
    distance = keys[:, None, None, :] - queries[:, None, :, None]
    return SLOPES[:, None, None] * distance.double()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 4},
    "scaled": {"scale": 0.7},
    "capped": {"softcap": 2.0, "window": 6},
    "sinks": {"sinks": torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)},
    "biased": {"bias": alibi},
    "biased window": {"bias": alibi, "window": 3},
}


def expected(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
    """Attend in one row, `(length, heads, width)`: all scores, those of other tokens at -inf, and a softmax."""
    places = torch.arange(len(q))
    distance = places[:, None] - places
    seen = (distance >= 0) & (distance < (options.get("window") or len(q)))
    heads = []
    for head in range(HEADS):
        own = head // (HEADS // KEY_HEADS)
        scores = q[:, head] @ k[:, own].T * options.get("scale", WIDTH**-0.5)
        if "softcap" in options:
            scores = options["softcap"] * (scores / options["softcap"]).tanh()
        if "bias" in options:
            scores = scores - SLOPES[head] * distance
        powers = scores.where(seen, -torch.inf).exp()
        total = powers.sum(1, keepdim=True) + (options["sinks"][head].exp() if "sinks" in options else 0)
        heads.append(powers / total @ v[:, own])
    return torch.stack(heads, dim=1)


def batch(rows: list[Tensor], counts: tuple[int, ...], side: str) -> tuple[Tensor, Tensor]:
    """Pad rows into `(batch, length, heads, width)`; gives the mask, too."""
    length = max(counts)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    padded = torch.full((len(rows), length, *rows[0].shape[1:]), 9.0, dtype=torch.float64)
    for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
        places = slice(length - count, length) if side == "left" else slice(count)
        mask[number, places], padded[number, places] = 1, row
    return padded, mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize("steps", STEPS.values(), ids=list(STEPS))
@pytest.mark.parametrize("way", ["fused", "explicit", "without gradients"])
def test_step_by_step_is_the_whole_row(steps, options, side, way) -> None:
    with torch.set_grad_enabled(way != "without gradients"):
        check_steps(steps, options, side, explicit=way == "explicit")


def check_steps(steps: Any, options: dict[str, Any], side: str, *, explicit: bool) -> None:
    random = torch.Generator().manual_seed(len(steps))
    totals = [sum(step[row] for step in steps) for row in range(3)]
    q, k, v = (
        [torch.randn(total, heads, WIDTH, generator=random, dtype=torch.float64) for total in totals]
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    cache, done = Cache(), [0, 0, 0]
    found: list[list[Tensor]] = [[], [], []]
    for step in steps:
        parts = [[x[row][done[row] : done[row] + step[row]] for row in range(3)] for x in (q, k, v)]
        (some_q, mask), (some_k, _), (some_v, _) = (batch(rows, step, side) for rows in parts)
        layout = lay_out(some_q[..., 0, 0], None if len(set(step)) == 1 else mask, cache=cache, explicit=explicit)
        for row, count in enumerate(step):  # positions count on
            positions = layout.positions(torch.device("cpu"))
            own = layout.scatter(positions) if layout.is_packed else positions.expand(layout.shape)
            assert own[row][mask[row].bool()].tolist() == list(range(done[row], done[row] + count))
        out = attention(
            layout.gather(some_q), layout.gather(some_k), layout.gather(some_v), layout, causal=True, **options
        )
        out = layout.scatter(out)
        for row, count in enumerate(step):
            found[row].append(out[row][mask[row].bool()])
            done[row] += count
    assert cache.lengths == totals
    for row in range(3):
        torch.testing.assert_close(torch.cat(found[row]), expected(q[row], k[row], v[row], options))


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("even", [True, False])
@torch.no_grad()
def test_many_rows_in_single_precision(even, window, shared) -> None:
    """A batched product takes the place of fused attention, where heads are not shared."""
    random, rows = torch.Generator().manual_seed(0), 40
    starts = [6 if even else 1 + row % 7 for row in range(rows)]
    totals = [start + 3 for start in starts]
    q, k, v = (
        [torch.randn(total, heads, WIDTH, generator=random) for total in totals]
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )
    cache, found = Cache(), [[] for _ in range(rows)]
    for step in range(4):
        here = [slice(start + step - 1, start + step) if step else slice(start) for start in starts]
        counts = tuple(1 if step else start for start in starts)
        (some_q, mask), *others = (
            batch([x[n][s].double() for n, s in enumerate(here)], counts, "left") for x in (q, k, v)
        )
        layout = lay_out(some_q[..., 0, 0], None if step else mask, cache=cache)
        own = layout.gather(some_q.float())
        keys, values = (layout.gather(x.float()).repeat_interleave(2 // shared, dim=-2) for x, _ in others)
        out = layout.scatter(attention(own, keys, values, layout, causal=True, window=window))
        for row in range(rows):
            found[row].append(out[row][mask[row].bool()])
    for row in range(rows):
        whole = expected(*(x[row].double() for x in (q, k, v)), {"window": window})
        torch.testing.assert_close(torch.cat(found[row]), whole.float())


def read(cache: Cache, x: list[Tensor], counts: tuple[int, ...], *, window: int | None = None) -> Tensor:
    """Let rows of `(length, heads, width)` attend, keys and values being the queries' first heads."""
    padded, mask = batch(x, counts, "right")
    layout = lay_out(padded[..., 0, 0], mask, cache=cache)
    own = layout.gather(padded)
    keys = own[..., :KEY_HEADS, :]
    return layout.scatter(attention(own, keys, keys, layout, causal=True, window=window))


@pytest.mark.parametrize("window", [None, 5])
def test_rows_change_places_leave_and_go_back(window) -> None:
    """What a cache answers after its rows were reordered, copied, cropped and moved is what each row has read."""
    random = torch.Generator().manual_seed(1)
    x = [torch.randn(n, HEADS, WIDTH, generator=random, dtype=torch.float64) for n in (12, 9, 20)]
    more = torch.randn(3, 1, HEADS, WIDTH, generator=random, dtype=torch.float64)

    def want(row: int, length: int, new: int) -> Tensor:
        whole = torch.cat([x[row][:length], more[new]])
        keys = whole[:, :KEY_HEADS]
        return expected(whole, keys, keys, {"window": window})[-1]

    cache = Cache()
    read(cache, x, (12, 9, 20), window=window)
    kept = copy.deepcopy(cache)

    cache.reorder([2, 2, 0])
    assert cache.lengths == [20, 20, 12]
    out = read(cache, list(more), (1, 1, 1), window=window)
    for row, source in enumerate([2, 2, 0]):
        torch.testing.assert_close(out[row, 0], want(source, len(x[source]), row))

    cache = copy.deepcopy(kept)
    cache.rewind([10, 9, 0])
    out = read(cache, list(more), (1, 1, 1), window=window)
    for row, length in enumerate([10, 9, 0]):
        torch.testing.assert_close(out[row, 0], want(row, length, row))

    cache = copy.deepcopy(kept)
    cache.crop(8)
    cache.batch_select_indices(torch.tensor([1, 0]))
    cache.batch_repeat_interleave(2)
    assert cache.lengths == [8, 8, 8, 8]
    out = read(cache, [more[0]] * 4, (1, 1, 1, 1), window=window)
    for row, source in enumerate([1, 1, 0, 0]):
        torch.testing.assert_close(out[row, 0], want(source, 8, 0))

    kept.move(2, 0)  # row 0 has left
    kept.clear(2)
    view = kept.narrow(0, 2)
    out = read(view, list(more[:2]), (1, 1), window=window)
    torch.testing.assert_close(out[0, 0], want(2, 20, 0))
    torch.testing.assert_close(out[1, 0], want(1, 9, 1))
    late = kept.narrow(2, 2)  # one slot that is free again, and one that is new
    out = read(late, [x[0], x[1]], (12, 9), window=window)
    keys = x[1][:, :KEY_HEADS]
    torch.testing.assert_close(out[1, :9], expected(x[1], keys, keys, {"window": window}))
    assert kept.lengths == [21, 10, 12, 9]


def test_a_ring_that_lost_tokens_refuses_to_go_back() -> None:
    cache = Cache()
    row = [torch.zeros(200, HEADS, WIDTH, dtype=torch.float64)]
    read(cache, row, (200,), window=5)
    with pytest.raises(ValueError, match="has read 200, and no longer has what came before token 30"):
        cache.crop(30)
    assert cache.lengths == [200]
    cache.crop(-3)
    assert cache.lengths == [197]


def test_gradients_pass_through_a_cache() -> None:
    x = torch.randn(1, 6, HEADS, WIDTH, dtype=torch.float64, requires_grad=True)

    def run(*, parts: list[slice]) -> Tensor:
        cache, found = Cache(), []
        for part in parts:
            some = x[:, part]
            layout = lay_out(some, cache=cache)
            found.append(attention(some, some[:, :, :KEY_HEADS], some[:, :, :KEY_HEADS], layout, causal=True))
        return torch.cat(found, dim=1)

    (whole,) = torch.autograd.grad(run(parts=[slice(0, 6)]).square().sum(), x)
    (parts,) = torch.autograd.grad(run(parts=[slice(0, 4), slice(4, 5), slice(5, 6)]).square().sum(), x)
    torch.testing.assert_close(parts, whole)


def test_a_mask_may_cover_what_was_read() -> None:
    """Loops written for Transformers give the mask of all places so far; it has to be the one that was used."""
    cache = Cache()
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert lay_out(mask, mask, cache=cache).before == (0, 0)
    longer = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
    layout = lay_out(mask[:, :1], longer, cache=cache)
    assert layout.positions(mask.device).tolist() == [[2], [3]] and cache.get_seq_length() == 4
    with pytest.raises(ValueError, match=r"has \[4, 4\] real tokens at the 4 places before these, and the cache holds"):
        lay_out(mask[:, :1], torch.ones(2, 5), cache=cache)
    with pytest.raises(ValueError, match=r"\(2, 1\), or \(2, 5\) with the tokens in the cache"):
        lay_out(mask[:, :1], torch.ones(2, 3), cache=cache)
    with pytest.raises(ValueError, match="The cache holds 2 rows, and the batch has 3"):
        lay_out(torch.zeros(3, 1), cache=cache)
    with pytest.raises(TypeError, match="past_key_values is a str"):
        lay_out(mask, cache="yes")


def test_a_forward_that_failed_half_way_is_noticed() -> None:
    cache = Cache()
    x = torch.zeros(1, 2, HEADS, WIDTH)
    layout = lay_out(x, cache=cache)
    for _ in range(2):
        attention(x, x, x, layout, causal=True)
    attention(x, x, x, lay_out(x, cache=cache), causal=True)
    with pytest.raises(ValueError, match="did not reach every layer"):
        lay_out(x, cache=cache)


def test_memory_grows_in_blocks_and_windows_keep_their_window() -> None:
    cache, width = Cache(), HEADS * WIDTH * 4 * 2
    x = torch.zeros(1, 1000, HEADS, WIDTH)
    layout = lay_out(x, cache=cache)
    attention(x, x, x, layout, causal=True)
    attention(x, x, x, layout, causal=True, window=100)
    assert cache.memory_footprint() == width * (1024 + 128 + 64)
    reserved = Cache(reserve=1024)
    step = torch.zeros(1, 1, HEADS, WIDTH)
    attention(step, step, step, lay_out(step, cache=reserved), causal=True)
    before = reserved[0][0].data_ptr()
    for _ in range(100):
        attention(step, step, step, lay_out(step, cache=reserved), causal=True)
    assert reserved[0][0].data_ptr() == before, "memory that was asked for once is not copied"


def test_states_come_back() -> None:
    """A running sum over the tokens of each row, in any padding, equals the sum of the whole row."""

    class Sum:
        def __call__(self, x: Tensor, layout: Any) -> Tensor:
            rows, state = layout.to_rows(x), layout.state(self, (), x)
            sums = state.value[:, None] + rows.cumsum(1)
            state.keep(sums[:, -1])  # zeros after a row's end leave the sum as it is
            return layout.from_rows(sums)

    x = torch.arange(1.0, 13.0, dtype=torch.float64).view(2, 6)
    cache, layer = Cache(), Sum()
    first = lay_out(x[:, :3], torch.tensor([[0, 1, 1], [1, 1, 1]]), cache=cache)
    assert first.scatter(layer(first.gather(x[:, :3]), first)).tolist() == [[0, 2, 5], [7, 15, 24]]
    second = lay_out(x[:, 3:4], cache=cache)
    assert layer(x[:, 3:4], second).tolist() == [[9], [34]]
    with pytest.raises(ValueError, match="Sum carries a state that cannot be taken back"):
        cache.crop(2)
    cache.reorder([1, 1])
    third = lay_out(x[:, 4:5], cache=cache)
    assert layer(x[:, 4:5], third).tolist() == [[39], [45]]
