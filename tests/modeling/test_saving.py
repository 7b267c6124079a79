"""Promise 5: a save is all there or not there, whenever the process dies; and it holds what it should."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from constructors import TiedByAssignment, Tricky, TrickyConfig
from safetensors.torch import load_file
from torch import nn

from maquette import FileFormatError, PretrainedConfig, SaveError
from maquette.hub.sources import open_source
from maquette.storage.transaction import JOURNAL, STAGING_PREFIX, Transaction

PATHS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

SAVERS = f"""
import os, sys; sys.path[:0] = {PATHS!r}
from test_saving import Numbered, NumberedConfig
for line in sys.stdin:  # one process after the other, each forked from here so that torch is imported once
    version = int(line)
    if (child := os.fork()) == 0:
        print(os.getpid(), flush=True)
        while True:
            version += 1
            shard_size = "40KB" if version % 2 else "1GB"
            Numbered(NumberedConfig(version=version)).save_pretrained(sys.argv[1], max_shard_size=shard_size)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


class NumberedConfig(PretrainedConfig):
    model_type = "numbered"
    version: int = 0


class Numbered(Tricky):
    """Every tensor holds the version that its configuration names."""

    config_class = NumberedConfig

    def __init__(self, config: NumberedConfig) -> None:
        super().__init__(config)
        for name in "abcd":
            self.register_parameter(name, nn.Parameter(torch.full((8192,), float(config.version))))


def test_a_save_is_old_or_new_under_sigkill_at_100_random_moments(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    Numbered(NumberedConfig(version=0)).save_pretrained(folder)
    (folder / "notes.txt").write_text("the user's own", encoding="utf-8")
    generator, versions = random.Random(7), [0]
    window = 0.1  # seconds in which a kill falls; it follows the speed of the machine
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SAVERS, str(folder)], **pipes) as savers:  # type: ignore[call-overload]
        for _ in range(100):
            savers.stdin.write(f"{versions[-1]}\n")
            savers.stdin.flush()
            saver = int(savers.stdout.readline())
            time.sleep(generator.random() * window)
            os.kill(saver, signal.SIGKILL)
            assert savers.stdout.readline() == "gone\n"
            loaded = Numbered.from_pretrained(folder)
            version = loaded.config.version
            assert version >= versions[-1]
            assert all(torch.equal(p, torch.full_like(p, float(version))) for p in loaded.parameters())
            window *= 0.9 if version > versions[-1] + 3 else 1.2 if version == versions[-1] else 1
            versions.append(version)
        savers.stdin.close()
    assert len(set(versions)) > 20  # the kills did not all come before the first save
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "the user's own"
    Numbered(NumberedConfig(version=-1)).save_pretrained(folder)
    assert not (folder / JOURNAL).exists()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]


