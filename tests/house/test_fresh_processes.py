"""Fresh processes of the tests are as fresh as new interpreters, but for torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fresh import Starter

OURS = "import sys; print({'maquette', 'pytest', 'fresh'} & {n.partition('.')[0] for n in sys.modules}, __name__)"


def test_nothing_of_ours_is_there(tmp_path: Path, starter: Starter) -> None:
    for _ in range(2):  # the second finds nothing of the first
        child = starter.start(f"{OURS}; import maquette", cwd=tmp_path, environ=dict(os.environ))
        assert child.wait() == 0 and child.read("stdout") == "set() __main__\n" and child.read("stderr") == ""


@pytest.mark.parametrize("code", ["print('x')", "1/0", "raise SystemExit(3)", "import warnings; warnings.warn('old')"])
def test_ends_as_a_new_interpreter_does(code: str, tmp_path: Path, starter: Starter) -> None:
    new = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert starter.run(code, cwd=tmp_path, environ=dict(os.environ)) == (new.returncode, new.stdout, new.stderr)


def test_has_the_environment_and_the_folder_it_is_given(tmp_path: Path, starter: Starter) -> None:
    code = "import os; print(os.getcwd(), os.environ['OWN'], 'HOME' in os.environ)"
    assert starter.run(code, cwd=tmp_path, environ={"OWN": "1"})[1] == f"{tmp_path} 1 False\n"
