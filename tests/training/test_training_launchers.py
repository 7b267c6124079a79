"""The launchers as users type them, on a machine without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_models
from training_models import Net

from maquette import ConfigurationError, Trainer, TrainingArguments
from maquette.training.processes import COUNTS

pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason="launches on a CPU")

SCRIPT = """
import json, sys
from maquette import Trainer, TrainingArguments
from training_models import Net, make_rows

for number in (1, 2):
    args = TrainingArguments(f"{number}", max_steps=2, per_device_train_batch_size=2, disable_tqdm=True)
    trainer = Trainer(Net(), args, train_dataset=make_rows(8))
    trainer.train()
    if trainer.state.is_world_process_zero:
        found = {"world": trainer.accelerator.num_processes, "steps_of_an_epoch": trainer._batches}
        open(f"{number}.json", "x").write(json.dumps(found))
"""
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc_per_node", "2"],
    "accelerate": ["accelerate.commands.launch", "--cpu", "--num_processes", "2"],
    "accelerate on several": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launched_processes_join_or_there_is_only_one(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(training_models.__file__).parent)}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "train.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    world = 1 if launcher == "accelerate" else 2
    for number in (1, 2):
        found = json.loads((tmp_path / f"{number}.json").read_text())
        assert found == {"world": world, "steps_of_an_epoch": 4 // world}
    assert ("started one process" in done.stderr) == (world == 1)


@pytest.mark.parametrize("name", COUNTS)
def test_a_process_that_does_not_get_to_the_others_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Trainer(Net(), TrainingArguments(tmp_path))  # accelerate knows of one process from now on
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigurationError, match=r"there are 2 processes, .* joined 0 others.*ACCELERATE_USE_CPU=1"):
        Trainer(Net(), TrainingArguments(tmp_path))
