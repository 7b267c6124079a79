"""Decoders in ONNX Runtime, with their cache outside: the tokens that `generate` writes, in loops of our own."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import bound
from tiny_decoders import TinyConfig, TinyForCausalLM

from maquette import InputError
from maquette.testing import cases

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BUILT_IN = {"gpt2-GPT2LMHeadModel", "qwen3-Qwen3ForCausalLM", "gemma3_text-Gemma3ForCausalLM"}
MODELS = {str(case): lambda case=case: case.model_class(case.config()) for case in cases() if str(case) in BUILT_IN}
MODELS["of one's own, with a window"] = lambda: TinyForCausalLM(TinyConfig(window=4))


def write(session, prompts: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Write greedily, with what ONNX Runtime gives back as its next cache."""
    takes = {each.name: each for each in session.get_inputs()}
    gives = [each.name for each in session.get_outputs()]
    past = {
        n: np.zeros((len(prompts), each.shape[1], 0, each.shape[3]), np.float32)
        for n, each in takes.items()
        if "past" in n
    }
    assert [*past] == [name.replace("present", "past_key_values") for name in gives[1:]]
    ids = new = prompts
    for _ in range(count):
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -new.shape[1] :]
        given = {"input_ids": new, "attention_mask": mask, "position_ids": positions} | past
        found = dict(zip(gives, session.run(gives, {n: x for n, x in given.items() if n in takes}), strict=True))
        past = {name: found[name.replace("past_key_values", "present")] for name in past}
        new = found["logits"][:, -1:].argmax(-1)
        ids, mask = np.concatenate([ids, new], 1), np.concatenate([mask, np.ones_like(new)], 1)
    return ids


@pytest.mark.parametrize("name", MODELS)
def test_a_decoder_writes_what_generate_writes(name, tmp_path) -> None:
    torch.manual_seed(3)
    model = MODELS[name]().eval()
    found = model.ship(tmp_path / "out", to="onnx")
    assert not found.differs and found.about["inputs"]["past_key_values.0.key"][2] == "held"
    prompts = torch.randint(model.config.vocab_size, (2, 9))
    mask = torch.ones_like(prompts)
    mask[1, :5] = 0
    settings = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(prompts, attention_mask=mask, **settings)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert write(session, prompts.numpy(), mask.numpy(), 8).tolist() == expected.tolist()


def test_a_cache_that_cannot_be_outside(tmp_path) -> None:
    with pytest.raises(InputError, match="keeps no cache of keys and values"):
        TinyForCausalLM(TinyConfig(recurrent=True)).ship(tmp_path / "out", to="onnx", cache=True)


def test_a_decoder_without_its_cache(tmp_path) -> None:
    found = TinyForCausalLM(TinyConfig(num_hidden_layers=1)).ship(tmp_path / "out", to="onnx", cache=False)
    assert not found.differs and [*found.about["inputs"].values()] == [["batch", "length"]] * 2


def test_a_generate_that_does_other_things_is_seen(tmp_path) -> None:
    class Backwards(TinyForCausalLM):
        def generate(self, ids, **options):
            return torch.cat([ids, ids.flip(1)[:, :6]], 1)

    model = Backwards(TinyConfig(num_hidden_layers=1))
    with pytest.raises(InputError, match="writes other tokens than its own logits say"):
        model.ship(tmp_path / "out", to="onnx")


def test_a_state_is_read_over_real_tokens_only(tmp_path, monkeypatch) -> None:
    """The decoder of the example, which remembers what followed each token; padding on both sides, and holes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "tiny_decoder"))
    code = importlib.import_module("modeling_echo")
    torch.manual_seed(0)
    model = code.EchoForCausalLM(code.EchoConfig(vocab_size=12, dim=16, heads=2, depth=1, window=4)).eval()
    found = model.ship(tmp_path / "out", to="onnx")
    assert not found.differs and [*found.about["inputs"]] == ["input_ids", "attention_mask"]
    ids, mask = torch.randint(12, (4, 13)), torch.ones(4, 13, dtype=torch.long)
    mask[0, :5], mask[1, 9:], mask[2, 3:6], mask[3, ::2] = 0, 0, 0, 0
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (logits,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    with torch.no_grad():
        expected = model(ids, mask).logits
        alone = model(ids[3:, 1::2]).logits  # the real tokens of the last row
    assert np.abs(logits - expected.numpy()).max() <= bound([expected])
    assert np.abs(logits[3, 1::2] - alone[0].numpy()).max() <= bound([alone])
