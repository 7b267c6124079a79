"""Saving several files so that a reader finds all of them or none, whenever the writing process dies.

Files are written to a staging folder inside the target. One atomic rename then puts a journal beside it, and that is
the moment the save happens: from here on the staged files count. They are moved to their places and the journal goes.
A process that dies before the journal leaves the old files; one that dies after it leaves a journal that `Journal`
readers look through and that the next save finishes. Files that the save does not name are never touched, and the
folder itself stays the same folder, so open terminals and mounts keep working.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from maquette.errors import FileFormatError, SaveError, UnsafePathError
from maquette.storage.paths import check_folder_name, user_path

try:
    import fcntl
except ImportError:  # Windows has no flock: the journal still holds there, concurrent savers are not kept apart
    fcntl = None  # type: ignore[assignment]

JOURNAL = ".maquette-save.json"
STAGING_PREFIX = ".maquette-staged-"
LOCK_SECONDS = 10.0  # then go on without: a lock is a courtesy to readers, the journal is what keeps the promise


def contained(folder: Path, name: str) -> Path:
    """Join a file name that was read from a file to its folder, or refuse: it must stay inside, links included.

    Raises:
        UnsafePathError: the name is absolute, climbs out with `..`, has a backslash or drive, or is a link out.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise UnsafePathError(
            f"The file name {name!r} is refused: a name in {str(folder)!r} must be a plain relative path inside it "
            "(no '..', no leading '/', no backslash)."
        )
    path = folder / name
    whole = folder.resolve()
    roots = [whole]
    for parent in (whole, *whole.parents):  # the Hub's cache: its snapshots are links into blobs/ beside them
        if parent.parent.name == "snapshots" and (parent.parent.parent / "blobs").is_dir():
            roots.append(parent.parent.parent / "blobs")
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise UnsafePathError(
            f"The file name {name!r} is refused: in {str(folder)!r} it is a link that leads out, to "
            f"{str(path.resolve())!r}. Put the file itself into the folder."
        )
    return path


@dataclass(frozen=True)
class Journal:
    """What a committed save still has to move or remove; readers look through it."""

    staging: Path
    files: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Journal | None":
        """Find the journal of a save that was cut short, or None, which is the usual case."""
        try:
            record = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
            staging, files, removed = record["staging"], tuple(record["files"]), tuple(record["removed"])
            if not staging.startswith(STAGING_PREFIX):
                raise ValueError(f"it names {staging!r} as the staging folder")
            return cls(contained(folder, staging), files, removed).checked(folder)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FileFormatError(
                f"{str(folder / JOURNAL)!r} is no journal that maquette wrote ({error}). Remove it if you trust the "
                "other files of the folder."
            ) from None

    def checked(self, folder: Path) -> "Journal":
        """Refuse a journal that names files outside its folder: it was planted, not written here."""
        for name in (*self.files, *self.removed):
            contained(folder, name)
        return self

    def locate(self, folder: Path, name: str) -> Path | None:
        """Say where `name` lies: staged, already moved, or (None) removed by this save."""
        if name in self.removed:
            return None
        staged = self.staging / name
        return staged if name in self.files and staged.exists() else folder / name

    def finish(self, folder: Path) -> None:
        """Move what is staged, remove what is stale; safe to repeat from any point."""
        for name in self.files:
            if (staged := self.staging / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged, folder / name)
        for name in self.removed:
            (folder / name).unlink(missing_ok=True)
        (folder / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.staging, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool) -> Iterator[bool]:
    """Hold the folder while reading (shared) or at the moment of committing; yields whether the lock was had."""
    if fcntl is None or not folder.is_dir():
        yield False
        return
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not (had := _flock(handle, operation)) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield had
    finally:
        os.close(handle)


def _flock(handle: int, operation: int) -> bool:
    try:
        fcntl.flock(handle, operation)
    except OSError:  # held by another process (LOCK_NB), or a file system without locks
        return False
    return True


