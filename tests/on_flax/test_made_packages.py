"""`maquette new --frameworks flax`: what it makes passes its own tests, in a process of their own."""

from pathlib import Path

from made_packages import run_made_tests


def test_made_packages_pass_their_tests(tmp_path: Path) -> None:
    assert run_made_tests("flax", "encoder", tmp_path) >= 4


def test_every_kind_reads_and_writes_files_of_torch(tmp_path: Path) -> None:
    assert run_made_tests("flax", None, tmp_path, only="save_of_torch") >= 5
