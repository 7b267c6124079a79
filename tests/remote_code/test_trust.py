"""Approvals: of files and maps, by a user and by a team; what the report on code tells, and what needs no trust."""

import base64
import builtins
import json
import os
import py_compile
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback_hub import LoopbackHub
from typer.testing import CliRunner

from maquette import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    DistilBertTokenizerFast,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RemoteCodeError,
    UntrustedCodeError,
    ViTImageProcessor,
    Wav2Vec2FeatureExtractor,
)
from maquette.checkpoint import Checkpoint
from maquette.cli.commands import app
from maquette.hub.sources import open_source
from maquette.remote_code.capabilities import scan_capabilities
from maquette.remote_code.trust import find_lock, read_trust, trust_file

MARK = "import builtins\nbuiltins.__dict__.setdefault('maquette_test_ran', []).append(__name__)\n"
FILES = {
    "configuration.py": MARK
    + "from maquette import PretrainedConfig\nfrom .parts.block import value\n\n"
    + "class Mine(PretrainedConfig):\n    model_type = 'mine'\n    dim: int = 3\n\n"
    + "class Other(Mine):\n    pass\n",
    "modeling.py": MARK + "from .configuration import Mine\n\nclass Model:\n    config_class = Mine\n",
    "parts/__init__.py": MARK,
    "parts/block.py": MARK + "value = 1\n",
    "extra.py": MARK + "other = 2\n",
    "empty.py": "",
}
MAP = {"AutoConfig": "configuration.Mine", "AutoModel": "modeling.Model"}


def make(folder: Path, files: dict[str, str] | None = None, **auto_map: Any) -> Path:
    content = {"model_type": "mine", "dim": 5, "auto_map": auto_map or MAP}
    for name, text in {**(FILES if files is None else files), "config.json": json.dumps(content)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def load(folder: str | Path, trust: Any = True, **options: Any) -> Any:
    return AutoConfig.from_pretrained(folder, trust_remote_code=trust, **options)


def maquette(*arguments: Any, code: int = 0) -> str:
    """Run a command in this process; gives what it printed, or the error."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code, bool(result.exception)) == (code, bool(code)), result.output
    return result.output if code in (0, 2) else str(result.exception)


@pytest.fixture
def ran() -> Iterator[list[str]]:
    """The modules of a checkpoint that ran."""
    builtins.__dict__["maquette_test_ran"] = found = []
    yield found
    del builtins.__dict__["maquette_test_ran"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a checkpoint in it, and a sub-folder to work in."""
    make(tmp_path / "project" / "models" / "m")
    (tmp_path / "project" / ".git").mkdir()
    (tmp_path / "project" / "src").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "src")
    return tmp_path / "project"


# What an approval covers -------------------------------------------------------------------------------------------


def edit_bytes(chance: random.Random, folder: Path) -> str:
    name = chance.choice([name for name, text in FILES.items() if text])
    content = bytearray((folder / name).read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(content)
    return f"- {name} was changed"


def add_file(chance: random.Random, folder: Path) -> str:
    place = chance.choice(["", "parts/", "new/", "configuration/", "modeling/", "a/b/c/"])
    name = place + chance.choice(["__init__", "sitecustomize", "torch", "z", "Configuration"]) + ".py"
    if name == "parts/__init__.py":
        name = "parts/__main__.py"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{MARK}# {chance.random()}")
    return f"- {name} was added"


def remove_file(chance: random.Random, folder: Path) -> str:
    name = chance.choice(list(FILES))
    (folder / name).unlink()
    return f"- {name} was removed"


def rename_file(chance: random.Random, folder: Path) -> str:
    name = chance.choice(["configuration.py", "modeling.py", "parts/block.py", "extra.py", "empty.py"])
    new = chance.choice([f"x_{name.rpartition('/')[2]}", name.replace(".py", "_.py"), "below/it.py"])
    (folder / new).parent.mkdir(exist_ok=True)
    (folder / name).rename(folder / new)
    return f"- {name} was renamed to {new}"


def swap_files(chance: random.Random, folder: Path) -> str:
    one, other = chance.sample(sorted(FILES), 2)
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    if first == second:
        second += b"#"
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)
    return f"- {one} was changed"


