"""Lets JAX see the arrays inside of what models return: for `jit`, `grad`, and Keras on JAX."""

import jax

from maquette.modeling.outputs import ModelOutput, watch_outputs


def _register(cls: type[ModelOutput]) -> None:
    jax.tree_util.register_pytree_with_keys(
        cls,
        lambda output: ([(jax.tree_util.DictKey(name), value) for name, value in output.items()], tuple(output)),  # type: ignore[arg-type, return-value]
        lambda names, values: cls(**dict(zip(names, values, strict=True))),
    )


watch_outputs(_register)
