"""Which class runs a checkpoint when outputs are compared: its own, one in another framework, or Transformers'."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from maquette.errors import InputError, MissingPackageError, UnknownNameError, did_you_mean
from maquette.registry import PREFIXES
from maquette.workshop.diff.peer import PeerRun, record_peer
from maquette.workshop.diff.recording import Record, record
from maquette.workshop.targets import Target, find_sibling, open_target

FRAMEWORKS = {"torch": "torch", "keras": "tf", "flax": "flax"}  # and what the registry calls them
EXTRAS = {"torch": "torch", "keras": "tf", "flax": "flax"}
PEER = "transformers"


def choose_frameworks(
    frameworks: Sequence[str] | None, peer_python: str | os.PathLike[str] | None
) -> tuple[str | None, str | None]:
    """Check what was asked for; None stands for the framework that a checkpoint's class is of.

    Raises:
        UnknownNameError: a name that there is not.
        InputError: not two of them; or Transformers without an interpreter that has it.
    """
    known = [*FRAMEWORKS, PEER]
    if frameworks is None:
        return None, None if peer_python is None else PEER
    if len(frameworks) != 2:
        raise InputError(
            f"Two frameworks are named, one for each model, as torch,flax; found: {', '.join(frameworks)}."
        )
    for name in frameworks:
        if name not in known:
            raise UnknownNameError(
                f"There is no framework {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
            )
    if PEER in frameworks and peer_python is None:
        raise InputError(
            "Transformers runs in a process of its own: name an interpreter that has it, --peer-python PATH."
        )
    return frameworks[0], frameworks[1]


def run_target(
    name: str,
    framework: str | None,
    inputs: Mapping[str, Any],
    *,
    trust_remote_code: bool | str | None = None,
    peer_python: str | os.PathLike[str] | None = None,
) -> Record:
    """Load a checkpoint in a framework, run it, and give what its modules gave.

    Raises:
        UntrustedCodeError: it brings code that was not approved.
        MissingPackageError: the framework is not installed.
        UnknownNameError: the architecture has no class in it.
        InputError: it has no weights, or does not run on the inputs.
    """
    if framework == PEER:
        assert peer_python is not None
        run = PeerRun(name, _class_in_transformers(name), inputs, trust=trust_remote_code is True)
        [found] = record_peer(peer_python, [run])
        return found
    target = open_target(name, trust_remote_code=trust_remote_code)
    if not target.has_weights:
        raise InputError(f"{name!r} has no weights in safetensors, so it cannot be run to compare outputs.")
    model = _in_framework(target, framework).load()
    return record(model, inputs)


def _in_framework(target: Target, framework: str | None) -> Target:
    if framework is None:
        return target
    if importlib.util.find_spec(framework) is None:
        raise MissingPackageError(
            f"{target.name!r} is to run in {framework}, which is not installed: "
            f"pip install 'maquette[{EXTRAS[framework]}]'."
        )
    return find_sibling(target, FRAMEWORKS[framework])


def _class_in_transformers(name: str) -> str:
    """Name the class that a checkpoint was saved from, as Transformers calls it: torch's, whatever saved it here."""
    import maquette

    auto: Any = maquette.AutoConfig
    try:
        saved = (getattr(auto.from_pretrained(name), "architectures", None) or ["AutoModel"])[0]
    except Exception:  # what only Transformers knows
        return "AutoModel"
    for prefix in filter(None, PREFIXES.values()):
        saved = saved.removeprefix(prefix)
    return str(saved)
