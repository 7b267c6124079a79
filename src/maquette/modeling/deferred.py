"""Constructing a torch model without running its initialisation, and with exactly the values it would have had.

A constructor spends its time filling fresh parameters with random numbers that a checkpoint then replaces. Inside
`Deferred`, a fill of freshly allocated memory is noted and not run; memory that nobody touches costs nothing. Whatever
else a constructor does just happens: as soon as it *reads* a value that is still pending, or draws random numbers of
its own, everything pending is run first, in order, so that it sees what it would see in plain torch. (One thing
differs: after `torch.random.fork_rng`, the outer stream goes on from where it stood without the fills that wait.)

After the weights are assigned, `run` performs the fills that are still wanted.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from maquette.modeling.provenance import Construction, Kind, entered, storage_id

# What reads memory without going through the dispatcher.
DIRECT_READS = {
    getattr(torch.Tensor, name)
    for name in (
        "numpy",
        "tolist",
        "data_ptr",
        "__array__",
        "__dlpack__",
        "untyped_storage",
        "share_memory_",
        "__reduce_ex__",
    )
}


@dataclass
class Fill:
    """One initialisation that was asked for and not run yet; it does not keep the memory alive."""

    operation: Callable[[torch.Tensor], Any]
    storage: StorageWeakRef
    view: tuple[torch.dtype, Any, torch.Size, tuple[int, ...]]  # type, offset, shape, strides
    stream: torch.Tensor | None  # for random fills, the random state where this stretch of the stream began

    @property
    def is_orphan(self) -> bool:
        """Tell whether the memory is gone: a tied or replaced weight's own, say."""
        return bool(self.storage.expired())

    def run(self) -> None:
        """Do it now."""
        dtype, offset, size, stride = self.view
        memory = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        target = torch.empty(size, dtype=dtype) if memory is None else torch.empty(0, dtype=dtype, device=memory.device)
        self.operation(target if memory is None else target.set_(memory, offset, size, stride))


class Deferred:
    """Use as a context manager around a constructor; see the module's docstring."""

    def __init__(self) -> None:
        self._fresh: dict[int, StorageWeakRef] = {}
        self._pending: list[Fill] = []
        self._waiting: set[int] = set()
        self._stream: torch.Tensor | None = None
        self._modes = contextlib.ExitStack()

    def __enter__(self) -> "Deferred":
        self._modes.enter_context(_Reads(self))
        self._modes.enter_context(entered(_Operations(self)))
        return self

    def __exit__(self, *error: Any) -> None:
        self._modes.close()

    def is_pending(self, storage: int) -> bool:
        """Tell whether this memory waits for a fill."""
        return storage in self._waiting

    def is_uninitialised(self, tensor: torch.Tensor) -> bool:
        """Tell whether nothing has ever been written to this memory, nor is going to be."""
        return storage_id(tensor) in self._fresh and not self.is_pending(storage_id(tensor))

    def run(self, *, except_for: Iterable[torch.Tensor] = ()) -> None:
        """Run what is pending, in the order it was asked for, but not for the memory of these tensors."""
        skipped = {storage_id(tensor) for tensor in except_for}
        wanted = [fill for fill in self._take_pending() if fill.storage.cdata not in skipped]
        while wanted and wanted[-1].is_orphan:
            wanted.pop()
        with torch.no_grad():
            for fill in wanted:
                fill.run()

    def flush(self) -> None:
        """Run everything pending with the random numbers that plain torch would have given it."""
        now = torch.get_rng_state()
        current = None if self._stream is None or not torch.equal(now, self._stream) else self._stream
        state: torch.Tensor | None = None
        with torch.no_grad():
            for fill in self._take_pending():
                if fill.stream is not None and fill.stream is not state:
                    state = fill.stream
                    torch.set_rng_state(state)
                fill.run()
        if state is not None and state is not current:  # the constructor reseeded after the last pending draw
            torch.set_rng_state(now)
        self._stream = None

    def _take_pending(self) -> list[Fill]:
        pending, self._pending, self._waiting = self._pending, [], set()
        for fill in pending:
            self._fresh.pop(fill.storage.cdata, None)
        return pending

    def note(self, target: torch.Tensor, operation: Callable[[torch.Tensor], Any], *, random: bool) -> None:
        """Take down a fill instead of running it."""
        if random:
            now = torch.get_rng_state()
            if self._stream is None or not torch.equal(now, self._stream):
                self._stream = now
        view = target.dtype, target.storage_offset(), target.size(), target.stride()
        storage = self._fresh[storage_id(target)]
        self._waiting.add(storage.cdata)
        self._pending.append(Fill(operation, storage, view, self._stream if random else None))

    def allocated(self, memory: StorageWeakRef) -> None:
        """Remember memory that nothing was written to yet."""
        self._fresh[memory.cdata] = memory

    def written(self, tensor: torch.Tensor) -> None:
        """Forget that this memory was fresh."""
        self._fresh.pop(storage_id(tensor), None)

    def is_fresh(self, tensor: torch.Tensor) -> bool:
        """Tell whether a fill of this tensor may wait."""
        return storage_id(tensor) in self._fresh


class _Operations(Construction):
    """Sees every operation of the constructor, after autograd."""

    is_deferred = True

    def __init__(self, deferred: Deferred) -> None:
        super().__init__()
        self.deferred = deferred

    def _allocated(self, tensor: torch.Tensor) -> None:
        super()._allocated(tensor)
        self.deferred.allocated(self._drawn[storage_id(tensor)])

    def _waits(self, func: Any, kind: Kind, args: Any, kwargs: Any) -> bool:
        """A fill may wait if it concerns fresh memory, and the random stream of everyone."""
        if kwargs.get("generator") is not None or not self.deferred.is_fresh(args[0]):
            return False
        numbers = args[1:]
        self.deferred.note(args[0], lambda memory: func(memory, *numbers, **kwargs), random=kind.random)
        return True

    def _before(self, kind: Kind, inputs: list[torch.Tensor]) -> None:
        if kind.random or any(self.deferred.is_pending(storage_id(tensor)) for tensor in inputs):
            self.deferred.flush()

    def _follow(self, kind: Kind, written: list[torch.Tensor], inputs: list[torch.Tensor], result: Any) -> None:
        super()._follow(kind, written, inputs, result)
        for tensor in written:
            self.deferred.written(tensor)


class _Reads(TorchFunctionMode):
    """Sees the few calls that reach a tensor's memory without an operation."""

    def __init__(self, deferred: Deferred) -> None:
        super().__init__()
        self.deferred = deferred

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DIRECT_READS and args and self.deferred.is_pending(storage_id(args[0])):
            self.deferred.flush()
        return func(*args, **(kwargs or {}))