def edit_map(chance: random.Random, folder: Path) -> str:
    auto_class, reference = chance.choice(
        [
            ("AutoConfig", "configuration.Other"),
            ("AutoConfig", "parts.block.Mine"),
            ("AutoConfig", "evil/repo--configuration.Mine"),
            ("AutoConfig", "user/m--configuration.Mine"),
            ("AutoModel", "extra.Model"),
            ("AutoModel", "configuration.Mine"),
            ("AutoModel", "other/repo--modeling.Model"),
            ("AutoModelForCTC", "modeling.Model"),
            ("AutoTokenizer", ["extra.Slow", None]),
            ("AutoImageProcessor", "extra.Images"),
        ]
    )
    make(folder, {}, **{**MAP, auto_class: reference})
    named = reference if isinstance(reference, str) else reference[0]
    before = f"where {MAP[auto_class]!r} was approved" if auto_class in MAP else "where nothing was approved"
    return f"- auto_map names {named!r} for {auto_class}, {before}"


EDITS: dict[Callable[[random.Random, Path], str], int] = {
    edit_bytes: 100,
    add_file: 25,
    remove_file: 8,
    rename_file: 16,
    swap_files: 10,
    edit_map: 25,
}


def test_184_edits_of_an_approved_folder_are_refused_by_name(tmp_path: Path, ran: list[str]) -> None:
    folder, chance, number = tmp_path / "m", random.Random(6), 0
    maquette("trust", make(folder), "--approve")
    for edit, times in EDITS.items():
        for _ in range(times):
            expected = edit(chance, folder)
            with pytest.raises(UntrustedCodeError) as refused:
                load(folder)
            message = str(refused.value)
            assert expected in message, edit.__name__
            assert f"`maquette trust {folder} --approve`" in message and "Nothing of it was run" in message
            shutil.rmtree(folder)
            make(folder)
            number += 1
    assert (number, ran) == (184, [])
    assert load(folder).dim == 5 and ran  # as it was, it runs


def test_edits_of_an_approved_repository_are_refused_by_name(tmp_path: Path, run_fresh) -> None:
    """Thirty states of a repository, each a branch of it, and its code under ten other names."""
    chance, expected = random.Random(7), {}
    with LoopbackHub() as hub:

        def push(repo: str, folder: Path, branch: str) -> str:
            content = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
            gone: dict[str, Any] = dict.fromkeys(FILES.keys() - content.keys()) if branch != "main" else {}
            return hub.add_commit(repo, {**content, **gone}, branch)

        commit = push("user/model", make(tmp_path / "m"), "main")
        for number in range(30):
            edit = list(EDITS)[number % 6]
            folder = make(tmp_path / f"edit-{number}")
            expected[f"user/model@{edit.__name__}-{number}"] = edit(chance, folder)
            if "--configuration.Mine" in (folder / "config.json").read_text():  # a class of another repository
                expected[f"user/model@{edit.__name__}-{number}"] = "names code of another repository"
            push("user/model", folder, f"{edit.__name__}-{number}")
        names = [f"user/model{n}" for n in range(5)] + ["user/Model", "usr/model", "user/modle", "other/model", "model"]
        for name in names:
            push(name, tmp_path / "m", "main")
            expected[name] = f"{name!r} was never approved here, and MAQUETTE_TRUST=locked lets nothing else run"
        push("evil/repo", make(tmp_path / "evil"), "main")
        push("user/m", make(tmp_path / "evil"), "main")
        (tmp_path / "names").write_text(json.dumps(list(expected)))
        environ = {**hub.environ(tmp_path / "hub"), "MAQUETTE_TRUST": "locked"}
        printed = json.loads(run_fresh(LOAD_ALL, env=environ).splitlines()[-1])
    assert read_trust()["user/model"]["commit"] == commit
    assert len(printed) == 40
    for name, message in printed.items():
        assert expected[name] in message, name
        assert "maquette trust " in message and "Nothing of it was run" in message
    assert "Did you mean 'user/model'?" in printed["user/modle"]


LOAD_ALL = """
import builtins, json, pathlib, sys
from maquette.cli import main
sys.argv = ["maquette", "trust", "user/model", "--approve"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
from maquette import AutoConfig, UntrustedCodeError
assert AutoConfig.from_pretrained("user/model", trust_remote_code=True).dim == 5
builtins.maquette_test_ran.clear()
said = {}
for name in json.loads(pathlib.Path("names").read_text()):
    repo, _, revision = name.partition("@")
    try:
        AutoConfig.from_pretrained(repo, revision=revision or None, trust_remote_code=True)
    except UntrustedCodeError as error:
        said[name] = str(error)
assert not builtins.maquette_test_ran
print(json.dumps(said))
"""


