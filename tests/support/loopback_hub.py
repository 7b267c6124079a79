"""A Hugging Face Hub on loopback, for tests that drive the real client without a network.

To teach the hub a request, write a function that returns a `Reply` or raises a `Refusal`, and put
`@route(method, template)` above it. As on the real hub, large files are redirected to a storage host of another
origin, which here is a second port.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin")
LFS_THRESHOLD = 10 * 2**20


def digest(*parts: object) -> str:
    """Name any plain value with 40 hex digits, the same ones on every run."""
    return hashlib.sha1(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Blob:
    """The content of one file, its git object id, the tag it is cached under, and its `lfs` entry if it is large."""

    data: bytes
    oid: str
    etag: str
    lfs: Mapping[str, Any]

    @classmethod
    def store(cls, path: str, data: bytes) -> Blob:
        """Name a content as the hub does, which for a large file takes a pointer to it into git."""
        stored, sha256, lfs = data, "", {}
        if path.endswith(LFS_SUFFIXES) or len(data) > LFS_THRESHOLD:
            sha256 = hashlib.sha256(data).hexdigest()
            stored = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
            lfs = {"lfs": {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": len(stored)}}
        oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
        return cls(data, oid, sha256 or oid, lfs)


@dataclass(frozen=True)
class Commit:
    """One immutable state of a repository."""

    id: str
    files: Mapping[str, Blob]
    message: str
    date: str
    description: str = ""

    def describe_tree(self) -> dict[str, dict[str, Any]]:
        """List every folder and file by path, in the form the client expects."""
        tree: dict[str, dict[str, Any]] = {}
        for path, blob in self.files.items():
            tree[path] = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.data), **blob.lfs}
            for folder in map(str, list(PurePosixPath(path).parents)[:-1]):
                content = sorted((name, b.oid) for name, b in self.files.items() if name.startswith(f"{folder}/"))
                tree[folder] = {"type": "directory", "path": folder, "oid": digest(content), "size": 0}
        return dict(sorted(tree.items()))


@dataclass
class Repo:
    """A model repository: its commits, the names that point at them, and who may read it."""

    name: str
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    private: bool = False

    def add_commit(
        self, changes: Mapping[str, bytes | None], branch: str, message: str, description: str = ""
    ) -> Commit:
        """Move a branch on by one commit; a new branch starts from the head of `main`."""
        parent = self.branches.get(branch) or self.branches.get("main")
        files = dict(self.commits[parent].files) if parent else {}
        for path, data in changes.items():
            if data is None:
                del files[path]
            else:
                files[path] = Blob.store(path, data)
        number = len(self.commits)
        id = digest(self.name, number, message, sorted((path, blob.oid) for path, blob in files.items()))
        date = f"2024-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
        self.commits[id] = Commit(id, files, message, date, description)
        self.branches[branch] = id
        return self.commits[id]

    def find_commit(self, revision: str) -> Commit:
        """Turn a branch, a tag, or a whole or shortened commit id into the commit it names."""
        if named := self.branches.get(revision) or self.tags.get(revision):
            return self.commits[named]
        matches = [commit for id, commit in self.commits.items() if len(revision) >= 7 and id.startswith(revision)]
        if len(matches) != 1:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return matches[0]


@dataclass(frozen=True)
class Request:
    """What the hub was asked and how it answered; comparisons look at the method, the path and the status only."""

    method: str
    path: str
    status: int = 0
    query: Mapping[str, list[str]] = field(default_factory=dict, compare=False, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    body: bytes = field(default=b"", compare=False, repr=False)

    @property
    def token(self) -> str | None:
        """The bearer token of the caller, if one was sent."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def has_flag(self, name: str) -> bool:
        """Tell whether a query parameter is switched on."""
        return self.query.get(name, [""])[0].lower() in {"true", "1"}


@dataclass(frozen=True)
class Reply:
    """An answer, of which the connection carries only the first `sent` bytes of the body if that is set."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    sent: int | None = None


class Refusal(Exception):  # noqa: N818 - what the hub answers, not what goes wrong in it
    """An error answer, with the headers from which the client picks the exception it raises."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        text = message.encode("ascii", "backslashreplace").decode()
        named = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self.reply = send_json({"error": message}, status, named | dict(headers or {}))


