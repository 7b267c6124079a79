"""From a name or a path to files: a local folder, a local file, or a repository of the Hub at one commit.

`open_source` decides once what the user named; everything that a load reads then comes from that `Source`, so that a
configuration and its weights are never of two different commits.
"""

import contextlib
import functools
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from maquette.errors import FileFormatError, MissingFileError, did_you_mean
from maquette.hub.errors import (
    entries,
    explaining,
    is_missing_revision,
    is_unreachable,
    not_found,
    one_line,
    similar_folders,
)
from maquette.storage.paths import user_path
from maquette.storage.transaction import JOURNAL, Journal, contained, locked

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
SOURCE_OPTIONS = frozenset({"revision", "subfolder", "cache_dir", "force_download", "local_files_only", "token"})
HUB_SECONDS = 10.0  # how long to wait for the Hub's answer before the cache is looked at


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """How the Hub is asked: the same for every repository that one load reads."""

    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = field(default=None, repr=False)


class Source(Protocol):
    """Where the files of one load come from."""

    label: str
    """The name as the user gave it, for messages."""
    identity: str
    """What approvals are recorded under: the resolved path, or the repository's name."""
    commit: str | None
    """The Hub's commit id of every file, None for a local folder."""
    config_name: str
    """The configuration's file name: the file itself, where the user named a file."""
    note: str
    """What a user should know when a file is missing, as the end of a message."""

    def names(self) -> list[str]:
        """List every file, as sorted relative paths with `/`."""

    def find(self, name: str) -> Path | None:
        """Give a local path to the file `name`, or None where there is no such file."""

    def refer(self, name: str) -> Path:
        """Give a local path for a name that was read *from a file*: it may not lead out of the source."""

    def total_size(self, names: Iterable[str]) -> int:
        """Count the bytes of files that are there, without fetching them."""

    def repository(self, repo_id: str) -> "Source":
        """Open a repository that a file of this source names, with the options this source was opened with."""


def take_source_options(keywords: dict[str, Any]) -> dict[str, Any]:
    """Take those of a caller's keywords out that say where to read from, for `open_source`."""
    return {name: keywords.pop(name) for name in SOURCE_OPTIONS & keywords.keys()}


def require(source: Source, name: str) -> Path:
    """Get the file `name` of the source, or say what there is instead."""
    path = source.find(name)
    if path is None:
        names = source.names()
        there = ", ".join(repr(other) for other in names[:12]) + (", …" if len(names) > 12 else "")
        raise MissingFileError(
            f"{source.label!r} has no file {name!r}.{did_you_mean(name, names[:1000])} "
            + (f"It holds: {there}." if names else "It holds no files at all.")
            + source.note
        )
    return path


# A folder ----------------------------------------------------------------------------------------------------------


class LocalFolder:
    """A folder on disk, read through the journal of a save that was cut short."""

    commit: str | None = None

    def __init__(
        self, folder: Path, *, label: str, config_name: str = CONFIG_NAME, hub: HubOptions | None = None
    ) -> None:
        self.folder, self.label, self.config_name, self.hub = folder, label, config_name, hub or HubOptions()
        self.identity = str(folder.resolve())
        self.note = "" if _looks_like_path(label) else " (This is the local folder; it comes before the Hub.)"
        self.journal = Journal.read(folder)

    @functools.cached_property
    def _names(self) -> list[str]:
        found = set(_walk(self.folder))
        if self.journal:
            found = found - set(self.journal.removed) | set(self.journal.files)
        return sorted(found - {JOURNAL})

    def names(self) -> list[str]:
        return list(self._names)

    def find(self, name: str) -> Path | None:
        path = self.journal.locate(self.folder, name) if self.journal else self.folder / name
        return path if path is not None and os.path.isfile(path) else None

    def refer(self, name: str) -> Path:
        contained(self.folder, name)
        path = require(self, name)
        contained(self.folder, path.relative_to(self.folder).as_posix())  # a staged file could be a link
        return path

    def total_size(self, names: Iterable[str]) -> int:
        return sum(path.stat().st_size for name in names if (path := self.find(name)))

    def repository(self, repo_id: str) -> Source:
        return HubRepository(repo_id, hub=self.hub)


