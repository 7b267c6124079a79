"""Several processes (on the CPU, over gloo) learn what one learns with a batch of all their rows."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_processes
from safetensors.torch import load_file
from training_models import Net

from maquette import DistilBertForSequenceClassification

SCRIPT = Path(training_processes.__file__)


def launch(folder: Path, case: str, *, count: int = 2) -> dict[str, Any]:
    """Run the script in several processes, as a launcher does, and give what the first one wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), case],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        errors = [process.communicate(timeout=180)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, "\n".join(errors)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def assert_same_log(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert [entry.keys() for entry in one] == [entry.keys() for entry in other]
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("case", ["rows", "tokens"])
def test_two_processes_learn_as_one_with_twice_the_batch(tmp_path: Path, case: str) -> None:
    """Also where the data does not divide evenly, and where labelled tokens are not the same number everywhere."""
    found = launch(tmp_path / "two", case)
    torch.set_num_threads(1)
    single = training_processes.train(tmp_path / "one", case, rows=4)
    assert_same_log(found["log"], single.state.log_history)
    predictions = single.predict(training_processes.make_data(case)[:7]).predictions
    np.testing.assert_allclose(found["predictions"], predictions, atol=1e-4)
    assert {entry["eval_count"] for entry in found["log"] if "eval_count" in entry} == {7}
    if case == "rows":
        states = json.loads((tmp_path / "two" / "checkpoint-4" / "random_states.json").read_text())["processes"]
        assert len(states) == 2
        assert states[0] != states[1]
        Net().load_state_dict(load_file(tmp_path / "two" / "final" / "model.safetensors"))


def test_a_model_divided_by_fsdp_saves_a_folder_that_one_process_loads(tmp_path: Path) -> None:
    found = launch(tmp_path / "two", "sharded")
    torch.set_num_threads(1)
    single = training_processes.train(tmp_path / "one", "sharded", rows=4)
    assert_same_log(found["log"], single.state.log_history)
    config = json.loads((tmp_path / "two" / "final" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    loaded = DistilBertForSequenceClassification.from_pretrained(tmp_path / "two" / "final")
    for name, value in single.model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    # ... its checkpoint resumes in one process, and in two,
    resumed = training_processes.train(tmp_path / "two", "sharded", rows=4, resume=True)
    assert_same_log(resumed.state.log_history, found["log"])
    again = launch(tmp_path / "two", "sharded resumed")
    assert_same_log(again["log"], found["log"])
    # ... and the best weights are put back where they are divided.
    best = launch(tmp_path / "best", "sharded best")
    assert_same_log(best["log"], found["log"])
