"""What every test gets: a record of approvals of its own, one thread for torch, and no way to a real Hub."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there; tests that want a Hub start one on loopback
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "support"))  # what several test files share
from skips import report

pytest.register_assert_rewrite("array_tests", "base_tests", "kit_tests", "frameworks")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last line what was skipped for want of what."""
    skipped = [str(each.longrepr[2]) for each in terminalreporter.stats.get("skipped", [])]
    terminalreporter.write_line(report(skipped))


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "maquette-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def run_fresh(tmp_path: Path) -> Callable[..., str]:
    """Run Python code in a new process that sees nothing of the tests' folders; gives what it printed."""

    def run(code: str, *, cwd: Path = tmp_path, env: dict[str, str] | None = None, check: bool = True) -> str:
        command = [sys.executable, "-W", "error", "-c", code]
        environ = {**os.environ, **(env or {})}
        environ.pop("PYTHONPATH", None)
        done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def peer_python() -> str:
    """The interpreter of the environment that holds the peer, for tests of parity."""
    path = os.environ.get("MAQUETTE_PEER_PYTHON")
    if not path:
        pytest.skip("compares with the peer: set MAQUETTE_PEER_PYTHON to an interpreter that has it (`make test` does)")
    return path
