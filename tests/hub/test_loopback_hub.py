"""The loopback hub, proven by the real client."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, close_session, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from loopback_hub import LoopbackHub, Request

REPO = "user/model"
CONFIG = b'{"model_type": "tiny"}'
WEIGHTS = bytes(range(256)) * 64
CODE = b"answer = 42\n"
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "sub/x.py": CODE}


@pytest.fixture(autouse=True)
def fresh_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the client contact nobody but the hub, and close its connections after the test."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_XET"):
        monkeypatch.setattr(constants, name, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    yield
    close_session()


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A hub with one repository."""
    with LoopbackHub() as hub:
        hub.add_commit(REPO, FILES)
        yield hub


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    """The real client, pointed at the hub."""
    return HfApi(endpoint=hub.endpoint)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the test the waits between the retries of the client."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def download(
    api: HfApi, folder: Path, file: str = "config.json", revision: str | None = None, repo: str = REPO
) -> Path:
    return Path(api.hf_hub_download(repo, file, revision=revision, cache_dir=folder))


def test_model_info_describes_the_head_of_main(hub: LoopbackHub, api: HfApi) -> None:
    info = api.model_info(REPO)
    assert (info.id, info.author, info.sha) == (REPO, "user", hub.repos[REPO].branches["main"])
    assert (info.private, info.gated, info.tags) == (False, False, ["safetensors"])
    assert info.last_modified is not None and info.siblings is not None
    assert [sibling.rfilename for sibling in info.siblings] == list(FILES)
    assert hub.requests == [Request("GET", "/api/models/user/model", 200)]


def test_model_info_gives_sizes_and_hashes_when_asked(api: HfApi) -> None:
    siblings = api.model_info(REPO, files_metadata=True).siblings or []
    details = {sibling.rfilename: sibling for sibling in siblings}
    assert details["config.json"].size == len(CONFIG) and details["config.json"].lfs is None
    weights = details["model.safetensors"]
    assert weights.size == len(WEIGHTS) and weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_model_info_can_be_narrowed(api: HfApi) -> None:
    info = api.model_info(REPO, expand=["sha"])
    assert info.sha is not None and info.siblings is None


def test_tree_lists_files_and_folders(hub: LoopbackHub, api: HfApi) -> None:
    assert api.list_repo_files(REPO) == list(FILES)
    entries = list(api.list_repo_tree(REPO))
    assert [(type(entry), entry.path) for entry in entries] == [
        (RepoFile, "config.json"),
        (RepoFile, "model.safetensors"),
        (RepoFolder, "sub"),
    ]
    assert [entry.path for entry in api.list_repo_tree(REPO, "sub")] == ["sub/x.py"]
    assert [entry.path for entry in api.get_paths_info(REPO, ["sub", "none", "config.json"])] == ["sub", "config.json"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(REPO, "none"))


def test_blob_ids_are_those_of_git(api: HfApi) -> None:
    config, weights = api.get_paths_info(REPO, ["config.json", "model.safetensors"])
    assert isinstance(config, RepoFile) and isinstance(weights, RepoFile)
    assert config.blob_id == hashlib.sha1(b"blob 22\0" + CONFIG).hexdigest()
    assert weights.lfs is not None and weights.lfs.pointer_size == 130 and weights.blob_id != weights.lfs.sha256


