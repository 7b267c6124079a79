"""What every test gets: a record of approvals of its own, one thread for torch, and no way to a real Hub."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there; tests that want a Hub start one on loopback
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "support"))  # what several test files share
from fresh import Starter
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


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts processes that find torch imported, and nothing else."""
    starter = Starter(tmp_path_factory.mktemp("fresh"))
    yield starter
    starter.stop()


@pytest.fixture
def run_fresh(tmp_path: Path, starter: Starter) -> Callable[..., str]:
    """Run Python code in a new process that sees nothing of the tests' folders; gives what it printed."""

    def run(code: str, *, cwd: Path = tmp_path, env: dict[str, str] | None = None, check: bool = True) -> str:
        environ = {**os.environ, **(env or {})}
        environ.pop("PYTHONPATH", None)
        status, output, errors = starter.run(code, cwd=cwd, environ=environ)
        if check and status:
            raise AssertionError(f"exit {status}\n{output}\n{errors}")
        return output + errors

    return run


@pytest.fixture(scope="session")
def peer_python() -> str:
    """The interpreter of the environment that holds the peer, for tests of parity."""
    path = os.environ.get("MAQUETTE_PEER_PYTHON")
    if not path:
        pytest.skip("compares with the peer: set MAQUETTE_PEER_PYTHON to an interpreter that has it (`make test` does)")
    return path