class Transaction:
    """Collect files for one folder and put them there all at once.

    Use it as a context manager: leaving the block normally commits, leaving it by an exception changes nothing.

    Raises:
        SaveError: the target is a file.
        UnsafePathError: a name would leave the folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = user_path(folder)
        self._files: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._superseded: list[re.Pattern[str]] = []
        self.code: tuple[dict[str, bytes], dict[str, Any]] | None = None  # code staged with a model, and its auto_map
        self.part_maps: list[dict[str, Any]] = []  # those of the parts inside of its configuration

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what was staged."""
        return tuple(self._files)

    def __enter__(self) -> "Transaction":
        if self.folder.exists() and not self.folder.is_dir():
            raise SaveError(f"Cannot save into {str(self.folder)!r}: it is a file. Give a folder, new or existing.")
        check_folder_name(self.folder)
        self._created = _make_folder(self.folder)
        with locked(self.folder, shared=False):
            if journal := Journal.read(self.folder):
                journal.finish(self.folder)
            _sweep(self.folder)
            self.staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=self.folder))
            self._handle = os.open(self.staging, os.O_RDONLY) if fcntl else -1
            if fcntl:
                _flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says to other savers that this one is alive
        return self

    @property
    def home(self) -> "Transaction":
        """The save whose folder code goes into: itself, but for one that is part of another."""
        return self

    def path(self, name: str) -> Path:
        """Announce the file `name` and get the path to write it to."""
        contained(self.staging, name)
        self._files[name] = None
        self._removed.pop(name, None)
        staged = self.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def write(self, name: str, content: str | bytes) -> None:
        """Stage a whole file."""
        self.path(name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)

    def remove(self, name: str) -> None:
        """Have a stale file go with the commit; not an error where it is already gone."""
        if name not in self._files:
            self._removed[name] = None

    def supersede(self, pattern: re.Pattern[str]) -> None:
        """Have every file whose name matches go with the commit, except what is staged."""
        self._superseded.append(pattern)
        for path in self.folder.iterdir():
            if pattern.match(path.name):
                self.remove(path.name)

    def drops(self, name: str) -> bool:
        """Tell whether this save takes away a file of that name, wherever it is put."""
        stale = name in self._removed or any(pattern.match(name) for pattern in self._superseded)
        return stale and name not in self._files

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_committed = False
        try:
            if kind is None:
                self._commit()
                is_committed = True
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)
            if self._handle >= 0:
                os.close(self._handle)
            if not is_committed:
                for folder in self._created:
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def _commit(self) -> None:
        for name in self._files:
            _sync(self.staging / name)
        record = {"staging": self.staging.name, "files": list(self._files), "removed": list(self._removed)}
        staged_journal = self.staging / JOURNAL
        staged_journal.write_text(json.dumps(record), encoding="utf-8")
        _sync(staged_journal)
        _sync(self.staging)
        with locked(self.folder, shared=False):
            os.replace(staged_journal, self.folder / JOURNAL)
            _sync(self.folder)
            Journal(self.staging, tuple(self._files), tuple(self._removed)).finish(self.folder)


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and its parents; return those that were new, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _sweep(folder: Path) -> None:
    """Remove what savers that died before their commit left behind."""
    for orphan in folder.glob(STAGING_PREFIX + "*"):
        if fcntl is None:
            continue
        try:
            handle = os.open(orphan, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(orphan, ignore_errors=True)
        finally:
            os.close(handle)


def _sync(path: Path) -> None:
    """Have the disk hold what was written, so that a commit never points at data that was lost with the power."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # a file system that cannot: the order of the renames still protects a dying process
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # one that could not keep what was written
            raise
    finally:
        os.close(handle)


class Subtransaction(Transaction):
    """The part of a save that goes into one folder of it."""

    def __init__(self, whole: Transaction, name: str) -> None:
        super().__init__(whole.folder / name)
        self.whole, self.prefix = whole, f"{name}/"

    def __enter__(self) -> Transaction:
        raise TypeError("This save belongs to another one, which commits it.")

    @property
    def home(self) -> Transaction:
        """The save that this is part of."""
        return self.whole

    def path(self, name: str) -> Path:
        """Announce a file of the folder and get the path to write it to."""
        return self.whole.path(self.prefix + name)

    def remove(self, name: str) -> None:
        """Have a stale file of the folder go with the commit."""
        self.whole.remove(self.prefix + name)
