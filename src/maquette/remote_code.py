"""Code that came with a checkpoint: whether the caller approved it, and which class of it is meant.

Approvals are remembered in `trust.json` (see `trust_file`), by folder or repository. How the code is imported is in
`code_package`.
"""

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maquette.code_package import CodePackage, is_reference, lock
from maquette.code_package import package_of as package_of
from maquette.code_store import keep_code
from maquette.errors import MaquetteError, RemoteCodeError, UntrustedCodeError, bullets
from maquette.files import Source, open_source
from maquette.pretrained import PretrainedMixin
from maquette.registry import PACKAGE_PREFIX as PACKAGE_PREFIX
from maquette.transaction import locked

logger = logging.getLogger(__name__)


# From a folder's auto_map to a class -----------------------------------------------------------------------------


def load_remote_class(
    source: Source,
    auto_map: Mapping[str, Any],
    auto_class: str,
    *,
    trust: bool | str | None,
    reference: str | None = None,
) -> Any:
    """Load the class that a checkpoint's `auto_map` names for an AutoClass, if the caller approves its code.

    Args:
        source: the checkpoint.
        auto_map: what its configuration says.
        auto_class: `"AutoConfig"`, `"AutoModel"`, …
        trust: `trust_remote_code` as the caller gave it: True, or `"sha256:…"` for exactly this code.
        reference: which class, where the map names several for the AutoClass.

    Raises:
        UntrustedCodeError: not approved, or not the code that was approved; nothing ran.
        RemoteCodeError: approved, but it cannot be imported, or is no class for this AutoClass.
    """
    _check_trust(trust)
    reference = auto_map.get(auto_class) if reference is None else reference
    if auto_class not in auto_map:
        offered = ", ".join(map(repr, sorted(auto_map))) or "nothing"
        raise RemoteCodeError(f"{source.label!r} offers no class for {auto_class}: its auto_map has {offered}.")
    repository, _, own = reference.rpartition("--") if isinstance(reference, str) else ("", "", "")
    if not isinstance(reference, str) or not is_reference(own):
        raise RemoteCodeError(
            f"{source.label!r}: auto_map names {reference!r} for {auto_class}, which is no 'module.Class'."
        )
    if _lies_elsewhere(source, repository, own):
        package = _read_foreign(source, repository, auto_map, trust)
    else:
        package = CodePackage.read(source, auto_map)
    _approve(package, trust)
    keep_code(package)
    found = package.load(own)
    _check_kind(found, reference, auto_class, package.label)
    return found


def _lies_elsewhere(source: Source, repository: str, own: str) -> bool:
    """Tell whether a reference means another repository; a local copy of a repository holds the code itself."""
    if repository in ("", source.label):
        return False
    return source.commit is not None or own.rpartition(".")[0].replace(".", "/") + ".py" not in source.names()


def _read_foreign(
    source: Source, repository: str, auto_map: Mapping[str, Any], trust: bool | str | None
) -> CodePackage:
    """Read code that a checkpoint names in another repository, which the caller has to approve by itself."""
    who = f"{source.label!r} names code of another repository, {repository!r}"
    if not trust:
        raise UntrustedCodeError(
            f"{who}; it was not looked at, and nothing of it was run. Read it, and if you trust it, pass "
            "trust_remote_code=True: the answer says how to approve it."
        )
    other = source.repository(repository)
    package = CodePackage.read(other, auto_map)
    if trust is True and package.identity not in read_trust():
        raise UntrustedCodeError(
            f"{who}, which needs an approval of its own. Nothing of it was run: {_listed(package)}. If you have read "
            f'it and trust it, pass trust_remote_code="sha256:{package.digest}" once.'
        )
    return package


def _check_trust(trust: bool | str | None) -> None:
    if trust is None or isinstance(trust, bool):
        return
    if not isinstance(trust, str) or not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", trust):
        raise ValueError(
            f'trust_remote_code is True, False, or "sha256:" and 64 hexadecimal digits, not {trust!r}. Nothing was run.'
        )


def _check_kind(found: Any, reference: str, auto_class: str, label: str) -> None:
    """Refuse what is no configuration, or no model: the name came from a file."""
    wanted = "a configuration" if auto_class == "AutoConfig" else "a model or a preprocessing class"
    is_ours = isinstance(found, type) and issubclass(found, PretrainedMixin)
    if is_ours and (found._default_auto_class == "AutoConfig") == (auto_class == "AutoConfig"):
        return
    what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    bases = [base.__module__.partition(".")[0] for base in getattr(found, "__mro__", ())]
    raise RemoteCodeError(
        f"{label!r}: auto_map names {reference!r} for {auto_class}, where {wanted} belongs, but that is {what}."
        + " It is of transformers, which is installed here: load it with transformers." * ("transformers" in bases)
    )


