"""The example of a decoder of one's own: a few steps of training, then texts in a process that has none of its code."""

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny_decoder"


def run(script: str, folder: Path, *options: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLE / script), *options]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_trains_is_saved_and_writes_elsewhere(tmp_path: Path) -> None:
    said = run("train.py", tmp_path, "--output", str(tmp_path), "--steps", "6")
    assert "paragraphs, 6 steps" in said and "perplexity" in said
    log = json.loads((tmp_path / "echo-log.json").read_text())
    assert log["bits"] < 10.9  # a model that knows nothing needs log2(2000) bits
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "write.py").write_text((EXAMPLE / "write.py").read_text())
    said = run(str(elsewhere / "write.py"), elsewhere, "--output", str(tmp_path), "The with", "If")
    assert said.splitlines()[0].startswith("- The with") and "- If" in said
    assert "The stream gave the same texts: True" in said
