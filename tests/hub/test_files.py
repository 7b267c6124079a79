"""From a name to files: folder before Hub, one commit for all of a load, names that stay inside, errors that say."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback_hub import LoopbackHub, Reply, Request
from safetensors.numpy import save_file

from maquette import MissingFileError, UnsafePathError
from maquette.hub.sources import HubOptions, LocalFolder, open_source, require
from maquette.storage.transaction import JOURNAL, STAGING_PREFIX

REPO = "user/model"


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


# Folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_a_file_and_a_sub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, config_json="{}", sub__config_json='{"a": 1}', other_json="{}")
    monkeypatch.chdir(tmp_path.parent)
    for name in (tmp_path, str(tmp_path), f"{tmp_path.name}/", f"./{tmp_path.name}", tmp_path.name):
        with open_source(name) as source:
            assert source.names() == ["config.json", "other.json", "sub/config.json"]
            assert require(source, "config.json").read_text() == "{}"
            assert (source.commit, source.identity, source.label) == (None, str(tmp_path), os.fspath(name))
    for subfolder, content in {"sub": '{"a": 1}', "": "{}", None: "{}"}.items():
        with open_source(tmp_path, subfolder=subfolder) as source:
            assert require(source, source.config_name).read_text() == content
    with open_source(tmp_path / "other.json") as source:
        assert (source.config_name, source.identity) == ("other.json", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_source("~/other.json") as source:
        assert source.identity == str(tmp_path)


def test_a_local_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub of the tests' environment refuses every connection, so asking it would be an error."""
    write(tmp_path / "user" / "model", config_json="{}")
    monkeypatch.chdir(tmp_path)
    with open_source(REPO, revision="v1", token="hf_x", cache_dir="nowhere") as source:
        assert isinstance(source, LocalFolder)
        with pytest.raises(MissingFileError, match=r"no file 'model.safetensors'.*'config.json'.*local folder.*before"):
            require(source, "model.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./modle", r"no file or folder '\./modle'\. Did you mean 'model'\?"),
        ("modle/config.json", r"no file or folder 'modle/config.json'\. '\.' has no 'modle'\. Did you mean 'model'\?"),
        ("model/confg.json", r"no file or folder 'model/confg.json'\. Did you mean 'config.json'\?"),
        ("model/deep/er/and/er", r"'model' has no 'deep'"),
        ("model/config.json/x/y", r"'model/config.json' is a file"),
        ("broken", r"'broken' is a broken link"),
        (Path("modle"), r"no file or folder 'modle'\. Did you mean 'model'\?"),
        ("/nowhere/at/all", r"'/' has no 'nowhere'"),
        ("C:\\models\\x", r"no file or folder"),
        ("~nobody-of-that-name/x", r"no file or folder '~nobody"),
        ("x" * 5000 + ".json", r"no file or folder"),
        ("a\0b.json", r"no file or folder"),
        ("", r"'' names no folder.*pass '\.'"),
        ("  ", r"names no folder"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_path_that_is_not_there(tmp_path: Path, monkeypatch, name, message: str) -> None:
    write(tmp_path, model__config_json="{}")
    (tmp_path / "broken").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=message), open_source(name):
        pass


@pytest.mark.parametrize("name", [None, 3, b"model", ["model"]])
def test_a_name_that_is_no_text(name) -> None:
    with pytest.raises(TypeError), open_source(name):
        pass


def test_a_missing_sub_folder_and_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path, config_json="{}", encoder__config_json="{}")
    with pytest.raises(MissingFileError, match=r"no sub-folder 'encodre'\. Did you mean 'encoder'\?"):
        open_source(tmp_path, subfolder="encodre").__enter__()
    message = r"no file 'confg.json'. Did you mean 'config.json'\?.*It holds"
    with open_source(tmp_path) as source, pytest.raises(MissingFileError, match=message):
        require(source, "confg.json")
    (tmp_path / "empty").mkdir()
    with open_source(tmp_path / "empty") as source, pytest.raises(MissingFileError, match="holds no files at all"):
        require(source, "config.json")


OUTSIDE = [
    "../secret.txt",
    "sub/../../secret.txt",
    "/etc/passwd",
    "sub//x",
    "./config.json",
    "",
    ".",
    "..",
    "sub\\..\\..\\secret.txt",
    "C:secret.txt",
    "C:/secret.txt",
    "a\0b",
    "link.txt",
    "linked/secret.txt",
]


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_names_from_files_stay_inside(tmp_path: Path, name: str) -> None:
    write(tmp_path, secret_txt="secret", model__config_json="{}", outside__secret_txt="secret")
    folder = tmp_path / "model"
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "linked").symlink_to("../outside")
    (folder / "sub").mkdir()
    with open_source(folder) as source, pytest.raises(UnsafePathError, match="refused"):
        source.refer(name)


