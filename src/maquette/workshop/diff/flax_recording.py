"""What the modules of a Flax model give."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from maquette.checkpoint.axes import flatten as flatten_names


def run(model: nn.Module, inputs: Mapping[str, Any], flatten: Callable[[Any], Any]) -> tuple[list[Any], Any]:
    """Run a bound model; gives the calls of its modules, under the names that their weights have, and what it gives."""
    calls: list[Any] = []
    counts: dict[tuple[str, ...], int] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        module: Any = context.module
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(output))
        if context.method_name != "__call__" or not module.path or traced:
            return output
        kind, number = type(module), counts.get(module.path, 0)
        counts[module.path] = number + 1
        origin = f"{kind.__module__}.{kind.__qualname__}"
        takes, gives = flatten((*args, *kwargs.values())), flatten(output)
        calls.append([module.path, number, kind.__name__, origin, takes, gives])
        return output

    given = {name: jnp.asarray(_narrow(array)) for name, array in inputs.items()}
    with nn.intercept_methods(note):
        end = flatten(model(**given))
    names = _names({call[0] for call in calls}, getattr(model, "_places", dict)())
    return [(names[path], *rest) for path, *rest in calls], end


def _narrow(array: Any) -> Any:
    """Give numbers in 32 bits, as JAX has them."""
    return array.astype({"i": np.int32, "f": np.float32}[array.dtype.kind]) if array.dtype.kind in "if" else array


def _names(paths: set[tuple[str, ...]], places: Mapping[Any, Any]) -> dict[tuple[str, ...], str]:
    """Name modules as files name their weights: by attributes and places in lists."""
    tree: dict[str, Any] = {}
    for path in paths:
        here = tree
        for key in path:
            here = here.setdefault(key, {})
        here[""] = path
    return {path: ".".join(name[:-1]) for name, path in flatten_names(tree, places).items()}
