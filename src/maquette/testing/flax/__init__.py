"""The Flax half of the conformance kit.

A Flax model is compiled again and again here. Let JAX keep what it compiled, and examining takes a third of the time:
`JAX_COMPILATION_CACHE_DIR=<folder> JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`.
"""

from typing import Any

from maquette.modeling.flax import FlaxPreTrainedModel
from maquette.testing.arrays.checks import FIRST, LAST, RUNS
from maquette.testing.comparison import is_tensor
from maquette.testing.flax.subject import Subject
from maquette.testing.flax.training import check_gradients, check_statistics
from maquette.testing.report import Check, Report
from maquette.testing.subject import examine_with

CHECKS = (
    *FIRST,
    Check("gradients", check_gradients, needs=RUNS),
    Check("statistics", check_statistics, needs=("forward",)),
    *LAST,
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
