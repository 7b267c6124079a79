"""From a name or a path to files: a local folder, a local file, or a repository of the Hub at one commit.

`open_source` decides once what the user named; everything that a load reads then comes from that `Source`, so that a
configuration and its weights are never of two different commits.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from maquette.errors import MissingFileError, UnsafePathError, did_you_mean
from maquette.transaction import JOURNAL, STAGING_PREFIX, Journal, contained, locked

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"


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

    def names(self) -> list[str]:
        """List every file, as sorted relative paths with `/`."""

    def find(self, name: str) -> Path | None:
        """Give a local path to the file `name`, or None where there is no such file."""

    def refer(self, name: str) -> Path:
        """Give a local path for a name that was read *from a file*: it may not lead out of the source."""


def require(source: Source, name: str) -> Path:
    """Get the file `name` of the source, or say what there is instead."""
    path = source.find(name)
    if path is None:
        names = source.names()
        there = ", ".join(repr(other) for other in names[:12]) + (", …" if len(names) > 12 else "")
        raise MissingFileError(
            f"{source.label!r} has no file {name!r}.{did_you_mean(name, names)} "
            + (f"It holds: {there}." if names else "It holds no files at all.")
        )
    return path


class LocalFolder:
    """A folder on disk, read through the journal of a save that was cut short."""

    commit: str | None = None

    def __init__(self, folder: Path, *, label: str, config_name: str = CONFIG_NAME) -> None:
        self.folder, self.label, self.config_name = folder, label, config_name
        self.identity = str(folder.resolve())
        self.journal = Journal.read(folder)

    def names(self) -> list[str]:
        found = {path.relative_to(self.folder).as_posix() for path in self._walk()}
        if self.journal:
            found = found - set(self.journal.removed) | set(self.journal.files)
        return sorted(found - {JOURNAL})

    def _walk(self) -> Iterator[Path]:
        for root, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(STAGING_PREFIX)]
            yield from (Path(root, name) for name in files)

    def find(self, name: str) -> Path | None:
        path = self.journal.locate(self.folder, name) if self.journal else self.folder / name
        return path if path is not None and path.is_file() else None

    def refer(self, name: str) -> Path:
        contained(self.folder, name)
        return require(self, name)


class HubRepository:
    """A model repository of the Hub at one commit, through huggingface_hub and its cache."""

    def __init__(self, repo_id: str, *, revision: str | None, subfolder: str, options: dict[str, Any]) -> None:
        self.label = self.identity = repo_id
        self.config_name = CONFIG_NAME
        self.subfolder = subfolder.strip("/")
        self.local_only = bool(options.pop("local_files_only", False)) or _hub_offline()
        self.options = options
        self.commit: str | None
        self.commit, self._names = self._resolve(revision or "main")

    def _resolve(self, revision: str) -> tuple[str, list[str] | None]:
        """Ask the Hub for the commit and its files; where it cannot be reached, take what the cache holds."""
        if self.local_only:
            if commit := self._cached_commit(revision):
                return commit, None
            raise MissingFileError(
                f"{self.label!r} (revision {revision!r}) is not in the cache, and no connection may be opened "
                "(local_files_only or HF_HUB_OFFLINE is set). Load it once online, or give a local folder."
            )
        from huggingface_hub import HfApi

        try:
            info = HfApi(token=self.options.get("token")).model_info(self.label, revision=revision, timeout=10)
            return str(info.sha), [file.rfilename for file in info.siblings or ()]
        except Exception as error:
            if not _is_network_error(error):
                raise _explain(self.label, revision, error) from error
            if commit := self._cached_commit(revision):
                logger.warning("The Hub could not be reached (%s); using the cached %s.", _one_line(error), self.label)
                return commit, None
            raise MissingFileError(
                f"The Hub could not be reached for {self.label!r} ({_one_line(error)}), and revision {revision!r} of "
                "it is not in the cache."
            ) from error

    def _cached_commit(self, revision: str) -> str | None:
        folder = self._cache_folder()
        if (reference := folder / "refs" / revision).is_file():
            return reference.read_text(encoding="utf-8").strip()
        return revision if (folder / "snapshots" / revision).is_dir() else None

    def _cache_folder(self) -> Path:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        root = self.options.get("cache_dir") or constants.HF_HUB_CACHE
        return Path(root) / repo_folder_name(repo_id=self.label, repo_type="model")

    def names(self) -> list[str]:
        if self._names is None:
            snapshot = self._cache_folder() / "snapshots" / str(self.commit)
            self._names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        prefix = f"{self.subfolder}/" if self.subfolder else ""
        return sorted(name.removeprefix(prefix) for name in self._names if name.startswith(prefix))

    def find(self, name: str) -> Path | None:
        if name not in self.names():
            return None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(
                hf_hub_download(
                    self.label,
                    name,
                    subfolder=self.subfolder or None,
                    revision=self.commit,
                    local_files_only=self._names is None or self.local_only,
                    **self.options,
                )
            )
        except LocalEntryNotFoundError as error:
            raise MissingFileError(f"{name!r} of {self.label!r} could not be fetched: {_one_line(error)}.") from error

    def refer(self, name: str) -> Path:
        if "\\" in name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
            raise UnsafePathError(
                f"The file name {name!r} is refused: it must stay inside the repository {self.label!r}."
            )
        return require(self, name)


@contextlib.contextmanager
def open_source(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Iterator[Source]:
    """Decide what the user named, and keep it still while it is read.

    A local folder or file comes first; anything else that can be a repository's name is asked of the Hub.

    Raises:
        MissingFileError: no such folder, file, repository or revision; the message says which.
    """
    path = Path(name_or_path).expanduser()
    label = os.fspath(name_or_path)
    if path.is_file():
        yield LocalFolder(path.parent, label=label, config_name=path.name)
    elif path.is_dir():
        if subfolder and not (path / subfolder).is_dir():
            raise MissingFileError(f"The folder {label!r} has no sub-folder {subfolder!r}.")
        with locked(path / subfolder, shared=True):
            yield LocalFolder(path / subfolder, label=label)
    elif _looks_like_path(label):
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise MissingFileError(f"There is no file or folder {label!r}.{did_you_mean(path.name, near)}")
    else:
        options = {"cache_dir": cache_dir, "force_download": force_download, "token": token}
        yield HubRepository(
            label, revision=revision, subfolder=subfolder, options={**options, "local_files_only": local_files_only}
        )


SOURCE_OPTIONS = frozenset({"revision", "subfolder", "cache_dir", "force_download", "local_files_only", "token"})


def _looks_like_path(label: str) -> bool:
    return (
        label.count("/") > 1
        or label.startswith((".", "/", "~"))
        or "\\" in label
        or label.endswith((".json", ".txt", ".safetensors"))
        or not label
    )


def _hub_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _explain(label: str, revision: str, error: Exception) -> Exception:
    """Turn the Hub's answer into one sentence that says which of name, revision and access is wrong."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return MissingFileError(f"{label!r} is gated: ask for access on its page, then pass `token=` or log in.")
    if isinstance(error, RevisionNotFoundError):
        return MissingFileError(f"{label!r} on the Hub has no revision {revision!r}.")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        here = did_you_mean(label, [entry.name for entry in Path().iterdir() if entry.is_dir()])
        return MissingFileError(
            f"{label!r} is neither a local folder nor a repository on the Hub that you may see.{here} "
            "For a private repository, pass `token=` or log in."
        )
    return MissingFileError(f"The Hub refused {label!r}: {_one_line(error)}.")


def _is_network_error(error: BaseException) -> bool:
    """Tell a Hub that cannot be reached, or is out of order, from one that answers no."""
    from huggingface_hub.errors import HfHubHTTPError

    response = getattr(error, "response", None)
    if isinstance(error, HfHubHTTPError) and response is not None:
        return bool(response.status_code >= 500)
    # huggingface_hub speaks through httpx, httpx2 or requests, by its version; the errors of the last are OSErrors
    carriers = {"httpx", "httpx2"}
    return isinstance(error, OSError) or any(base.__module__.split(".")[0] in carriers for base in type(error).__mro__)


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
