"""Approvals of code: what the user approved, what a team approved together, and what differs from it.

An approval holds the sha256 of every Python file of a folder or repository, and the classes that its `auto_map`s named.
The user's are kept in `trust.json` (see `trust_file`), a team's in the project's `maquette.lock`, which counts more.
With `MAQUETTE_TRUST=locked` in the environment nothing else runs, whatever a caller passes.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from maquette.errors import FileFormatError, MaquetteError, UntrustedCodeError, bullets, did_you_mean
from maquette.hub.sources import Source, open_source
from maquette.remote_code.package import CodePackage
from maquette.remote_code.parts import find_maps
from maquette.remote_code.requirements import MAP_FILES
from maquette.storage.json_files import read_json, to_json
from maquette.storage.replacing import replace_file
from maquette.storage.transaction import locked

logger = logging.getLogger(__name__)

LOCK_NAME = "maquette.lock"
MODE = "MAQUETTE_TRUST"
References = dict[str, list[str]]  # by AutoClass, what maps name for it: "module.Class" or "other/repo--module.Class"
_writing = threading.Lock()


# Whether it may run ----------------------------------------------------------------------------------------------


def check_trust(trust: bool | str | None) -> None:
    """Refuse a `trust_remote_code` that is neither a truth value nor a pin, before anything is looked at."""
    if trust is None or isinstance(trust, bool):
        return
    if not isinstance(trust, str) or not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", trust):
        raise ValueError(
            f'trust_remote_code is True, False, or "sha256:" and 64 hexadecimal digits, not {trust!r}. Nothing was run.'
        )


def approve(package: CodePackage, trust: bool | str | None, source: Source) -> None:
    """Let pass what the caller approved, recording it on first use; refuse anything else.

    Raises:
        UntrustedCodeError: with what changed, and the one command that approves it.
    """
    if not trust:
        raise UntrustedCodeError(
            f"{package.label!r} brings its own code, and nothing of it was run: {list_files(package)}. "
            f"If you have read it and trust it, pass trust_remote_code=True, or "
            f'trust_remote_code="sha256:{package.digest}" for exactly this code. `{command(package)}` shows what it '
            "can do. What is data needs no trust: PretrainedConfig.from_pretrained reads its configuration."
        )
    if isinstance(trust, str):
        _check_pin(package, trust)
    approval = find_approval(package.identity)
    changes = list_changes(approval.entry, package) if approval else []
    case = _decide(trust, approval, changes, is_locked=only_recorded())
    if case is Case.UNKNOWN:
        raise _not_recorded(package)
    if case is Case.CHANGED and approval:
        raise _changed(package, changes, approval)
    if case is Case.RECORD:
        known = approval.entry.get("references") if approval and not changes and trust is True else None
        record_trust(package, collect_references(source, package.auto_map) if known is None else known)


class Case(Enum):
    """What becomes of code that the caller wants to run."""

    RUN = "it runs"
    RECORD = "it runs, and is recorded as approved by this user"
    UNKNOWN = "it is refused: nothing is on record"
    CHANGED = "it is refused: something else is on record"


def _decide(trust: bool | str, approval: "Approval | None", changes: list[str], *, is_locked: bool) -> Case:
    """Decide by what the caller says and what is on record.

    ================  ===============  =====================  ==================================
    the caller says   MAQUETTE_TRUST   on record              then
    ================  ===============  =====================  ==================================
    its sha256        not locked       anything               RUN, and RECORD unless a team's
    its sha256, True  locked           nothing                UNKNOWN
    True              not locked       nothing                RECORD
    its sha256, True  locked           other code             CHANGED
    True              not locked       other code             CHANGED
    any               any              this code, by a user   RECORD, unless locked
    any               any              this code, by a team   RUN
    ================  ===============  =====================  ==================================
    """
    is_shared = approval is not None and approval.is_shared
    if isinstance(trust, str) and not is_locked:
        return Case.RUN if is_shared else Case.RECORD
    if approval is None:
        return Case.UNKNOWN if is_locked else Case.RECORD
    if changes:
        return Case.CHANGED
    return Case.RUN if is_locked or is_shared else Case.RECORD


def approve_foreign(package: CodePackage, trust: bool | str, who: str) -> None:
    """Let pass code of another repository than the one that was asked for: only by an approval of its own.

    Args:
        package: the other repository's code.
        trust: `trust_remote_code` as the caller gave it; True is not meant for this code, its own pin is.
        who: which checkpoint names it, for messages.
    """
    if isinstance(trust, str):
        _check_pin(package, trust)
    approval = find_approval(package.identity)
    changes = list_changes(approval.entry, package, maps=False) if approval else []
    case = _decide(trust, approval, changes, is_locked=trust is True or only_recorded())
    if case is Case.UNKNOWN:
        raise UntrustedCodeError(
            f"{who}, which needs an approval of its own. Nothing of it was run: {list_files(package)}. If you have "
            f"read it and trust it, run `{command(package, _way())}`, or pass "
            f'trust_remote_code="sha256:{package.digest}" once.'
        )
    if case is Case.CHANGED and approval:
        raise _changed(package, changes, approval)
    if case is Case.RECORD:
        record_trust(package, approval.entry.get("references") if approval else None)


def _check_pin(package: CodePackage, pin: str) -> None:
    if pin.lower() != f"sha256:{package.digest}":
        raise UntrustedCodeError(
            f"The code of {package.label!r} is not the one you pinned: it is sha256:{package.digest}, not {pin}. "
            "Nothing of it was run."
        )


def _changed(package: CodePackage, changes: list[str], approval: "Approval") -> UntrustedCodeError:
    shared = f" in {str(approval.place)!r}" if approval.is_shared else ""
    way = "--lock" if approval.is_shared else "--approve"
    is_firm = approval.is_shared or only_recorded()
    once = "" if is_firm else f', or pass trust_remote_code="sha256:{package.digest}" once'
    return UntrustedCodeError(
        f"The code of {package.label!r} is not the code that was approved{shared}:{bullets(changes)}\n"
        f"Nothing of it was run. If you have read the changes and trust them, run `{command(package, way)}`{once}."
    )


def _not_recorded(package: CodePackage) -> UntrustedCodeError:
    known = {*read_trust(), *(read_lock() or {})}
    return UntrustedCodeError(
        f"The code of {package.label!r} was never approved here, and {MODE}=locked lets nothing else run, whatever "
        f"trust_remote_code says.{did_you_mean(package.identity, known)} Nothing of it was run: {list_files(package)}. "
        f"If you have read it and trust it, run `{command(package, '--lock')}` for this project, or "
        f"`{command(package, '--approve')}` for this user."
    )


def only_recorded() -> bool:
    """Tell whether `MAQUETTE_TRUST=locked` is set, as for a server: what is not recorded does not run.

    Raises:
        UntrustedCodeError: it is set to something else, so that a slip does not open what was to be closed.
    """
    mode = os.environ.get(MODE, "")
    if mode not in ("", "locked"):
        raise UntrustedCodeError(f"{MODE} is {mode!r}; it may be 'locked' or not set. No code is run.")
    return mode == "locked"


def _way() -> str:
    return "--lock" if find_lock() else "--approve"


def command(package: CodePackage, *options: str) -> str:
    """Phrase the command that shows, or with `--approve` or `--lock` approves, exactly what was looked at."""
    if os.path.isabs(package.identity):
        return " ".join(["maquette trust", shlex.quote(package.identity), *options])
    repository, _, subfolder = package.identity.partition(":")
    at = f"@{package.commit}" if package.commit else ""
    below = [f"--subfolder {shlex.quote(subfolder)}"] if subfolder else []
    return " ".join([f"maquette trust {repository}{at}", *below, *options])


def list_files(package: CodePackage) -> str:
    """Name the Python files of a checkpoint in a message, twenty at most."""
    names = sorted(package.files)
    return (", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")) or "no Python files"


def list_changes(before: Mapping[str, Any], package: CodePackage, *, maps: bool = True) -> list[str]:
    """Say file by file, and class by class of the map, what differs from an approval."""
    return [*_changed_files(before["files"], package.hashes), *(_changed_maps(before, package) if maps else ())]


def _changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    gone = {before[name]: name for name in sorted(before.keys() - now.keys(), reverse=True)}
    moved = {name: gone.pop(now[name]) for name in sorted(now.keys() - before.keys()) if now[name] in gone}
    for name in sorted({*before, *now} - {*moved.values()}):
        if name in moved:
            yield f"{moved[name]} was renamed to {name}"
        elif before.get(name) != now.get(name):
            yield f"{name} was {'removed' if name not in now else 'changed' if name in before else 'added'}"


def _changed_maps(before: Mapping[str, Any], package: CodePackage) -> Iterator[str]:
    approved = before.get("references")
    for auto_class, named in sorted(references_of(package.auto_map).items() if approved is not None else ()):
        known = approved.get(auto_class, []) if approved else []
        for reference in named:
            if reference not in known:
                what = f"where {' or '.join(map(repr, known))} was approved" if known else "where nothing was approved"
                yield f"auto_map names {reference!r} for {auto_class}, {what}"


def references_of(auto_map: Any) -> References:
    """List what a map names for each AutoClass; a tokenizer's map names two classes, or None for one of them."""
    found: References = {}
    for auto_class, named in auto_map.items() if isinstance(auto_map, Mapping) else ():
        each = named if isinstance(named, list) else [named]
        if texts := [reference for reference in each if isinstance(reference, str)]:
            found[str(auto_class)] = sorted(set(texts))
    return found