def test_the_maps_of_all_files_are_approved_at_once(tmp_path: Path) -> None:
    """Models and preprocessing of one folder have maps in files of their own; first use of one approves both."""
    folder = make(tmp_path / "m")
    (folder / "preprocessor_config.json").write_text('{"auto_map": {"AutoImageProcessor": "extra.Images"}}')
    (folder / "processor_config.json").write_text(
        '{"auto_map": {"AutoProcessor": "extra.P"}, '
        '"feature_extractor": {"auto_map": {"AutoFeatureExtractor": "extra.F"}}}'
    )
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["extra.Slow", "extra.Fast"]}}')
    load(folder)
    assert read_trust()[str(folder)]["references"] == {
        "AutoConfig": ["configuration.Mine"],
        "AutoFeatureExtractor": ["extra.F"],
        "AutoImageProcessor": ["extra.Images"],
        "AutoModel": ["modeling.Model"],
        "AutoProcessor": ["extra.P"],
        "AutoTokenizer": ["extra.Fast", "extra.Slow"],
    }
    with pytest.raises(RemoteCodeError, match="extra defines no Images"):
        AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    (folder / "preprocessor_config.json").write_text('{"auto_map": {"AutoImageProcessor": "modeling.Model"}}')
    with pytest.raises(UntrustedCodeError, match=r"'modeling\.Model' for AutoImageProcessor, where 'extra\.I"):
        AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)


def test_a_pin_approves_a_map_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    load(folder)
    make(folder, {}, AutoConfig="configuration.Other")
    with pytest.raises(UntrustedCodeError, match=r"auto_map names 'configuration\.Other' for AutoConfig") as refused:
        load(folder)
    pin = str(refused.value).split('"')[1]
    assert type(load(folder, pin)).__name__ == type(load(folder)).__name__ == "Other"
    make(folder)
    with pytest.raises(UntrustedCodeError, match=r"auto_map names 'configuration\.Mine'"):
        load(folder)


