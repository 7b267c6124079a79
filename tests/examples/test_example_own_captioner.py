"""The example of a captioner: its model keeps every promise, learns, and writes in a process without its code."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from maquette import GPT2Config
from maquette.testing import check_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_captioner"


def import_model() -> Any:
    spec = importlib.util.spec_from_file_location("modeling_of_own_captioner", EXAMPLE / "modeling_captioner.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_model_is_short_and_keeps_every_promise() -> None:
    assert len((EXAMPLE / "modeling_captioner.py").read_text().splitlines()) <= 60
    mine = import_model()
    decoder = GPT2Config(vocab_size=13, n_positions=16, n_embd=12, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    tower = mine.TowerConfig(hidden_size=8, width=16)
    config = mine.CaptionerConfig(encoder=tower, decoder=decoder, decoder_start_token_id=1, pad_token_id=0)
    report = check_model(mine.Captioner, config, skip={"fresh_process": "the other test loads it in one"})
    assert {"cache", "ragged", "generation", "reload", "gradients", "half_precision", "export"} <= set(report.passed)


def run(script: Path, folder: Path, *options: str) -> str:
    command = [sys.executable, "-W", "error", str(script), "--output", str(folder), *options]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_trains_is_saved_and_writes_elsewhere(tmp_path: Path) -> None:
    said = run(EXAMPLE / "train.py", tmp_path, "--steps", "100")
    first, last = (float(word) for word in said.splitlines()[1].replace(",", "").split() if word[0].isdigit())
    assert last < first < 2.6  # a model that knows nothing needs log(13) = 2.56
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "write.py").write_text((EXAMPLE / "write.py").read_text())
    assert "All 500 captions equal" in run(elsewhere / "write.py", tmp_path, "--count", "2")
    saved = sorted(path.name for path in (tmp_path / "own-captioner").glob("*.py"))
    assert saved == ["modeling_captioner.py"]
