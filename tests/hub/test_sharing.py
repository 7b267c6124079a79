"""Pushing to the Hub: what is sent, as one commit, what never is, and what is said where it cannot be."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_client import connect
from huggingface_hub import close_session, constants
from loopback_hub import LoopbackHub, Reply, Request

import maquette
from maquette import (
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    PretrainedConfig,
    PreTrainedModel,
    SaveError,
    ViTImageProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from maquette.hub.readme import add_tags
from maquette.hub.upload import PushOptions, push
from maquette.pretrained.mixin import HUB_OPTIONS
from maquette.storage.transaction import Transaction

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own making
REPO = "ada/tiny"


class BusyHub(LoopbackHub):
    """A hub on which others push just before a commit arrives."""

    pushes = 0

    def answer(self, request: Request) -> Reply:
        if self.pushes and "/commit/" in request.path:
            self.pushes -= 1
            self.add_commit(REPO, {"README.md": b"theirs", f"{self.pushes}.txt": b""})
        return super().answer(request)

    def files(self, repo: str = REPO, branch: str = "main") -> dict[str, bytes]:
        """Give the files of a branch, without what the hub itself put there."""
        return {name: blob.data for name, blob in self.head(repo, branch).files.items() if name != ".gitattributes"}

    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.method not in ("GET", "HEAD")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusyHub]:
    with BusyHub() as hub:
        hub.add_account("ada", "hf_ada", organizations=("lovelace",))
        hub.add_account("bob", "hf_bob")
        connect(hub, tmp_path / "cache", monkeypatch, token="hf_ada")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield hub
    close_session()


def tiny(**fields: int) -> DistilBertConfig:
    return DistilBertConfig(**{"dim": 16, "hidden_dim": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 100, **fields})


@pytest.fixture
def model() -> DistilBertModel:
    torch.manual_seed(0)
    return DistilBertModel(tiny())


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]))
    return str(tmp_path / "vocab.txt")


# One commit --------------------------------------------------------------------------------------------------------


def things(vocabulary: str, tmp_path: Path) -> dict[str, object]:
    """Give one of everything that can be saved."""
    letters = tmp_path / "letters.json"
    letters.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3, "<s>": 4, "</s>": 5}))
    sounds = Wav2Vec2FeatureExtractor(sampling_rate=8000)
    return {
        "configuration": tiny(),
        "model": DistilBertModel(tiny()),
        "tokenizer": DistilBertTokenizer(vocabulary),
        "fast tokenizer": DistilBertTokenizerFast(vocabulary),
        "image processor": ViTImageProcessor(size={"height": 8, "width": 8}),
        "feature extractor": sounds,
        "processor": Wav2Vec2Processor(feature_extractor=sounds, tokenizer=Wav2Vec2CTCTokenizer(str(letters))),
    }


KINDS = ["configuration", "model", "tokenizer", "fast_tokenizer", "image_processor", "feature_extractor", "processor"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["push", "save"])
def test_everything_that_can_be_saved_can_be_pushed(
    hub: BusyHub, tmp_path: Path, vocabulary: str, kind: str, how: str
) -> None:
    """What arrives is what a save writes, byte for byte, and a card; it loads as what it was."""
    thing = things(vocabulary, tmp_path)[kind.replace("_", " ")]
    thing.save_pretrained("saved")
    if how == "push":
        commit = thing.push_to_hub("tiny")
    else:
        assert thing.save_pretrained("tiny", push_to_hub=True) is None
        commit = f"{hub.endpoint}/{REPO}/commit/{hub.head(REPO).id}"
    saved = {path.relative_to("saved").as_posix(): path.read_bytes() for path in Path("saved").rglob("*.*")}
    sent = hub.files()
    assert sent.pop("README.md") and sent == saved
    assert commit == f"{hub.endpoint}/{REPO}/commit/{hub.head(REPO).id}"
    assert hub.head(REPO).message == f"Upload {type(thing).__name__}"
    assert len(hub.repos[REPO].commits) == 2  # the one that made the repository, and this one
    again = type(thing).from_pretrained(REPO)
    again.save_pretrained("again")
    for name in saved.keys() - {"tokenizer_config.json"}:
        assert Path("again", name).read_bytes() == saved[name]


def test_two_pushes_are_two_commits_and_both_stay(hub: BusyHub, model: DistilBertModel, vocabulary: str) -> None:
    model.push_to_hub("tiny", commit_message="The model", commit_description="Trained on nothing")
    first = hub.head(REPO)
    DistilBertTokenizer(vocabulary).push_to_hub("tiny")
    head = hub.head(REPO)
    assert (first.message, first.description) == ("The model", "Trained on nothing")
    assert list(hub.repos[REPO].commits)[1:] == [first.id, head.id]
    assert all(head.files[name] == blob for name, blob in first.files.items())
    assert head.files.keys() - first.files.keys() == {
        "tokenizer_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "vocab.txt",
    }
    again = maquette.AutoModel.from_pretrained(REPO)
    assert torch.equal(again.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight)
    assert maquette.AutoTokenizer.from_pretrained(REPO)("hello world")["input_ids"] == [2, 5, 6, 3]


def test_a_push_takes_the_place_of_earlier_weights(hub: BusyHub, model: DistilBertModel) -> None:
    """Left-over shards, or a left-over single file, would be what the next load reads."""
    model.push_to_hub("tiny", max_shard_size="10KB")
    shards = {name for name in hub.files() if name.startswith("model")}
    assert "model.safetensors.index.json" in shards and len(shards) == 4
    hub.add_commit(REPO, {"onnx/model.safetensors": b"x", "model_card.md": b"x"})
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += 1
    plan = model.push_to_hub("tiny", dry_run=True)
    assert {file.path for file in plan if file.state == "removed"} == shards
    model.save_pretrained("tiny", push_to_hub=True)
    kept = {"README.md", "config.json", "model.safetensors", "onnx/model.safetensors", "model_card.md"}
    assert set(hub.files()) == kept
    again = DistilBertModel.from_pretrained(REPO)
    assert torch.equal(again.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight)
    model.push_to_hub("tiny", max_shard_size="10KB")
    assert "model.safetensors" not in hub.files()
    assert len(DistilBertModel.from_pretrained(REPO).state_dict()) == len(model.state_dict())


@pytest.mark.parametrize("how", ["push", "save"])
def test_a_part_of_a_processor_goes_where_the_processor_reads_it(
    hub: BusyHub, tmp_path: Path, vocabulary: str, how: str
) -> None:
    things(vocabulary, tmp_path)["processor"].push_to_hub("tiny")
    changed = Wav2Vec2FeatureExtractor(sampling_rate=44100)
    changed.push_to_hub("tiny") if how == "push" else changed.save_pretrained("tiny", push_to_hub=True)
    assert Wav2Vec2Processor.from_pretrained(REPO).feature_extractor.sampling_rate == 44100


def test_an_unchanged_push_makes_no_commit(hub: BusyHub, model: DistilBertModel) -> None:
    commit = model.push_to_hub("tiny")
    assert model.push_to_hub("tiny").oid == commit.oid == hub.head(REPO).id


def test_what_the_repository_ignores_is_named(hub: BusyHub, model: DistilBertModel, caplog) -> None:
    hub.ignored.add("config.json")
    model.push_to_hub("tiny")
    assert set(hub.files()) == {"README.md", "model.safetensors"}
    assert "The .gitignore of ada/tiny keeps these out: config.json" in caplog.text


# Where to ----------------------------------------------------------------------------------------------------------


def test_branches_and_pull_requests(hub: BusyHub, model: DistilBertModel) -> None:
    model.push_to_hub("lovelace/tiny", revision="next/step")
    assert set(hub.files("lovelace/tiny")) == set()
    assert set(hub.files("lovelace/tiny", "next/step")) == {"README.md", "config.json", "model.safetensors"}
    model.push_to_hub("lovelace/tiny", revision="next/step", commit_message="again")
    asked = tiny(dim=32).push_to_hub("lovelace/tiny", token="hf_bob", create_pr=True, revision="next/step")
    assert asked.pr_revision == "refs/pr/1"
    assert json.loads(hub.files("lovelace/tiny", "refs/pr/1")["config.json"])["dim"] == 32
    assert json.loads(hub.files("lovelace/tiny", "next/step")["config.json"])["dim"] == 16
    assert PretrainedConfig.from_pretrained("lovelace/tiny", revision="refs/pr/1").dim == 32
    assert "token" not in hub.requests[-1].headers and hub.requests[-1].token in ("hf_ada", None)
    with pytest.raises(
        SaveError, match=r"no revision 'nowhere' that a pull request could be made against.*Nothing was"
    ):
        model.push_to_hub("lovelace/tiny", create_pr=True, revision="nowhere")


def test_private_means_private(hub: BusyHub, model: DistilBertModel) -> None:
    model.push_to_hub("hidden", private=True)
    assert hub.repos["ada/hidden"].private
    model.push_to_hub("hidden", private=True, commit_message="again")
    model.push_to_hub("open")
    before, sent = hub.head("ada/open").id, len(hub.writes())
    model.embeddings.word_embeddings.weight.data += 1
    with pytest.raises(SaveError, match=r"private=True, but 'ada/open' is there already, and is public. Nothing was"):
        model.push_to_hub("open", private=True)
    assert hub.head("ada/open").id == before and len(hub.writes()) == sent


def test_others_who_push_at_the_same_time_lose_nothing(hub: BusyHub, model: DistilBertModel) -> None:
    """A commit is made on the state that was looked at: a card that came in between is not overwritten."""
    hub.add_commit(REPO, {"first.txt": b""})
    hub.pushes = 2
    model.push_to_hub("tiny")
    assert hub.files().keys() == {"first.txt", "0.txt", "1.txt", "README.md", "config.json", "model.safetensors"}
    assert hub.files()["README.md"] == b"theirs"
    hub.pushes = 3
    model.embeddings.word_embeddings.weight.data += 1
    with pytest.raises(SaveError, match="changed by others 3 times while this was being sent"):
        model.push_to_hub("tiny")


# The list ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing_and_lists_all(hub: BusyHub, model: DistilBertModel, tmp_path: Path) -> None:
    plan = model.push_to_hub("tiny", dry_run=True)
    assert hub.writes() == [] and hub.repos == {}
    assert [(file.path, file.kind, file.state) for file in plan] == [
        ("README.md", "regular", "new"),
        ("config.json", "regular", "new"),
        ("model.safetensors", "lfs", "new"),
    ]
    model.push_to_hub("tiny")
    assert {file.path: file.size for file in plan} == {name: len(data) for name, data in hub.files().items()}
    hub.requests.clear()
    model.config.dropout = 0.25
    changed = {file.path: file.state for file in model.push_to_hub("tiny", dry_run=True, tags=["a"])}
    assert changed == {"README.md": "changed", "config.json": "changed", "model.safetensors": "unchanged"}
    assert hub.writes() == []
    shown = str(plan)
    assert "ada/tiny, main: " in shown and re.search(r"[\d,]+ bytes in 3 files to send", shown)
    assert re.search(r"^ +[\d,]+  lfs     new       model.safetensors$", shown, flags=re.MULTILINE)


def test_what_is_large_is_what_the_repository_says(hub: BusyHub, model: DistilBertModel) -> None:
    model.push_to_hub("tiny")
    hub.add_commit(REPO, {".gitattributes": b"*.json filter=lfs diff=lfs merge=lfs -text\n# *.safetensors\n"})
    assert {file.path: file.kind for file in model.push_to_hub("tiny", dry_run=True)} == {
        "config.json": "lfs",
        "model.safetensors": "regular",
    }


@pytest.mark.parametrize("why", ["offline", "nobody", "stranger", "broken"])
def test_a_dry_run_needs_no_hub(
    hub: BusyHub, model: DistilBertModel, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        close_session()
    elif why == "nobody":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif why == "stranger":
        monkeypatch.delenv("HF_TOKEN")
    else:
        hub.offline = True
    plan = model.push_to_hub("tiny", dry_run=True)
    assert [(file.path, file.state) for file in plan] == [
        (name, "unknown") for name in ("README.md", "config.json", "model.safetensors")
    ]
    with pytest.raises(TypeError, match=r"call push_to_hub\(…, dry_run=True\)"):
        model.save_pretrained("tiny", push_to_hub=True, dry_run=True)
    assert not Path("tiny").exists()


# What is never sent ------------------------------------------------------------------------------------------------

TOKEN = "hf_" + "aB3" * 12
SECRETS = {
    ".env": f"HF_TOKEN={TOKEN}",
    ".git/config": "[remote]",
    ".netrc": "machine x password y",
    ".ssh/id_rsa": "-----BEGIN OPENSSH PRIVATE KEY-----",
    ".aws/credentials": "aws_secret_access_key=1",
    ".cache/huggingface/token": TOKEN,
    ".DS_Store": "x",
    "id_rsa": "-----BEGIN RSA PRIVATE KEY-----",
    "server.pem": "-----BEGIN PRIVATE KEY-----",
    "credentials.json": "{}",
    "secrets.yaml": "a: b",
    "token": TOKEN,
    "prod.env": "A=1",
    "notes.txt": "my password is hunter2",
    "train.py": f"login({TOKEN!r})",
    "layers/private.py": "x = 1",
    "wandb/run.log": TOKEN,
    "README.md": f"use {TOKEN}",
    "generation_config.json": "{}",
    "extra.safetensors": "x",
    "history.csv": "a,b",
    "trainer_state.json": "{}",
}
PICKLES = ["pytorch_model.bin", "optimizer.pt", "scaler.pkl", "rng_state.pth", "cache/features.joblib"]
LINKS = ["link.txt", "vocab.txt", "model.safetensors", "config.json", "linked"]


def plant(folder: Path, outside: Path) -> set[str]:
    """Fill a folder with what is not to be sent, links to files outside among it; gives the names."""
    outside.mkdir()
    (outside / "secret.txt").write_text(TOKEN)
    for name, content in SECRETS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for name in PICKLES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pickle.dumps({"a": 1}))
    for name in LINKS:
        (folder / name).symlink_to(outside if name == "linked" else outside / "secret.txt")
    return {*SECRETS, *PICKLES, *LINKS}


@pytest.mark.parametrize("how", ["push", "save"])
def test_nothing_that_merely_lies_in_the_folder_is_sent(
    hub: BusyHub, model: DistilBertModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    assert len(plant(folder, tmp_path / "outside")) >= 30
    monkeypatch.chdir(folder)
    if how == "push":
        model.push_to_hub("tiny")
    else:
        model.save_pretrained(".", push_to_hub=True)
        assert not (folder / "config.json").is_symlink() and (folder / "README.md").read_text() == f"use {TOKEN}"
    expected = {"config.json", "model.safetensors"} | ({"README.md"} if how == "push" else set())
    assert set(hub.files()) == expected
    assert (tmp_path / "outside" / "secret.txt").read_text() == TOKEN
    stored = b"".join([*hub.files().values(), *(blob.data for blob in hub.stored.values())])
    bodies = b"".join(request.body for request in hub.requests)
    assert TOKEN.encode() not in stored + bodies and b"hunter2" not in stored + bodies


class Careless(PretrainedConfig):
    """A configuration whose save writes whatever a test wants."""

    model_type = "careless"
    note: str = ""
    written = {}  # noqa: RUF012

    def _write_to(self, transaction: Transaction) -> None:
        super()._write_to(transaction)
        for name, content in self.written.items():
            transaction.write(name, content)


ARCHIVE = b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl" + b"\0" * 100


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (".env", b"A=1", "a hidden file"),
        ("deep/.hidden/a.txt", b"", "a hidden file"),
        ("scaler.pkl", b"x", "a pickle"),
        ("head.PT", b"x", "a pickle"),
        ("vectors.bin", pickle.dumps([1, 2]), "a pickle"),
        ("weights.bin", ARCHIVE, "a pickle"),
        ("id_ed25519", b"x", "by its name, a secret"),
        ("credentials.json", b"{}", "by its name, a secret"),
        ("tls/server.key", b"x", "by its name, a secret"),
        ("notes.txt", f"one\ntwo\nthe token is {TOKEN}\n".encode(), "line 3 looks like a token of the Hub"),
        ("a.json", b'{"key": "AKIA' + b"ABCDEFGH12345678" + b'"}', "line 1 looks like a key of AWS"),
        ("a.py", b"KEY = '''\n-----BEGIN RSA PRIVATE KEY-----\n'''", "line 2 looks like a private key"),
        ("a.txt", b"ghp_" + b"a1" * 18, "line 1 looks like a token of GitHub"),
        ("a.txt", b"sk-proj-" + b"a1" * 20, "line 1 looks like an API key"),
    ],
)
def test_what_a_save_writes_by_mistake_is_not_sent_either(
    hub: BusyHub, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(Careless, "written", {name: content})
    with pytest.raises(SaveError, match=f"Nothing was sent(.|\n)*{re.escape(name)}: {message}") as refused:
        Careless().push_to_hub("tiny")
    assert TOKEN not in str(refused.value)
    assert hub.writes() == [] and hub.repos == {}
    with pytest.raises(SaveError, match="Nothing was sent"):
        Careless().push_to_hub("tiny", dry_run=True)


def test_a_token_in_a_configuration_is_noticed(hub: BusyHub) -> None:
    with pytest.raises(SaveError, match=r"config.json: line \d+ looks like a token of the Hub"):
        Careless(note=TOKEN).push_to_hub("tiny")
    assert hub.repos == {}


@pytest.mark.parametrize("name", ["config.json", "sub"])
def test_a_link_that_takes_the_place_of_what_was_saved(
    hub: BusyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also a folder in the way that is a link: what is behind it is not the save's."""
    monkeypatch.setattr(Careless, "written", {"sub/a.txt": b"a"})
    (tmp_path / "outside").mkdir()
    saved = Transaction(tmp_path / "tiny")
    with saved:
        Careless()._write_to(saved)
    if name == "sub":
        os.rename(tmp_path / "tiny" / "sub", tmp_path / "outside" / "sub")
        (tmp_path / "tiny" / "sub").symlink_to(tmp_path / "outside" / "sub")
    else:
        os.rename(tmp_path / "tiny" / name, tmp_path / "outside" / name)
        (tmp_path / "tiny" / name).symlink_to(tmp_path / "outside" / name)
    with pytest.raises(SaveError, match="a link, or behind one"):
        push(Careless(), "tiny", PushOptions(), saved=saved)
    assert hub.writes() == []


