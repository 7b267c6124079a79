"""Adapters of peft, as its users train, save, resume and load them, on a built-in model and on a user's own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import maquette

SUPPORT = Path(__file__).parents[1] / "support"
CASES = (
    "lora",
    "lora own",
    "lora causal",
    "ia3",
    "prompt",
    "prompt own",
    "p-tuning",
    "lora, inside",
    "lora own, inside",
)


@pytest.fixture(scope="module")
def seen(peer_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("peft")
    paths = os.pathsep.join([str(Path(maquette.__file__).parents[1]), str(SUPPORT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [peer_python, "-W", "ignore", str(SUPPORT / "peft_runs.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "folder": str(folder)}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_is_trained_saved_resumed_and_loaded(seen: dict[str, Any], case: str) -> None:
    found = seen[case]
    assert found["resumes"]
    assert found["same"]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {*found["files"]}
    assert "model.safetensors" not in found["files"]
    assert 0 < found["numbers"] < found["all"]
    assert found["trained"]
    assert found["checkpoint"]
    assert found["peft"] < 1e-5


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("lora")])
def test_an_adapter_goes_into_a_model_and_out_again(seen: dict[str, Any], case: str) -> None:
    found = seen[case]["inside"]
    assert found["loaded"] < 1e-5
    assert found["active"] == ["default"]
    assert (found["off"], found["out"]) == (0, 0)
    assert found["on"] == found["loaded"]
    assert found["names"]


def test_what_peft_asks_beside(seen: dict[str, Any]) -> None:
    asked = seen["asked"]
    assert asked["base"] == str(Path(seen["folder"], "base"))
    assert asked["merged"] < 1e-6
    expected = {
        "twice": "ValueError: There is an adapter 'default' already",
        "prompt": "ValueError: PromptTuningConfig goes before the inputs",
        "none": "ValueError: DistilBertForSequenceClassification has no adapter",
        "nothing there": "MissingFileError: ",
        "another model": "NoMatchingPeftModuleError: ",
        "unknown": "ValueError: There is no adapter 'other'; there are default.",
    }
    assert asked["errors"].keys() == expected.keys()
    for name, start in expected.items():
        assert asked["errors"][name].startswith(start), asked["errors"][name]