def test_an_approval_without_references_is_completed(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    load(folder)
    record = read_trust()
    del record[str(folder)]["references"]
    trust_file().write_text(json.dumps(record))
    load(folder)
    assert read_trust()[str(folder)]["references"] == {name: [reference] for name, reference in MAP.items()}


def test_own_saves_are_approved_with_their_map(tmp_path: Path) -> None:
    config = load(make(tmp_path / "m"))
    config.save_pretrained(tmp_path / "again")
    assert read_trust()[str(tmp_path / "again")]["references"]["AutoConfig"] == ["configuration.Mine"]
    make(tmp_path / "again", {}, AutoConfig="configuration.Other")
    with pytest.raises(UntrustedCodeError, match=r"'configuration\.Other' for AutoConfig, where 'configuration\.Mine'"):
        load(tmp_path / "again")


PLANTED = {
    "configuration.py": "from maquette import PretrainedConfig\nimport helper_mine\n\nclass Mine(PretrainedConfig)"
}
PLANTED["configuration.py"] += ":\n    model_type = 'mine'\n    dim: int = 3\n    value = helper_mine.value\n"


def test_compiled_files_and_packages_of_the_same_names_never_run(tmp_path: Path, run_fresh) -> None:
    """Python itself would take each of them, as the last lines show."""
    folder = make(
        tmp_path / "m", {**PLANTED, "helper_mine.py": "value = 'approved'\n"}, AutoConfig="configuration.Mine"
    )
    (tmp_path / "evil.py").write_text("value = 'planted'\n")
    compiled = py_compile.compile(str(tmp_path / "evil.py"), doraise=True)
    cache = folder / "__pycache__"
    cache.mkdir()
    header = (folder / "helper_mine.py").stat()
    code = Path(compiled).read_bytes()
    stamp = int(header.st_mtime).to_bytes(4, "little") + header.st_size.to_bytes(4, "little")
    (cache / f"helper_mine.{sys.implementation.cache_tag}.pyc").write_bytes(code[:8] + stamp + code[16:])
    for place in ("path", "m"):
        (tmp_path / place / "helper_mine" / "__pycache__").mkdir(parents=True)
        (tmp_path / place / "helper_mine" / "__init__.pyc").write_bytes(code)
    (folder / "native.abi3.so").write_bytes(b"\x7fELF planted")
    script = "import sys\nsys.path[:0] = {0!r}\n"
    take = "from maquette import AutoConfig\nprint(AutoConfig.from_pretrained('m', trust_remote_code=True).value)"
    assert run_fresh(script.format(["path", "m"]) + take) == "approved\n"
    control = "import helper_mine\nprint(helper_mine.value)"
    assert run_fresh(script.format(["path"]) + control) == "planted\n"
    shutil.rmtree(folder / "helper_mine")
    assert run_fresh(script.format(["m"]) + control) == "planted\n"


def test_a_library_beside_the_code_is_no_module_of_it(tmp_path: Path) -> None:
    text = FILES["configuration.py"].replace(".parts.block", ".native")
    folder = make(tmp_path / "m", {"configuration.py": text})
    for suffix in (".so", ".abi3.so", f".{sys.implementation.cache_tag}-x86_64-linux-gnu.so", ".pyd", ".pyc"):
        (folder / f"native{suffix}").write_bytes(b"planted")
    with pytest.raises(RemoteCodeError, match="native is imported, but not among its files"):
        load(folder)


# The project's lock file -------------------------------------------------------------------------------------------


def test_a_lock_file_beats_the_users_record(project: Path, ran: list[str]) -> None:
    folder = project / "models" / "m"
    printed = maquette("trust", folder, "--lock")
    lock = project / "maquette.lock"
    assert f"Now approved in {lock}." in printed and find_lock() == lock
    content = json.loads(lock.read_text())
    assert content.keys() == {"./models/m"} and content["./models/m"]["files"].keys() == FILES.keys()
    assert lock.read_text() == json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert load(folder).dim == 5 and read_trust() == {}  # nothing of the user's own is needed, or made
    (folder / "extra.py").write_text("changed = 1\n")
    maquette("trust", folder, "--approve")
    ran.clear()
    with pytest.raises(UntrustedCodeError) as refused:
        load(folder)
    assert f"approved in '{lock}':\n  - extra.py was changed\n" in str(refused.value)
    assert f"run `maquette trust {folder} --lock`." in str(refused.value) and ran == []
    maquette("trust", folder, "--lock")
    assert load(folder).dim == 5
    with pytest.raises(UntrustedCodeError, match="brings its own code"):
        load(folder, None)  # it approves code, it does not ask for it to run
    assert "./models/m is no longer approved" in maquette("trust", folder, "--revoke", "--lock")
    assert json.loads(lock.read_text()) == {} and load(folder).dim == 5


def test_a_lock_file_moves_with_its_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maquette("trust", project / "models" / "m", "--lock")
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("MAQUETTE_TRUST", "locked")
    assert load("models/m").dim == 5


def test_where_a_lock_file_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the root of the repository, not above it, nor in the very folder that is loaded."""
    (project.parent / "maquette.lock").write_text("{}")
    assert find_lock() is None
    (project / "maquette.lock").write_text("{}")
    assert find_lock() == project / "maquette.lock"
    (project / "src" / "maquette.lock").write_text("{}")
    assert find_lock() == project / "src" / "maquette.lock"
    (project / ".git").rmdir()
    monkeypatch.chdir(project / "models")
    assert find_lock() is None
    monkeypatch.chdir(project / "models" / "m")
    assert "lies in the folder that it would approve" in maquette("trust", ".", "--lock", code=1)
    load(project / "models" / "m")
    entry = {**read_trust()[str(project / "models" / "m")], "files": {}}
    Path("maquette.lock").write_text(json.dumps({"./.": entry, "./": entry, ".": entry}))
    assert find_lock() == project / "models" / "m" / "maquette.lock"
    assert load(".").dim == 5


@pytest.mark.parametrize("content", ["", "[]", '{"./models/m": {"digest": "0", "files": {"a.py": "../../x"}}}'])
def test_a_damaged_lock_file_lets_nothing_run(project: Path, content: str, ran: list[str]) -> None:
    (project / "maquette.lock").write_text(content)
    with pytest.raises(UntrustedCodeError, match=r"maquette\.lock' cannot be read"):
        load(project / "models" / "m")
    assert ran == []


# Only what is recorded ---------------------------------------------------------------------------------------------


def test_locked_refuses_what_is_not_recorded(project: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> None:
    folder = project / "models" / "m"
    pin = "sha256:" + maquette("trust", folder).split("sha256:")[1][:64]
    monkeypatch.setenv("MAQUETTE_TRUST", "locked")
    for trust in (True, pin):
        with pytest.raises(UntrustedCodeError, match="was never approved here, and MAQUETTE_TRUST=locked lets nothing"):
            load(folder, trust)
    assert ran == [] and read_trust() == {}
    maquette("trust", folder, "--approve")
    before = trust_file().read_bytes()
    for trust in (True, pin):
        assert load(folder, trust).dim == 5
    (folder / "extra.py").write_text("")
    changed = "sha256:" + maquette("trust", folder).split("sha256:")[1][:64]
    for trust in (True, changed):  # not even by its pin
        with pytest.raises(UntrustedCodeError, match=r"extra\.py was changed"):
            load(folder, trust)
    assert trust_file().read_bytes() == before


def test_locked_records_no_saves(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(project / "models" / "m")
    monkeypatch.setenv("MAQUETTE_TRUST", "locked")
    config.save_pretrained(project / "again")
    with pytest.raises(UntrustedCodeError, match="never approved"):
        load(project / "again")


@pytest.mark.parametrize("mode", ["lock", "LOCKED", "1", " "])
def test_a_slip_in_the_mode_opens_nothing(project: Path, monkeypatch, mode: str, ran: list[str]) -> None:
    monkeypatch.setenv("MAQUETTE_TRUST", mode)
    with pytest.raises(UntrustedCodeError, match=r"MAQUETTE_TRUST is .*; it may be 'locked' or not set"):
        load(project / "models" / "m")
    assert ran == []


# Code of another repository ----------------------------------------------------------------------------------------

FOREIGN = """
import sys
from maquette.cli import main
from maquette import AutoConfig, UntrustedCodeError

def load(name, trust=True):
    try:
        return type(AutoConfig.from_pretrained(name, trust_remote_code=trust)).__name__
    except UntrustedCodeError as error:
        return str(error)

def command(*arguments):
    sys.argv = ["maquette", "trust", *arguments]
    try:
        main()
    except SystemExit as done:
        assert not done.code, done.code
"""


def test_code_of_another_repository_has_an_approval_of_its_own(tmp_path: Path, run_fresh) -> None:
    theirs = make(tmp_path / "theirs")
    files = {name: (theirs / name).read_bytes() for name in FILES}
    mine = json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "other/repo--configuration.Mine"}}).encode()
    with LoopbackHub() as hub:
        commit = hub.add_commit("other/repo", {**files, "config.json": (theirs / "config.json").read_bytes()})
        hub.add_commit("user/model", {"config.json": mine})
        hub.add_commit("user/model", {"config.json": mine.replace(b".Mine", b".Other")}, "changed")
        environ = hub.environ(tmp_path / "hub")
        code = "print(load('user/model', None))\nprint(load('user/model'))\ncommand('user/model')\n"
        printed = run_fresh(FOREIGN + code, env=environ)
        assert "`maquette trust other/repo` shows what it can do" in printed
        assert "'other/repo', which needs an approval of its own. Nothing of it was run" in printed
        assert f"run `maquette trust other/repo@{commit} --approve`" in printed
        assert "with an approval of its own: maquette trust other/repo" in printed
        assert read_trust() == {}
        code = f"command('other/repo@{commit}', '--approve')\nprint(load('user/model'), load('other/repo'))"
        assert run_fresh(FOREIGN + code, env=environ).endswith("Mine Mine\n")
        assert read_trust()["user/model"]["references"] == {"AutoConfig": ["other/repo--configuration.Mine"]}
        printed = run_fresh(
            FOREIGN.replace("name, trust_", "name, revision='changed', trust_") + "print(load('user/model'))",
            env=environ,
        )
        assert (
            "names 'other/repo--configuration.Other' for AutoConfig, where 'other/repo--configuration.Mine'" in printed
        )


def test_a_pin_of_another_repository_approves_it_alone(tmp_path: Path, run_fresh) -> None:
    theirs = make(tmp_path / "theirs")
    mine = json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "other/repo--configuration.Mine"}}).encode()
    with LoopbackHub() as hub:
        hub.add_commit("other/repo", {name: (theirs / name).read_bytes() for name in (*FILES, "config.json")})
        hub.add_commit("user/model", {"config.json": mine})
        code = "print(load('user/model', load('user/model').split('\"')[1]), load('other/repo'))"
        assert run_fresh(FOREIGN + code, env=hub.environ(tmp_path / "hub")) == "Mine Mine\n"
    assert read_trust().keys() == {"other/repo"}
    assert read_trust()["other/repo"]["references"] == {name: [reference] for name, reference in MAP.items()}


# What needs no trust -----------------------------------------------------------------------------------------------


def test_what_is_data_needs_no_trust(tmp_path: Path, ran: list[str]) -> None:
    from safetensors.numpy import save_file

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    DistilBertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "m")
    ViTImageProcessor(size={"height": 4, "width": 4}).save_pretrained(tmp_path / "m")
    folder = make(tmp_path / "m")
    save_file({"line.weight": np.zeros((2, 3), np.float32)}, folder / "model.safetensors")

    config = PretrainedConfig.from_pretrained(folder)
    assert (config.dim, config.auto_map) == (5, MAP) and type(config) is PretrainedConfig
    assert PretrainedConfig.get_config_dict(folder)[0]["dim"] == 5
    with open_source(folder) as source:
        assert Checkpoint.open(source).shapes == {"line.weight": (2, 3)}
    for tokenizer in (AutoTokenizer.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)):
        assert tokenizer("one two")["input_ids"] == [2, 5, 6, 3]
    images = AutoImageProcessor.from_pretrained(folder)
    assert images(np.zeros((8, 8, 3), np.uint8), return_tensors="np")["pixel_values"].shape == (1, 3, 4, 4)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(make(tmp_path / "sounds"))
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "sounds").sampling_rate == 8000
    with pytest.raises(UntrustedCodeError, match=r"PretrainedConfig\.from_pretrained reads its configuration"):
        AutoConfig.from_pretrained(folder)
    assert ran == [] and not trust_file().exists()


# What code can do --------------------------------------------------------------------------------------------------

HIDDEN = [
    ("import os\nos.system('x')", "processes", "os.system"),
    ("import os as o\nx = o\ny = x\ny.fork()", "processes", "os.fork"),
    ("from os import system as s\ns('x')", "processes", "os.system"),
    ("import torch\ntorch.utils.os.popen('x')", "processes", "os.popen"),
    ("getattr(getattr(__import__('os'), 'path'), 'os').execv('x')", "processes", "os.execv"),
    ("import importlib\nimportlib.import_module('subprocess').run('x')", "processes", "subprocess.run"),
    ("self.tools.os.kill(1)", "processes", "os.kill"),
    ("import socket", "network", "socket"),
    ("import urllib.request as u\nu.urlopen('x')", "network", "urllib.request.urlopen"),
    ("from huggingface_hub import hf_hub_download", "network", "huggingface_hub.hf_hub_download"),
    ("model.push_to_hub('x')", "network", ".push_to_hub()"),
    ("open('x', 'w')", "files written", "open()"),
    ("open('x', mode)", "files written", "open()"),
    ("open('x')", "files read", "open()"),
    ("import pathlib\npathlib.Path('x').write_text('y')", "files written", ".write_text()"),
    ("import shutil\nshutil.rmtree('x')", "files written", "shutil.rmtree"),
    ("import os\nos.environ['HF_TOKEN']", "environment", "os.environ"),
    ("e = eval\ne('1')", "dynamic execution", "eval"),
    ("@exec\n@compile\nclass A: pass", "dynamic execution", "exec"),
    ("import builtins\nbuiltins.exec('1')", "dynamic execution", "builtins.exec"),
    ("import torch\ntorch.load('x')", "dynamic execution", "torch.load"),
    ("import pickle\npickle.loads(b'')", "dynamic execution", "pickle.loads"),
    ("import sys\nsys.modules['os'].system('x')", "dynamic execution", "sys.modules"),
    ("import ctypes\nctypes.CDLL(None)", "native code", "ctypes.CDLL"),
    ("from torch.utils.cpp_extension import load", "native code", "torch.utils.cpp_extension.load"),
    ("getattr(__import__('o' + 's'), 'sys' + 'tem')('x')", "opaque", "__import__() of a name that is computed"),
    ("import os\ngetattr(os, 'sys' + 'tem')('x')", "opaque", "getattr() of a name of os that is computed"),
    ("import os\nhand([os])", "opaque", "hands the module os on"),
    ("class A:\n    import os\n    def f(self): self.o = os", "opaque", "hands the module os on"),
    ("import os\nos.__dict__['system']('x')", "opaque", "looks names up in os.__dict__"),
    ("from os import *\nsystem('x')", "opaque", "takes every name of os"),
    ("().__class__.__base__.__subclasses__()", "opaque", "reaches into the interpreter through __subclasses__"),
    ("globals()['ev' + 'al']", "opaque", "globals() gives names that are computed"),
    (f"x = '{base64.b64encode(bytes(range(256)) * 2).decode()}'", "opaque", "holds 684 characters that look encoded"),
    ("x = b'" + "\\x07" * 300 + "'", "opaque", "holds 300 bytes of data"),
    ("x = 1 # \u202e", "opaque", "holds characters that are not shown"),
    ("def broken(:", "opaque", "is not readable as Python (SyntaxError)"),
    ("x = " + "(" * 5000 + ")" * 5000, "opaque", "is not readable as Python (SyntaxError)"),
]


def test_what_code_can_do_is_found_by_reading() -> None:
    files = {f"case_{number}.py": text.encode() for number, (text, _, _) in enumerate(HIDDEN)}
    found = scan_capabilities(files)
    for number, (text, kind, what) in enumerate(HIDDEN):
        places = [place.partition(":")[0] for place in found.of(kind).get(what, [])]
        assert f"case_{number}.py" in places, text


def test_names_are_followed_from_file_to_file() -> None:
    files = {
        "__init__.py": "",
        "a.py": "import os as o",
        "b.py": "from .a import o as p\np.fork()",
        "c.py": "import a\na.o.execv('x')",
        "d.py": "from .a import *\no.kill(1)",
        "sub/e.py": "from ..b import p\np.system('x')",
        "sub/__init__.py": "from . import e\ne.p.popen('x')",
    }
    found = scan_capabilities({name: text.encode() for name, text in files.items()}).of("processes")
    assert found["os.fork"] == ["b.py:2"] and found["os.execv"] == ["c.py:2"] and found["os.kill"] == ["d.py:2"]
    assert found["os.system"] == ["sub/e.py:2"] and found["os.popen"] == ["sub/__init__.py:2"]


def test_ordinary_models_have_few_findings() -> None:
    """A report that is red from top to bottom tells nothing."""
    root = Path(sys.modules["maquette"].__file__ or "").parent / "models"
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.py")}
    found = scan_capabilities(files)
    assert "torch" in found.imports and "maquette" in found.imports
    allowed = {".from_pretrained()", "open()", ".save()", ".read_text()"}
    assert [f for f in found.findings if f.what not in allowed and f.kind not in ("files read", "files written")] == []


@pytest.mark.parametrize("text", ["x = [" + "1," * 3_000_000 + "]", "x = " + "-" * 100_000 + "1"], ids=["wide", "deep"])
def test_what_takes_too_much_memory_is_opaque(text: str) -> None:
    found = scan_capabilities({"a.py": text.encode(), "b.py": b"import os\nos.fork()"})
    assert [place for places in found.of("opaque").values() for place in places if place.startswith("a.py")]


def test_what_takes_too_long_is_opaque() -> None:
    found = scan_capabilities({"a.py": b"x = 1\n" * 1_000_000, "b.py": b"import os"}, seconds=0.5)
    assert found.of("opaque") == {"could not be read in 0.5 seconds": ["a.py:1", "b.py:1"]}


# The command -------------------------------------------------------------------------------------------------------


def test_the_report(tmp_path: Path, ran: list[str]) -> None:
    folder = make(tmp_path / "m")
    (folder / "extra.py").write_text("import os, einops\nos.environ['HOME']\n")
    printed = maquette("trust", folder)
    for line in [
        f"{folder}: 6 Python files, sha256:",
        "  extra.py  37 bytes",
        "  AutoModel: modeling.Model",
        "  imports: einops, maquette (installed packages are not read)",
        "  environment\n    os.environ  extra.py:2\n",
        "nothing found of: network, processes, files written, files read, native code",
        "Not approved.",
        f"  maquette trust {folder} --approve --digest sha256:",
    ]:
        assert line in printed, line
    assert "safe" not in printed.lower()
    assert ran == [] and not trust_file().exists()
    run = printed.split(f"maquette trust {folder} ")[1].split("\n")[0].split()
    assert f"Now approved in {trust_file()}." in maquette("trust", folder, *run)
    assert f"Approved as it is, in {trust_file()}." in maquette("trust", folder)
    assert load(folder).dim == 5


def test_the_difference_from_what_was_approved(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    maquette("trust", folder, "--approve")
    make(folder, {"extra.py": MARK + "other = 3\n", "new.py": "x = 1\n"}, **{**MAP, "AutoModel": "extra.Model"})
    (folder / "empty.py").unlink()
    printed = maquette("trust", folder)
    assert "changed since:\n  - empty.py was removed\n  - extra.py was changed\n  - new.py was added\n" in printed
    assert "  - auto_map names 'extra.Model' for AutoModel, where 'modeling.Model' was approved" in printed
    assert "--- extra.py (approved)\n+++ extra.py (now)\n" in printed and "-other = 2\n+other = 3\n" in printed
    assert "+++ new.py (now)\n" in printed and "+x = 1\n" in printed
    shutil.rmtree(trust_file().parent / "approved")
    assert "extra.py: what was approved is not kept here" in maquette("trust", folder)
    (trust_file().parent / "approved").mkdir()
    (trust_file().parent / "approved" / read_trust()[str(folder)]["files"]["extra.py"]).write_text("forged")
    assert "extra.py: what was approved is not kept here" in maquette("trust", folder)


def test_the_difference_comes_from_the_hub_where_nothing_is_kept(tmp_path: Path, run_fresh) -> None:
    with LoopbackHub() as hub:
        content = {name: text.encode() for name, text in FILES.items()}
        first = hub.add_commit("user/model", {**content, "config.json": b'{"model_type": "mine"}'})
        code = FOREIGN + "command('user/model', '--approve')"
        run_fresh(code, env=hub.environ(tmp_path / "hub"))
        shutil.rmtree(trust_file().parent / "approved")
        hub.add_commit("user/model", {"extra.py": b"other = 3\n"})
        printed = run_fresh(FOREIGN + "command('user/model')", env=hub.environ(tmp_path / "hub"))
        assert "-other = 2\n+other = 3\n" in printed
        printed = run_fresh(FOREIGN + f"command('user/model@{first[:8]}')", env=hub.environ(tmp_path / "hub"))
        assert f"user/model at commit {first}: 6 Python files" in printed and "Approved as it is" in printed


def test_a_digest_approves_nothing_else(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")
    assert "Nothing was approved" in maquette("trust", folder, "--approve", "--digest", "sha256:" + "0" * 64, code=1)
    assert read_trust() == {}


def test_list_and_revoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        maquette("trust", make(tmp_path / name), "--approve")
    printed = maquette("trust", "--list")
    assert f"{trust_file()}: 2 approvals" in printed and f"  {tmp_path / 'one'}  (6 files, sha256:" in printed
    shutil.rmtree(tmp_path / "one")
    assert "is no longer approved" in maquette("trust", tmp_path / "one", "--revoke")
    assert "is no longer approved" in maquette("trust", "two", "--revoke")
    assert read_trust() == {} and list((trust_file().parent / "approved").iterdir()) == []
    assert "holds no approval of 'two'" in maquette("trust", "two", "--revoke", code=1)
    assert "has no maquette.lock" in maquette("trust", "two", "--revoke", "--lock", code=1)


@pytest.mark.parametrize("arguments", [[], ["m", "--approve", "--lock"], ["--list", "--lock"], ["m", "--aprove"]])
def test_what_cannot_be_meant(arguments: list[str]) -> None:
    assert "Error" in maquette("trust", *arguments, code=2)


def test_nothing_in_a_report_is_obeyed(tmp_path: Path) -> None:
    """Neither by the terminal nor as markup."""
    folder = make(tmp_path / "m")
    maquette("trust", folder, "--approve")
    (folder / "extra.py").write_text("x = '\x1b[2J [bold]not bold[/bold] \u202e :smile:'\n")
    make(folder, {}, AutoConfig="a\x1b]0;title\x07.B")
    printed = maquette("trust", folder)
    assert "\x1b" not in printed and "\u202e" not in printed and "\x07" not in printed
    assert r"x = '\x1b[2J [bold]not bold[/bold] \u202e :smile:'" in printed and r"a\x1b]0;title\x07.B" in printed


def test_a_record_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAQUETTE_HOME", str(tmp_path / "file" / "home"))
    assert "Nothing was approved" in maquette("trust", make(tmp_path / "m"), "--approve", code=1)


def test_the_command_line(tmp_path: Path) -> None:
    folder = make(tmp_path / "m")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "maquette", *arguments]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)

    done = run("trust", "m")
    assert done.returncode == 0 and "Not approved." in done.stdout and not done.stderr
    assert run("trust", "m", "--approve").returncode == 0 and str(folder) in read_trust()
    failed = run("trust", "./gone")
    assert failed.returncode == 2 and failed.stderr == "There is no file or folder './gone'.\n"
    assert "trust" in run("--help").stdout and "login" in run("--help").stdout


def test_login_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    said: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "login", lambda **options: said.append(options))
    maquette("login", "--token", "hf_x")
    maquette("login")
    assert said == [{"token": "hf_x"}, {"token": None}]


def test_without_the_extra_the_command_says_what_to_install(run_fresh) -> None:
    code = "import sys\nsys.modules['typer'] = None\nfrom maquette.cli import main\nmain()"
    assert "pip install 'maquette[cli]'" in run_fresh(code, check=False)
