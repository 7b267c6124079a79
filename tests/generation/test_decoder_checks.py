"""The conformance kit tells decoders that keep the contract from those that do not, and why."""

import re
from typing import Any

import pytest
import torch
from tiny_decoders import TinyConfig, TinyForCausalLM
from torch import Tensor

from maquette import CausalLMOutput
from maquette.modeling.packing import attention, lay_out
from maquette.testing import ConformanceError, check_model

CHECKS = ["construction", "forward", "determinism", "causality", "cache", "ragged", "generation"]


class CountsFromZeroForCausalLM(TinyForCausalLM):
    """Takes positions from the length of what it is given."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, past_key_values: Any = None) -> Any:
        layout = lay_out(input_ids, attention_mask, cache=past_key_values, count_padding=True)
        x = self.embed(layout.gather(input_ids))
        turn = self.rotary(layout.positions(x.device), dtype=x.dtype)
        for block in self.blocks:
            x = block(x, turn, layout)
        return CausalLMOutput(logits=layout.scatter(self.head(x)))


class SeesEverythingForCausalLM(TinyForCausalLM):
    """Attends to later tokens."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None) -> Any:
        layout = lay_out(input_ids, attention_mask)
        x = self.embed(layout.gather(input_ids))
        q = x.unflatten(-1, (4, -1))
        return CausalLMOutput(logits=layout.scatter(self.head(attention(q, q, q, layout).flatten(-2))))


class ReadsPaddingForCausalLM(TinyForCausalLM):
    """Does not give the mask to its layout."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, past_key_values: Any = None) -> Any:
        return super().forward(input_ids, past_key_values=past_key_values)


class ForgetsForCausalLM(TinyForCausalLM):
    """Takes a cache and leaves it empty."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, past_key_values: Any = None) -> Any:
        return super().forward(input_ids, attention_mask)


BROKEN = {
    CountsFromZeroForCausalLM: r"cache.*step by step the logits are others than at once",
    SeesEverythingForCausalLM: r"causality.*the last token changes the logits before it",
    ReadsPaddingForCausalLM: r"ragged.*padded on the left, gets other logits than alone",
    ForgetsForCausalLM: r"cache.*forward takes past_key_values and does not use it",
}


@pytest.mark.parametrize("fields", [{}, {"window": 3}, {"recurrent": True}], ids=["full", "window", "recurrent"])
def test_good_decoders_pass(fields: dict[str, Any]) -> None:
    report = check_model(TinyForCausalLM, TinyConfig(**fields), only=CHECKS)
    assert {*CHECKS} <= {*report.passed, *report.not_applicable}
    assert {"causality", "ragged", "generation"} <= {*report.passed}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_broken_decoders_are_told_what_is_wrong(kind: type[TinyForCausalLM]) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_model(kind, TinyConfig(), only=CHECKS)
    message = " ".join(str(caught.value).split())
    assert torch.is_grad_enabled()
    assert re.search(BROKEN[kind], message), message


def test_generate_that_lies_is_found() -> None:
    class LiesForCausalLM(TinyForCausalLM):
        def generate(self, inputs: Any, **options: Any) -> Tensor:
            return (super().generate(inputs, **options) + 1) % self.config.vocab_size

    with pytest.raises(ConformanceError, match="where the logits of its whole text"):
        check_model(LiesForCausalLM, TinyConfig(), only=CHECKS)