def merge_references(*several: Mapping[str, Iterable[str]]) -> References:
    """Put what several maps name together."""
    names = sorted({name for one in several for name in one})
    return {name: sorted({text for one in several for text in one.get(name, ())}) for name in names}


def collect_references(source: Source, auto_map: Mapping[str, Any]) -> References:
    """List what every map of a checkpoint names: of its configuration, tokenizer, preprocessing, and their parts."""
    found = [references_of(auto_map)]
    more = [name for name in source.names() if name.endswith(f"/{MAP_FILES[1]}")]  # of a processor's further tokenizers
    for name in dict.fromkeys((source.config_name, *MAP_FILES, *more)):
        with contextlib.suppress(FileFormatError):  # what cannot be read names nothing
            if path := source.find(name):
                found += [references_of(one) for one, _ in find_maps(read_json(path))]
    return merge_references(*found)


# The records -----------------------------------------------------------------------------------------------------

_unrecorded: set[Path] = set()


@dataclass(frozen=True)
class Approval:
    """What was approved for one folder or repository, and the file that says so."""

    entry: Mapping[str, Any]
    place: Path
    is_shared: bool
    """Whether it is of the project's lock file."""


def trust_file() -> Path:
    """Where the user's approvals are kept: `$MAQUETTE_HOME/trust.json`, or in the user's configuration folder."""
    home = os.environ.get("MAQUETTE_HOME")
    default = os.path.join(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "maquette")
    return Path(os.path.expanduser(home or default)) / "trust.json"


