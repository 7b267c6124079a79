"""What the code of a checkpoint needs to be installed: noted with a save, and named where it is missing.

Beside `auto_map`, a file says for each installed module that the code imports which distribution it was saved with:

    "code_requirements": {"PIL": "pillow==11.0.0", "maquette": "maquette==0.1.0", "torch": "torch==2.13.0"}
"""

import contextlib
import functools
import importlib.util
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from maquette.errors import MaquetteError
from maquette.hub.sources import Source
from maquette.remote_code.parts import find_maps
from maquette.storage.json_files import read_json
from maquette.storage.version import __version__

logger = logging.getLogger(__name__)

KEY = "code_requirements"
# The files that may hold a map and what its code requires.
MAP_FILES = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_reported: set[tuple[str, str]] = set()


@functools.cache
def is_installed(top: str) -> bool:
    """Tell whether there is such a package; a mere folder of the name, on some path, is none."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


# With a save -------------------------------------------------------------------------------------------------------


def find_requirements(modules: Iterable[str]) -> dict[str, str]:
    """Name the distributions that top-level modules are from, with the versions installed here, and maquette's."""
    found = {"maquette": f"maquette=={__version__}"}
    for module in sorted({*modules} - sys.stdlib_module_names - found.keys()):
        if name := next(iter(_distributions().get(module, ())), None):
            found[module] = f"{name}=={_version(name)}"
    return found


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions  # not at the top: it takes longer than a configuration

    return packages_distributions()


def _version(distribution: str) -> str | None:
    """Give the version that is installed, without the name of the build (`2.13.0+cpu`), which no index has."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        return None


# With a load -------------------------------------------------------------------------------------------------------


def read_requirements(source: Source, auto_map: Mapping[str, Any]) -> dict[str, str]:
    """Read what a checkpoint's code was saved with, from beside its map; empty where that is not said."""
    names = source.names()
    for name in MAP_FILES:
        if name in names and (path := source.find(name)):
            with contextlib.suppress(MaquetteError, OSError):
                for one, holder in find_maps(read_json(path)):
                    if one == auto_map and (found := checked_requirements(holder.get(KEY))):
                        return found
    return {}


def checked_requirements(content: Any) -> dict[str, str]:
    """Keep what has the form of a requirement: it ends up in a command that people copy."""
    if not isinstance(content, Mapping):
        return {}
    form = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._!-]*")
    return {str(name): value for name, value in content.items() if isinstance(value, str) and form.fullmatch(value)}


def explain_requirement(requirements: Mapping[str, str], module: str) -> str:
    """Say what a module was at the save, and how to install it; empty where nothing is known of it."""
    if module not in requirements:
        return ""
    name, _, version = requirements[module].partition("==")
    return f"The code was saved with {name} {version}. Install it: pip install {name}=={version}"


def explain_failure(requirements: Mapping[str, str]) -> str:
    """Say which installed versions are not those of the save; empty where all are."""
    different = [
        f"{name} {version} (here: {here})"
        for name, _, version in (one.partition("==") for one in requirements.values())
        if (here := __version__ if name == "maquette" else _version(name)) not in (None, version)
    ]
    return f"It was saved with {', '.join(different)}." if different else ""


def report_differences(label: str, requirements: Mapping[str, str]) -> None:
    """Log, once, versions that are not those of the save; code mostly works with others too."""
    reason = explain_failure(requirements) if logger.isEnabledFor(logging.INFO) else ""
    if reason and (label, reason) not in _reported:
        _reported.add((label, reason))
        logger.info("The code of %r was loaded. %s", label, reason)
