"""`check_model`: whether a model keeps what it promises, with the half of the kit that its framework has."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from maquette.testing.halves import half_of
from maquette.testing.report import Report


def check_model(
    model_class: type,
    config: Any,
    *,
    inputs: Mapping[str, Any] | None = None,
    labels: Any = None,
    heads_to_prune: Mapping[int, Iterable[int]] | None = None,
    counterparts: Iterable[type | str] = (),
    tolerance: float = 1e-4,
    skip: Mapping[str, str] | None = None,
    only: Iterable[str] | None = None,
) -> Report:
    """Learn everything that is wrong with a model at once, or have it in writing that nothing is.

    Saves go to a temporary folder; random states and the record of approvals are as before afterwards. Choose a small
    configuration: the model is built about twenty times, and a further process is started.

    Args:
        model_class: the model.
        config: what to build it from.
        inputs: tensors by the names of the parameters of `forward` (Keras: `call`, Flax: `__call__`), at least two
            examples; unless given, the model's `dummy_inputs`.
        labels: what it takes as `labels`, or a dictionary of several such arguments; unless given, random ones are
            made to fit the logits. Flax models take none.
        heads_to_prune: `{layer: [heads]}` for torch models with `_prune_heads`; unless given, the first head of the
            first layer and the last of the last, counted by the configuration.
        counterparts: the same model in other frameworks, as classes or `"module:Class"`; those on its card are known.
        tolerance: the largest difference, in parts of the largest value, where a computation is merely regrouped
            (batches, compilation, pruning). Where nothing is regrouped, nothing may differ.
        skip: `{check: reason}` for checks to leave out; the report carries the reason.
        only: names of checks, to run these alone.

    Raises:
        ConformanceError: lists every fault and how to fix it.
        UnknownNameError: `skip` or `only` name no check.
        TypeError: not a model of a framework that can be examined, or not its configuration.
    """
    half = importlib.import_module(f"maquette.testing.{half_of(model_class)}")
    report: Report = half.examine(
        model_class,
        config,
        inputs=inputs,
        labels=labels,
        heads_to_prune=heads_to_prune,
        counterparts=tuple(counterparts),
        tolerance=tolerance,
        skip=skip,
        only=only,
    )
    return report
