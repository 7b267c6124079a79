"""Packing: the same numbers as with padding, whatever the mask, and as plain numpy over each row's real tokens."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from maquette.modeling import attention as attending
from maquette.modeling import packing
from maquette.modeling.packing import Layout, attention, lay_out, use_packing

HEADS, WIDTH = 2, 3
RIGHT = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
MASKS = {
    "right": RIGHT,
    "left": [row[::-1] for row in RIGHT],
    "holes": [[0, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 1]],
    "all real": [[1, 1, 1, 1]] * 3,
    "one real": [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
    "none real": [[0, 0, 0, 0]] * 3,
    "an empty row": [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]],
    "same lengths": [[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0]],
}
KINDS = {"packed": {"packed": True}, "padded": {"packed": False}, "explicit": {"explicit": True}}
any_mask = st.integers(1, 5).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 1), min_size=length, max_size=length), min_size=1, max_size=6)
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend_by_hand(q, k, v, query_mask, key_mask, *, causal=False, scale=None):
    """Attention over each row's real tokens alone, in numpy; everything is (batch, length, heads, width)."""
    q, k, v = (x.numpy() for x in (q, k, v))
    out = np.zeros((*q.shape[:3], v.shape[3]))
    for row in range(len(q)):
        queries, keys = np.flatnonzero(query_mask[row]), np.flatnonzero(key_mask[row])
        for head in range(q.shape[2] if len(keys) else 0):
            scores = q[row, queries, head] @ k[row, keys, head].T * (q.shape[3] ** -0.5 if scale is None else scale)
            if causal:
                scores[queries[:, None] < keys] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True)) if len(queries) else scores
            out[row, queries, head] = weights / weights.sum(1, keepdims=True) @ v[row, keys, head]
    return out


def run(q, k, v, layout, keys=None, **options):
    keys = keys or layout
    return layout.scatter(attention(layout.gather(q), keys.gather(k), keys.gather(v), layout, keys=keys, **options))


# Layouts ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(any_mask)
def test_scatter_undoes_gather(rows):
    mask = torch.tensor(rows)
    x = randn(*mask.shape, 2)
    expected = x * mask[..., None]
    for options in KINDS.values():
        layout = lay_out(x, mask, **options)
        assert torch.equal(layout.scatter(layout.gather(x)), expected)
        assert torch.equal(layout.scatter(layout.gather(x), fill=7.0), x.where(mask[..., None] == 1, 7.0))
        places = layout.positions(x.device).expand(layout.gather(x).shape[:-1])
        assert torch.equal(layout.scatter(places, fill=-1), torch.arange(mask.shape[1]).where(mask == 1, -1))


@settings(max_examples=60, deadline=None)
@given(any_mask)
def test_firsts_are_the_first_real_tokens(rows):
    mask = torch.tensor(rows)
    x = randn(*mask.shape, 2)
    expected = torch.stack([row[real.argmax()] * real.any() for row, real in zip(x, mask, strict=True)])[:, None]
    for options in KINDS.values():
        layout = lay_out(x, mask, **options)
        assert torch.equal(layout.firsts().scatter(layout.take_firsts(layout.gather(x))), expected)


@settings(max_examples=60, deadline=None)
@given(any_mask)
@example([[0, 0], [0, 0]])
def test_positions_of_a_decoder_count_real_tokens(rows):
    mask = torch.tensor(rows)
    for options in KINDS.values():
        layout = lay_out(mask, mask, count_padding=False, **options)
        positions = layout.positions(mask.device)
        found = layout.scatter(positions) if layout.is_packed else positions.expand(mask.shape)
        assert torch.equal(found[mask.bool()], (mask.cumsum(1) - 1)[mask.bool()])


def test_gather_shares_a_batch_axis_of_one_and_fills_padding():
    mask = torch.tensor(RIGHT)
    packed, padded = lay_out(mask, mask, packed=True), lay_out(mask, mask, packed=False)
    shared = torch.arange(4)[None] + 10
    assert sorted(packed.gather(shared).tolist()) == [10, 10, 10, 11, 11, 12, 13]
    assert torch.equal(padded.gather(shared, fill=-100), (shared * mask).where(mask == 1, -100))
    assert torch.equal(packed.gather(shared, fill=-100), packed.gather(shared))


