"""What was skipped for want of what is said at the end of a run, in one line."""

import sys
from collections import Counter
from pathlib import Path

from skips import count, describe, report


def test_reasons_name_what_is_missing_and_how_to_get_it():
    reasons = ["espeak-ng, which speaks, is not installed"] * 2 + ["only TensorFlow compiles for sizes"]
    reasons += ["compares with the peer: set MAQUETTE_PEER_PYTHON to an interpreter that has it"]
    assert count(reasons) == Counter({"espeak-ng": 2, "Transformers": 1})
    line = describe(count(reasons))
    assert line.startswith(
        "Skipped: 2 for want of espeak-ng (get it: `apt-get install espeak-ng`); 1 for want of Trans"
    )
    assert "\n" not in line and describe(Counter()).startswith("Nothing")


def test_runs_add_up(tmp_path, monkeypatch, run_fresh):
    monkeypatch.setenv("MAQUETTE_TEST_SKIPS", str(tmp_path / "skips.txt"))
    for reasons in (["needs a CUDA device"], [], ["needs a CUDA device", "chromium, which opens the page, is missing"]):
        report(reasons)
    script = f"import sys, runpy; sys.argv = ['skips', {str(tmp_path / 'skips.txt')!r}]; "
    printed = run_fresh(script + f"runpy.run_path({sys.modules['skips'].__file__!r}, run_name='__main__')")
    assert printed.startswith("Skipped: 2 for want of a GPU") and "1 for want of chromium" in printed


def test_a_run_ends_with_the_line(tmp_path, run_fresh):
    """With the hook of this suite, alone and where other processes run the tests."""
    hook = Path(sys.modules["skips"].__file__).parents[1] / "conftest.py"
    (tmp_path / "test_it.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('needs a CUDA device')\n")
    for more in ([], ["-n", "1"]):
        arguments = ["-q", "-p", "no:cacheprovider", "--confcutdir", str(tmp_path), "-p", "conftest", *more]
        code = f"import sys, pytest; sys.path.insert(0, {str(hook.parent)!r}); pytest.main({arguments!r})"
        assert "Skipped: 1 for want of a GPU" in run_fresh(code, env={"MAQUETTE_TEST_SKIPS": ""})
