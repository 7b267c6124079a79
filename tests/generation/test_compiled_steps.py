"""Compiled steps give what steps give that are not; the compiler that makes C++ of them is left out here."""

from typing import Any

import pytest
import torch
from tiny_decoders import TinyConfig, TinyForCausalLM

from maquette import BartConfig, BartForConditionalGeneration
from maquette.errors import ConfigurationError, InputError

# Rows of which the longest goes round the ring of a windowed layer, and of which some end early.
PROMPTS = [[3 + n % 30 for n in range(120)], [8], [9, 10, 11], [5, 6, 7, 8], [31]]
SETTINGS: dict[str, Any] = {"max_new_tokens": 16, "max_rows": 3, "eos_token_id": [1, 2, 13, 17], "do_sample": False}


def make(**fields: Any) -> TinyForCausalLM:
    torch.manual_seed(0)
    config = TinyConfig(pad_token_id=0, num_hidden_layers=2, window=4, recurrent=True, **fields)
    return TinyForCausalLM(config).double().eval()


def test_ids_are_the_same() -> None:
    """With windows, a recurrence, waiting rows, beams and samples."""
    model, compiled = make(), {"backend": "eager", "fullgraph": True}
    for more in ({}, {"num_beams": 2}, {"do_sample": True, "seed": 1}):
        expected = model.generate(PROMPTS, **SETTINGS | more)
        assert model.generate(PROMPTS, compile_config=compiled, **SETTINGS | more).tolist() == expected.tolist()


def test_lengths_are_not_compiled_anew() -> None:
    """One step is compiled for all lengths of a call, and for another call with as many rows."""
    graphs: list[Any] = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = make()
    for _ in range(2):
        model.generate(PROMPTS[1:4], max_new_tokens=70, do_sample=False, compile_config={"backend": count})
    assert len(graphs) == 1


def test_what_cannot_be_compiled_is_said() -> None:
    def fail(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler")

    with pytest.raises(InputError, match="Without compile_config"):
        make().generate([[5]], max_new_tokens=3, compile_config={"backend": fail})
    with pytest.raises(ConfigurationError, match="'backed' is none"):
        make().generate([[5]], max_new_tokens=3, compile_config={"backed": "eager"})
    sizes = dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 1)
    config = BartConfig(vocab_size=20, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, **sizes)
    with pytest.raises(ConfigurationError, match="with an encoder"):
        BartForConditionalGeneration(config).generate([[5]], max_new_tokens=3, compile_config={})


def test_settings_without_effect_are_named(caplog) -> None:
    model = make()
    expected = model.generate([[5]], max_new_tokens=3)
    more: dict[str, Any] = {"max_new_tokens": 3, "compile_config": {"backend": "nothing of the kind"}}
    assert model.generate([[5]], disable_compile=True, **more).tolist() == expected.tolist()
    assert model.generate([[5]], use_cache=False, **more).tolist() == expected.tolist()
    assert "disable_compile=True" in caplog.text and "use_cache=False" in caplog.text
