"""`maquette new`: what it makes installs, passes its own tests, and learns, untouched."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fresh import Starter

import maquette
from maquette import InputError, SaveError, UnknownNameError
from maquette.cli.main import main
from maquette.workshop import make_package
from maquette.workshop.packages import FRAMEWORKS, KINDS

# Of nine letters, as in the templates.
NAMES = {
    "decoder": "dragonfly",
    "encoder": "nighthawk",
    "vision": "sandpiper",
    "speech": "kittiwake",
    "two-tower": "crossbill",
}
# Those that are made in Keras and in Flax too; `on_keras` and `on_flax` run them.
IN_ALL = ("encoder", "vision")
STEPS = {"decoder": 20, "encoder": 40, "vision": 80, "speech": 40, "two-tower": 100}
# What is measured on held-out data, and the least that so few steps have to make of it.
LEARNT = {
    "decoder": (r"Perplexity .*: (\S+) before, (\S+) after", lambda before, after: after < before / 2),
    "encoder": (r"Right .*: (\S+)% before, (\S+)% after", lambda before, after: after > before + 15),
    "speech": (r"Right .*: (\S+)% before, (\S+)% after", lambda before, after: after > before + 15),
    "two-tower": (r"Right .*: (\S+)% before, (\S+)% after", lambda before, after: after > before + 15),
    "vision": (r"Right .*: (\S+)% before, (\S+)% after", lambda before, after: after > before + 15),
}
RUN = """
import contextlib, io, os, runpy, sys, warnings
sys.path[:0] = {paths}
import pytest
options = ["-q", "-c", "none.ini", "-p", "no:cacheprovider", "-W", "error"]
status = pytest.main([*options, *{tests}])
assert status == 0, status
warnings.simplefilter("error")
for kind, folder, steps in {trainings}:
    os.chdir(folder)
    sys.argv = ["train.py", "--steps", str(steps)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path("train.py", run_name="__main__")
    print("TRAINED", kind, printed.getvalue().replace(chr(10), " | "))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A package of each kind, found as installed ones are: by their metadata."""
    root = tmp_path_factory.mktemp("new")
    made = {}
    for kind in KINDS:
        name = NAMES[kind]
        make_package(name, like=kind, folder=root / f"{name}-project")
        made[kind] = root / f"{name}-project"
        project = tomllib.loads((root / f"{name}-project" / "pyproject.toml").read_text())["project"]
        metadata = root / "installed" / f"{name}-0.1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
        points = "".join(f"{k} = {v}\n" for k, v in project["entry-points"]["maquette.models"].items())
        (metadata / "entry_points.txt").write_text(f"[maquette.models]\n{points}")
    return made


@pytest.fixture(scope="module")
def outcome(packages: dict[str, Path], starter: Starter) -> str:
    """What one process printed that ran all their tests, and then a few steps of all their trainings."""
    root = next(iter(packages.values())).parent
    source = str(Path(maquette.__file__).parents[1])
    code = RUN.format(
        paths=[source, str(root / "installed"), *(str(folder / "src") for folder in packages.values())],
        tests=[str(folder / "tests") for folder in packages.values()],
        trainings=[(kind, str(folder), STEPS[kind]) for kind, folder in packages.items()],
    )
    (root / "none.ini").write_text("[pytest]\n")
    environ = {**os.environ, "MAQUETTE_HOME": str(root / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    environ.pop("PYTHONPATH", None)
    status, output, errors = starter.run(code, cwd=root, environ=environ)
    assert status == 0, f"{output}\n{errors}"
    return output


def test_made_packages_pass_their_tests(packages: dict[str, Path], outcome: str) -> None:
    passed = re.search(r"(\d+) passed", outcome)
    assert passed and int(passed[1]) >= 6 * len(packages) and "skipped" not in outcome


@pytest.mark.parametrize("kind", KINDS)
def test_made_packages_learn(kind: str, packages: dict[str, Path], outcome: str) -> None:
    pattern, is_better = LEARNT[kind]
    found = re.search(rf"TRAINED {kind} .*?{pattern}", outcome)
    assert found, outcome
    assert is_better(float(found[1]), float(found[2])), found[0]
    assert (packages[kind] / "trained" / "model.safetensors").is_file()


def test_made_code_is_as_ruff_wants_it(packages: dict[str, Path], tmp_path: Path) -> None:
    """Imports in order, nothing unused; a name of nine letters, as in the templates, breaks lines as they are there."""
    for kind in IN_ALL:
        make_package("sandpiper", like=kind, folder=tmp_path / kind, frameworks=FRAMEWORKS)
    for command in (["check", "--select", "E,F,I,B,UP", "--line-length", "120"], ["format", "--check", "--diff"]):
        whole = [sys.executable, "-m", "ruff", *command, "--no-cache", *packages.values(), tmp_path]
        done = subprocess.run(whole, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_templates_is_left(kind: str, packages: dict[str, Path]) -> None:
    for path in packages[kind].rglob("*"):
        assert "blueprint" not in path.name.lower()
        if path.is_file() and path.suffix in ("", ".py", ".md", ".toml"):
            text = path.read_text(encoding="utf-8")
            assert not re.search("blueprint|maquette.workshop|@KIND|@YEAR|EXTRAS", text, re.IGNORECASE), path
    there = {path.relative_to(packages[kind]).as_posix() for path in packages[kind].rglob("*") if path.is_file()}
    assert {".gitignore", "LICENSE", "README.md", "pyproject.toml", "train.py"} <= there


def test_names(tmp_path: Path) -> None:
    """A name is written as each place wants it."""
    written = make_package("My-Small_model2", like="decoder", folder=tmp_path / "x")
    assert tmp_path / "x" / "src" / "my_small_model2" / "modeling.py" in written
    project = tomllib.loads((tmp_path / "x" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-small-model2"
    assert project["entry-points"] == {"maquette.models": {"my-small-model2": "my_small_model2:CARD"}}
    text = (tmp_path / "x" / "src" / "my_small_model2" / "configuration.py").read_text()
    assert "class MySmallModel2Config(PretrainedConfig):" in text and 'model_type = "my-small-model2"' in text


@pytest.mark.parametrize("kind", IN_ALL)
def test_only_the_frameworks_that_are_asked_for(kind: str, tmp_path: Path) -> None:
    """Nothing of the others is named anywhere, on the card neither."""
    ends = {"keras": "_tf", "flax": "_flax"}
    for chosen in (["keras"], ["torch", "flax"], ["keras", "flax", "torch"]):
        folder = tmp_path / "-".join(chosen)
        written = make_package("sandpiper", like=kind, folder=folder, frameworks=chosen)
        names = {path.name for path in written}
        for framework, end in ends.items():
            is_there = framework in chosen
            assert is_there == (f"modeling{end}.py" in names) == (f"test_sandpiper{end}.py" in names)
            named = [path for path in written if f"modeling{end}" in path.read_text(encoding="utf-8")]
            assert is_there == bool(named), named
        assert "modeling.py" in names  # torch trains it
        needs = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"][0]
        assert [extra in needs for extra in ("tf", "flax")] == [framework in chosen for framework in ends]


TAKEN: dict[str, tuple[Any, str]] = {
    "distilbert": (UnknownNameError, "an architecture of that model type is built in"),
    "distil-bert": (UnknownNameError, "maquette has classes whose names begin with DistilBert|built in"),
    "json": (UnknownNameError, "is a word or a module of Python"),
    "class": (UnknownNameError, "is a word or a module of Python"),
    "pytest": (UnknownNameError, "a package 'pytest' can be imported here already"),
    "auto": (UnknownNameError, "begin with Auto. Choose another one, such as 'my-auto'"),
    "2fast": (InputError, "can be no name of a package.*, such as 'fast'"),
    "a b": (InputError, "can be no name of a package.*, such as 'a-b'"),
    "../up": (InputError, "can be no name of a package"),
    "": (InputError, "can be no name of a package"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_names_that_are_none_or_taken(name: str, tmp_path: Path) -> None:
    kind, message = TAKEN[name]
    with pytest.raises(kind, match=message):
        make_package(name, folder=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("mine")
    with pytest.raises(SaveError, match=r"has something in it \(notes.txt\)"):
        make_package("nighthawk", folder=tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["notes.txt"]
    with pytest.raises(SaveError, match="is no folder"):
        make_package("nighthawk", folder=tmp_path / "x" / "notes.txt")
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    assert make_package("nighthawk", folder=tmp_path / "empty")


def test_kinds_and_frameworks_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'decoder'"):
        make_package("nighthawk", like="decodr", folder=tmp_path / "x")
    with pytest.raises(UnknownNameError, match="Did you mean 'keras'"):
        make_package("nighthawk", folder=tmp_path / "x", frameworks=["torch", "kears"])
    with pytest.raises(UnknownNameError, match="Did you mean 'two-tower'"):
        make_package("nighthawk", like="two_tower", folder=tmp_path / "x")
    with pytest.raises(UnknownNameError, match="Did you mean 'flax'"):
        make_package("nighthawk", folder=tmp_path / "x", frameworks=["jax"])
    with pytest.raises(UnknownNameError, match=r"is made in torch, not in flax.*in flax: encoder, vision"):
        make_package("nighthawk", like="decoder", folder=tmp_path / "x", frameworks=["flax"])
    assert not (tmp_path / "x").exists()


def test_an_empty_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m maquette new` sees the working directory among what can be imported."""
    (tmp_path / "nighthawk").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert make_package("nighthawk")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["maquette", "new", "night-jar", "--like", "encoder", "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == "night-jar" and "night-jar/src/night_jar/modeling.py" in found["files"]
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2 and "has something in it" in capsys.readouterr().err