def _walk(folder: Path) -> Iterator[str]:
    """List the files below a folder, without what is never part of a save: hidden folders, caches, environments."""
    waiting = [""]
    while waiting:
        place = waiting.pop()
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError), os.scandir(folder / place) as found:  # what may not be read holds nothing
            entries = list(found)
        if place and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name != "__pycache__":
                    waiting.append(f"{place}{entry.name}/")
            elif entry.is_file():
                yield place + entry.name


# The Hub -----------------------------------------------------------------------------------------------------------


class HubRepository:
    """A model repository of the Hub at one commit, through huggingface_hub and its cache."""

    config_name = CONFIG_NAME

    def __init__(
        self, repo_id: str, *, revision: str | None = None, subfolder: str = "", hub: HubOptions | None = None
    ) -> None:
        from huggingface_hub import constants

        _check_name(repo_id)
        self.label, self.revision, self.hub = repo_id, revision or "main", hub or HubOptions()
        self.subfolder = subfolder.strip("/")
        self.identity = f"{repo_id}:{self.subfolder}" if self.subfolder else repo_id
        self.note = ""
        self.commit: str | None = None
        self._listed: dict[str, Any] | None = None  # what the Hub says of its files; None where only the cache counts
        self._fetched: dict[str, Path] = {}
        offline = self.hub.local_files_only or constants.HF_HUB_OFFLINE
        if offline and self.hub.force_download:
            raise ValueError("force_download=True needs the Hub, which local_files_only or HF_HUB_OFFLINE rules out.")
        if offline:
            self._use_cache("no connection may be opened: local_files_only or HF_HUB_OFFLINE is set")
        else:
            self._ask()

    def _ask(self) -> None:
        """Ask the Hub for the commit and its files; where it cannot be reached, take what the cache holds."""
        from huggingface_hub import HfApi

        try:
            with explaining(self.label, self.revision):
                info = HfApi(token=self.hub.token).model_info(
                    self.label, revision=self.revision, timeout=HUB_SECONDS, files_metadata=True
                )
        except MissingFileError as error:
            if is_missing_revision(error.__context__):
                raise MissingFileError(f"{error}{self._similar_revisions()}") from None
            if self.hub.force_download or not is_unreachable(error.__context__):
                raise
            self._use_cache(f"the Hub could not be reached: {one_line(error.__context__ or error)}")
            logger.warning("%s is read from the cache: %s", self.label, error)
        else:
            self.commit, self._listed = str(info.sha), {file.rfilename: file for file in info.siblings or ()}

    def _similar_revisions(self) -> str:
        """Suggest a branch or tag of a similar name; without an answer, none."""
        from huggingface_hub import HfApi

        with contextlib.suppress(Exception):
            refs = HfApi(token=self.hub.token).list_repo_refs(self.label)
            return did_you_mean(self.revision, [ref.name for ref in (*refs.branches, *refs.tags)])
        return ""

    def _use_cache(self, reason: str) -> None:
        """Take the commit that the cache knows under the revision; no connection is opened from here on."""
        self.commit = self._cached_commit()
        if self.commit is None:
            raise MissingFileError(
                f"{self.label!r} is no local folder, its revision {self.revision!r} is not in the cache, and {reason}."
                f"{similar_folders(self.label)} Load it once online, or give a local folder."
            ) from None
        self.note = f" Only the cache was looked at, which may hold a part of the repository ({reason})."

    def _cached_commit(self) -> str | None:
        """Find the commit of a branch, a tag, or a commit id or its beginning among the cached ones."""
        cache = self._cache_folder()
        reference = cache / "refs" / self.revision
        known = [path.name for path in (cache / "snapshots").glob("*") if path.is_dir()]
        wanted = reference.read_text(encoding="utf-8").strip() if reference.is_file() else self.revision
        matches = [commit for commit in known if commit == wanted or (len(wanted) >= 7 and commit.startswith(wanted))]
        return matches[0] if len(matches) == 1 else None

    def _cache_folder(self) -> Path:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        root = self.hub.cache_dir or constants.HF_HUB_CACHE
        return user_path(root) / repo_folder_name(repo_id=self.label, repo_type="model")

    @property
    def _snapshot(self) -> Path:
        return self._cache_folder() / "snapshots" / str(self.commit) / self.subfolder

    @functools.cached_property
    def _names(self) -> dict[str, None]:
        if self._listed is None:
            return dict.fromkeys(sorted(_walk(self._snapshot)))
        prefix = f"{self.subfolder}/" if self.subfolder else ""
        return dict.fromkeys(sorted(name.removeprefix(prefix) for name in self._listed if name.startswith(prefix)))

    def names(self) -> list[str]:
        return list(self._names)

    def find(self, name: str) -> Path | None:
        if name not in self._names:
            return None
        if name not in self._fetched:
            self._fetched[name] = self._snapshot / name if self._listed is None else self._download(name)
        return self._fetched[name]

    def _download(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download

        place = self._snapshot / name
        is_new = self.hub.force_download or not place.exists()
        with explaining(self.label, str(self.commit), name):
            path = hf_hub_download(
                self.label,
                name,
                subfolder=self.subfolder or None,
                revision=self.commit,
                cache_dir=self._cache_folder().parent,
                force_download=self.hub.force_download,
                token=self.hub.token,
            )
        if is_new:
            self._verify(name, Path(path))
        self._note_revision()
        return Path(path)

    def _described(self, name: str) -> Any:
        """Give what the Hub says of a file: its size and hash."""
        return (self._listed or {})[f"{self.subfolder}/{name}".lstrip("/")]

    def _verify(self, name: str, path: Path) -> None:
        """Compare a file that just came with the hash that the Hub's API gives for it; what differs is thrown away."""
        from maquette.hub.hashes import hash_file

        file = self._described(name)
        expected = file.lfs.sha256 if file.lfs else file.blob_id
        if not expected or hash_file(path, git=not file.lfs) == expected:
            return
        for place in {path, path.resolve()}:  # the link in the snapshot, and the file among the blobs
            place.unlink(missing_ok=True)
        raise FileFormatError(
            f"{name!r} of {self.label!r} did not arrive as it is on the Hub: its size is right, its hash is not. It "
            "was removed from the cache, unread. Load it again; if that goes on, something on the way changes files."
        )

    def _note_revision(self) -> None:
        """Have the cache know which commit the revision was, so that the same load works offline."""
        reference = self._cache_folder() / "refs" / self.revision
        if self.revision == self.commit or ".." in Path(self.revision).parts:
            return
        with contextlib.suppress(OSError):  # a cache that may only be read
            if reference.is_file() and reference.read_text(encoding="utf-8").strip() == self.commit:
                return
            reference.parent.mkdir(parents=True, exist_ok=True)
            staged = reference.with_name(f"{reference.name}.{uuid.uuid4().hex}.tmp")
            staged.write_text(str(self.commit), encoding="utf-8")
            os.replace(staged, reference)

    def cached(self, name: str) -> Path | None:
        """Give a local path to a file that was fetched before, without asking for it."""
        path = self._snapshot / name
        return path if path.is_file() else None

    def refer(self, name: str) -> Path:
        contained(self._snapshot, name)
        path = require(self, name)
        contained(self._snapshot, name)  # whether it is a link is known once it was fetched
        return path

    def total_size(self, names: Iterable[str]) -> int:
        total = 0
        for name in names:
            if (path := self._snapshot / name).is_file():
                total += path.stat().st_size
            elif self._listed is not None:
                total += self._described(name).size or 0
        return total

    def repository(self, repo_id: str) -> Source:
        return HubRepository(repo_id, hub=self.hub)


def _check_name(repo_id: str) -> None:
    """Refuse what cannot be a repository's name before anything is looked up under it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise not_found(repo_id) from None


# Which of them the user named --------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_source(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Iterator[Source]:
    """Decide what the user named, and keep it still while it is read.

    A local folder or file comes first; anything else that can be a repository's name is asked of the Hub.

    Raises:
        MissingFileError: no such folder, file, repository or revision, or no access; the message says which.
    """
    label = os.fspath(name_or_path)
    hub = HubOptions(cache_dir=cache_dir, force_download=force_download, local_files_only=local_files_only, token=token)
    path = _expanded(label)
    if os.path.isdir(path):
        folder = _subfolder(path, subfolder, label)
        with locked(folder, shared=True):
            yield LocalFolder(folder, label=label, hub=hub)
    elif os.path.isfile(path):
        with locked(path.parent, shared=True):
            yield LocalFolder(path.parent, label=label, config_name=path.name, hub=hub)
    elif isinstance(name_or_path, os.PathLike) or _looks_like_path(label) or os.path.lexists(path):
        raise MissingFileError(_no_such_path(label, path))
    else:
        yield HubRepository(label, revision=revision, subfolder=subfolder or "", hub=hub)


def _expanded(label: str) -> Path:
    if not isinstance(label, str):
        raise TypeError(f"A name or path is a text, not {label!r}.")
    if not label.strip():
        raise MissingFileError(f"{label!r} names no folder, file or repository. For the folder you are in, pass '.'.")
    return user_path(label)


def _subfolder(path: Path, subfolder: str | None, label: str) -> Path:
    folder = path / (subfolder or "")
    if not folder.is_dir():
        raise MissingFileError(
            f"The folder {label!r} has no sub-folder {subfolder!r}.{did_you_mean(str(subfolder), entries(path))}"
        )
    return folder


def _looks_like_path(label: str) -> bool:
    """Tell what can only be meant as a path, so that a mistyped one is not asked of the Hub."""
    return (
        label.count("/") > 1
        or label.startswith((".", "/", "~"))
        or label.endswith(("/", ".json", ".txt", ".safetensors"))
        or "\\" in label
        or re.match("[A-Za-z]:", label) is not None
    )


def _no_such_path(label: str, path: Path) -> str:
    """Say at which part of a path the trouble begins, and what is there instead."""
    wrong = path
    while not os.path.isdir(wrong.parent) and wrong.parent != wrong:
        wrong = wrong.parent
    message = f"There is no file or folder {label!r}."
    if os.path.lexists(wrong):
        what = "a file" if os.path.isfile(wrong) else "a broken link, or neither a file nor a folder"
        return f"{message} {str(wrong)!r} is {what}."
    place = "" if wrong == path else f" {str(wrong.parent)!r} has no {wrong.name!r}."
    return message + place + did_you_mean(wrong.name, entries(wrong.parent))


class Subfolder:
    """A folder of a source as a source of its own: where a second tokenizer lies."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.prefix = source, f"{name}/"
        self.label, self.identity = f"{source.label}/{name}", source.identity
        self.commit, self.config_name, self.note = source.commit, CONFIG_NAME, source.note
        if not self.names():
            raise MissingFileError(f"{source.label!r} has no folder {name!r}, where the part {name!r} belongs.")

    def names(self) -> list[str]:
        """List the files of the folder."""
        own = (name for name in self.source.names() if name.startswith(self.prefix))
        return [name.removeprefix(self.prefix) for name in own]

    def find(self, name: str) -> Path | None:
        """Give a local path to a file of the folder."""
        return self.source.find(self.prefix + name)

    def refer(self, name: str) -> Path:
        """Give a local path for a name that was read from a file."""
        return self.source.refer(self.prefix + name)

    def total_size(self, names: Iterable[str]) -> int:
        """Count the bytes of files of the folder."""
        return self.source.total_size(self.prefix + name for name in names)

    def repository(self, repo_id: str) -> Source:
        """Open another repository."""
        return self.source.repository(repo_id)
