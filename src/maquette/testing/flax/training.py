"""Checks of what training with Flax needs: gradients everywhere, and batch statistics."""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maquette.checkpoint.axes import Path, torch_name
from maquette.checkpoint.axes import flatten as flatten_tree
from maquette.testing.arrays.subject import finite, reached, running
from maquette.testing.choices import judge_reach
from maquette.testing.comparison import compare, flatten
from maquette.testing.flax.subject import Subject, training_options
from maquette.testing.report import Fault, NotApplicableError, Unchecked, describe


def check_gradients(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Every parameter receives a gradient, in evaluation mode or in training, and a finite one."""
    if not subject.model.variables.get("params"):
        raise NotApplicableError(f"{subject.name} has no parameters")
    names = [torch_name(path) for path in _params(subject.model)]
    try:
        found = _differentiate(subject, subject.model, names)
    except Exception as error:
        fix = "hand `train` down, and draw random numbers under the name dropout"
        yield Fault(f"{subject.method} fails in training, {describe(error)}", fix)
        return
    yield from judge_reach(
        names,
        found,
        lambda seed: _differentiate(subject, subject.vary(seed), names).keys(),
        what="the parameter",
        fix=f"{subject.method} does not use it, or stops the gradient on the way; remove it",
    )
    for name, gradient in found.items():
        if not finite(gradient):
            yield Fault(f"the gradient of `{name}` is not finite", "avoid 0/0, log(0) and sqrt(0)")


def _params(model: Any) -> dict[Path, Any]:
    return flatten_tree(model.variables["params"], model._places())


def _differentiate(subject: Subject, model: Any, names: Collection[str]) -> dict[str, Any]:
    """Name the gradients of a weighted sum of all outputs that are there, in evaluation mode or else in training."""
    module, variables = model.unbind()

    def compute(params: Any, options: Mapping[str, Any]) -> Any:
        output = module.apply({**variables, "params": params}, **subject.inputs, **options)
        return total(output[0] if "mutable" in options else output)

    found: dict[str, Any] = {}
    for options in ({}, training_options(subject)):
        if found.keys() != set(names):
            gradients = jax.jit(jax.grad(functools.partial(compute, options=options)))(variables["params"])
            leaves = flatten_tree(gradients, model._places()).items()
            found = {torch_name(path): np.array(leaf) for path, leaf in leaves if reached(leaf)} | found
    return found


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