def test_links_inside_a_folder_are_fine(tmp_path: Path) -> None:
    write(tmp_path, config_json="{}")
    (tmp_path / "link.json").symlink_to("config.json")
    with open_source(tmp_path) as source:
        assert source.refer("link.json").read_text() == "{}"


def test_a_planted_journal_leads_nowhere(tmp_path: Path) -> None:
    """What a save left staged is read through the journal, but a staged link out is refused like any other."""
    write(tmp_path, secret_txt="secret")
    folder = tmp_path / "model"
    staging = folder / f"{STAGING_PREFIX}x"
    staging.mkdir(parents=True)
    (staging / "shard.safetensors").symlink_to(tmp_path / "secret.txt")
    record = {"staging": staging.name, "files": ["shard.safetensors"], "removed": []}
    (folder / JOURNAL).write_text(json.dumps(record), encoding="utf-8")
    with open_source(folder) as source, pytest.raises(UnsafePathError, match="link that leads out"):
        source.refer("shard.safetensors")
    (folder / JOURNAL).write_text(json.dumps({**record, "files": ["../secret.txt"]}), encoding="utf-8")
    with pytest.raises((UnsafePathError, ValueError)), open_source(folder):
        pass


def test_names_leave_out_what_is_never_part_of_a_save(tmp_path: Path) -> None:
    write(tmp_path, config_json="{}", sub__a_json="")
    for name in (".git/objects/ab", "venv/pyvenv.cfg", "venv/lib/x.py", "__pycache__/a.pyc", ".cache/b", "sub/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.json")
    with open_source(tmp_path) as source:
        assert source.names() == ["config.json", "sub/.hidden", "sub/a.json"]
        assert source.find("pipe.json") is None  # and does not wait for somebody to write into it


def test_ten_thousand_files(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.txt").touch()
    with open_source(tmp_path) as source:
        assert len(source.names()) == 10_000
        with pytest.raises(MissingFileError, match=r"It holds: '00000.txt'.*, …"):
            require(source, "config.json")


@pytest.fixture
def deep_tree(tmp_path: Path) -> Iterator[Path]:
    """Folders deeper than Python's recursion limit, cleared away again, as shutil cannot do that."""
    folder, here = tmp_path / "deep", os.getcwd()
    folder.mkdir()
    try:
        os.chdir(folder)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("bottom").touch()
        yield folder
        os.unlink("bottom")
        for _ in range(1500):
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.chdir(here)


def test_a_deep_tree(deep_tree: Path) -> None:
    with open_source(deep_tree) as source:
        assert source.names() == ["d/" * 1500 + "bottom"]


# The Hub -----------------------------------------------------------------------------------------------------------


def checkpoint_files(tmp_path: Path, value: int) -> dict[str, bytes]:
    """A configuration and two shards that all say `value`."""
    files = {"config.json": json.dumps({"model_type": "numbers", "value": value}).encode()}
    for name in ("a", "b"):
        save_file({name: np.full(3, value)}, tmp_path / "shard.safetensors")
        files[f"{name}.safetensors"] = (tmp_path / "shard.safetensors").read_bytes()
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}


LOAD = """
from maquette.checkpoint import Checkpoint
from maquette.hub.sources import open_source, require
import json
with open_source(NAME, **OPTIONS) as source:
    value = json.loads(require(source, "config.json").read_text())["value"]
    checkpoint = Checkpoint.open(source)
    tensors = checkpoint.tensors(["a", "b"], framework="np")
    print(value, *(int(tensors[name][0]) for name in "ab"), source.commit)
"""

SILENCE = """
import socket
def refuse(*args, **kwargs):
    raise SystemExit("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def script(name: str = REPO, **options: object) -> str:
    return f"NAME, OPTIONS = {name!r}, {options!r}\n{LOAD}"


class MovingHub(LoopbackHub):
    """A hub on which every file that is fetched comes just before somebody's next push."""

    push: Callable[[int], None] | None = None
    pushed = 0

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        if self.push and request.path.startswith(("/api", "/user")):
            self.pushed += 1
            self.push(self.pushed)
        return reply


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[MovingHub]:
    with MovingHub() as hub:
        hub.add_commit(REPO, checkpoint_files(tmp_path, 1))
        yield hub


