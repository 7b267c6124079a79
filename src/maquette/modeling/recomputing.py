"""Blocks of a model that compute their activations again in the backward pass (Chen et al. 2016), whatever they are."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from maquette.modeling.devices import find_blocks


class Recomputing(nn.Module):
    """What a block is of, beside its own class, while its activations are recomputed; everything else is as it was."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run: Callable[..., Any] | None = vars(self).get("_recompute")
        forward = super().forward  # type: ignore[misc]
        if run is None or not (self.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return run(forward, *args, **kwargs)


@functools.cache
def _with_recomputing(cls: type) -> type:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type = type(cls.__name__, (Recomputing, cls), names)
    return made


def recompute_blocks(model: nn.Module, run: Callable[..., Any] | None) -> list[nn.Module]:
    """Have a model's blocks recompute activations by `run(forward, *inputs)`, or keep them again; gives the blocks.

    Raises:
        ValueError: a block keeps running statistics, which would count every batch twice.
    """
    blocks = find_blocks(model)
    counting = [
        module
        for block in blocks
        for module in block.modules()
        if isinstance(module, _NormBase) and module.track_running_stats
    ]
    if run is not None and counting:
        raise ValueError(
            f"Blocks of {type(model).__name__} have a {type(counting[0]).__name__}, whose running statistics would "
            "count every batch twice. Recompute what has none: set `gradient_checkpointing = False` in a module, and "
            "where it is True, run its layers by self._gradient_checkpointing_func."
        )
    for block in blocks:
        is_one = isinstance(block, Recomputing)
        if run is not None:
            block.__dict__["_recompute"] = run
            if not is_one:
                own: Any = type(block)
                block.__class__ = _with_recomputing(own)
        elif is_one:
            block.__dict__.pop("_recompute", None)
            own = type(block).__mro__[2]
            block.__class__ = own
    return blocks
