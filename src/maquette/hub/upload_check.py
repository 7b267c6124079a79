"""The files of one push: what may be sent at all, and the list of them that a dry run gives."""

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from maquette.errors import SaveError, bullets
from maquette.hub.hashes import hash_file

LFS_THRESHOLD = 10 * 2**20  # from this size on, the Hub keeps any file as a large one
# What a new repository of the Hub keeps as large files, as far as a save could write it.
LFS_SUFFIXES = (".safetensors", ".bin", ".model", ".msgpack", ".npy", ".npz", ".h5", ".onnx", ".zip", ".gz", ".tar")
PICKLES = re.compile(r"\.(pkl|pickle|pck|pcl|pt|pth|ckpt|joblib|dill)$", re.IGNORECASE)
SECRET_NAMES = re.compile(
    r"^(id_(rsa|dsa|ecdsa|ed25519).*|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ovpn)|_?(netrc|pypirc|npmrc|htpasswd)"
    r"|(credentials?|secrets?|token|passwords?)(\.(json|ya?ml|toml|ini|cfg|txt|env|csv))?|.*\.env)$",
    re.IGNORECASE,
)
# Each begins with letters that are looked for as such, which is fast.
SECRETS = (
    ("a token of the Hub", rb"hf_[A-Za-z0-9]{30,}"),
    ("a key of AWS", rb"AKIA[0-9A-Z]{16}"),
    ("a token of GitHub", rb"gh[pousr]_[A-Za-z0-9]{36,}"),
    ("a token of GitHub", rb"github_pat_[A-Za-z0-9_]{50,}"),
    ("a token of GitLab", rb"glpat-[A-Za-z0-9_-]{20,}"),
    ("a key of Google", rb"AIza[0-9A-Za-z_-]{35}"),
    ("a token of Slack", rb"xox[abeprs]-[A-Za-z0-9-]{20,}"),
    ("an API key", rb"sk-[A-Za-z0-9_-]{32,}"),
    ("a private key", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
)
READ_AT_MOST = 2**26  # of a file that is no weights, how much is searched


@dataclass(frozen=True)
class SentFile:
    """One file of a push."""

    path: str
    size: int
    kind: str
    """`"lfs"` for what the Hub keeps as a large file, `"regular"` for the rest."""
    state: str
    """`"new"`, `"changed"`, `"unchanged"` (not sent), `"removed"`, or `"unknown"` where the Hub could not be asked."""


@dataclass(frozen=True)
class Upload:
    """What a push would send, and where: what `dry_run=True` gives. Printed, it is a table."""

    repo_id: str
    revision: str
    files: tuple[SentFile, ...]

    def __iter__(self) -> Iterator[SentFile]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        rows = [f"{file.size:>15,}  {file.kind:<8}{file.state:<10}{file.path}" for file in self.files]
        sent = [file for file in self.files if file.state not in ("unchanged", "removed")]
        total = f"{sum(file.size for file in sent):,} bytes in {len(sent)} files"
        return "\n".join([f"{self.repo_id}, {self.revision}: {total} to send", *rows])


@dataclass(frozen=True)
class Manifest:
    """The files of one push: those of a save, those that go because of it, and the card, where one is written."""

    repo_id: str
    revision: str
    folder: Path
    files: tuple[str, ...]
    stale: list[str]
    card: bytes | None


def list_files(manifest: Manifest, there: Mapping[str, Any] | None, lfs_patterns: Iterable[str]) -> Upload:
    """Compare what would be sent with what is there (None: not known)."""
    patterns = list(lfs_patterns)
    found = []
    for name in manifest.files:
        path = manifest.folder / name
        size = path.stat().st_size
        found.append(SentFile(name, size, _kind(name, size, patterns), _state(name, path, there)))
    if manifest.card is not None:
        state = "unknown" if there is None else "changed" if "README.md" in there else "new"
        found.append(SentFile("README.md", len(manifest.card), "regular", state))
    for name in manifest.stale:
        file = (there or {})[name]
        found.append(SentFile(name, file.size or 0, "lfs" if file.lfs else "regular", "removed"))
    return Upload(manifest.repo_id, manifest.revision, tuple(sorted(found, key=lambda file: file.path)))


def _kind(name: str, size: int, patterns: Iterable[str]) -> str:
    large = size > LFS_THRESHOLD or any(fnmatch(name.rpartition("/")[2], pattern) for pattern in patterns)
    return "lfs" if large and size else "regular"


def _state(name: str, path: Path, there: Mapping[str, Any] | None) -> str:
    if there is None:
        return "unknown"
    if name not in there:
        return "new"
    file = there[name]
    same = file.size == path.stat().st_size and hash_file(path, git=not file.lfs) == (
        file.lfs.sha256 if file.lfs else file.blob_id
    )
    return "unchanged" if same else "changed"


# What may not be sent ----------------------------------------------------------------------------------------------


def check_sendable(folder: Path, names: Iterable[str]) -> None:
    """Look through what is about to be sent, before anything is.

    Raises:
        SaveError: listing hidden files, links, pickles, and what looks like a secret, by its name or in its text.
    """
    faults = [f"{name}: {fault}" for name in names if (fault := _fault(folder, name))]
    if faults:
        raise SaveError(
            f"Nothing was sent, because of what must not be:{bullets(faults)}\nChange what the save writes, or take it "
            "out of the text, and push again. A token that was in a file should be revoked."
        )


def _fault(folder: Path, name: str) -> str | None:
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "a hidden file"
    places = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    if any(place.is_symlink() for place in places):
        return "a link, or behind one"
    if not stat.S_ISREG(places[-1].lstat().st_mode):
        return "not a plain file"
    if SECRET_NAMES.match(parts[-1]):
        return "by its name, a secret"
    if PICKLES.search(name) or _is_pickle(places[-1]):
        return "a pickle, which runs code when it is read"
    return None if name.endswith(".safetensors") else _secret_in(places[-1])


def _is_pickle(path: Path) -> bool:
    """Tell a pickle by its first bytes and its last, and torch's archives of them by what they hold."""
    with path.open("rb") as stream:
        start = stream.read(2**16)
        stream.seek(max(0, path.stat().st_size - 1))
        end = stream.read(1)
    protocol = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return (protocol and end == b".") or (start[:4] == b"PK\x03\x04" and b"data.pkl" in start)


def _secret_in(path: Path) -> str | None:
    """Name the kind of a secret in a file, and its line; never the secret."""
    with path.open("rb") as stream:
        content = stream.read(READ_AT_MOST)
    for kind, pattern in SECRETS:
        for match in re.finditer(pattern, content):
            before = content[max(0, match.start() - 1) : match.start()]
            if not re.match(rb"[A-Za-z0-9_-]", before):  # else it is the middle of another word
                line = content[: match.start()].count(b"\n") + 1
                return f"line {line} looks like {kind}"
    return None
