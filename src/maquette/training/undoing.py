"""A model as it was: whatever a trial changes in it is undone.

Values are compared and put back in place, so that every object stays the one that others refer to.
"""

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parameter import is_lazy

from maquette.modeling.quantization import is_quantized
from maquette.training.random_states import seeded

Undo = Callable[[], object]


@contextlib.contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """Undo what happens to a model inside a `with` block: weights, buffers, attributes, modes, and random sequences."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    on_cpu = device.type == "cpu"
    steps = list(_remember(model, {}))
    lent = contextlib.nullcontext() if on_cpu else torch.random.fork_rng([device.index or 0], device_type=device.type)
    try:
        with seeded("trial"), lent:
            yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        with torch.no_grad():
            for undo in steps:
                undo()


def _remember(value: Any, seen: dict[int, Any]) -> Iterator[Undo]:
    """Give what brings back a value, and those it holds: modules, tensors, generators, and Python's containers."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        yield from _remember(value.__dict__, seen)
    elif isinstance(value, Tensor):
        yield from _remember_tensor(value)
    elif isinstance(value, np.ndarray):
        yield partial(np.copyto, value, value.copy())
    elif isinstance(value, torch.Generator):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, random.Random):
        yield partial(value.setstate, value.getstate())
    elif isinstance(value, np.random.Generator):
        yield partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    elif isinstance(value, dict | list | set | deque | tuple):
        yield from _remember_container(value, seen)


def _remember_tensor(value: Tensor) -> Iterator[Undo]:
    if is_lazy(value) or value.is_meta or value.layout != torch.strided or value.is_quantized:
        return
    if is_quantized(value):  # which no step changes
        return
    gradient = value.grad if value.is_leaf else None
    inner = (value.to_local() if isinstance(value, DTensor) else value).detach()
    # Weights that are not trained may be most of the memory there is beside the model.
    kept = inner.clone() if inner.is_cpu or value.requires_grad else inner.cpu()

    def undo() -> None:
        if value.is_leaf and value.grad is not gradient:
            value.grad = gradient
        now = (value.to_local() if isinstance(value, DTensor) else value).detach()
        back = kept.to(now.device)
        if now.shape != back.shape or now.dtype != back.dtype:
            value.data = back
        elif not torch.equal(now, back):
            now.copy_(back)

    yield undo


def _remember_container(value: Any, seen: dict[int, Any]) -> Iterator[Undo]:
    kept = dict(value) if isinstance(value, dict) else list(value)
    for item in kept.values() if isinstance(kept, dict) else kept:
        if not isinstance(item, str | int | float):  # by far the most, where there are many
            yield from _remember(item, seen)

    def undo() -> None:
        if isinstance(kept, dict):
            for key in [key for key in value if key not in kept]:
                del value[key]
            for key, item in kept.items():
                if key not in value or value[key] is not item:
                    value[key] = item
        elif len(value) != len(kept) or any(now is not was for now, was in zip(value, kept, strict=True)):
            value.clear()
            (value.update if isinstance(value, set) else value.extend)(kept)

    if not isinstance(value, tuple):
        yield undo
