"""States and attention of every step, against forwards of whole rows without a cache."""

from typing import Any

import pytest
import torch
from foreign_decoders import PROMPTS
from generate_cases import make_llama
from torch import Tensor

from maquette import MistralConfig, MistralForCausalLM
from maquette.errors import ConfigurationError, InputError

ASKED = {"return_dict_in_generate": True, "output_hidden_states": True, "output_attentions": True}


def make_mistral() -> MistralForCausalLM:
    """Make a model whose layers forget what lies behind their window."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=24, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, sliding_window=5, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


@torch.no_grad()
def compare(model: Any, row: list[int], steps: list[tuple[Tensor, Tensor]], prompt: int) -> None:
    """Compare what a row gave, step by step, with what its beginnings give, whole and alone."""
    start, whole = 0, model(torch.tensor([row]), output_hidden_states=True, output_attentions=True)
    for step, (states, weights) in enumerate(steps):
        end = prompt + step
        expected = whole.hidden_states[-1][0, start:end]
        torch.testing.assert_close(states[-(end - start) :], expected, atol=1e-5, rtol=1e-4)
        assert not states[: -(end - start)].any(), "what is left of a row's tokens is zero"
        expected = whole.attentions[-1][0, :, start:end, :end]
        torch.testing.assert_close(weights[:, -(end - start) :, -end:], expected, atol=1e-5, rtol=1e-4)
        assert not weights[..., :-end].any() and not weights[:, : -(end - start)].any()
        start = end


def own_tokens(row: list[int], end: int = 2) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


@pytest.mark.parametrize("use_cache", [True, False])
def test_each_step_of_each_row(use_cache: bool) -> None:
    model = make_llama()
    width = max(map(len, PROMPTS))
    end = int(model.generate(PROMPTS[:1], max_new_tokens=3)[0, -1])
    out = model.generate(PROMPTS, max_new_tokens=8, use_cache=use_cache, eos_token_id=end, **ASKED)
    assert len(out.hidden_states) == len(out.attentions) == out.sequences.shape[1] - width
    assert [len(step) for step in out.hidden_states] == [3] * len(out.hidden_states)
    assert out.hidden_states[0][0].shape == (5, width, 32) and out.attentions[1][0].shape == (5, 4, 1, width + 1)
    new = [own_tokens(row, end) for row in out.sequences[:, width:].tolist()]
    assert len({len(row) for row in new}) > 1
    for number, (prompt, tokens) in enumerate(zip(PROMPTS, new, strict=True)):
        steps = list(zip(out.hidden_states, out.attentions, strict=True))
        steps = [(states[-1][number], weights[-1][number]) for states, weights in steps]
        compare(model, [*prompt, *tokens], steps[: len(tokens)], len(prompt))
        assert all(not states.any() and not weights.any() for states, weights in steps[len(tokens) :])


def test_a_windowed_layer_after_it_has_forgotten() -> None:
    model, prompts = make_mistral(), [[5, 6, 7], [8]]
    out = model.generate(prompts, max_new_tokens=140, min_new_tokens=140, **ASKED)
    for number, prompt in enumerate(prompts):
        row = [*prompt, *out.sequences[number, 3:].tolist()]
        steps = [(s[-1][number], w[-1][number]) for s, w in zip(out.hidden_states, out.attentions, strict=True)]
        compare(model, row, steps, len(prompt))


@torch.no_grad()
def test_beams_have_states() -> None:
    """Along the beams in which a text's tokens were chosen."""
    model = make_llama()
    out = model.generate(PROMPTS, max_new_tokens=6, num_beams=3, **ASKED)
    for number, prompt in enumerate(PROMPTS):
        tokens = own_tokens(out.sequences[number, 7:].tolist())
        row = torch.tensor([[*prompt, *tokens]])
        whole = model(row, output_hidden_states=True, output_attentions=True)
        for step, beam in enumerate(out.beam_indices[number, : len(tokens)].tolist()):
            end = len(prompt) + step
            found = out.hidden_states[step][-1][beam, -1], out.attentions[step][-1][beam, :, -1, -end:]
            expected = whole.hidden_states[-1][0, end - 1], whole.attentions[-1][0, :, end - 1, :end]
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_given() -> None:
    model = make_llama()
    with pytest.raises(ConfigurationError, match="steps of one token"):
        model.generate([[5]], prompt_lookup_num_tokens=2, max_new_tokens=2, **ASKED)
    model.forward = lambda input_ids: None
    with pytest.raises(InputError, match="forward does not take it"):
        model.generate([[5]], max_new_tokens=2, **ASKED)
