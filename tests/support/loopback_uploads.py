"""What the loopback hub needs to take uploads: accounts, new repositories, branches, large files and commits.

Importing `loopback_hub` brings these routes along.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from loopback_hub import LFS_SUFFIXES, LFS_THRESHOLD, Blob, LoopbackHub, Refusal, Reply, Repo, Request, route, send_json

GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass(frozen=True)
class Account:
    """Somebody with a token, who may write to repositories of some names."""

    name: str
    organizations: tuple[str, ...] = ()
    may_write: bool = True

    def owns(self, repo: str) -> bool:
        """Tell whether a repository is of this account's own name, or of an organization's."""
        return repo.partition("/")[0] in (self.name, *self.organizations)


def account(hub: LoopbackHub, request: Request) -> Account:
    """Give who is asking, or refuse, as the hub does."""
    if request.token in hub.accounts:
        return hub.accounts[request.token]
    raise Refusal(401, "", "Invalid username or password.")


def open_for_writing(hub: LoopbackHub, request: Request, name: str, *, pull_request: bool = False) -> Repo:
    """Find a repository for somebody who may write to it; a pull request may be opened by anybody with a token."""
    repo = hub.open_repo(request, name)
    who = account(hub, request)
    if not who.may_write or not (who.owns(name) or pull_request):
        raise Refusal(403, "", "You don't have the rights to write to this repository")
    return repo


@route("GET", "/api/whoami-v2")
def show_account(hub: LoopbackHub, request: Request) -> Reply:
    """Answer `whoami`."""
    who = account(hub, request)
    organizations = [{"name": name, "roleInOrg": "write"} for name in who.organizations]
    return send_json({"type": "user", "name": who.name, "fullname": who.name, "orgs": organizations, "auth": {}})


@route("POST", "/api/repos/create")
def create_repository(hub: LoopbackHub, request: Request) -> Reply:
    """Answer `create_repo`; as on the real hub, the first commit holds what says which files are large."""
    wanted, who = json.loads(request.body), account(hub, request)
    owner = wanted.get("organization") or who.name
    name = f"{owner}/{wanted['name']}"
    url = {"url": f"{hub.endpoint}/{name}", "name": name}
    if not who.may_write or not who.owns(name):
        raise Refusal(403, "", f"You don't have the rights to create a model under the namespace {owner!r}")
    if name in hub.repos:
        return send_json({"error": "You already created this model repo", **url}, 409)
    hub.add_commit(name, {".gitattributes": GIT_ATTRIBUTES}, message="initial commit")
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    hub.set_access(name, token=request.token, private=private)
    return send_json(url)


@route("DELETE", "/api/repos/delete")
def delete_repository(hub: LoopbackHub, request: Request) -> Reply:
    """Answer `delete_repo`."""
    wanted, who = json.loads(request.body), account(hub, request)
    name = f"{wanted.get('organization') or who.name}/{wanted['name']}"
    open_for_writing(hub, request, name)
    del hub.repos[name]
    return send_json({})


@route("POST", "/api/models/{repo}/branch/{revision}")
def create_branch(hub: LoopbackHub, request: Request, repo: str, revision: str) -> Reply:
    """Answer `create_branch`."""
    found = open_for_writing(hub, request, repo)
    if revision in found.branches:
        raise Refusal(409, "", f"Reference already exists: {revision}")
    start = json.loads(request.body or b"{}").get("startingPoint", "main")
    found.branches[revision] = found.find_commit(start).id
    return send_json({})


@route("POST", "/api/models/{repo}/tag/{revision}")
def create_tag(hub: LoopbackHub, request: Request, repo: str, revision: str) -> Reply:
    """Answer `create_tag`."""
    found, tag = open_for_writing(hub, request, repo), json.loads(request.body)["tag"]
    if tag in found.tags:
        raise Refusal(409, "", f"Tag already exists: {tag}")
    found.tags[tag] = found.find_commit(revision).id
    return send_json({})


@route("POST", "/api/validate-yaml")
def validate_header(hub: LoopbackHub, request: Request) -> Reply:
    """Say what is wrong with the header of a model card, which the client asks before it sends one."""
    match = re.match(r"---\n(.*?)\n---\n", json.loads(request.body)["content"], flags=re.DOTALL)
    errors: list[str] = []
    try:
        header = yaml.safe_load(match[1]) if match else {}
        if not isinstance(header, dict) or not all(isinstance(tag, str) for tag in header.get("tags", [])):
            errors.append('"tags" must be a list of texts')
    except yaml.YAMLError as error:
        errors.append(str(error))
    warnings = [] if match else [{"message": "empty or missing yaml metadata in repo card"}]
    return send_json({"errors": [{"message": text} for text in errors], "warnings": warnings}, 400 if errors else 200)


@route("POST", "/api/models/{repo}/preupload/{revision}")
def plan_upload(hub: LoopbackHub, request: Request, repo: str, revision: str) -> Reply:
    """Say of each file whether it goes the way of large files, and what is there under its name."""
    found = open_for_writing(hub, request, repo, pull_request=request.has_flag("create_pr"))
    there = found.find_commit(revision).files
    planned = []
    for file in json.loads(request.body)["files"]:
        large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_THRESHOLD
        blob = there.get(file["path"])
        entry = {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": file["path"] in hub.ignored,
        }
        planned.append(entry | ({"oid": blob.etag} if blob else {}))
    return send_json({"files": planned})


@route("POST", "/{repo}.git/info/lfs/objects/batch")
def plan_large_files(hub: LoopbackHub, request: Request, repo: str) -> Reply:
    """Say where each large file is to be put, in parts where it is longer than `hub.part_size`; nowhere if stored."""
    open_for_writing(hub, request, repo, pull_request=True)
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        sha256, size = wanted["oid"], wanted["size"]
        if sha256 in hub.stored:
            objects.append(wanted)
            continue
        upload: dict[str, Any] = {"href": f"{hub.storage_endpoint}/upload/{sha256}"}
        if size > hub.part_size:
            count = -(-size // hub.part_size)
            parts = {str(n): f"{hub.storage_endpoint}/part/{sha256}/{n}" for n in range(1, count + 1)}
            parts["chunk_size"] = str(hub.part_size)
            upload = {"href": f"{hub.endpoint}/complete/{sha256}", "header": parts}
        verify = {"href": f"{hub.endpoint}/{repo}.git/info/lfs/objects/verify"}
        objects.append({**wanted, "actions": {"upload": upload, "verify": verify}})
    return send_json({"transfer": "basic", "objects": objects})


def store(hub: LoopbackHub, sha256: str, data: bytes) -> Reply:
    """Keep a large file, if it is what its name says."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refusal(400, "", "The content does not have the hash it was announced with")
    hub.stored[sha256] = Blob.store("any.safetensors", data)
    return send_json({})


