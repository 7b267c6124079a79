"""Sending what a save wrote to a repository of the Hub: one commit, of exactly the files that the save wrote."""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from maquette.errors import SaveError
from maquette.hub.errors import explain_hub, is_unreachable, one_line
from maquette.hub.readme import add_tags, write_card
from maquette.hub.upload_check import LFS_SUFFIXES, Manifest, check_sendable, list_files
from maquette.storage.transaction import Transaction

logger = logging.getLogger(__name__)

CARD = "README.md"
TRIES = 3  # how often to begin anew when somebody else's commit comes between looking and sending


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """How to send; the same for everything that can be saved."""

    commit_message: str | None = None
    commit_description: str | None = None
    private: bool | None = None
    token: str | bool | None = field(default=None, repr=False)
    revision: str | None = None
    create_pr: bool = False
    tags: Sequence[str] = ()
    dry_run: bool = False


class Subject(Protocol):
    """What can be saved, and so be sent."""

    _merges_into: ClassVar[tuple[str, ...]]

    def _write_to(self, transaction: Transaction) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What a revision of a repository holds before the push."""

    repo_id: str
    is_known: bool = True  # False: the Hub could not be asked, which only a dry run puts up with
    exists: bool = False
    has_revision: bool = False
    commit: str | None = None
    private: bool | None = None
    files: Mapping[str, Any] = field(default_factory=dict)


def push(
    subject: Subject, repo_id: str, options: PushOptions, *, saved: Transaction | None = None, **write_options: Any
) -> Any:
    """Send what `subject` saves, as one commit; gives the commit, or with `dry_run` the list of what would be sent.

    Args:
        subject: what is sent.
        repo_id: a repository, `"user/name"`, or `"name"` for one of the user who is logged in.
        options: how to send it.
        saved: a save that is done and is to be sent as it is; unless given, one is made in a temporary folder.
        write_options: what the subject's `_write_to` takes.

    Raises:
        SaveError: what keeps it from being sent, and what to do; no commit was made.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(options.tags, str):
        raise TypeError(f"tags is a list of texts: tags=[{options.tags!r}].")
    api = HfApi(token=options.token)
    with _explaining(repo_id, options.revision):
        for attempt in range(TRIES):
            try:
                return _push_once(api, subject, repo_id, options, saved, write_options)
            except HfHubHTTPError as error:
                if _status(error) != 412 or attempt == TRIES - 1:  # 412: the branch is not what it was
                    raise
    return None


def _push_once(
    api: Any,
    subject: Subject,
    repo_id: str,
    options: PushOptions,
    saved: Transaction | None,
    write_options: Mapping[str, Any],
) -> Any:
    remote = _look(api, repo_id, options)
    _check_privacy(remote, options)
    with tempfile.TemporaryDirectory() as name:
        transaction = saved or _stage(api, subject, remote, Path(name), write_options)
        check_sendable(transaction.folder, transaction.files)
        manifest = Manifest(
            remote.repo_id,
            options.revision or "main",
            transaction.folder,
            transaction.files,
            _stale(transaction, remote),
            _card(api, subject, transaction, remote, options),
        )
        if options.dry_run:
            return list_files(manifest, remote.files if remote.is_known else None, _lfs_patterns(api, remote))
        return _send(api, subject, manifest, _prepare(api, remote, options), options)


# Looking -----------------------------------------------------------------------------------------------------------


def _look(api: Any, repo_id: str, options: PushOptions) -> Remote:
    """Ask what is there; a dry run goes on without an answer."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    full_name = repo_id
    try:
        if "/" not in repo_id and options.token is False:
            raise LocalTokenNotFoundError("token=False")
        if "/" not in repo_id:
            full_name = f"{api.whoami()['name']}/{repo_id}"
        return _describe(api, full_name, options.revision)
    except Exception as error:
        if options.dry_run and (is_unreachable(error) or _is_stranger(error)):
            return Remote(repo_id=full_name, is_known=False)
        raise


def _describe(api: Any, repo_id: str, revision: str | None) -> Remote:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    has_revision = True
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True)
    except RevisionNotFoundError:
        has_revision = False
        try:
            info = api.model_info(repo_id, files_metadata=True)
        except RevisionNotFoundError:  # a repository without any commit
            return Remote(repo_id=repo_id, exists=True, has_revision=revision is None)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return Remote(repo_id=repo_id)
    files = {file.rfilename: file for file in info.siblings or ()}
    state = {"exists": True, "has_revision": has_revision, "private": info.private}
    return Remote(repo_id=info.id, commit=info.sha, files=files, **state)


def _check_privacy(remote: Remote, options: PushOptions) -> None:
    """Refuse to send into the open what the caller wants private: a push does not change who can see a repository."""
    if options.private and remote.private is False:
        raise SaveError(
            f"private=True, but {remote.repo_id!r} is there already, and is public. Nothing was sent. Make it private "
            "in its settings on the Hub, or choose another name."
        )


def _lfs_patterns(api: Any, remote: Remote) -> list[str]:
    """Give the patterns of names that the repository keeps as large files."""
    if ".gitattributes" not in remote.files:
        return [f"*{suffix}" for suffix in LFS_SUFFIXES]
    text = _fetch(api, remote, ".gitattributes").read_text(encoding="utf-8")
    return [line.split()[0] for line in text.splitlines() if "filter=lfs" in line.split()]


def _fetch(api: Any, remote: Remote, name: str) -> Path:
    return Path(api.hf_hub_download(remote.repo_id, name, revision=remote.commit))


# Staging -----------------------------------------------------------------------------------------------------------


def _stage(api: Any, subject: Subject, remote: Remote, folder: Path, write_options: Mapping[str, Any]) -> Transaction:
    """Save into a folder that holds those files of the repository that the save changes instead of replacing."""
    for name in subject._merges_into:
        if name in remote.files:
            shutil.copyfile(_fetch(api, remote, name), folder / name)
    with Transaction(folder) as transaction:
        subject._write_to(transaction, **write_options)
    return transaction


def _stale(transaction: Transaction, remote: Remote) -> list[str]:
    """Name the repository's files that this save takes the place of, such as the shards of larger weights."""
    return sorted(name for name in remote.files if transaction.drops(name))


