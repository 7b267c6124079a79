"""The Keras half of the conformance kit; it runs on Keras' backends TensorFlow and JAX."""

from typing import Any

from maquette.modeling.tf import TFPreTrainedModel
from maquette.testing.arrays.checks import FIRST, LAST, RUNS
from maquette.testing.comparison import is_tensor
from maquette.testing.report import Check, Report
from maquette.testing.subject import examine_with
from maquette.testing.tf.subject import BACKEND, Subject
from maquette.testing.tf.training import check_fit, check_gradients, check_loss, check_statistics

CHECKS = (
    *FIRST,
    Check("loss", check_loss, needs=("forward",)),
    Check("gradients", check_gradients, needs=("forward", "loss")),
    Check("statistics", check_statistics, needs=("forward",)),
    Check("fit", check_fit, needs=(*RUNS, "loss")),
    *LAST,
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
