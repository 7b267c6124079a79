"""What every test gets: a record of approvals of its own, one thread for torch, and no way to a real Hub."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there; tests that want a Hub start one on loopback
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "support"))  # what several test files share
import compiled  # noqa: F401 - TensorFlow and JAX read variables when they are imported
from fresh import PEER, Starter
from skips import report

pytest.register_assert_rewrite("array_tests", "base_tests", "kit_tests", "frameworks", "exchanged_files")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last line what was skipped for want of what."""
    skipped = [str(each.longrepr[2]) for each in terminalreporter.stats.get("skipped", [])]
    terminalreporter.write_line(report(skipped))


LONGEST = ("examples", "training", "house")  # first, so that no worker waits for the other's last test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not {*LONGEST} & {*item.path.parts})


@pytest.hookimpl(optionalhook=True)  # where the tests run in several processes
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests that share something dear to one worker; every other test to whichever is free."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _shared_by(config.rootpath / nodeid.partition("::")[0]) or nodeid

    return Scheduling(config, log)


@functools.cache
def _shared_by(file: Path) -> str:
    """Name what the tests of a file share: what its fixtures prepare, or those of `tests/generation`."""
    text = file.read_text(encoding="utf-8")
    return "peer_side" if "peer_side" in text else str(file) if 'scope="module"' in text else ""


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "maquette-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """Forget what accelerate keeps for a whole process, so that no test depends on which ran before it."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


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
        pass  # environ.pop("PYTHONPATH", None)
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


@pytest.fixture(scope="session")
def run_peer(peer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Run Python code, or a script, in a fresh process of the peer's environment; gives what it printed.

    Takes the code or the script's path, its arguments, `given` for it to read, and `cwd`. The process is a child of one
    that has imported the peer.
    """
    folder = tmp_path_factory.mktemp("peer")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    starter = Starter(folder, python=peer_python, first=PEER, environ=offline)

    def run(code: str | Path, *arguments: Any, given: str | None = None, cwd: Path = folder) -> str:
        path = str(code) if isinstance(code, Path) else "-c"
        source = code.read_text(encoding="utf-8") if isinstance(code, Path) else code
        argv, environ = [path, *map(str, arguments)], {**os.environ, **offline}
        child = starter.start(source, cwd=cwd, environ=environ, argv=argv, given=given)
        assert child.wait() == 0, child.read("stderr")[-3000:]
        return child.read("stdout")

    yield run
    starter.stop()
