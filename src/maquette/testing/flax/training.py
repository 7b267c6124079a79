"""Checks of what training with Flax needs: gradients everywhere, and batch statistics."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maquette.checkpoint.axes import flatten as flatten_tree
from maquette.checkpoint.axes import torch_name
from maquette.testing.arrays.subject import finite, reached, running
from maquette.testing.comparison import compare, flatten
from maquette.testing.flax.subject import Subject, training_options
from maquette.testing.report import Fault, NotApplicableError, describe


def check_gradients(subject: Subject) -> Iterator[Fault]:
    """Every parameter receives a gradient, in evaluation mode or in training, and a finite one."""
    if not subject.model.variables.get("params"):
        raise NotApplicableError(f"{subject.name} has no parameters")
    found = _differentiate(subject, {})
    if any(not reached(gradient) for gradient in found.values()):
        try:
            later = _differentiate(subject, training_options(subject))
        except Exception as error:
            yield Fault(
                f"{subject.method} fails in training, {describe(error)}",
                "hand `train` down, and draw random numbers under the name dropout",
            )
            return
        found = {name: later[name] if reached(later[name]) else old for name, old in found.items()}
    for name, gradient in found.items():
        if not reached(gradient):
            yield Fault(
                f"the parameter `{name}` receives no gradient",
                f"{subject.method} does not use it, or stops the gradient on the way; remove it",
            )
        elif not finite(gradient):
            yield Fault(f"the gradient of `{name}` is not finite", "avoid 0/0, log(0) and sqrt(0)")


def _differentiate(subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name the gradients of a weighted sum of all outputs."""
    module, variables = subject.model.unbind()

    def compute(params: Any) -> Any:
        output = module.apply({**variables, "params": params}, **subject.inputs, **options)
        return total(output[0] if "mutable" in options else output)

    gradients = jax.jit(jax.grad(compute))(variables["params"])
    return {torch_name(path): np.array(leaf) for path, leaf in flatten_tree(gradients).items()}


def total(output: Any) -> Any:
    """Give a weighted sum of all outputs."""
    rng = np.random.default_rng(4)
    floats = [x for x in flatten(output).values() if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum(jnp.sum(x * rng.standard_normal(x.shape).astype(x.dtype)) for x in floats)


def check_statistics(subject: Subject) -> Iterator[Fault]:
    """Running statistics of batches follow the batches in training, and rest otherwise."""
    before = running(subject.model)
    if not before:
        raise NotApplicableError(f"{subject.name} keeps no statistics of batches")
    module, variables = subject.model.unbind()
    fix = "give BatchNorm use_running_average=not train, and hand `train` down"
    resting: dict[str, Any] = {"mutable": ["batch_stats"]}
    for options, trains in ((resting, False), (training_options(subject), True)):
        changed = module.apply(variables, **subject.inputs, **options)[1]
        wrong = compare(before, running(module.bind({**variables, **changed})), 0.0).keys()
        for name in sorted(before.keys() - wrong if trains else wrong):
            what = "does not change in training" if trains else "changes in evaluation mode"
            yield Fault(f"`{name}` {what}", fix)