def test_packing_starts_where_enough_is_padding():
    def packs(real, total=40, **options):
        mask = (torch.arange(total) < real)[None]
        return lay_out(mask, mask, **options).is_packed

    assert packs(36) and not packs(37)
    assert packs(39, packed=True) and not packs(4, packed=False)
    assert not packs(40, packed=True), "without padding there is nothing to leave out"
    with use_packing(True):
        assert packs(39) and not packs(39, packed=False)
        with use_packing(False):
            assert not packs(4) and packs(4, packed=True)
        with use_packing(None):
            assert not packs(39)
    assert not packs(39) and not packs(4, explicit=True) and not packs(4, keep_weights=True)


def test_masks_of_any_type_mean_the_same():
    expected = lay_out(torch.zeros(3, 4), torch.tensor(RIGHT), packed=True)
    for dtype in (torch.bool, torch.int32, torch.float16):
        found = lay_out(torch.zeros(3, 4), torch.tensor(RIGHT).to(dtype), packed=True)
        assert torch.equal(found.places, expected.places) and found.lengths == expected.lengths
    without = lay_out(torch.zeros(3, 4))
    assert without.mask is None and not without.is_packed


def test_a_mask_of_another_shape_is_an_error_that_says_both_shapes():
    with pytest.raises(ValueError, match=r"\(3, 1, 4\).*\(3, 4\)"):
        lay_out(torch.zeros(3, 4), torch.ones(3, 1, 4))


def test_a_tensor_without_values_is_not_looked_at():
    mask = torch.ones(2, 3, device="meta")
    assert not lay_out(mask, mask, packed=True).is_packed


# Attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_attention_equals_numpy(name, kind, causal):
    mask = torch.tensor(MASKS[name])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n) for n in range(3))
    layout = lay_out(q, mask, **KINDS[kind])
    for scale in (None, 0.7):
        expected = attend_by_hand(q, k, v, mask, mask, causal=causal, scale=scale)
        np.testing.assert_allclose(run(q, k, v, layout, causal=causal, scale=scale), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(any_mask, st.sampled_from(sorted(KINDS)))
def test_attention_equals_numpy_for_any_mask(rows, kind):
    mask = torch.tensor(rows)
    q, k, v = (randn(*mask.shape, HEADS, WIDTH, seed=n) for n in range(3))
    expected = attend_by_hand(q, k, v, mask, mask)
    np.testing.assert_allclose(run(q, k, v, lay_out(q, mask, **KINDS[kind])), expected, atol=1e-12)


@pytest.mark.parametrize("keys_are", KINDS)
@pytest.mark.parametrize("queries_are", ["packed", "padded"])
def test_attention_to_other_tokens_equals_numpy(queries_are, keys_are):
    own, other = torch.tensor(MASKS["holes"]), torch.tensor([[1, 0], [0, 0], [1, 1]])
    q, k, v = randn(3, 4, HEADS, WIDTH), randn(3, 2, HEADS, WIDTH, seed=1), randn(3, 2, HEADS, WIDTH, seed=2)
    layout, keys = lay_out(q, own, **KINDS[queries_are]), lay_out(k, other, **KINDS[keys_are])
    np.testing.assert_allclose(run(q, k, v, layout, keys), attend_by_hand(q, k, v, own, other), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_attention_of_each_rows_first_token_equals_numpy(name, kind):
    mask = torch.tensor(MASKS[name])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n) for n in range(3))
    layout = lay_out(q, mask, **KINDS[kind])
    first = layout.firsts()
    found = attention(layout.take_firsts(layout.gather(q)), layout.gather(k), layout.gather(v), first, keys=layout)
    expected = attend_by_hand(q, k, v, mask, mask)[torch.arange(3), mask.argmax(1)][:, None]
    np.testing.assert_allclose(first.scatter(found), expected, atol=1e-12)


