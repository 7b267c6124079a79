"""What the modules of a torch model give. Nothing of maquette is imported: an interpreter without it runs this too."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def run(model: nn.Module, inputs: Mapping[str, Any], flatten: Callable[[Any], Any]) -> tuple[list[Any], Any]:
    """Run a model in evaluation mode; gives the calls of its modules, and what it gives itself.

    Args:
        model: is afterwards what it was before: its mode, its buffers, torch's random numbers.
        inputs: arrays; those of floating-point numbers get the model's type.
        flatten: copies the tensors of a value.
    """
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    kind = next((each.dtype for each in model.parameters() if each.is_floating_point()), None)
    given = {name: torch.from_numpy(np.array(array)).to(device) for name, array in inputs.items()}
    if kind is not None and kind.itemsize > 1:
        given = {name: each.to(kind) if each.is_floating_point() else each for name, each in given.items()}
    recorder = _Recorder(model, flatten)
    with contextlib.ExitStack() as ending:
        ending.enter_context(_as_before(model))
        recorder.listen(ending)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            output = model.eval()(**given)
        return recorder.calls, flatten(output)


@contextlib.contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Give modules their modes, and buffers their values, back."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                if buffer.shape == value.shape:
                    buffer.copy_(value)


class _Recorder:
    """Notes the calls of a model's modules, each under the path by which it was reached."""

    def __init__(self, model: nn.Module, flatten: Callable[[Any], Any]) -> None:
        self.calls: list[Any] = []
        self._model, self._flatten = model, flatten
        self._paths: dict[nn.Module, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, []).append(path)
        self._running: list[tuple[str, int]] = []
        self._counts: dict[str, int] = {}

    def listen(self, ending: contextlib.ExitStack) -> None:
        """Hear of every call of a module inside of the model, until the stack ends."""
        for module in self._paths:
            if module is not self._model:
                ending.callback(module.register_forward_pre_hook(self._enter).remove)
                leave = module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
                ending.callback(leave.remove)

    def _enter(self, module: nn.Module, _: Any) -> None:
        """Find by which of its paths a module is called: one inside the module that runs, the least called so far."""
        start = f"{self._running[-1][0]}." if self._running else ""
        paths = self._paths[module]
        inside = [path for path in paths if path.startswith(start)] or paths
        path = min(inside, key=lambda each: self._counts.get(each, 0))
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        self._running.append((path, number))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        path, number = self._running.pop()
        kind = type(module)
        origin = f"{kind.__module__}.{kind.__qualname__}"
        takes, gives = self._flatten((*args, *kwargs.values())), self._flatten(output)
        self.calls.append((path, number, kind.__name__, origin, takes, gives))