def _card(api: Any, subject: Subject, transaction: Transaction, remote: Remote, options: PushOptions) -> bytes | None:
    """Write the repository's README.md where it has none; of one that is there, only the tags asked for are added."""
    if CARD in transaction.files:
        return None
    if CARD in remote.files:
        if not options.tags:
            return None
        text = _fetch(api, remote, CARD).read_bytes()
        tagged = add_tags(text, options.tags)
        return tagged if tagged != text else None
    if (transaction.folder / CARD).is_file():  # the user's own, which the save did not write
        return None
    return write_card(subject, transaction, remote.repo_id, options.tags).encode("utf-8")


# Sending -----------------------------------------------------------------------------------------------------------


def _prepare(api: Any, remote: Remote, options: PushOptions) -> Remote:
    """Make the repository and the branch where they are missing."""
    if not remote.exists:
        url = api.create_repo(remote.repo_id, private=options.private, exist_ok=True)
        remote = _describe(api, url.repo_id, options.revision)
        _check_privacy(remote, options)  # somebody else may have made it in the meantime
    if not remote.has_revision and not options.create_pr:
        api.create_branch(remote.repo_id, branch=options.revision, exist_ok=True)
    elif not remote.has_revision:
        raise SaveError(
            f"{remote.repo_id!r} has no revision {options.revision!r} that a pull request could be made against. "
            "Nothing was sent. Leave out revision for one against main."
        )
    return remote


def _send(api: Any, subject: Subject, manifest: Manifest, remote: Remote, options: PushOptions) -> Any:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(manifest.folder / name)) for name in manifest.files
    ]
    if manifest.card is not None:
        operations.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=manifest.card))
    operations += [CommitOperationDelete(path_in_repo=name) for name in manifest.stale]
    commit = api.create_commit(
        remote.repo_id,
        operations,
        commit_message=options.commit_message or f"Upload {type(subject).__name__}",
        commit_description=options.commit_description,
        revision=options.revision,
        create_pr=options.create_pr,
        parent_commit=remote.commit,
    )
    if left_out := [one.path_in_repo for one in operations if getattr(one, "_should_ignore", False)]:
        logger.warning("The .gitignore of %s keeps these out: %s", remote.repo_id, ", ".join(left_out))
    return commit


# What can go wrong -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explaining(repo_id: str, revision: str | None) -> Iterator[None]:
    """Say in one sentence what kept the push from being made."""
    try:
        yield
    except Exception as error:
        if reason := _reason(repo_id, revision, _cause(error)):
            raise SaveError(f"{reason} No commit was made.") from None
        raise


def _cause(error: Exception) -> Exception:
    """Give what the client's `RuntimeError: Error while uploading` is about."""
    return error.__cause__ if type(error) is RuntimeError and isinstance(error.__cause__, Exception) else error


def _reason(repo_id: str, revision: str | None, error: Exception) -> str | None:
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return f"{repo_id!r} cannot be the name of a repository: {one_line(error)}."
    if _is_stranger(error):
        return (
            f"{repo_id!r} cannot be written to: nobody is logged in to the Hub here, or the token is not valid (any "
            "more). Log in with `maquette.login()`, or pass `token=`."
        )
    if _status(error) == 403:
        return f"{repo_id!r} cannot be written to: the token in use has no right to. {_answer(error)}".rstrip()
    if _status(error) == 412:
        return f"{repo_id!r} was changed by others {TRIES} times while this was being sent. Push again."
    if is_unreachable(error):
        return f"The Hub could not be reached for {repo_id!r}: {one_line(error)}."
    explained = explain_hub(repo_id, revision or "main", error)
    return f"{explained} {_answer(error)}".rstrip() if explained else None


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _answer(error: BaseException) -> str:
    message = str(getattr(error, "server_message", None) or "").strip()
    return f"The Hub says: {message.rstrip('.')}." if message else ""


def _is_stranger(error: BaseException) -> bool:
    """Tell whether the Hub does not know who is asking."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    return isinstance(error, LocalTokenNotFoundError) or _status(error) == 401
