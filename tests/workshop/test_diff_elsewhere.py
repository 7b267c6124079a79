"""`diff` between frameworks, and with what Transformers runs: equal models are equal, a changed layer is found."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import maquette
from maquette.errors import InputError, MissingFileError, MissingPackageError, UnknownNameError
from maquette.workshop.diff import diff

SUPPORT = Path(__file__).parents[1] / "support"
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
PEER: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaForCausalLM", LLAMA | {"num_key_value_heads": 2}, "layers.1.mlp.up_proj"),
    "bert": ("BertForSequenceClassification", BERT, "encoder.layer.1.intermediate.dense"),
    "t5": ("T5ForConditionalGeneration", T5, "encoder.block.1.layer.0.SelfAttention.q"),
}
INPUTS = {"input_ids": [[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]], "attention_mask": [[1] * 5, [1, 1, 1, 0, 0]]}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("frameworks")
    environ = {**os.environ, "PYTHONPATH": str(Path(maquette.__file__).parents[1]), "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-W", "ignore", str(SUPPORT / "diff_runs.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("framework", ["flax", "keras"])
@pytest.mark.parametrize("name", ["distilbert", "vit", "resnet"])
def test_frameworks_are_compared_module_by_module(seen: dict[str, Any], name: str, framework: str) -> None:
    found = seen[f"{name} {framework}"]
    assert found["compared"] >= 10 and found["alike"] is None and found["end"] < 1e-5
    assert found["first"] == found["wanted"]
    assert found["fed"] is not False  # None where a border is put around an image before the layer


@pytest.mark.parametrize("name", PEER)
def test_what_transformers_runs_is_compared(name: str, tmp_path: Path, peer_python: str) -> None:
    class_name, fields, changed = PEER[name]
    torch.manual_seed(0)
    kind = getattr(maquette, class_name)
    model = kind(kind.config_class(vocab_size=50, **fields)).eval()
    model.save_pretrained(tmp_path / "one")
    with torch.no_grad():
        (model if name == "t5" else model.base_model).get_submodule(changed).weight.mul_(1.5)
    model.save_pretrained(tmp_path / "other")
    given = {key: torch.tensor(value) for key, value in INPUTS.items()}
    if name == "t5":
        given["decoder_input_ids"] = torch.tensor([[0, 3, 4], [0, 5, 6]])
    alike = diff(tmp_path / "one", tmp_path / "one", inputs=given, peer_python=peer_python).outputs
    assert alike is not None and alike.compared >= 20 and alike.first is None and alike.last < 1e-5
    other = diff(tmp_path / "one", tmp_path / "other", inputs=given, peer_python=peer_python).outputs
    assert other is not None and other.first == changed and other.inputs_equal


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"frameworks": ["torch", "flx"]}, UnknownNameError, "no framework 'flx'. Did you mean 'flax'"),
        ({"frameworks": ["flax"]}, InputError, "Two frameworks are named"),
        ({"frameworks": ["torch", "transformers"]}, InputError, "--peer-python PATH"),
        ({"frameworks": ["torch", "flax"], "inputs": None}, InputError, "give inputs, --input FILE"),
        ({"peer_python": "nowhere/python"}, MissingFileError, "no interpreter 'nowhere/python'"),
        ({"peer_python": sys.executable}, MissingPackageError, "has no Transformers to run"),
        ({"frameworks": ["torch", "keras"]}, UnknownNameError, "has no class TFLlamaForCausalLM"),
    ],
)
def test_what_cannot_run(tmp_path: Path, options: dict[str, Any], error: Any, said: str) -> None:
    maquette.LlamaForCausalLM(maquette.LlamaConfig(vocab_size=50, **LLAMA)).save_pretrained(tmp_path)
    call: Callable[..., Any] = diff
    with pytest.raises(error, match=said):
        call(tmp_path, tmp_path, **{"inputs": {"input_ids": torch.tensor([[1, 2]])}, **options})