@pytest.mark.parametrize("name", MASKS)
def test_gradients_are_those_of_the_real_tokens(name):
    mask = torch.tensor(MASKS[name])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n).requires_grad_() for n in range(3))

    def gradients(kind):
        found = run(q, k, v, lay_out(q, mask, **KINDS[kind]))
        return torch.autograd.grad((found * randn(*found.shape, seed=9)).sum(), (q, k, v), allow_unused=True)

    packed = gradients("packed")
    for kind in ("padded", "explicit"):
        for one, other in zip(packed, gradients(kind), strict=True):
            one = torch.zeros_like(other) if one is None else one
            torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
            assert not (other * (1 - mask)[..., None, None]).any(), "padding has no gradient"


def test_gradients_are_right():
    mask = torch.tensor(MASKS["holes"])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n).requires_grad_() for n in range(3))
    layout = lay_out(q, mask, packed=True)
    assert torch.autograd.gradcheck(lambda *inputs: run(*inputs, layout), (q, k, v))


def test_weights_are_kept_on_request():
    mask = torch.tensor(MASKS["an empty row"])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n) for n in range(3))
    layout = lay_out(q, mask, keep_weights=True)
    first, second = run(q, k, v, layout), run(k, q, v, layout)
    assert len(layout.weights) == 2
    real = mask.bool()
    for weights, found in zip(layout.weights, (first, second), strict=True):
        torch.testing.assert_close(torch.einsum("bhqk,bkhw->bqhw", weights, v)[real], found[real])
        assert not weights[0::2].masked_select(~real[0::2, None, None]).any(), "padding is never looked at"
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, HEADS, 4, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_drops_and_keeps_the_mean(kind):
    """One query looks at four keys equally; a quarter of the weights is dropped, the others grow by 4/3."""
    rows = 4000
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * rows)
    q, v = torch.zeros(rows, 6, 1, 4), torch.eye(4, 4).repeat(rows, 2, 1)[:, :6, None]
    torch.manual_seed(0)
    found = run(q, q, v, lay_out(q, mask, **KINDS[kind]), dropout=0.25)[:, :4]
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(found[found > 0], torch.full_like(found[found > 0], 1 / 3))


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("name", MASKS)
def test_a_kernel_is_never_asked_to_attend_to_nothing(name, causal, monkeypatch):
    """Some of torch's kernels, on some devices, divide by zero for a query whose keys are all masked."""

    def attend(q, k, v, allowed, *, dropout_p, is_causal, scale, enable_gqa):
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        if is_causal:
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v

    monkeypatch.setattr(attending, "scaled_dot_product_attention", attend)
    mask = torch.tensor(MASKS[name])
    q = randn(3, 4, HEADS, WIDTH).requires_grad_()
    found = run(q, q, q, lay_out(q, mask, packed=False), causal=causal)
    assert found.isfinite().all()
    assert torch.autograd.grad(found.sum(), q)[0].isfinite().all()


def test_causal_attention_to_other_tokens_is_refused():
    layout = lay_out(torch.zeros(1, 2), torch.ones(1, 2))
    x = torch.zeros(1, 2, 1, 2)
    with pytest.raises(ValueError, match="same tokens"):
        attention(x, x, x, layout, keys=lay_out(x), causal=True)


# In a model ------------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """A custom model that packs: what docs/packing.md shows."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Embedding(9, 8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, ids, mask=None):
        layout = lay_out(ids, mask)
        x = self.embed(layout.gather(ids))
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, 4)).unbind(-3)
        return layout.scatter(x + self.out(attention(q, k, v, layout).flatten(-2)))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_model_that_packs_compiles_in_one_graph(backend):
    torch.manual_seed(0)
    model, ids, mask = Reader(), torch.arange(12).view(3, 4) % 9, torch.tensor(MASKS["holes"])
    with use_packing(True):
        expected = model(ids, mask)
        found = torch.compile(model, fullgraph=True, backend=backend)(ids, mask)
    torch.testing.assert_close(found, expected)