def test_ordinary_files_pass(hub: BusyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and texts that only resemble secrets."""
    written = {
        "tokens.txt": b"hf_short\nsk-learn\nAKIA\n",
        "tokenizer.json": b'{"a": "secret token password"}',
        "vectors.npy": np.arange(3).tobytes(),
        "secret_layers.py": b"import secrets\n",
        "data.bin": b"\x80\x04 not a pickle",
    }
    monkeypatch.setattr(Careless, "written", written)
    Careless().push_to_hub("tiny")
    assert set(hub.files()) == {*written, "config.json", "README.md"}


# The card ----------------------------------------------------------------------------------------------------------


def test_a_card_says_what_it_is_and_how_to_load_it(hub: BusyHub, model: DistilBertModel, run_fresh, tmp_path) -> None:
    model.push_to_hub("tiny", tags=["text", "a: b", "on", "text"])
    card = hub.files()["README.md"].decode()
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(header) == {"library_name": "maquette", "tags": ["text", "a: b", "on"]}
    assert "`DistilBertModel`, a model of the architecture `distilbert`" in body
    count = sum(parameter.numel() for parameter in model.parameters())
    size = len(hub.files()["model.safetensors"])
    assert f"{count:,} parameters (float32), {size:,} bytes in one safetensors file." in body
    assert "trust_remote_code" not in body and "Not stated yet" in body and "license" not in header
    code = re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)[0]
    shown = run_fresh(code + "print(type(model).__name__)", env=hub.environ(tmp_path / "fresh"))
    assert shown.strip().endswith("DistilBertModel")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "model"])
def test_the_card_of_anything_else_loads_it_too(
    hub: BusyHub, tmp_path: Path, vocabulary: str, kind: str, run_fresh
) -> None:
    thing = things(vocabulary, tmp_path)[kind.replace("_", " ")]
    thing.push_to_hub("tiny")
    body = hub.files()["README.md"].decode()
    assert "Parameters" not in body and f"`{type(thing).__name__}`" in body
    code = re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)[0]
    variable = kind.removeprefix("fast_")
    shown = run_fresh(f"{code}print(type({variable}).__name__)", env=hub.environ(tmp_path / "fresh")).split()[-1]
    assert shown.removesuffix("Fast") == type(thing).__name__.removesuffix("Fast")


def test_a_card_is_never_overwritten(hub: BusyHub, model: DistilBertModel) -> None:
    theirs = "# Mine\r\nwithout a header, mit Umläuten\n".encode()
    hub.add_commit(REPO, {"README.md": theirs})
    model.push_to_hub("tiny")
    assert hub.files()["README.md"] == theirs
    model.push_to_hub("tiny", tags=["text"])
    assert hub.files()["README.md"] == b"---\ntags:\n- text\n---\n\n" + theirs
    Path("other").mkdir()
    Path("other/README.md").write_bytes(theirs)
    model.save_pretrained("other", push_to_hub=True)
    assert Path("other/README.md").read_bytes() == theirs and "README.md" not in hub.files("ada/other")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("---\nlicense: mit\n---\ntext\n", "---\nlicense: mit\ntags:\n- b\n- a c\n---\ntext\n"),
        ("---\ntags:\n- b\nlicense: mit # so\n---\n---\n", "---\ntags:\n- b\n- a c\nlicense: mit # so\n---\n---\n"),
        ("---\ntags:\n  - 'b'\n---\n", "---\ntags:\n  - 'b'\n  - a c\n---\n"),
        ("---\ntags:\n---\n", "---\ntags:\n- b\n- a c\n---\n"),
        ("---\ntags: [b]\n---\n", "---\ntags: [b]\n---\n"),
        ("text", "---\ntags:\n- b\n- a c\n---\n\ntext"),
        ("", "---\ntags:\n- b\n- a c\n---\n\n"),
        ("---\ntags:\n- b\n- a c\n---\n", "---\ntags:\n- b\n- a c\n---\n"),
    ],
)
def test_tags_are_added_to_a_header_and_nothing_else_changes(before: str, after: str) -> None:
    assert add_tags(before.encode(), ["b", "a c"]).decode() == after


def test_a_card_that_is_not_text_stays_as_it_is() -> None:
    assert add_tags(b"\xff\xfe", ["a"]) == b"\xff\xfe"


class Stranded(PreTrainedModel):
    """A model whose code was not registered to go along."""

    config_class = Careless

    def __init__(self, config: Careless) -> None:
        super().__init__(config)
        self.layer = torch.nn.Linear(2, 2)


def test_a_class_that_stays_behind_is_named_in_the_card(hub: BusyHub) -> None:
    Stranded(Careless()).push_to_hub("tiny")
    body = hub.files()["README.md"].decode()
    assert "from test_sharing import Stranded" in body and "`Stranded` is not in this repository" in body


# What is said ------------------------------------------------------------------------------------------------------


def test_errors_say_which(hub: BusyHub, model: DistilBertModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str = "tiny", **options: object) -> str:
        with pytest.raises(SaveError) as error:
            model.push_to_hub(name, **options)
        return str(error.value)

    hub.expired.add("hf_old")
    assert "'bob/x' cannot be written to: the token in use has no right to. The Hub says: " in refused("bob/x")
    for token in ("hf_old", "hf_nobody", False):
        for name in ("tiny", "ada/tiny"):
            message = refused(name, token=token)
            assert "nobody is logged in" in message and "maquette.login()" in message and message.endswith("was made.")
    assert "'no name!' cannot be the name of a repository" in refused("ada/no name!").replace("ada/", "")
    hub.add_commit("bob/secret", {"a": b""})
    hub.set_access("bob/secret", token="hf_bob", private=True)
    assert "cannot be written to" in refused("bob/secret")
    hub.offline = True
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert "The Hub could not be reached for 'tiny'" in refused()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert "The Hub could not be reached for 'tiny'" in refused() and "ffline" in refused()
    assert hub.repos.keys() == {"bob/secret"}


def test_an_upload_that_breaks_leaves_the_repository_as_it_was(hub: BusyHub, model, monkeypatch) -> None:
    model.push_to_hub("tiny")
    before = hub.head(REPO).id
    model.embeddings.word_embeddings.weight.data += 1
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(hub, "storage_endpoint", "http://127.0.0.1:9")
    with pytest.raises(SaveError, match="could not be reached for 'tiny'"):
        model.push_to_hub("tiny")
    assert hub.head(REPO).id == before


def test_misspelt_options_are_errors(model: DistilBertModel) -> None:
    with pytest.raises(TypeError, match=r"push_to_hub has no option 'privat'. Did you mean 'private'"):
        model.push_to_hub("tiny", privat=True)
    with pytest.raises(TypeError, match=r"has no option 'max_shardsize'. Did you mean 'max_shard_size'"):
        model.push_to_hub("tiny", max_shardsize="1GB")
    with pytest.raises(TypeError, match=r"save_pretrained has no option 'varaint'. Did you mean 'variant'"):
        model.save_pretrained("tiny", varaint="fp16")
    with pytest.raises(TypeError, match=r"tags is a list of texts: tags=\['a'\]"):
        model.push_to_hub("tiny", tags="a")
    with pytest.raises(TypeError, match="private: only of use together with push_to_hub=True"):
        model.save_pretrained("tiny", private=True)


def test_the_options_of_a_push_are_known_to_saving() -> None:
    assert {"repo_id", *(field.name for field in dataclasses.fields(PushOptions))} == HUB_OPTIONS


def test_logging_in_is_the_clients(run_fresh) -> None:
    printed = run_fresh(
        "import sys, maquette; assert 'huggingface_hub' not in sys.modules\n"
        "import huggingface_hub as hub\n"
        "print(maquette.login is hub.login, maquette.notebook_login is hub.notebook_login)"
    )
    assert printed == "True True\n"