def send_json(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a JSON document."""
    return Reply(status, json.dumps(payload).encode(), {"Content-Type": "application/json", **(headers or {})})


def send_file(hub: LoopbackHub, request: Request, blob: Blob, headers: Mapping[str, str], path: str) -> Reply:
    """Answer with the bytes of a file, or with the part of it that the caller asked for; or with a lie about them."""
    data = hub.lies.get(path, blob.data) if request.method == "GET" else blob.data
    size, body, status = len(data), data, 200
    headers = {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", **headers}
    if match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
        start, stop = int(match[1]), min(int(match[2] or size) + 1, size)
        if start >= stop:
            raise Refusal(416, "", "Range not satisfiable", {"Content-Range": f"bytes */{size}"})
        status, body = 206, body[start:stop]
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Reply(status, body, headers, hub.take_break(len(body)) if request.method == "GET" else None)


Answer = Callable[..., Reply]
ROUTES: list[tuple[str, str, re.Pattern[str], Answer]] = []
PLACEHOLDERS = {"repo": "[^/]+(?:/[^/]+)?", "revision": "[^/]+", "path": ".+", "sha256": "[0-9a-f]{64}"}


def route(method: str, template: str) -> Callable[[Answer], Answer]:
    """Have a function answer one kind of request, given the hub, the request and the text of each placeholder."""
    pieces = re.split(r"\{(\w+)\}", template)
    pattern = "".join(f"(?P<{p}>{PLACEHOLDERS[p]})" if i % 2 else re.escape(p) for i, p in enumerate(pieces))

    def register(answer: Answer) -> Answer:
        ROUTES.append((method, template, re.compile(pattern), answer))
        ROUTES.sort(key=lambda entry: -len(entry[1]))
        return answer

    return register


@route("GET", "/api/models/{repo}")
@route("GET", "/api/models/{repo}/revision/{revision}")
def show_model(hub: LoopbackHub, request: Request, repo: str, revision: str = "main") -> Reply:
    """Answer `model_info`, and so `repo_exists` and `revision_exists`."""
    found = hub.open_repo(request, repo)
    commit = found.find_commit(revision)
    details: dict[str, dict[str, Any]] = {}
    if request.has_flag("blobs"):
        details = {path: {"blobId": b.oid, "size": len(b.data), **b.lfs} for path, b in commit.files.items()}
    payload = {
        "id": repo,
        "author": repo.rpartition("/")[0] or None,
        "sha": commit.id,
        "lastModified": commit.date,
        "private": found.private,
        "gated": "manual" if found.gated else False,
        "tags": ["safetensors"] if any(path.endswith(".safetensors") for path in commit.files) else [],
        "siblings": [{"rfilename": path, **details.get(path, {})} for path in sorted(commit.files)],
    }
    wanted = {"id", *request.query.get("expand", payload)}
    return send_json({key: value for key, value in payload.items() if key in wanted})


@route("GET", "/api/models/{repo}/tree/{revision}")
@route("GET", "/api/models/{repo}/tree/{revision}/{path}")
def show_tree(hub: LoopbackHub, request: Request, repo: str, revision: str, path: str = "") -> Reply:
    """Answer `list_repo_tree`, and so `list_repo_files` and the first step of `snapshot_download`."""
    commit = hub.open_repo(request, repo).find_commit(revision)
    prefix = f"{path}/" if path else ""
    below = {name: entry for name, entry in commit.describe_tree().items() if name.startswith(prefix)}
    if path and not below:
        raise Refusal(404, "EntryNotFound", f"{path} does not exist on {revision}", {"X-Repo-Commit": commit.id})
    deep = request.has_flag("recursive")
    return send_json([entry for name, entry in below.items() if deep or "/" not in name.removeprefix(prefix)])


@route("POST", "/api/models/{repo}/paths-info/{revision}")
def show_paths(hub: LoopbackHub, request: Request, repo: str, revision: str) -> Reply:
    """Answer `get_paths_info`, which leaves out the paths that do not exist."""
    tree = hub.open_repo(request, repo).find_commit(revision).describe_tree()
    return send_json([tree[path] for path in parse_qs(request.body.decode()).get("paths", []) if path in tree])


@route("GET", "/api/models/{repo}/refs")
def show_refs(hub: LoopbackHub, request: Request, repo: str) -> Reply:
    """Answer `list_repo_refs`."""
    found = hub.open_repo(request, repo)
    branches, requests = [], []
    for name, id in found.branches.items():
        is_request = name.startswith("refs/pr/")
        ref = name if is_request else f"refs/heads/{name}"
        (requests if is_request else branches).append({"name": name, "ref": ref, "targetCommit": id})
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": id} for n, id in found.tags.items()]
    return send_json({"branches": branches, "tags": tags, "converts": [], "pullRequests": requests})


@route("GET", "/{repo}/resolve/{revision}/{path}")
def resolve_file(hub: LoopbackHub, request: Request, repo: str, revision: str, path: str) -> Reply:
    """Answer `hf_hub_download` and `file_exists`: small files at once, large ones by way of the storage host."""
    commit = hub.open_repo(request, repo, content=True).find_commit(revision)
    headers = {"X-Repo-Commit": commit.id}
    blob = commit.files.get(path)
    if blob is None:
        raise Refusal(404, "EntryNotFound", "Entry not found", headers)
    if not blob.lfs:
        return send_file(hub, request, blob, headers, path)
    headers["ETag"] = headers["X-Linked-Etag"] = f'"{blob.etag}"'
    headers["X-Linked-Size"] = str(len(blob.data))
    headers["Location"] = f"{hub.storage_endpoint}/storage/{blob.etag}/{quote(path)}"
    return Reply(302, f"Found. Redirecting to {headers['Location']}".encode(), headers)


@route("GET", "/storage/{sha256}/{path}")
def fetch_stored(hub: LoopbackHub, request: Request, sha256: str, path: str) -> Reply:
    """Answer for the storage host, where knowing the address is enough; its path tells readers which file it is."""
    if sha256 not in hub.stored:
        raise Refusal(404, "", f"Nothing is stored for {path}")
    return send_file(hub, request, hub.stored[sha256], {}, path)


class Handler(BaseHTTPRequestHandler):
    """One connection, closed after its answer so that no thread outlives the test."""

    protocol_version = "HTTP/1.1"
    timeout = 10
    server: Server

    def answer(self) -> None:
        """Read a request, record it, and send what the hub answers."""
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_chunked = headers.get("transfer-encoding") == "chunked"
        body = b"".join(self.read_chunks()) if is_chunked else self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.command, url.path, 0, parse_qs(url.query), headers, body)
        reply = self.server.hub.answer(request)
        self.server.hub.requests.append(replace(request, status=reply.status))
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: reply.sent])

    def read_chunks(self) -> Iterator[bytes]:
        """Read a body that comes in pieces, each with its length."""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names http.server looks for

    def log_message(self, *args: object) -> None:
        """Keep access logs out of the output of the tests."""


class Server(ThreadingHTTPServer):
    """One port of the hub, which listens once created and finishes the answers under way when closed."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, hub: LoopbackHub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()


class LoopbackHub:
    """A hub that serves what a test puts in it, for as long as the `with` block lasts."""

    def __init__(self) -> None:
        self.offline = False
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.stored: dict[str, Blob] = {}
        self.accounts: dict[str, Account] = {}
        self.part_size = 5 * 2**20  # larger files are taken in parts
        self.parts: dict[tuple[str, int], bytes] = {}
        self.lies: dict[str, bytes] = {}
        self.ignored: set[str] = set()  # names that a .gitignore of the repository keeps out
        self.expired: set[str] = set()  # tokens that are good no more
        self.lock = threading.RLock()
        self._breaks: list[int] = []

    def __enter__(self) -> Self:
        self._servers = Server(self), Server(self)
        self.endpoint, self.storage_endpoint = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def __exit__(self, *exception: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.thread.join()
            server.server_close()

    def add_commit(
        self, repo: str, files: Mapping[str, bytes | None], branch: str = "main", message: str = "Add files"
    ) -> str:
        """Commit files, `None` for one to delete, creating the repository and the branch as needed; return its id."""
        with self.lock:
            commit = self.repos.setdefault(repo, Repo(repo)).add_commit(files, branch, message)
            self.stored.update({blob.etag: blob for blob in commit.files.values() if blob.lfs})
        return commit.id

    def add_account(self, name: str, token: str, organizations: tuple[str, ...] = (), may_write: bool = True) -> None:
        """Let somebody with this token create repositories of their own, and write to them."""
        self.accounts[token] = Account(name, organizations, may_write)

    def lie_about(self, path: str, data: bytes) -> None:
        """Send other bytes whenever the content of a file of this name is fetched; what is said about it stays."""
        self.lies[path] = data

    def head(self, repo: str, branch: str = "main") -> Commit:
        """Give the newest commit of a branch."""
        return self.repos[repo].commits[self.repos[repo].branches[branch]]

    def add_tag(self, repo: str, tag: str, commit: str) -> None:
        """Give a commit a name that stays with it."""
        self.repos[repo].tags[tag] = self.repos[repo].find_commit(commit).id

    def set_access(self, repo: str, token: str | None = None, gated: bool = False, private: bool = False) -> None:
        """Hide a repository, or just the content of its files, from callers who do not send the token."""
        found = self.repos[repo]
        found.token, found.gated, found.private = token, gated, private

    def break_after(self, size: int, times: int = 1) -> None:
        """Drop the connection after so many bytes in each of the next file responses that are longer than that."""
        self._breaks = [size] * times

    def take_break(self, length: int) -> int | None:
        """Tell how much of a file response to send, `None` for all of it."""
        with self.lock:
            return self._breaks.pop() if self._breaks and self._breaks[-1] < length else None

    def environ(self, cache_dir: str | os.PathLike[str]) -> dict[str, str]:
        """Give the variables with which a subprocess talks to this hub only and keeps its files in one folder."""
        home = Path(cache_dir)
        cleared = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HUGGINGFACE_CO_STAGING")
        disabled = ("XET", "TELEMETRY", "PROGRESS_BARS", "UPDATE_CHECK")
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_TOKEN_PATH": str(home / "token"),
            **dict.fromkeys(cleared, ""),
            **{f"HF_HUB_DISABLE_{name}": "1" for name in disabled},
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
        }

    def answer(self, request: Request) -> Reply:
        """Answer a request by the most specific route that fits it; HEAD is answered like GET."""
        method = "GET" if request.method == "HEAD" else request.method
        try:
            if self.offline:
                raise Refusal(503, "", "Service Unavailable")
            for accepted, _, pattern, answer in ROUTES:
                if method == accepted and (match := pattern.fullmatch(request.path)):
                    return answer(self, request, **{name: unquote(text) for name, text in match.groupdict().items()})
            raise Refusal(404, "", "Sorry, we can't find the page you are looking for.")
        except Refusal as refusal:
            return refusal.reply

    def open_repo(self, request: Request, name: str, content: bool = False) -> Repo:
        """Find a repository, and treat callers who may not see it, or its files' content, as the real hub does."""
        repo = self.repos.get(name)
        known = request.token is not None
        if request.token in self.expired:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        who = self.accounts.get(request.token or "")
        friend = repo is not None and (request.token == repo.token or (who is not None and who.owns(name)))
        if repo is None or (repo.private and not friend):
            message = "Repository not found" if known else "Invalid username or password."
            raise Refusal(404 if known else 401, "RepoNotFound", message)
        if content and repo.gated and not friend:
            raise Refusal(403 if known else 401, "GatedRepo", f"Access to model {name} is restricted.")
        return repo


from loopback_uploads import Account  # noqa: E402 - its routes build on the names above
