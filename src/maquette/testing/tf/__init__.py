"""The Keras half of the conformance kit; it runs on Keras' backends TensorFlow and JAX."""

from typing import Any

from maquette.modeling.tf import TFPreTrainedModel
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
from maquette.testing.processes import check_fresh_process, check_travel
from maquette.testing.report import Check, Report
from maquette.testing.subject import examine_with
from maquette.testing.tf.subject import BACKEND, Subject
from maquette.testing.tf.training import check_fit, check_gradients, check_loss, check_statistics

RUNS = ("forward", "determinism")

# In the order in which they run. The fresh process comes last: it reads whatever the others saved.
CHECKS = (
    Check("construction", check_construction),
    Check("forward", check_forward, needs=("construction",)),
    Check("seed", check_seed, needs=("construction",)),
    Check("from_config", check_from_config, needs=("construction", "seed")),
    Check("names", check_names, needs=("forward",)),
    Check("determinism", check_determinism, needs=("forward",)),
    Check("batch", check_batch, needs=RUNS),
    Check("padding", check_padding, needs=RUNS),
    Check("reload", check_reload, needs=RUNS),
    Check("ties", check_ties, needs=("forward",)),
    Check("half_precision", check_half_precision, needs=(*RUNS, "from_config")),
    Check("resizing", check_resizing, needs=(*RUNS, "from_config")),
    Check("loss", check_loss, needs=("forward",)),
    Check("gradients", check_gradients, needs=("forward", "loss")),
    Check("statistics", check_statistics, needs=("forward",)),
    Check("compile", check_compile, needs=RUNS),
    Check("fit", check_fit, needs=(*RUNS, "loss")),
    Check("fresh_process", check_fresh_process, needs=(*RUNS, "reload")),
    Check("travel", check_travel, needs=(*RUNS, "reload")),
)


def examine(model_class: type, config: Any, **options: Any) -> Report:
    """Put every check to a Keras model; `maquette.testing.check_model` says the rest.

    Raises:
        TypeError: not a `TFPreTrainedModel`, a configuration of another class, or another backend of Keras.
    """
    if not issubclass(model_class, TFPreTrainedModel):
        raise TypeError(f"{model_class.__name__} is no TFPreTrainedModel: derive it from maquette.TFPreTrainedModel.")
    if BACKEND not in ("tensorflow", "jax"):
        raise TypeError(f"Keras runs on {BACKEND}; Keras models are examined on its backends tensorflow and jax.")
    return examine_with(Subject, CHECKS, model_class, config, is_given=is_tensor, **options)
