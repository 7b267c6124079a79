"""Frequencies and masks that code of recent releases asks for by name, against plain formulas and loops."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from maquette.generation.foreign_caches import DynamicCache, StaticCache
from maquette.modeling.compatibility.causal_masks import (
    ALL_ATTENTION_FUNCTIONS,
    create_bidirectional_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
    slice_logits_to_keep,
)
from maquette.modeling.compatibility.rotary import ROPE_INIT_FUNCTIONS, dynamic_rope_update

SIZES: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 16}
PLAIN = [1 / 500.0 ** (2 * pair / 8) for pair in range(4)]


def test_frequencies_by_the_kind_of_scaling() -> None:
    config = SimpleNamespace(**SIZES, rope_theta=500.0, rope_scaling={"rope_type": "linear", "factor": 4.0})
    found, scale = ROPE_INIT_FUNCTIONS["linear"](config, "cpu")
    assert found.tolist() == pytest.approx([each / 4 for each in PLAIN], rel=1e-6) and scale == 1.0
    config = SimpleNamespace(**SIZES, rope_parameters={"rope_theta": 500.0})
    assert ROPE_INIT_FUNCTIONS["default"](config)[0].tolist() == pytest.approx(PLAIN, rel=1e-6)
    config = SimpleNamespace(**SIZES, rope_parameters={"rope_theta": 500.0, "rope_type": "dynamic", "factor": 2.0})

    class Rotary(torch.nn.Module):
        inv_freq, rope_type, attention_scaling = torch.tensor(PLAIN), "dynamic", 1.0

        @dynamic_rope_update
        def forward(self, x: Any, position_ids: torch.Tensor) -> torch.Tensor:
            return self.inv_freq

    rotary = Rotary()
    rotary.config = config
    theta = 500.0 * (2.0 * 24 / 16 - 1.0) ** (8 / 6)  # "dynamic NTK": beyond 16 places
    for length, expected in ((9, 500.0), (24, theta), (9, 500.0)):
        found = rotary(torch.zeros(1), torch.arange(length)[None])
        assert found.tolist() == pytest.approx([1 / expected ** (2 * pair / 8) for pair in range(4)], rel=1e-5)


@pytest.mark.parametrize("static", [False, True])
def test_masks_with_what_was_read_before(static: bool) -> None:
    cache = StaticCache(max_cache_len=9) if static else DynamicCache()
    cache.update(torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3, 2), 0)
    real = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    config = SimpleNamespace(sliding_window=2)
    given: dict[str, Any] = {"attention_mask": real, "past_key_values": cache, "inputs_embeds": torch.zeros(2, 2, 4)}
    masks = {
        create_causal_mask: lambda query, key: key <= query,
        create_sliding_window_causal_mask: lambda query, key: query - 2 < key <= query,
        create_bidirectional_mask: lambda query, key: True,
    }
    for make, allowed in masks.items():
        found = make(config=config, **given) == 0
        assert found.shape == (2, 1, 2, 9 if static else 5)
        for row in range(2):
            for query in range(2):
                expected = [
                    key < 5 and bool(real[row, key]) and allowed(query + 3, key) for key in range(found.shape[3])
                ]
                assert found[row, 0, query].tolist() == expected
    only = create_causal_mask(config, **given, and_mask_function=lambda row, head, query, key: key != row + 1) == 0
    assert not only[0, 0, :, 1].any() and not only[1, 0, :, 2].any() and only[1, 0, :, 1].all()
    whole = torch.zeros(2, 1, 2, 5)
    assert create_causal_mask(config, **{**given, "attention_mask": whole}) is whole


def test_attention_by_name_shares_heads_and_is_causal() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 2, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface("sdpa", None)
    out, _ = attend(torch.nn.Module(), q, k, v, None, scaling=0.5)
    for head in range(4):
        for query in range(2):
            weights = (q[0, head, query] @ k[0, head // 2, : 4 + query].T * 0.5).softmax(-1)
            torch.testing.assert_close(
                out[0, query, head], weights @ v[0, head // 2, : 4 + query], atol=1e-6, rtol=1e-5
            )
    assert ALL_ATTENTION_FUNCTIONS.get_interface("eager", math.sqrt) is math.sqrt
    states = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(slice_logits_to_keep(states, 0), states) and slice_logits_to_keep(states, 1).shape == (2, 1, 2)
    assert torch.equal(slice_logits_to_keep(states, torch.tensor([[1], [2]]))[:, 0], states[[0, 1], [1, 2]])