def _approve(package: CodePackage, trust: bool | str | None) -> None:
    """Let pass what the caller approved, and record it; refuse anything else."""
    if not trust:
        raise UntrustedCodeError(
            f"{package.label!r} brings its own code, and nothing of it was run: {_listed(package)}. "
            f"If you have read it and trust it, pass trust_remote_code=True, or "
            f'trust_remote_code="sha256:{package.digest}" for exactly this code.'
        )
    recorded = read_trust().get(package.identity)
    if isinstance(trust, str):
        if trust.lower() != f"sha256:{package.digest}":
            raise UntrustedCodeError(
                f"The code of {package.label!r} is not the one you pinned: it is sha256:{package.digest}, not {trust}. "
                "Nothing of it was run."
            )
    elif recorded and recorded["digest"] != package.digest:
        raise UntrustedCodeError(
            f"The code of {package.label!r} is not the code that was approved:{bullets(_changes(recorded, package))}\n"
            f"Nothing of it was run. If you have read the changes and trust them, pass "
            f'trust_remote_code="sha256:{package.digest}" once.'
        )
    record_trust(package)


def _listed(package: CodePackage) -> str:
    names = sorted(package.files)
    return (", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")) or "no Python files"


def _changes(recorded: Mapping[str, Any], package: CodePackage) -> Iterator[str]:
    """Say file by file what differs from the record."""
    before, now = recorded["files"], package.hashes
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} was {'removed' if name not in now else 'changed' if name in before else 'added'}"


# The record of approvals -----------------------------------------------------------------------------------------

_unrecorded: set[Path] = set()


def trust_file() -> Path:
    """Where approvals are kept: `$MAQUETTE_HOME/trust.json`, or `maquette/trust.json` in the user's configuration."""
    home = os.environ.get("MAQUETTE_HOME")
    default = os.path.join(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "maquette")
    return Path(os.path.expanduser(home or default)) / "trust.json"


def read_trust() -> dict[str, Any]:
    """Read the approvals: for each folder or repository its digest, commit and file hashes.

    Raises:
        UntrustedCodeError: there is a record, but it cannot be read; what was approved is then not known.
    """
    file = trust_file()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not all(_is_approval(entry) for entry in content.values()):
            raise ValueError("it does not hold approvals")
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and not os.path.lexists(file):
            return {}
        raise UntrustedCodeError(
            f"The record of approvals {str(file)!r} cannot be read ({error}), so no code is run. Mend it, or remove it "
            "to approve everything anew."
        ) from error
    return content


def _is_approval(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("digest"), str) and isinstance(entry.get("files"), dict)


def record_trust(package: CodePackage) -> None:
    """Remember that this code was approved; where that cannot be written, say so once and go on."""
    entry = {"digest": package.digest, "commit": package.commit, "files": package.hashes}
    if read_trust().get(package.identity) == entry:
        return
    file = trust_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock, locked(file.parent, shared=False):
            _replace_file(file, json.dumps({**read_trust(), package.identity: entry}, indent=2, sort_keys=True))
    except OSError as error:
        if file not in _unrecorded:
            _unrecorded.add(file)
            logger.warning(
                "Approvals of code cannot be recorded in %s (%s); changes to it will go unnoticed.", file, error
            )


def _replace_file(file: Path, content: str) -> None:
    handle, staged = tempfile.mkstemp(prefix="trust.", suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
        os.replace(staged, file)
    except BaseException:
        os.unlink(staged)
        raise


def record_own_save(folder: Path, written: Mapping[str, bytes], auto_map: Mapping[str, Any]) -> None:
    """After saving code of this very process, remember it, unless the folder holds more that nobody approved."""
    try:
        with open_source(folder) as source:
            package = CodePackage.read(source, auto_map)
        approved = read_trust().get(package.identity, {"files": {}})["files"]
        others = {name: digest for name, digest in package.hashes.items() if package.files[name] != written.get(name)}
        if all(approved.get(name) == digest for name, digest in others.items()):
            record_trust(package)
    except MaquetteError as error:  # the save itself is done
        logger.warning("The code that was saved in %s was not recorded as approved: %s", folder, error)