def find_approval(identity: str) -> Approval | None:
    """Find what was approved under a folder's path or a repository's name: by the team first, then by the user."""
    lock = find_lock()
    if lock and not _holds(identity, lock) and (entry := _read_record(lock).get(lock_key(lock, identity))):
        return Approval(entry, lock, True)
    entry = read_trust().get(identity)
    return Approval(entry, trust_file(), False) if entry else None


def read_trust() -> dict[str, Any]:
    """Read the user's approvals: for each folder or repository its digest, commit, file hashes and references.

    Raises:
        UntrustedCodeError: there is a record, but it cannot be read; what was approved is then not known.
    """
    return _read_record(trust_file())


def read_lock() -> dict[str, Any] | None:
    """Read the project's approvals, or give None where there is no lock file."""
    lock = find_lock()
    return _read_record(lock) if lock else None


def _read_record(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not all(_is_approval(entry) for entry in content.values()):
            raise ValueError("it does not hold approvals")
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and not os.path.lexists(file):
            return {}
        raise UntrustedCodeError(
            f"The record of approvals {str(file)!r} cannot be read ({error}), so no code is run. Fix it, or remove it "
            "to approve everything anew."
        ) from None
    return content


def _is_approval(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
        return False
    files, references = entry.get("files"), entry.get("references") or {}
    return (
        isinstance(files, dict)
        and all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in files.values())
        and isinstance(references, dict)
        and all(isinstance(value, list) for value in references.values())
    )


def _entry(package: CodePackage, references: References | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"digest": package.digest, "commit": package.commit, "files": package.hashes}
    return entry if references is None else {**entry, "references": references}


def record_trust(package: CodePackage, references: References | None) -> None:
    """Remember that this user approved this code; where that cannot be written, say so once and go on.

    Args:
        package: the code.
        references: what its maps may name; None where only another repository's map led here, so that they are
            recorded when it is loaded by itself.
    """
    entry, file = _entry(package, references), trust_file()
    if read_trust().get(package.identity) == entry:
        return
    try:
        _keep_contents(package)
        _update(file, {package.identity: entry})
    except OSError as error:
        if file not in _unrecorded:
            _unrecorded.add(file)
            logger.warning(
                "Approvals of code cannot be recorded in %s (%s); changes to it will go unnoticed.", file, error
            )


def record_save(package: CodePackage, written: Mapping[str, bytes]) -> None:
    """Remember code that this process saved itself, unless its folder holds more that nobody approved."""
    approved = read_trust().get(package.identity, {"files": {}})
    others = {name: digest for name, digest in package.hashes.items() if package.files[name] != written.get(name)}
    if not only_recorded() and all(approved["files"].get(name) == digest for name, digest in others.items()):
        record_trust(package, merge_references(approved.get("references") or {}, references_of(package.auto_map)))


def revoke(name: str, file: Path) -> None:
    """Take an approval back.

    Raises:
        UntrustedCodeError: there is none of that name; says which is near.
    """
    known = _read_record(file)
    if name not in known:
        raise UntrustedCodeError(f"{str(file)!r} holds no approval of {name!r}.{did_you_mean(name, known)}")
    _update(file, {name: None})
    if file == trust_file():
        _forget_contents(read_trust())


def _update(file: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of a record, as one process and one thread after the other; None removes one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _writing, locked(file.parent, shared=False):
        content = {**_read_record(file), **changes}
        replace_file(file, to_json({name: entry for name, entry in content.items() if entry is not None}).encode())


# The project's lock file -----------------------------------------------------------------------------------------


def find_lock() -> Path | None:
    """Find the lock file of the project: in the working directory, or above it up to the root of the git repository.

    Outside of any repository only the working directory counts.
    """
    return next((folder / LOCK_NAME for folder in _project_folders() if (folder / LOCK_NAME).is_file()), None)


def _project_folders() -> list[Path]:
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return []
    above = [here, *here.parents]
    root = next((depth for depth, folder in enumerate(above) if (folder / ".git").exists()), 0)
    return above[: root + 1]


def _holds(identity: str, lock: Path) -> bool:
    """Tell whether the lock lies in the folder that it would speak of: who changes the code could change it too."""
    return os.path.isabs(identity) and lock.resolve().is_relative_to(identity)


def lock_key(lock: Path, identity: str) -> str:
    """Give the name of a folder or repository in a lock file: a folder of the project goes by its place in it."""
    if not os.path.isabs(identity):
        return identity
    root = lock.parent.resolve()
    path = Path(identity)
    return f"./{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else path.as_posix()


def write_lock(package: CodePackage, references: References) -> Path:
    """Approve code for everyone who works in this project, in its lock file, made at its root where there is none.

    Raises:
        UntrustedCodeError: the lock file would lie in the very folder it approves.
        OSError: it cannot be written.
    """
    folders = _project_folders()
    if not folders:
        raise UntrustedCodeError("There is no working directory, so no project to write a lock file for.")
    lock = find_lock() or folders[-1] / LOCK_NAME
    if _holds(package.identity, lock):
        raise UntrustedCodeError(
            f"{str(lock)!r} lies in the folder that it would approve, where it says nothing: whoever changes the code "
            "could change it too. Keep the checkpoint in a folder of its own, and run this from the project."
        )
    _update(lock, {lock_key(lock, package.identity): _entry(package, references)})
    with contextlib.suppress(OSError):
        lock.chmod(0o644)  # it is to be committed; a temporary file is its owner's alone
        _keep_contents(package)
    return lock


# What was approved, kept to show differences ---------------------------------------------------------------------


def _contents_folder() -> Path:
    return trust_file().parent / "approved"


def _keep_contents(package: CodePackage) -> None:
    """Keep each file under its hash, so that a later change can be shown line by line."""
    folder = _contents_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in package.hashes.items():
        if not (folder / digest).exists():
            replace_file(folder / digest, package.files[name])


def _forget_contents(record: Mapping[str, Any]) -> None:
    needed = {digest for entry in record.values() for digest in entry["files"].values()}
    for path in _contents_folder().glob("?" * 64):
        if path.name not in needed:
            path.unlink(missing_ok=True)


def read_approved(entry: Mapping[str, Any], identity: str, name: str) -> bytes | None:
    """Give the content of a file as it was approved: as it was kept, or from the Hub's commit; None where neither has.

    Only what has the approved hash is given.
    """
    digest = entry["files"].get(name, "")
    repository, _, subfolder = identity.partition(":")
    content = b""
    with contextlib.suppress(MaquetteError, OSError):
        if (kept := _contents_folder() / digest).is_file():
            content = kept.read_bytes()
        elif entry.get("commit") and not os.path.isabs(identity):
            with open_source(repository, revision=entry["commit"], subfolder=subfolder) as source:
                content = source.refer(name).read_bytes()
    return content if hashlib.sha256(content).hexdigest() == digest else None


def record_own_save(
    folder: Path, written: Mapping[str, bytes], auto_map: Mapping[str, Any], part_maps: Iterable[Mapping[str, Any]] = ()
) -> None:
    """After saving code of this very process, remember it, unless the folder holds more that nobody approved."""
    try:
        with open_source(folder) as source:
            named = merge_references(*map(references_of, (auto_map, *part_maps)))
            package = CodePackage.read(source, named)
        record_save(package, written)
    except MaquetteError as error:  # the save itself is done
        logger.warning("The code that was saved in %s was not recorded as approved: %s", folder, error)
