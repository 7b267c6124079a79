"""Code that came with a checkpoint: which class of it is meant, loaded once the caller approved it (`trust`).

How the code is imported is in `package` and `importing`.
"""

import logging
import shlex
from collections.abc import Mapping
from typing import Any

from maquette.errors import RemoteCodeError, UntrustedCodeError
from maquette.hub.sources import Source
from maquette.remote_code.package import CodePackage, is_reference
from maquette.remote_code.store import keep_code
from maquette.remote_code.trust import approve, approve_foreign, check_trust, only_recorded

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
    check_trust(trust)
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
        approve(package, trust, source)
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
    """Read code that a checkpoint names in another repository, if that has an approval of its own.

    The checkpoint itself has to be approved as well, since its map chooses; a pin speaks for the other code alone.
    """
    who = f"{source.label!r} names code of another repository, {repository!r}"
    if not trust:
        raise UntrustedCodeError(
            f"{who}; it was not looked at, and nothing of it was run. Read it: `maquette trust "
            f"{shlex.quote(repository)}` shows what it can do. If you trust it, pass trust_remote_code=True: the "
            "answer says how to approve it."
        )
    package = CodePackage.read(source.repository(repository), auto_map)
    approve_foreign(package, trust, who)
    if trust is True or only_recorded():
        approve(CodePackage.read(source, auto_map), True, source)
    return package


def _check_kind(found: Any, reference: str, auto_class: str, label: str) -> None:
    """Refuse what is no configuration, or no model: the name came from a file."""
    wanted = "a configuration" if auto_class == "AutoConfig" else "a model or a preprocessing class"
    kind = getattr(found, "_default_auto_class", None) if isinstance(found, type) else None  # our classes say theirs
    if kind and (kind == "AutoConfig") == (auto_class == "AutoConfig"):
        return
    what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    bases = [base.__module__.partition(".")[0] for base in getattr(found, "__mro__", ())]
    raise RemoteCodeError(
        f"{label!r}: auto_map names {reference!r} for {auto_class}, where {wanted} belongs, but that is {what}."
        + " It is of transformers, which is installed here: load it with transformers." * ("transformers" in bases)
    )