@pytest.mark.parametrize("moment", ["before the journal", "after the journal", "after the first move"])
def test_every_stage_of_a_commit_is_survived(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moments that a random kill seldom meets, one by one."""

    class KilledError(BaseException):
        pass

    def save(content: str) -> None:
        with Transaction(tmp_path) as transaction:
            transaction.write("a.json", content)
            transaction.write("b/c.json", content)
            transaction.remove("stale.json")

    save("old")
    (tmp_path / "stale.json").write_text("old", encoding="utf-8")
    real, calls = os.replace, []

    def dying(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) > ["before the journal", "after the journal", "after the first move"].index(moment):
            raise KilledError
        real(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        patch.setattr("maquette.storage.transaction.shutil.rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KilledError):
            save("new")
    expected = "old" if moment == "before the journal" else "new"
    with open_source(tmp_path) as source:
        contents = {source.find(name).read_text(encoding="utf-8") for name in ("a.json", "b/c.json")}  # type: ignore[union-attr]
        assert contents == {expected}
        assert (source.find("stale.json") is None) is (expected == "new")
        assert set(source.names()) == {"a.json", "b/c.json"} | ({"stale.json"} if expected == "old" else set())
    save("newest")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == (
        ["a.json", "b/c.json"]
    )


def test_a_failing_save_changes_nothing(tmp_path: Path) -> None:
    model = Numbered(NumberedConfig(version=1))
    model.save_pretrained(tmp_path / "here")
    before = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    broken = Numbered(NumberedConfig(version=2))
    broken.register_buffer("nowhere", torch.empty(2, device="meta"))
    for target in ("here", "new/deep"):
        with pytest.raises(SaveError, match="nowhere"):
            broken.save_pretrained(tmp_path / target)
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_a_planted_journal_moves_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious", encoding="utf-8")
    folder = tmp_path / "model"
    (folder / (STAGING_PREFIX + "x")).mkdir(parents=True)
    for record in (
        {"staging": STAGING_PREFIX + "x", "files": ["../victim"], "removed": []},
        {"staging": STAGING_PREFIX + "x", "files": [], "removed": ["../victim"]},
        {"staging": "..", "files": [], "removed": []},
        {"staging": STAGING_PREFIX + "x", "files": 3, "removed": []},
        [],
    ):
        (folder / JOURNAL).write_text(json.dumps(record), encoding="utf-8")
        with pytest.raises(FileFormatError, match="journal"):
            Numbered(NumberedConfig()).save_pretrained(folder)
        assert (tmp_path / "victim").read_text(encoding="utf-8") == "precious"


def test_savers_and_readers_at_once(tmp_path: Path) -> None:
    """Readers never see two versions mixed while several writers overwrite one folder."""
    Numbered(NumberedConfig(version=0)).save_pretrained(tmp_path)
    stop, faults = threading.Event(), []

    def write(start: int) -> None:
        for version in range(start, start + 8):
            Numbered(NumberedConfig(version=version)).save_pretrained(tmp_path)

    def read() -> None:
        while not stop.is_set():
            model = Numbered.from_pretrained(tmp_path)
            if any(not torch.equal(p, torch.full_like(p, float(model.config.version))) for p in model.parameters()):
                faults.append(model.config.version)

    writers = [threading.Thread(target=write, args=(start,)) for start in (100, 200)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert faults == []


def test_shards_have_the_index_that_is_read_back(tmp_path: Path) -> None:
    model = Numbered(NumberedConfig(version=3))
    model.save_pretrained(tmp_path, max_shard_size="70KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == 4 * 8192 * 4
    assert index["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00001-of-00002.safetensors",
        "c": "model-00002-of-00002.safetensors",
        "d": "model-00002-of-00002.safetensors",
    }
    assert load_file(tmp_path / "model-00002-of-00002.safetensors").keys() == {"c", "d"}
    loaded = Numbered.from_pretrained(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), model.parameters(), strict=True))
    model.save_pretrained(tmp_path)  # one file again: the shards of before are gone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("size", ["5 apples", "", "GB", "-1GB"])
def test_a_size_that_is_none(size: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_shard_size"):
        Numbered(NumberedConfig()).save_pretrained(tmp_path, max_shard_size=size)
    assert list(tmp_path.iterdir()) == []


def test_saving_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    with pytest.raises(SaveError, match="it is a file"):
        Numbered(NumberedConfig()).save_pretrained(tmp_path / "taken")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_files_get_the_permissions_of_new_files(tmp_path: Path) -> None:
    Numbered(NumberedConfig()).save_pretrained(tmp_path)
    (tmp_path / "plain").write_text("", encoding="utf-8")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {modes["plain"]}


def test_options_that_mean_pickling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="safetensors only"):
        Numbered(NumberedConfig()).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(TypeError, match="max_shard_sise"):
        Numbered(NumberedConfig()).save_pretrained(tmp_path, max_shard_sise="1GB")
    Numbered(NumberedConfig()).save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()


def test_the_peer_reads_our_shards_and_we_read_its(tmp_path: Path, run_peer: Callable[..., str]) -> None:
    """Both libraries name tensors, shards and index alike: each loads what the other saved, bit for bit."""
    model = TiedByAssignment(TrickyConfig())
    model.save_pretrained(tmp_path / "ours", max_shard_size="300B")
    code = f"""
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
class TrickyConfig(PretrainedConfig):
    model_type = "tricky"
    def __init__(self, dim=6, depth=3, backbone="", **kwargs):
        self.dim, self.depth, self.backbone = dim, depth, backbone
        super().__init__(**kwargs)
        self.tie_word_embeddings = True
class Same(PreTrainedModel):
    config_class = TrickyConfig
    _tied_weights_keys = {{"score.weight": "again", "embed.weight": "again"}}
    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(9, config.dim)
        self.score = nn.Linear(config.dim, 9)
        self.score.weight = self.embed.weight
        self.again = self.embed.weight
        self.block = nn.Linear(config.dim, config.dim)
        self.post_init()
model = Same.from_pretrained({str(tmp_path / "ours")!r})
torch.manual_seed(0)
with torch.no_grad():
    model.block.weight.copy_(model.block.weight * 2)
model.save_pretrained({str(tmp_path / "theirs")!r}, max_shard_size=300)
"""
    run_peer(code)
    loaded = TiedByAssignment.from_pretrained(tmp_path / "theirs")
    assert torch.equal(loaded.embed.weight, model.embed.weight)
    assert torch.equal(loaded.block.weight, model.block.weight * 2)
    assert loaded.score.weight is loaded.embed.weight
    assert "transformers_version" in json.loads(loaded.config.to_json_string())
