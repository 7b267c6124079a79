"""The calls that constructors make most, met before they reach torch's dispatcher, and those that never reach it.

A mode of torch sees every operation, at ten microseconds and more each; fills are most of those of a constructor. While
a construction is under way, four of torch's fills, and what reads a tensor's memory directly, ask the construction of
their thread first. Without one, in other threads, and called in an unusual way, they do what they always do.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import nn

# Fills of the usual kind: how many numbers at least and at most, which may be given by name, and whether at random.
FILLS = {
    "uniform_": (0, 2, frozenset(), True),
    "normal_": (0, 2, frozenset({"mean", "std"}), True),
    "fill_": (1, 1, frozenset(), False),
    "zero_": (0, 0, frozenset(), False),
}
NUMBERS = {int, float}
PLAIN = {torch.Tensor, nn.Parameter}
# What reads memory, or writes to it, without going through the dispatcher.
READS = (
    *("numpy", "tolist", "data_ptr", "untyped_storage", "share_memory_", "__array__", "__dlpack__", "__reduce_ex__"),
    *("apply_", "map_", "map2_"),
)
storage_of, array_of = torch._C.TensorBase.untyped_storage, torch._C.TensorBase.numpy  # without asking anyone
_PYTHON = torch._C.DispatchKeySet(torch._C.DispatchKey.Python) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.PythonTLSSnapshot
)


class Observer(Protocol):
    """Who is asked."""

    def take_fill(self, tensor: torch.Tensor, operation: Callable[[torch.Tensor], Any], *, random: bool) -> bool:
        """Do what a fill asks for, now or later; False lets it go its way."""

    def before_read(self, tensor: torch.Tensor) -> None:
        """Make ready what is going to be read."""


_observer: ContextVar[tuple[Observer, tuple[int, int]] | None] = ContextVar("_observer", default=None)
_lock = threading.Lock()
_observers = 0


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Let an observer, whose modes have been entered, be asked in this thread."""
    _count(1)
    token = _observer.set((observer, _modes()))
    try:
        yield
    finally:
        _observer.reset(token)
        _count(-1)


def below_modes() -> Any:
    """Use as a context manager: operations inside are seen by no mode."""
    return torch._C._ExcludeDispatchKeyGuard(_PYTHON)


def _modes() -> tuple[int, int]:
    """Count the modes of this thread: with more than there were, someone else wants to see the calls too."""
    return torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()


def _count(change: int) -> None:
    """Put the methods in place for the first observer, and take them away after the last."""
    global _observers
    with _lock:
        before, _observers = _observers, _observers + change
        if not before:
            for name, method in _OBSERVED.items():
                setattr(torch.Tensor, name, method)
        elif not _observers:
            for name in _OBSERVED:
                if name in _OWN:
                    setattr(torch.Tensor, name, _OWN[name])
                else:
                    delattr(torch.Tensor, name)


def _observed_fill(name: str) -> Callable[..., Any]:
    original, (least, most, names, random) = getattr(torch.Tensor, name), FILLS[name]

    @functools.wraps(original)
    def fill(self: torch.Tensor, *numbers: Any, **named: Any) -> Any:
        observer, modes = _observer.get() or (None, None)
        if named.get("generator", self) is None:
            del named["generator"]
        is_usual = (
            least <= len(numbers) + len(named) <= most
            and NUMBERS.issuperset(map(type, (*numbers, *named.values())))
            and (not named or (not numbers and named.keys() <= names))
            and type(self) in PLAIN
            and modes == _modes()
            and not (self.requires_grad and torch.is_grad_enabled())  # which torch refuses
        )
        if observer is None or not is_usual:
            return original(self, *numbers, **named)
        if observer.take_fill(self, lambda memory: original(memory, *numbers, **named), random=random):
            return self
        return original(self, *numbers, **named)

    return fill


def _observed_read(name: str) -> Callable[..., Any]:
    original = getattr(torch.Tensor, name)

    @functools.wraps(original)
    def read(self: torch.Tensor, *args: Any, **options: Any) -> Any:
        if (found := _observer.get()) is not None:
            for tensor in (self, *args):
                if isinstance(tensor, torch.Tensor):
                    found[0].before_read(tensor)
        return original(self, *args, **options)

    return read


_OBSERVED = {name: _observed_fill(name) for name in FILLS} | {name: _observed_read(name) for name in READS}
_OWN = {name: method for name, method in vars(torch.Tensor).items() if name in _OBSERVED}  # the others are inherited