@route("PUT", "/upload/{sha256}")
def take_large_file(hub: LoopbackHub, request: Request, sha256: str) -> Reply:
    """Take a large file in one piece, at the storage host."""
    return store(hub, sha256, request.body)


@route("PUT", "/part/{sha256}/{path}")
def take_part(hub: LoopbackHub, request: Request, sha256: str, path: str) -> Reply:
    """Take one part of a large file, at the storage host."""
    hub.parts[sha256, int(path)] = request.body
    return Reply(200, b"", {"ETag": f'"{hashlib.sha256(request.body).hexdigest()}"'})


@route("POST", "/complete/{sha256}")
def join_parts(hub: LoopbackHub, request: Request, sha256: str) -> Reply:
    """Put the parts of a large file together."""
    numbers = [part["partNumber"] for part in json.loads(request.body)["parts"]]
    return store(hub, sha256, b"".join(hub.parts.pop((sha256, number)) for number in numbers))


@route("POST", "/{repo}.git/info/lfs/objects/verify")
def verify_large_file(hub: LoopbackHub, request: Request, repo: str) -> Reply:
    """Confirm that a large file has arrived."""
    wanted = json.loads(request.body)
    stored = hub.stored.get(wanted["oid"])
    if stored is None or len(stored.data) != wanted["size"]:
        raise Refusal(404, "", "The object has not arrived")
    return send_json({})


@route("POST", "/api/models/{repo}/commit/{revision}")
def take_commit(hub: LoopbackHub, request: Request, repo: str, revision: str) -> Reply:
    """Answer `create_commit`: all of its files, or none."""
    pull_request = request.has_flag("create_pr")
    found = open_for_writing(hub, request, repo, pull_request=pull_request)
    header, *lines = [json.loads(line) for line in request.body.splitlines()]
    with hub.lock:
        head = found.find_commit(revision)
        if revision not in found.branches:
            raise Refusal(400, "", f"{revision} is no branch, and cannot be committed to")
        if header["value"].get("parentCommit", head.id) != head.id and not pull_request:
            raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        changes = dict(read_changes(hub, lines, head.files))
        number = sum(name.startswith("refs/pr/") for name in found.branches) + 1
        branch = f"refs/pr/{number}" if pull_request else revision
        if pull_request:
            found.branches[branch] = head.id
        commit = found.add_commit(changes, branch, header["value"]["summary"], header["value"]["description"])
    answer = {"success": True, "commitOid": commit.id, "commitUrl": f"{hub.endpoint}/{repo}/commit/{commit.id}"}
    if pull_request:
        answer["pullRequestUrl"] = f"{hub.endpoint}/{repo}/discussions/{number}"
    return send_json(answer)


def read_changes(
    hub: LoopbackHub, lines: list[dict[str, Any]], there: Mapping[str, Blob]
) -> Iterator[tuple[str, bytes | None]]:
    """Turn the lines of a commit into contents, None for a file to delete."""
    for line in lines:
        kind, value = line["key"], line["value"]
        if kind == "file":
            yield value["path"], base64.b64decode(value["content"])
        elif kind == "lfsFile":
            if value["oid"] not in hub.stored:
                raise Refusal(400, "", f"LFS pointer of {value['path']} leads to a file that is not there")
            yield value["path"], hub.stored[value["oid"]].data
        elif kind == "deletedFile":
            if value["path"] not in there:
                raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
            yield value["path"], None
        elif kind == "deletedFolder":
            yield from ((name, None) for name in there if name.startswith(value["path"].rstrip("/") + "/"))
        else:
            raise Refusal(400, "", f"Unknown operation {kind}")
