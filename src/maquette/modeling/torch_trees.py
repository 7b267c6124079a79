"""Lets torch see the tensors inside outputs and batches: for compile, export, saved programs and distributed runs."""

from typing import Any

from torch.utils import _pytree

import maquette.modeling.outputs  # noqa: F401 - which saved programs name
from maquette.batch.tensors import watch_containers


def _register(cls: Any) -> None:
    _pytree.register_pytree_node(
        cls,
        lambda held: ([held[name] for name in held], list(held)),
        lambda values, names: cls._rebuild(names, values),
        flatten_with_keys_fn=lambda held: ([(_pytree.MappingKey(name), held[name]) for name in held], list(held)),
        serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
    )


watch_containers(_register)