def test_a_model_that_packs_is_exported_with_any_mask():
    torch.manual_seed(0)
    model, ids, mask = Reader().eval(), torch.arange(12).view(3, 4) % 9, torch.tensor(MASKS["holes"])
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=2)
    shapes = {"ids": {0: batch, 1: length}, "mask": {0: batch, 1: length}}
    program = torch.export.export(model, (ids, mask), dynamic_shapes=shapes).module()
    for rows in ([[1, 1, 0], [0, 1, 1]], [[1, 1, 1], [1, 1, 1]]):
        other = torch.tensor(rows)
        torch.testing.assert_close(program(ids[:2, :3], other), model(ids[:2, :3], other))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_of_single_examples_under_vmap():
    torch.manual_seed(0)
    model, ids, masks = Reader(), torch.arange(12).view(3, 4) % 9, torch.tensor(MASKS["holes"])
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def total(parameters, ids, mask):
        return torch.func.functional_call(model, parameters, (ids[None], mask[None])).sum()

    found = torch.func.vmap(torch.func.grad(total), in_dims=(None, 0, 0))(parameters, ids, masks)
    for row in range(3):
        model.zero_grad()
        with use_packing(True):
            model(ids[row : row + 1], masks[row : row + 1]).sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name][row], parameter.grad)


# Variable-length attention ---------------------------------------------------------------------------------------


def attend_varlen_by_hand(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k):
    """What torch.nn.attention.varlen.varlen_attn is documented to do, row by row."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == cu_seq_q.diff().max() and max_k == cu_seq_k.diff().max()
    rows = []
    for a, b, c, d in zip(cu_seq_q[:-1], cu_seq_q[1:], cu_seq_k[:-1], cu_seq_k[1:], strict=True):
        scores = torch.einsum("qhw,khw->hqk", q[a:b], k[c:d]) / q.shape[-1] ** 0.5
        rows.append(torch.einsum("hqk,khw->qhw", scores.softmax(-1), v[c:d]))
    return torch.cat(rows)


@pytest.mark.parametrize("name", ["right", "left", "holes", "an empty row", "same lengths"])
def test_variable_length_attention_is_called_as_documented(name, monkeypatch):
    monkeypatch.setattr(attending, "fits_varlen", lambda q, v, dropout: dropout == 0)
    monkeypatch.setattr(attending, "_varlen", lambda: attend_varlen_by_hand)
    mask = torch.tensor(MASKS[name])
    q, k, v = (randn(3, 4, HEADS, WIDTH, seed=n) for n in range(3))
    layout = lay_out(q, mask, packed=True)
    expected = attend_by_hand(q, k, v, mask, mask, scale=0.7)
    np.testing.assert_allclose(run(q, k, v, layout, scale=0.7), expected, atol=1e-12)
    found = attention(
        layout.take_firsts(layout.gather(q)), layout.gather(k), layout.gather(v), layout.firsts(), keys=layout
    )
    expected = attend_by_hand(q, k, v, mask, mask)[torch.arange(3), mask.argmax(1)][:, None]
    np.testing.assert_allclose(layout.firsts().scatter(found), expected, atol=1e-12)


def test_variable_length_attention_is_only_for_half_precision_on_cuda():
    q = torch.zeros(2, 1, 8, dtype=torch.float16)
    assert not packing.fits_varlen(q, q)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_agrees_with_the_cpu(dtype):
    mask = (torch.arange(50) < torch.tensor([50, 3, 17, 0, 1, 17])[:, None]).long()
    q, k, v = (randn(6, 50, 4, 32, seed=n) for n in range(3))
    expected = run(q, k, v, lay_out(q, mask, packed=True)).float()
    q, k, v = (x.to("cuda", dtype) for x in (q, k, v))
    found = run(q, k, v, lay_out(q, mask.cuda(), packed=True)).float().cpu()
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype is torch.float32 else 3e-2, rtol=0)


def test_layout_tells_what_it_is():
    layout = lay_out(torch.zeros(3, 4), torch.tensor(RIGHT), packed=True)
    assert layout.shape == (3, 4) and layout.lengths == (1, 2, 4) and layout.rows.tolist() == [2, 1, 0]
    assert layout.offsets.tolist() == [0, 1, 3, 7]
    assert isinstance(layout, Layout)


@pytest.mark.parametrize("packs", [True, False])
def test_unbind_gives_each_rows_tokens(packs: bool) -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0]])
    x = torch.randn(4, 4, 3)
    with use_packing(packs):
        layout = lay_out(x, mask)
    assert layout.is_packed == packs
    rows = layout.unbind(layout.gather(x))
    for row, real, padded in zip(rows, mask.bool(), x, strict=True):
        count = int(real.sum())
        assert torch.equal(row[:count], padded[real]) and not row[count:].any()