def test_small_files_come_from_the_hub(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    assert download(api, tmp_path, "sub/x.py").read_bytes() == CODE
    address = "/user/model/resolve/main/sub/x.py"
    assert hub.requests == [Request("HEAD", address, 200), Request("GET", address, 200)]


def test_large_files_come_from_storage_without_the_token(hub: LoopbackHub, tmp_path: Path) -> None:
    path = download(HfApi(endpoint=hub.endpoint, token="hf_x"), tmp_path, "model.safetensors")
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert path.read_bytes() == WEIGHTS and path.resolve().name == sha256
    head, get = hub.requests
    assert head == Request("HEAD", "/user/model/resolve/main/model.safetensors", 302) and head.token == "hf_x"
    assert get == Request("GET", f"/storage/{sha256}/model.safetensors", 200) and get.token is None


def test_size_alone_makes_a_file_large(hub: LoopbackHub) -> None:
    hub.add_commit(REPO, {"vocabulary.txt": bytes(10 * 2**20 + 1)})
    metadata = get_hf_file_metadata(hf_hub_url(REPO, "vocabulary.txt", endpoint=hub.endpoint))
    assert metadata.size == 10 * 2**20 + 1 and metadata.etag is not None and len(metadata.etag) == 64
    assert metadata.location.startswith(hub.storage_endpoint)


def test_names_without_a_namespace_work(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    name = "distilbert-base-uncased"
    hub.add_commit(name, FILES)
    info = api.model_info(name, revision="main")
    assert (info.id, info.author) == (name, None)
    assert api.list_repo_files(name) == list(FILES) and api.list_repo_refs(name).tags == []
    assert download(api, tmp_path, "sub/x.py", repo=name).read_bytes() == CODE


def test_snapshot_holds_every_file(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    folder = Path(api.snapshot_download(REPO, cache_dir=tmp_path))
    assert folder.name == hub.repos[REPO].branches["main"]
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")} == FILES
    paths = [request.path for request in hub.requests]
    assert paths[:2] == ["/api/models/user/model/revision/main", f"/api/models/user/model/tree/{folder.name}"]
    assert len(hub.requests) == 2 + 2 * len(FILES)


def test_commits_build_on_their_parent(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    first = hub.repos[REPO].branches["main"]
    second = hub.add_commit(REPO, {"sub/x.py": None, "config.json": b"{}", "new.txt": b""})
    assert api.list_repo_files(REPO) == ["config.json", "model.safetensors", "new.txt"]
    assert api.list_repo_files(REPO, revision=first) == list(FILES)
    assert download(api, tmp_path).read_bytes() == b"{}"
    assert download(api, tmp_path, revision=first).read_bytes() == CONFIG
    assert download(api, tmp_path, "new.txt").read_bytes() == b""
    assert api.model_info(REPO).sha == second != first


def test_commit_ids_repeat_from_run_to_run(hub: LoopbackHub) -> None:
    with LoopbackHub() as other:
        assert other.add_commit(REPO, FILES) == hub.repos[REPO].branches["main"]
        assert other.add_commit("user/other", FILES) != hub.repos[REPO].branches["main"]


def test_revisions_are_branches_tags_and_commit_ids(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    first = hub.repos[REPO].branches["main"]
    hub.add_tag(REPO, "v1", first)
    second = hub.add_commit(REPO, {"config.json": b"{}"}, branch="next/step")
    for revision, commit in {"main": first, "v1": first, first[:7]: first, "next/step": second, second: second}.items():
        assert api.model_info(REPO, revision=revision).sha == commit
        assert download(api, tmp_path, revision=revision).parent.name == commit
        assert api.revision_exists(REPO, revision)
    refs = api.list_repo_refs(REPO)
    assert {branch.name: branch.target_commit for branch in refs.branches} == {"main": first, "next/step": second}
    assert [(tag.name, tag.ref, tag.target_commit) for tag in refs.tags] == [("v1", "refs/tags/v1", first)]


def test_what_does_not_exist_is_named(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    for call in (api.model_info, api.list_repo_files, api.list_repo_refs):
        with pytest.raises(RepositoryNotFoundError, match="401"):
            call("user/none")
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.model_info("user/none", token="hf_x")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="none")
    with pytest.raises(RevisionNotFoundError):
        download(api, tmp_path, revision="0" * 40)
    with pytest.raises(RepositoryNotFoundError):
        download(api, tmp_path, repo="user/none")
    with pytest.raises(RemoteEntryNotFoundError):
        download(api, tmp_path, "none.json")
    absent = tmp_path / "models--user--model/.no_exist" / hub.repos[REPO].branches["main"] / "none.json"
    assert absent.exists()


def test_existence_can_be_asked(api: HfApi) -> None:
    assert api.repo_exists(REPO) and not api.repo_exists("user/none")
    assert api.file_exists(REPO, "sub/x.py") and api.file_exists(REPO, "model.safetensors")
    assert not api.file_exists(REPO, "none") and not api.file_exists(REPO, "config.json", revision="none")
    assert not api.revision_exists(REPO, "none") and not api.file_exists("user/none", "config.json")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_gated_repositories_show_all_but_their_files(
    hub: LoopbackHub, tmp_path: Path, token: str | None, status: int
) -> None:
    hub.set_access(REPO, token="hf_x", gated=True)
    stranger, friend = (HfApi(endpoint=hub.endpoint, token=each) for each in (token, "hf_x"))
    assert stranger.model_info(REPO).gated == "manual" and stranger.list_repo_files(REPO) == list(FILES)
    with pytest.raises(GatedRepoError) as refused:
        download(stranger, tmp_path)
    assert refused.value.response.status_code == status
    with pytest.raises(GatedRepoError):
        stranger.file_exists(REPO, "config.json")
    with pytest.raises(GatedRepoError):
        stranger.snapshot_download(REPO, cache_dir=tmp_path)
    assert download(friend, tmp_path).read_bytes() == CONFIG


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 404)])
def test_private_repositories_seem_not_to_exist(
    hub: LoopbackHub, tmp_path: Path, token: str | None, status: int
) -> None:
    hub.set_access(REPO, token="hf_x", private=True)
    stranger, friend = (HfApi(endpoint=hub.endpoint, token=each) for each in (token, "hf_x"))
    assert not stranger.repo_exists(REPO) and friend.repo_exists(REPO)
    with pytest.raises(RepositoryNotFoundError) as refused:
        download(stranger, tmp_path)
    assert refused.value.response.status_code == status and not isinstance(refused.value, GatedRepoError)
    assert friend.model_info(REPO).private and download(friend, tmp_path).read_bytes() == CONFIG


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_broken_downloads_resume_where_they_stopped(
    hub: LoopbackHub, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1)
    hub.break_after(10, times=2)
    assert download(api, tmp_path, file).read_bytes() == FILES[file]
    tries = [(request.status, request.headers.get("range")) for request in hub.requests if request.method == "GET"]
    assert tries == [(200, None), (206, "bytes=10-"), (206, "bytes=20-")]


@pytest.mark.usefixtures("patient")
def test_downloads_that_keep_breaking_fail(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    hub.break_after(10, times=1000)
    with pytest.raises(Exception, match="peer closed connection"):
        download(api, tmp_path)
    assert sum(request.method == "GET" for request in hub.requests) == 6
    hub.break_after(0, times=0)
    assert download(api, tmp_path).read_bytes() == CONFIG


def test_ranges_beyond_the_end_are_refused(hub: LoopbackHub) -> None:
    url = hf_hub_url(REPO, "config.json", endpoint=hub.endpoint)
    with pytest.raises(HfHubHTTPError) as refused:
        get_hf_file_metadata(url, headers={"Range": "bytes=99-"})
    assert refused.value.response.headers["Content-Range"] == f"bytes */{len(CONFIG)}"


@pytest.mark.usefixtures("patient")
def test_an_offline_hub_answers_503(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    cached = download(api, tmp_path)
    hub.requests.clear()
    hub.offline = True
    with pytest.raises(HfHubHTTPError) as refused:
        api.model_info(REPO)
    assert refused.value.response.status_code == 503
    assert download(api, tmp_path) == cached
    assert [request.status for request in hub.requests] == [503, 503]
    with pytest.raises(LocalEntryNotFoundError):
        download(api, tmp_path, "model.safetensors")
    hub.offline = False
    assert download(api, tmp_path, "model.safetensors").read_bytes() == WEIGHTS


def test_other_addresses_are_not_found(hub: LoopbackHub) -> None:
    with pytest.raises(HfHubHTTPError, match="404"):
        HfApi(endpoint=hub.endpoint).dataset_info("user/data")


def test_subprocesses_talk_to_this_hub_only(hub: LoopbackHub, tmp_path: Path) -> None:
    script = (
        "import sys; from huggingface_hub import constants, get_token, snapshot_download\n"
        f"sys.stdout.write(str([constants.HF_HOME, get_token(), snapshot_download({REPO!r})]))"
    )
    environ = {**os.environ, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "1", **hub.environ(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", script]
    output = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout
    snapshot = tmp_path / "hub" / "models--user--model" / "snapshots" / hub.repos[REPO].branches["main"]
    assert output == str([str(tmp_path), None, str(snapshot)])
    assert (snapshot / "sub" / "x.py").read_bytes() == CODE
    assert len(hub.requests) == 2 + 2 * len(FILES) and all(request.token is None for request in hub.requests)


def test_closing_leaves_nothing_behind() -> None:
    before = threading.active_count()
    with LoopbackHub() as hub:
        hub.add_commit(REPO, FILES)
        api = HfApi(endpoint=hub.endpoint, token=False)
        assert api.repo_exists(REPO)
    assert threading.active_count() == before
    with pytest.raises(Exception, match="refused"):
        api.repo_exists(REPO)
