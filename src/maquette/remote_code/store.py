"""Copies of approved code by its hash, so that what one process pickled, another can unpickle.

A pickle of an object whose class came with a checkpoint names that code by its hash. A process that has not loaded the
checkpoint itself (a worker, or tomorrow's script) finds the code here, sees that the bytes have that hash, and that the
user approved it; otherwise nothing runs. One file holds one whole package, so no process ever sees half of it.
"""

import contextlib
import copyreg
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

from maquette.remote_code.names import PACKAGE_PREFIX
from maquette.remote_code.package import CodePackage
from maquette.remote_code.requirements import checked_requirements
from maquette.remote_code.trust import find_approval, read_trust, trust_file
from maquette.storage.replacing import replace_file

logger = logging.getLogger(__name__)


def store_folder() -> Path:
    """Where the copies are: `code` beside the record of approvals."""
    return trust_file().parent / "code"


def keep_code(package: CodePackage) -> None:
    """Keep a copy of code that was approved; where that cannot be written, only other processes will miss it."""
    file = store_folder() / f"{package.name}.json"
    if file.exists():
        return
    content = {
        "label": package.label,
        "identity": package.identity,
        "commit": package.commit,
        "auto_map": dict(package.auto_map),
        "requirements": dict(package.requirements),
        "files": {name: code.decode("utf-8", "surrogateescape") for name, code in package.files.items()},
    }
    with contextlib.suppress(OSError):
        replace_file(file, json.dumps(content).encode("ascii"))


def recall_code(name: str) -> CodePackage:
    """Give the package of that name, if there is an intact copy of it and the user approved it.

    Raises:
        ModuleNotFoundError: there is not; says what to do.
    """
    file = store_folder() / f"{name}.json"
    start = f"{name} is the code of a checkpoint, which this process has not loaded"
    advice = "Load the checkpoint first, with trust_remote_code=True, and then what was pickled from it."
    if not file.is_file():
        raise ModuleNotFoundError(f"{start}, and {str(file.parent)!r} holds no copy of it. {advice}", name=name)
    try:
        package = _read_copy(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModuleNotFoundError(f"{start}, and the copy {str(file)!r} cannot be read. {advice}", name=name) from None
    if package.name != name:
        raise ModuleNotFoundError(
            f"{start}, and the copy {str(file)!r} is not that code: its hash is {package.digest}. Nothing of it was "
            f"run. Remove the file. {advice}",
            name=name,
        )
    if not _is_approved(package):
        raise ModuleNotFoundError(
            f"{start}. There is a copy of it, of {package.label!r}, but no approval (any more); nothing of it was run. "
            f"{advice}",
            name=name,
        )
    package.announce()
    return package


def _read_copy(file: Path) -> CodePackage:
    content = json.loads(file.read_text(encoding="ascii"))
    files = {str(name): str(code).encode("utf-8", "surrogateescape") for name, code in content["files"].items()}
    return CodePackage(
        label=str(content["label"]),
        identity=str(content["identity"]),
        commit=content["commit"],
        auto_map=dict(content["auto_map"]),
        files=files,
        requirements=checked_requirements(content["requirements"]),
    )


def _is_approved(package: CodePackage) -> bool:
    """Tell whether this very code is approved, under the name it was kept with or any other."""
    names = {name for name, entry in read_trust().items() if entry["digest"] == package.digest}
    approvals = [find_approval(name) for name in {package.identity, *names}]
    return any(found is not None and found.entry["digest"] == package.digest for found in approvals)


# Pickles -----------------------------------------------------------------------------------------------------------


def find_pickled(module: str, qualified_name: str) -> Any:
    """Give a class of a checkpoint's code by its names; what a pickle calls, so that maquette is there to find it."""
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualified_name.split("."):
        found = getattr(found, name)
    return found


def pickle_class(cls: type) -> Any:
    """Say how a class is pickled: by its name, that of a checkpoint's code so that any process can look for it."""
    if not cls.__module__.startswith(PACKAGE_PREFIX):
        return cls.__qualname__
    return find_pickled, (cls.__module__, cls.__qualname__)


def pickle_by_code(module: types.ModuleType) -> None:
    """Have the configurations, models and preprocessing classes of a module pickle so, by way of their metaclasses."""
    for meta in {type(found) for found in vars(module).values() if isinstance(found, type)}:
        if meta.__module__.startswith("maquette."):
            copyreg.pickle(meta, pickle_class)
