"""The uploads of the loopback hub, proven by the real client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_client import connect
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, close_session
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError
from loopback_hub import LoopbackHub

WEIGHTS = bytes(range(256)) * 64
REPO = "ada/model"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own making


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add_account("ada", "hf_ada", organizations=("lovelace",))
        hub.add_account("bob", "hf_bob")
        hub.add_account("ro", "hf_ro", may_write=False)
        connect(hub, tmp_path / "cache", monkeypatch, token="hf_ada")
        yield hub
    close_session()


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    """The client of somebody with a repository."""
    api = HfApi()
    api.create_repo(REPO)
    return api


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_repositories_are_made_in_ones_own_name(hub: LoopbackHub) -> None:
    api = HfApi()
    assert api.whoami()["name"] == "ada"
    assert api.create_repo("model").repo_id == REPO
    assert api.create_repo("lovelace/model", private=True).repo_id == "lovelace/model"
    assert api.model_info("lovelace/model").private and not api.model_info(REPO).private
    assert api.list_repo_files(REPO) == [".gitattributes"]
    assert api.create_repo("model", exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo("model")
    assert status(refused) == 409
    for token, name, code in (("hf_bob", "ada/x", 403), ("hf_ro", "ro/x", 403), ("hf_none", "x", 401)):
        with pytest.raises(HfHubHTTPError) as refused:
            HfApi(token=token).create_repo(name)
        assert status(refused) == code
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)


def test_a_private_repository_is_seen_by_its_owner_only(hub: LoopbackHub) -> None:
    HfApi().create_repo("secret", private=True)
    assert HfApi().repo_exists("ada/secret") and not HfApi(token="hf_bob").repo_exists("ada/secret")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info("ada/secret")


def test_an_expired_token_is_told_from_none(hub: LoopbackHub, api: HfApi) -> None:
    hub.expired.add("hf_old")
    with pytest.raises(HfHubHTTPError, match="401") as refused:
        HfApi(token="hf_old").model_info(REPO)
    assert not isinstance(refused.value, RepositoryNotFoundError)


def test_a_commit_of_small_and_large_files(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS)
    files = {"config.json": b"{}", "deep/er/x.py": b"x = 1\n", "empty.safetensors": b"", "m.safetensors": WEIGHTS}
    sources = {**files, "m.safetensors": str(tmp_path / "w")}
    operations = [CommitOperationAdd(name, source) for name, source in sources.items()]
    commit = api.create_commit(REPO, operations, commit_message="First", commit_description="All of it")
    head = hub.head(REPO)
    assert (head.id, head.message, head.description) == (commit.oid, "First", "All of it")
    assert {name: blob.data for name, blob in head.files.items() if name != ".gitattributes"} == files
    assert head.files["m.safetensors"].etag == hashlib.sha256(WEIGHTS).hexdigest()
    put = [request.path for request in hub.requests if request.method == "PUT"]
    assert put == [f"/upload/{hashlib.sha256(WEIGHTS).hexdigest()}"]
    assert Path(api.hf_hub_download(REPO, "m.safetensors")).read_bytes() == WEIGHTS


def test_very_large_files_go_in_parts(hub: LoopbackHub, api: HfApi) -> None:
    hub.part_size = 5000
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="m.safetensors", repo_id=REPO)
    assert sum(request.path.startswith("/part/") for request in hub.requests) == 4  # 16,384 bytes
    assert hub.head(REPO).files["m.safetensors"].data == WEIGHTS and hub.parts == {}


def test_what_is_there_is_not_sent_again(hub: LoopbackHub, api: HfApi) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo=name, repo_id=REPO)
    assert sum(request.method == "PUT" for request in hub.requests) == 1
    before = hub.head(REPO).id
    assert api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="a.safetensors", repo_id=REPO).oid == before


def test_files_and_folders_are_deleted(hub: LoopbackHub, api: HfApi) -> None:
    names = ["a.txt", "deep/b.txt", "deep/c.txt"]
    api.create_commit(REPO, [CommitOperationAdd(name, b"x") for name in names], commit_message="x")
    api.create_commit(REPO, [CommitOperationDelete("a.txt"), CommitOperationDelete("deep/")], commit_message="y")
    assert api.list_repo_files(REPO) == [".gitattributes"]
    before = hub.head(REPO).id
    with pytest.raises(HfHubHTTPError):
        api.create_commit(REPO, [CommitOperationAdd("n", b""), CommitOperationDelete("none")], commit_message="z")
    assert hub.head(REPO).id == before


def test_a_commit_on_a_state_that_has_passed_is_refused(hub: LoopbackHub, api: HfApi) -> None:
    first = hub.head(REPO).id
    api.create_commit(REPO, [CommitOperationAdd("a", b"1")], commit_message="a", parent_commit=first)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(REPO, [CommitOperationAdd("a", b"2")], commit_message="b", parent_commit=first)
    assert status(refused) == 412 and hub.head(REPO).files["a"].data == b"1"


def test_branches_tags_and_pull_requests(hub: LoopbackHub, api: HfApi) -> None:
    main = hub.head(REPO).id
    api.create_branch(REPO, branch="next/step")
    api.create_branch(REPO, branch="next/step", exist_ok=True)
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=REPO, revision="next/step")
    api.create_tag(REPO, tag="v1", revision="next/step")
    assert hub.head(REPO).id == main and api.list_repo_files(REPO, revision="v1") == [".gitattributes", "a"]
    with pytest.raises(BadRequestError, match="no branch"):
        api.upload_file(path_or_fileobj=b"2", path_in_repo="b", repo_id=REPO, revision="v1")
    asked = HfApi(token="hf_bob").upload_file(path_or_fileobj=b"3", path_in_repo="c", repo_id=REPO, create_pr=True)
    assert (asked.pr_num, asked.pr_revision) == (1, "refs/pr/1") and hub.head(REPO).id == main
    assert api.list_repo_files(REPO, revision="refs/pr/1") == [".gitattributes", "c"]
    assert [one.ref for one in api.list_repo_refs(REPO, include_pull_requests=True).pull_requests or []] == [
        "refs/pr/1"
    ]
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(token="hf_bob").upload_file(path_or_fileobj=b"3", path_in_repo="c", repo_id=REPO)
    assert status(refused) == 403


def test_the_header_of_a_card_is_checked(hub: LoopbackHub, api: HfApi) -> None:
    card = b"---\ntags:\n- a\n---\n\ntext"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
    assert hub.head(REPO).files["README.md"].data.startswith(b"---\ntags:\n- a\n---\n")
    for header in ("tags: [", "tags:\n- {}", "text"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.upload_file(path_or_fileobj=f"---\n{header}\n---\n".encode(), path_in_repo="README.md", repo_id=REPO)


def test_the_content_of_files_can_be_lied_about(hub: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    for name in ("a.txt", "m.safetensors"):
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo=name, repo_id=REPO)
        hub.lie_about(name, WEIGHTS[::-1])
        path = Path(api.hf_hub_download(REPO, name, cache_dir=tmp_path / "lied"))
        assert path.read_bytes() == WEIGHTS[::-1]  # the client itself looks at the size alone
        hub.lie_about(name, WEIGHTS[:-1])
        with pytest.raises(OSError, match="Consistency check failed"):
            api.hf_hub_download(REPO, name, cache_dir=tmp_path / "short")