@pytest.fixture
def load(hub: MovingHub, tmp_path: Path, run_fresh) -> Callable[..., str]:
    """Run a script against the hub; gives what it printed, or the last line of its error."""

    def run(code: str, **env: str) -> str:
        printed = run_fresh(code, env={**hub.environ(tmp_path / "hub"), **env}, check=False).strip()
        return printed.splitlines()[-1] if "Traceback" in printed else printed

    return run


def test_all_files_of_a_load_are_of_one_commit(hub: MovingHub, load, tmp_path: Path) -> None:
    first = hub.repos[REPO].branches["main"]
    hub.push = lambda number: hub.add_commit(REPO, checkpoint_files(tmp_path, 1 + number)) and None
    assert load(script()) == f"1 1 1 {first}"
    assert hub.pushed > 4 and hub.repos[REPO].branches["main"] != first
    asked = [request.path for request in hub.requests if "/resolve/" in request.path]
    assert len(asked) >= 4 and all(f"/resolve/{first}/" in path for path in asked)
    branches = [request.path for request in hub.requests if request.path.startswith("/api")]
    assert branches == [f"/api/models/{REPO}/revision/main"]  # the name is resolved once


def test_revisions(hub: MovingHub, load, tmp_path: Path) -> None:
    first = hub.repos[REPO].branches["main"]
    hub.add_tag(REPO, "v1", first)
    second = hub.add_commit(REPO, checkpoint_files(tmp_path, 2), branch="next/step")
    expected = {"main": 1, "v1": 1, "next/step": 2, second: 2, first[:8]: 1}
    for revision, value in expected.items():
        assert load(script(revision=revision)).startswith(f"{value} {value} {value} ")
    hub.requests.clear()
    for revision, value in expected.items():
        assert load(SILENCE + script(revision=revision, local_files_only=True)).startswith(f"{value} {value} {value} ")
    assert hub.requests == []


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_offline_opens_no_socket(hub: MovingHub, load, how: str) -> None:
    options = {"local_files_only": True} if how == "argument" else {}
    env = {"HF_HUB_OFFLINE": "1"} if how == "environment" else {}
    code = SILENCE + script(**options)
    assert f"'{REPO}' is no local folder, its revision 'main' is not in the cache, and no connection" in load(
        code, **env
    )
    assert load(script()).startswith("1 1 1 ")
    hub.requests.clear()
    assert load(code, **env) == f"1 1 1 {hub.repos[REPO].branches['main']}"
    assert "may be opened" in load(SILENCE + script("user/other", **options), **env)
    assert "may be opened" in load(SILENCE + script(revision="v9", **options), **env)
    assert "force_download=True needs the Hub" in load(SILENCE + script(force_download=True, **options), **env)
    assert hub.requests == []


def test_a_part_of_a_repository_in_the_cache(hub: MovingHub, load) -> None:
    """What is missing offline may well be on the Hub, and the message says so."""
    load(f"from maquette.hub.sources import *\nwith open_source({REPO!r}) as source: require(source, 'config.json')")
    offline = load(
        SILENCE
        + f"from maquette.hub.sources import *\nwith open_source({REPO!r}, local_files_only=True) as source:"
        + " require(source, 'a.safetensors')"
    )
    assert "'user/model' has no file 'a.safetensors'" in offline
    assert "Only the cache was looked at" in offline and "local_files_only" in offline


def test_an_unreachable_hub_falls_back_to_the_cache_and_says_so(hub: MovingHub, load) -> None:
    hub.offline = True
    message = load(script())
    assert "is not in the cache, and the Hub could not be reached: 503" in message or "Server error" in message
    hub.offline = False
    first = load(script())
    hub.offline = True
    printed = load(script())
    assert first in printed and "user/model is read from the cache: The Hub could not be reached" in printed
    assert "could not be reached" in load(script(force_download=True))
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    printed = load(script(), **nobody)
    assert first in printed and "is read from the cache" in printed


def test_the_error_says_what_it_is(hub: MovingHub, load, tmp_path: Path) -> None:
    (tmp_path / "user" / "mine").mkdir(parents=True)
    assert "'user/none' is neither a local folder nor a repository on the Hub that you may see" in load(
        script("user/none")
    )
    assert "Did you mean 'user'?" in load(script("usr"))
    assert "Did you mean 'mine'?" in load(script("user/mien"))
    assert "'not a name!' is neither a local folder nor" in load(script("not a name!"))
    assert "'user/model' on the Hub has no revision 'v9'" in load(script(revision="v9"))
    assert "token=True, but nobody is logged in" in load(script(token=True))
    missing = f"from maquette.hub.sources import *\nwith open_source({REPO!r}) as source: require(source, 'confg.json')"
    assert "'user/model' has no file 'confg.json'. Did you mean 'config.json'?" in load(missing)


