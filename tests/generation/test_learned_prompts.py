"""Prompts that peft has learnt stand before those of generate: the texts are what Transformers gives with them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import maquette

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def found(peer_python: str) -> dict[str, Any]:
    paths = os.pathsep.join([str(Path(maquette.__file__).parents[1]), str(SUPPORT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [peer_python, "-W", "ignore", str(SUPPORT / "peft_prompts.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix"])
def test_texts_are_those_of_transformers(found: dict[str, Any], kind: str) -> None:
    """Greedy and with beams, where rows wait, and where nothing is kept."""
    expected = found[kind]["theirs"]
    assert len({tuple(row) for row in expected[0]}) == 4
    assert found[kind]["ours"] == found[kind]["few"] == expected
    assert found[kind]["uncached"] == ([] if kind == "prefix" else expected)


def test_what_does_not_go_with_them(found: dict[str, Any]) -> None:
    refused = found["refused"]
    assert "does not go with prompts that peft has learnt" in refused["cache"]
    assert "use_cache=False leaves none" in refused["no cache"]
