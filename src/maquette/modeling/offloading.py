"""Weights that lie on disk, or on the CPU beside a GPU, and come into memory while a module that uses them runs.

A module brings all weights inside it along, and takes them away when its outermost call ends, so that blocks may use
weights of layers in them without calling these. A module around blocks brings those of its layers that hold no others.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

Read = Callable[[], Tensor]


class Files:
    """Reads tensors from safetensors files, each of which is opened once."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def read(self, path: str, name: str, dtype: torch.dtype) -> Read:
        """Give a function that reads a tensor in a type."""

        def read() -> Tensor:
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            tensor: Tensor = self._open[path].get_tensor(name)
            return tensor.to(dtype)

        return read


class Offloading:
    """Keeps weights of a model elsewhere; inference only.

    Args:
        model: whose weights these are.
        sources: how to read them, by their names.
        device: on which the model computes.
        blocks: modules that are brought as a whole; those around them are not.
    """

    def __init__(
        self, model: nn.Module, sources: Mapping[str, Read], device: torch.device, blocks: Iterable[nn.Module]
    ) -> None:
        self.device, self._lock, self._loaded = device, threading.RLock(), dict[int, list[list[_Place]]]()
        self._reads: dict[int, Read] = {}
        away: dict[int, nn.Parameter] = {}
        for path, module in model.named_modules():
            for name, parameter in module._parameters.items():
                read = sources.get(f"{path}.{name}".lstrip("."))
                if parameter is None or read is None:
                    continue
                if id(parameter) not in away:  # a tied weight stays one
                    away[id(parameter)] = nn.Parameter(parameter.to("meta"), requires_grad=False)
                    self._reads[id(away[id(parameter)])] = read
                module._parameters[name] = away[id(parameter)]
        self._kept = [*away.values()]  # so that their identities stay theirs
        whole = {id(module) for block in blocks for module in block.modules()}
        for module in model.modules():
            module.__dict__["_offloading"] = self
            inner = list(module.modules() if id(module) in whole else _with_layers(module))
            if any(id(p) in self._reads for each in inner for p in each._parameters.values()):
                module.register_forward_pre_hook(self._bring(inner), with_kwargs=True)
                module.register_forward_hook(self._take, always_call=True)

    def _bring(self, inner: list[nn.Module]) -> Callable[..., None]:
        def bring(module: nn.Module, args: Any, kwargs: Any) -> None:
            with self._lock:
                self._loaded.setdefault(id(module), []).append([*self._load(inner)])

        return bring

    def _take(self, module: nn.Module, args: Any, output: Any) -> None:
        with self._lock:
            for place in self._loaded[id(module)].pop():
                place.restore()

    def _load(self, inner: Iterable[nn.Module]) -> Iterator["_Place"]:
        read: dict[int, nn.Parameter] = {}
        for module in inner:
            for name, parameter in module._parameters.items():
                if parameter is None or id(parameter) not in self._reads:
                    continue
                if id(parameter) not in read:
                    value = self._reads[id(parameter)]().to(self.device)
                    read[id(parameter)] = nn.Parameter(value, requires_grad=False)
                module._parameters[name] = read[id(parameter)]
                yield _Place(module, name, parameter)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """Give a model's state with all values."""
        with self._lock:
            places = [*self._load(model.modules())]
            try:
                return dict(model.state_dict())
            finally:
                for place in places:
                    place.restore()

    def __deepcopy__(self, memo: Any) -> "Offloading":
        raise TypeError("A model with weights on disk cannot be copied: load it again.")


class _Place:
    """Where a weight was put that lies elsewhere."""

    def __init__(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        self.module, self.name, self.parameter = module, name, parameter

    def restore(self) -> None:
        self.module._parameters[self.name] = self.parameter


def _with_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Go through a module and those of its children that have none."""
    yield module
    yield from (child for child in module.children() if not any(True for _ in child.children()))
