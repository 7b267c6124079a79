"""Lets JAX see the arrays inside outputs and batches: for `jit`, `grad`, and Keras on JAX."""

from typing import Any

import jax

from maquette.batch.tensors import watch_containers


def _register(cls: Any) -> None:
    jax.tree_util.register_pytree_with_keys(
        cls,
        lambda held: ([(jax.tree_util.DictKey(name), held[name]) for name in held], tuple(held)),
        cls._rebuild,
        lambda held: ([held[name] for name in held], tuple(held)),
    )


watch_containers(_register)
