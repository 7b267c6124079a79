"""Reading from the Hub when all does not go well: broken connections, wrong bytes, pushes in between, no access."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_client import connect
from huggingface_hub import close_session, constants
from loopback_hub import LoopbackHub, Reply, Request

from maquette import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    DistilBertTokenizer,
    FileFormatError,
    MissingFileError,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

REPO = "ada/tiny"
WEIGHTS = "model.safetensors"


class MovingHub(LoopbackHub):
    """A hub on which somebody pushes after every answer, or which always starts a file from its beginning."""

    push: Callable[[], None] | None = None
    refuse_ranges = False

    def answer(self, request: Request) -> Reply:
        if self.refuse_ranges:
            request = replace(request, headers={k: v for k, v in request.headers.items() if k != "range"})
        reply = super().answer(request)
        if self.push:
            self.push()
        return reply


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MovingHub]:
    with MovingHub() as hub:
        connect(hub, tmp_path / "cache", monkeypatch)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        hub.add_commit(REPO, saved(tmp_path, 3))
        yield hub
    close_session()


def saved(tmp_path: Path, seed: int) -> dict[str, bytes]:
    """Save a model whose configuration and weights both tell which it is."""
    torch.manual_seed(seed)
    config = DistilBertConfig(dim=2 * seed, hidden_dim=8, n_layers=1, n_heads=2, vocab_size=50)
    DistilBertModel(config).save_pretrained(tmp_path / "saved")
    return {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}


def cached(tmp_path: Path) -> dict[str, bytes]:
    """Give what the cache would hand out."""
    folders = (tmp_path / "cache").glob("models--*/snapshots/*")
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


# Connections that break --------------------------------------------------------------------------------------------


def offset_of(part: int, size: int) -> int:
    """Give one of 20 places, from the first byte of a file to its last."""
    return max(1, min(size - 1, size * part // 19))


@pytest.mark.parametrize("part", range(20))
def test_a_download_that_breaks_goes_on_where_it_stopped(
    hub: MovingHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """At 20 places of the weights: one load, equal bytes, and no byte is sent twice."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1)
    files = {name: blob.data for name, blob in hub.head(REPO).files.items()}
    offset = offset_of(part, len(files[WEIGHTS]))
    AutoConfig.from_pretrained(REPO)
    hub.break_after(offset, times=1)
    AutoModel.from_pretrained(REPO)
    assert cached(tmp_path) == files
    gets = [request for request in hub.requests if request.method == "GET" and request.path.endswith(WEIGHTS)]
    assert [request.headers.get("range") for request in gets] == [None, f"bytes={offset}-"]


@pytest.mark.parametrize("part", range(20))
def test_a_download_that_fails_leaves_nothing_behind_and_can_be_repeated(
    hub: MovingHub, tmp_path: Path, part: int
) -> None:
    files = {name: blob.data for name, blob in hub.head(REPO).files.items()}
    AutoConfig.from_pretrained(REPO)
    hub.break_after(offset_of(part, len(files[WEIGHTS])), times=10_000)
    hub.refuse_ranges = True
    with pytest.raises(MissingFileError, match=f"could not be reached for '{WEIGHTS}' of 'ada/tiny'"):
        AutoModel.from_pretrained(REPO)
    assert cached(tmp_path).keys() == {"config.json"}
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    hub.break_after(0, times=0)
    AutoModel.from_pretrained(REPO)
    assert cached(tmp_path) == files


# Bytes that are wrong ----------------------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_wrong_bytes_of_the_right_size_are_refused(hub: MovingHub, tmp_path: Path, name: str, place: float) -> None:
    """One bit: in the header, in the numbers, at the end. Large files by their sha256, small ones by git's id."""
    files = {name: blob.data for name, blob in hub.head(REPO).files.items()}
    hub.lie_about(name, flipped(files[name], int(place * (len(files[name]) - 1))))
    for _ in range(2):  # nor is it taken from the cache by the next load
        with pytest.raises(FileFormatError, match=f"'{name}' of 'ada/tiny' did not arrive as it is on the Hub"):
            AutoModel.from_pretrained(REPO)
        assert name not in cached(tmp_path)
        with pytest.raises(MissingFileError):
            AutoModel.from_pretrained(REPO, local_files_only=True)
    hub.lies.clear()
    AutoModel.from_pretrained(REPO)
    assert cached(tmp_path) == files


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_sizes_are_refused(hub: MovingHub, tmp_path: Path, name: str, change: int) -> None:
    data = hub.head(REPO).files[name].data
    hub.lie_about(name, data[:-1] if change < 0 else data + b" ")
    with pytest.raises(FileFormatError, match="'ada/tiny' arrived with another size than it has on the Hub"):
        AutoModel.from_pretrained(REPO)
    assert name not in cached(tmp_path)


def test_the_same_in_a_sub_folder_and_when_fetched_again(hub: MovingHub, tmp_path: Path) -> None:
    files = {f"deep/er/{name}": content for name, content in saved(tmp_path, 5).items()}
    hub.add_commit(REPO, files)
    AutoModel.from_pretrained(REPO, subfolder="deep/er")
    hub.lie_about(f"deep/er/{WEIGHTS}", flipped(files[f"deep/er/{WEIGHTS}"], 900))
    AutoModel.from_pretrained(REPO, subfolder="deep/er")
    with pytest.raises(FileFormatError, match="did not arrive"):
        AutoModel.from_pretrained(REPO, subfolder="deep/er", force_download=True)


# One commit, and no more than is needed ----------------------------------------------------------------------------


