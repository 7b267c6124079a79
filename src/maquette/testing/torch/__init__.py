"""The torch half of the conformance kit."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from maquette.modeling.torch import PreTrainedModel
from maquette.testing.report import Check, Report, run_checks
from maquette.testing.torch.computing import (
    check_batch,
    check_compile,
    check_determinism,
    check_export,
    check_forward,
    check_half_precision,
    check_padding,
)
from maquette.testing.torch.processes import check_fresh_process, check_travel
from maquette.testing.torch.reshaping import check_pruning, check_resizing
from maquette.testing.torch.saving import (
    check_buffers,
    check_construction,
    check_deepcopy,
    check_from_config,
    check_pickle,
    check_reload,
    check_seed,
    check_ties,
)
from maquette.testing.torch.subject import Subject, seeded
from maquette.testing.torch.training import check_checkpointing, check_gradients, check_loss

RUNS = ("forward", "determinism")

# In the order in which they run. The fresh process comes last: it reads whatever the others saved.
CHECKS = (
    Check("construction", check_construction),
    Check("forward", check_forward, needs=("construction",)),
    Check("seed", check_seed, needs=("construction",)),
    Check("from_config", check_from_config, needs=("construction", "seed")),
    Check("determinism", check_determinism, needs=("forward",)),
    Check("batch", check_batch, needs=RUNS),
    Check("padding", check_padding, needs=RUNS),
    Check("reload", check_reload, needs=RUNS),
    Check("ties", check_ties, needs=("forward",)),
    Check("buffers", check_buffers, needs=("forward",)),
    Check("deepcopy", check_deepcopy, needs=RUNS),
    Check("pickle", check_pickle, needs=RUNS),
    Check("half_precision", check_half_precision, needs=(*RUNS, "from_config")),
    Check("resizing", check_resizing, needs=RUNS),
    Check("pruning", check_pruning, needs=RUNS),
    Check("loss", check_loss, needs=("forward",)),
    Check("gradients", check_gradients, needs=("forward", "loss")),
    Check("checkpointing", check_checkpointing, needs=("forward", "loss")),
    Check("compile", check_compile, needs=RUNS),
    Check("export", check_export, needs=RUNS),
    Check("fresh_process", check_fresh_process, needs=(*RUNS, "reload")),
    Check("travel", check_travel, needs=(*RUNS, "reload")),
)


def examine(
    model_class: type,
    config: Any,
    *,
    skip: Mapping[str, str] | None,
    only: Iterable[str] | None,
    **options: Any,
) -> Report:
    """Put every check to a torch model; `maquette.testing.check_model` says the rest.

    Raises:
        TypeError: not a `PreTrainedModel`, or a configuration of another class.
    """
    if not issubclass(model_class, PreTrainedModel):
        raise TypeError(f"{model_class.__name__} is no PreTrainedModel: derive it from maquette.PreTrainedModel.")
    wanted = model_class._require_config_class()
    if not isinstance(config, wanted):
        raise TypeError(f"{model_class.__name__} is made from a {wanted.__name__}, not from a {type(config).__name__}.")
    for names, values in (("inputs", options["inputs"]), ("labels", options["labels"])):
        _require_tensors(names, values)
    with tempfile.TemporaryDirectory() as folder, _own_approvals(folder), seeded(0), torch.enable_grad():
        subject = Subject(model_class, config, folder=Path(folder), **options)
        return run_checks(model_class.__name__, CHECKS, subject, skip=skip, only=only)


def _require_tensors(name: str, given: Any) -> None:
    if name == "inputs" and given is not None and not isinstance(given, Mapping):
        raise TypeError(f"inputs must be a dictionary by the names of forward's parameters, not a {_kind(given)}.")
    tensors = given.values() if isinstance(given, Mapping) else [] if given is None else [given]
    if wrong := [_kind(value) for value in tensors if not isinstance(value, torch.Tensor)]:
        raise TypeError(f"{name} must be torch tensors by the names of forward's parameters; found a {wrong[0]}.")


def _kind(value: Any) -> str:
    return type(value).__name__


@contextlib.contextmanager
def _own_approvals(folder: str) -> Iterator[None]:
    """Keep the caller's record of approved code free of temporary folders."""
    before = os.environ.get("MAQUETTE_HOME")
    os.environ["MAQUETTE_HOME"] = str(Path(folder) / "maquette-home")
    try:
        yield
    finally:
        os.environ.pop("MAQUETTE_HOME")
        if before is not None:
            os.environ["MAQUETTE_HOME"] = before
