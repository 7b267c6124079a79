"""The torch half of the conformance kit."""

from typing import Any

import torch

from maquette.modeling.torch import PreTrainedModel
from maquette.testing.basics import check_construction, check_forward, check_from_config, check_reload, check_seed
from maquette.testing.carrying import check_state
from maquette.testing.frameworks import check_frameworks
from maquette.testing.processes import check_fresh_process, check_travel
from maquette.testing.report import Check, Report
from maquette.testing.subject import examine_with
from maquette.testing.torch.computing import (
    check_batch,
    check_compile,
    check_determinism,
    check_export,
    check_half_precision,
    check_padding,
)
from maquette.testing.torch.generating import check_cache, check_causality, check_generation, check_ragged
from maquette.testing.torch.reshaping import check_pruning, check_resizing
from maquette.testing.torch.saving import (
    check_buffers,
    check_deepcopy,
    check_pickle,
    check_ties,
)
from maquette.testing.torch.subject import Subject
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
    Check("causality", check_causality, needs=RUNS),
    Check("cache", check_cache, needs=(*RUNS, "causality")),
    Check("ragged", check_ragged, needs=(*RUNS, "causality")),
    Check("generation", check_generation, needs=(*RUNS, "causality", "cache", "ragged")),
    Check("state", check_state, needs=RUNS),
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
    Check("frameworks", check_frameworks, needs=(*RUNS, "reload")),
    Check("fresh_process", check_fresh_process, needs=(*RUNS, "reload")),
    Check("travel", check_travel, needs=(*RUNS, "reload")),
)


def examine(model_class: type, config: Any, **options: Any) -> Report:
    """Put every check to a torch model; `maquette.testing.check_model` says the rest.

    Raises:
        TypeError: not a `PreTrainedModel`, or a configuration of another class.
    """
    if not issubclass(model_class, PreTrainedModel):
        raise TypeError(f"{model_class.__name__} is no PreTrainedModel: derive it from maquette.PreTrainedModel.")
    with torch.enable_grad():
        return examine_with(Subject, CHECKS, model_class, config, is_given=torch.is_tensor, **options)