def test_access(hub: MovingHub, load) -> None:
    hub.set_access(REPO, token="hf_x", gated=True)
    assert "'user/model' is gated: ask for access" in load(script())
    assert load(script(token="hf_x")).startswith("1 1 1")
    hub.set_access(REPO, token="hf_x", private=True)
    assert "neither a local folder nor a repository on the Hub that you may see" in load(script(force_download=True))
    assert load(script(token="hf_x", force_download=True)).startswith("1 1 1")
    assert load(script(force_download=True), HF_TOKEN="hf_x").startswith("1 1 1")


def test_sub_folders_and_cache_folders(hub: MovingHub, load, tmp_path: Path) -> None:
    files = {f"deep/er/{name}": content for name, content in checkpoint_files(tmp_path, 5).items()}
    hub.add_commit(REPO, files)
    cache = str(tmp_path / "my cache")
    assert load(script(subfolder="deep/er", cache_dir=cache)).startswith("5 5 5")
    assert load(SILENCE + script(subfolder="/deep/er/", cache_dir=cache, local_files_only=True)).startswith("5 5 5")
    assert "not in the cache" in load(script(subfolder="deep/er", local_files_only=True))
    assert not (tmp_path / "hub" / "hub").exists()
    assert "holds no files at all" in load(script(subfolder="none"))


def test_a_file_is_fetched_once(hub: MovingHub, load) -> None:
    load(script(force_download=True))
    gets = [request.path for request in hub.requests if request.method == "GET" and "/api/" not in request.path]
    assert len(gets) == len(set(gets)) == 4


def test_a_connection_that_breaks_half_way(hub: MovingHub, load) -> None:
    """No file is left behind that looks whole."""
    code = "import time; time.sleep = lambda seconds: None\n"
    hub.break_after(10, times=1000)
    assert "MissingFileError" in load(code + script()) and "could not be reached for" in load(code + script())
    hub.break_after(0, times=0)
    assert load(script()).startswith("1 1 1")


SNAPSHOT = """
from maquette.checkpoint import Checkpoint
from maquette.hub.sources import open_source, require
import sys
for folder, subfolder in ((sys.argv[1] if len(sys.argv) > 1 else FOLDER, ""), (FOLDER, "deep"), (FOLDER + "/deep", "")):
    with open_source(folder, subfolder=subfolder) as source:
        print(int(Checkpoint.open(source).tensors(["a", "b"], framework="np")["b"][0]))
"""


def test_a_snapshot_of_the_cache_is_a_folder_like_any_other(hub: MovingHub, load, tmp_path: Path) -> None:
    """Its files are links into blobs/ beside the snapshots: allowed, below sub-folders too. Any other link is not."""
    hub.add_commit(REPO, {f"deep/{name}": content for name, content in checkpoint_files(tmp_path, 5).items()})
    load(script())
    load(script(subfolder="deep"))
    cache = tmp_path / "hub" / "hub" / "models--user--model"
    snapshot = cache / "snapshots" / hub.repos[REPO].branches["main"]
    assert (snapshot / "a.safetensors").is_symlink()
    assert load(f"FOLDER = {str(snapshot)!r}\n" + SNAPSHOT).split() == ["1", "5", "5"]
    write(tmp_path, secret_txt="secret")
    for folder in (snapshot, snapshot / "deep"):
        (folder / "out").symlink_to(tmp_path / "secret.txt")
        with open_source(folder) as source, pytest.raises(UnsafePathError, match="leads out"):
            source.refer("out")


def test_names_from_files_stay_inside_a_repository(load) -> None:
    names = [name for name in OUTSIDE if "link" not in name]
    code = f"""
from maquette.hub.sources import open_source
from maquette import UnsafePathError
refused = []
with open_source({REPO!r}) as source:
    for name in {names!r}:
        try:
            source.refer(name)
        except UnsafePathError:
            refused.append(name)
print(refused)
"""
    assert load(code) == str(names)


def test_another_repository_is_asked_as_this_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, config_json="{}")
    with open_source(tmp_path, cache_dir=tmp_path / "cache", local_files_only=True, token="hf_x") as source:
        assert source.hub == HubOptions(cache_dir=tmp_path / "cache", local_files_only=True, token="hf_x")
        assert "hf_x" not in repr(source.hub)
        with pytest.raises(MissingFileError, match=r"'other/repo'.*not in the cache, and no connection may be opened"):
            source.repository("other/repo")
        for name in ("../x", "/etc", "a/b/c", "a--b", "~/x", "."):
            with pytest.raises(MissingFileError, match="neither a local folder nor a repository"):
                source.repository(name)