def test_a_push_in_the_middle_of_a_load_does_not_mix(hub: MovingHub, tmp_path: Path) -> None:
    """Configuration and weights of every other state do not fit together; each load takes one state whole."""
    states = [saved(tmp_path, 3 + number) for number in range(12)]
    hub.add_commit(REPO, states[0])
    waiting = iter(states[1:] * 100)
    hub.push = lambda: hub.add_commit(REPO, next(waiting)) and None
    seen = []
    for _ in range(4):
        model, info = AutoModel.from_pretrained(REPO, output_loading_info=True)
        assert not any(info.values())
        seen.append(model.config.dim)
        assert model.embeddings.word_embeddings.weight.shape == (50, model.config.dim)
    assert len(set(seen)) > 1
    revisions = [request.path for request in hub.requests if request.path.startswith("/api/")]
    assert revisions == [f"/api/models/{REPO}/revision/main"] * 4


def test_the_parts_of_a_processor_are_of_one_commit(hub: MovingHub, tmp_path: Path) -> None:
    letters = tmp_path / "letters.json"

    def processor(number: int) -> dict[str, bytes]:
        letters.write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3, "<s>": 4, "</s>": 5, f"x{number}": 6}))
        Wav2Vec2Processor(
            feature_extractor=Wav2Vec2FeatureExtractor(sampling_rate=1000 + number),
            tokenizer=Wav2Vec2CTCTokenizer(str(letters)),
        ).save_pretrained(tmp_path / "processor")
        return {path.name: path.read_bytes() for path in (tmp_path / "processor").iterdir()}

    states = [processor(number) for number in range(30)]
    hub.add_commit("ada/ears", states[0])
    waiting = iter(states[1:])
    hub.push = lambda: hub.add_commit("ada/ears", next(waiting, states[-1])) and None
    for _ in range(3):
        made = AutoProcessor.from_pretrained("ada/ears")
        number = made.feature_extractor.sampling_rate - 1000
        assert f"x{number}" in made.tokenizer.get_vocab()
    assert number > 0


def test_only_what_is_needed_is_fetched(hub: MovingHub, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello")
    DistilBertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "tokenizer")
    tokenizer = {path.name: path.read_bytes() for path in (tmp_path / "tokenizer").iterdir()}
    others = ["pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "model.fp16.safetensors", "README.md", "a.py"]
    hub.add_commit(REPO, {**tokenizer, **dict.fromkeys(others, b"x")})

    def fetched() -> set[str]:
        names = {r.path.rpartition("/")[2] for r in hub.requests if r.method == "GET" and "/api/" not in r.path}
        hub.requests.clear()
        return names

    AutoModel.from_pretrained(REPO)
    assert fetched() == {"config.json", WEIGHTS}
    AutoTokenizer.from_pretrained(REPO)
    assert fetched() <= {*tokenizer, "config.json"}
    AutoModel.from_pretrained(REPO)
    assert fetched() == set()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_no_socket_is_opened(hub: MovingHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    online = AutoModel.from_pretrained(REPO)
    close_session()
    hub.requests.clear()

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.__init__", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    options = {"local_files_only": True} if how == "argument" else {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "environment")
    model = AutoModel.from_pretrained(REPO, **options)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), online.parameters(), strict=True))
    assert AutoConfig.from_pretrained(REPO, **options) == online.config
    for name, revision in (("ada/other", None), (REPO, "v9")):
        with pytest.raises(MissingFileError, match="not in the cache, and no connection may be opened"):
            AutoModel.from_pretrained(name, revision=revision, **options)
    with pytest.raises(MissingFileError, match="Only the cache was looked at"):
        AutoTokenizer.from_pretrained(REPO, **options)
    with pytest.raises(AssertionError, match="a socket was opened"):
        AutoModel.from_pretrained(REPO) if how == "argument" else __import__("socket").socket()
    assert hub.requests == []


# What is said ------------------------------------------------------------------------------------------------------


def test_a_mistyped_revision_names_the_nearest(hub: MovingHub) -> None:
    hub.add_tag(REPO, "v1.0", hub.head(REPO).id)
    hub.add_commit(REPO, {"a": b""}, branch="experiment")
    for wrong, right in {"v1.1": "v1.0", "experimnet": "experiment", "mian": "main"}.items():
        with pytest.raises(MissingFileError, match=rf"no revision '{wrong}'\. Did you mean '{right}'\?"):
            AutoModel.from_pretrained(REPO, revision=wrong)


def test_a_token_that_is_good_no_more(hub: MovingHub) -> None:
    hub.expired.add("hf_old")
    with pytest.raises(MissingFileError, match=r"'ada/tiny' was asked for with a token that is not valid"):
        AutoModel.from_pretrained(REPO, token="hf_old")


def test_a_missing_file_says_what_is_there(hub: MovingHub) -> None:
    hub.add_commit(REPO, {WEIGHTS: None, "pytorch_model.bin": b"x"})
    with pytest.raises(MissingFileError, match=r"(?s)ada/tiny.*pytorch_model\.bin"):
        AutoModel.from_pretrained(REPO)
    hub.add_commit("ada/empty", {"notes.txt": b""})
    with pytest.raises(MissingFileError, match=r"'ada/empty' has no file 'config.json'.*It holds: 'notes.txt'"):
        AutoModel.from_pretrained("ada/empty")


def test_the_resumption_is_told(hub: MovingHub, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of the library's own hides what the client says of a connection that breaks."""
    client = logging.getLogger("huggingface_hub")
    client.addHandler(caplog.handler)
    try:
        hub.break_after(1000, times=1)
        AutoModel.from_pretrained(REPO)
    finally:
        client.removeHandler(caplog.handler)
    assert "Trying to resume download" in caplog.text
