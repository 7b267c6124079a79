"""The Flax half of the conformance kit.

A Flax model is compiled again and again here. Let JAX keep what it compiled, and examining takes a third of the time:
`JAX_COMPILATION_CACHE_DIR=<folder> JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`.
"""

from typing import Any

from maquette.modeling.flax import FlaxPreTrainedModel
from maquette.testing.arrays.computing import (
    check_batch,
    check_compile,
    check_determinism,
    check_forward,
    check_half_precision,
    check_padding,
)
from maquette.testing.arrays.saving import (
    check_construction,
    check_from_config,
    check_names,
    check_reload,
    check_resizing,
    check_seed,
    check_ties,
)
from maquette.testing.comparison import is_tensor
from maquette.testing.flax.subject import Subject
from maquette.testing.flax.training import check_gradients, check_statistics
from maquette.testing.processes import check_fresh_process, check_travel
from maquette.testing.report import Check, Report
from maquette.testing.subject import examine_with

RUNS = ("forward", "determinism")

# In the order in which they run. The fresh process comes last: it reads whatever the others saved.
CHECKS = (
    Check("construction", check_construction),
    Check("forward", check_forward, needs=("construction",)),
    Check("seed", check_seed, needs=("construction",)),
    Check("from_config", check_from_config, needs=("construction", "seed")),
    Check("names", check_names, needs=("forward",)),
    Check("determinism", check_determinism, needs=("forward",)),
    Check("compile", check_compile, needs=("forward", "determinism")),
    Check("batch", check_batch, needs=RUNS),
    Check("padding", check_padding, needs=RUNS),
    Check("reload", check_reload, needs=RUNS),
    Check("ties", check_ties, needs=("forward",)),
    Check("half_precision", check_half_precision, needs=(*RUNS, "from_config")),
    Check("resizing", check_resizing, needs=(*RUNS, "from_config")),
    Check("gradients", check_gradients, needs=RUNS),
    Check("statistics", check_statistics, needs=("forward",)),
    Check("fresh_process", check_fresh_process, needs=(*RUNS, "reload")),
    Check("travel", check_travel, needs=(*RUNS, "reload")),
)


def examine(model_class: type, config: Any, **options: Any) -> Report:
    """Put every check to a Flax model; `maquette.testing.check_model` says the rest.

    Raises:
        TypeError: not a `FlaxPreTrainedModel`, or a configuration of another class.
    """
    if not issubclass(model_class, FlaxPreTrainedModel):
        raise TypeError(
            f"{model_class.__name__} is no FlaxPreTrainedModel: derive it from maquette.FlaxPreTrainedModel."
        )
    return examine_with(Subject, CHECKS, model_class, config, is_given=is_tensor, **options)
