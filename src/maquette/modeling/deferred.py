"""Constructing a torch model without running its initialisation, and with exactly the values it would have had.

A constructor spends its time filling fresh parameters with random numbers that a checkpoint then replaces. Inside
`Deferred`, a fill of freshly allocated memory is noted and not run; memory that nobody touches costs nothing. Whatever
else a constructor does just happens: as soon as it *reads* a value that is still pending, or draws random numbers of
its own, everything pending is run first, in order, so that it sees what it would see in plain torch.

After the weights are assigned, `run` performs the fills that are still wanted. Numbers that follow from a seed which
the constructor set itself are the same then as without a file; of the caller's random numbers, only those are drawn
that are wanted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from maquette.modeling.interception import array_of, below_modes, storage_of
from maquette.modeling.provenance import Construction, Kind, current, entered, storage_id


@dataclass(slots=True, eq=False)
class Stretch:
    """Random numbers that follow each other: the caller's, or those after a seed that the constructor set."""

    state: torch.Tensor  # of the generator where it goes on
    is_seeded: bool  # by the constructor


@dataclass(slots=True)
class Fill:
    """One initialisation that was asked for and not run yet; it does not keep the memory alive."""

    operation: Callable[[torch.Tensor], Any]
    storage: StorageWeakRef
    view: tuple[torch.dtype, Any, torch.Size, tuple[int, ...]]  # type, offset, shape, strides
    stretch: Stretch | None  # where random fills take their numbers from

    @property
    def is_orphan(self) -> bool:
        """Tell whether the memory is gone: a tied or replaced weight's own, say."""
        return bool(self.storage.expired())

    def run(self, *, to_nowhere: bool = False) -> None:
        """Do it now; `to_nowhere` takes the random numbers only."""
        dtype, offset, size, stride = self.view
        memory = None if to_nowhere else torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        target = torch.empty(size, dtype=dtype) if memory is None else torch.empty(0, dtype=dtype, device=memory.device)
        self.operation(target if memory is None else target.set_(memory, offset, size, stride))


class Deferred:
    """Use as a context manager around a constructor; see the module's docstring."""

    def __init__(self) -> None:
        self._fresh: dict[int, StorageWeakRef] = {}
        self._pending: list[Fill] = []
        self._waiting: set[int] = set()
        self._stretches: dict[bytes, Stretch] = {}  # by the state that the generator was left in
        self._operations = _Operations(self)
        self._under_way = entered(self._operations)
        self._known = b""  # the state that the generator is in if nobody has seeded it

    def __enter__(self) -> "Deferred":
        self._known = _bytes_of(torch.default_generator.get_state())
        self._under_way.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._under_way.__exit__(*error)

    def is_pending(self, storage: int) -> bool:
        """Tell whether this memory waits for a fill."""
        return storage in self._waiting

    def is_uninitialised(self, tensor: torch.Tensor) -> bool:
        """Tell whether nothing has ever been written to this memory, nor is going to be."""
        return storage_id(tensor) in self._fresh and not self.is_pending(storage_id(tensor))

    def run(self, *, except_for: Iterable[torch.Tensor] = ()) -> None:
        """Run what is pending, in the order it was asked for, but not for memory that these tensors make up."""
        skipped = _made_up_of(except_for)
        wanted: list[tuple[Fill, bool]] = []
        needed: set[Stretch | None] = set()  # in which something wanted comes later
        for fill in reversed(self._take_pending()):
            is_wanted = fill.storage.cdata not in skipped and (bool(wanted) or not fill.is_orphan)
            if is_wanted or (fill.stretch is not None and fill.stretch.is_seeded and fill.stretch in needed):
                wanted.append((fill, not is_wanted))
                needed.add(fill.stretch)
        self._do(reversed(wanted))

    def flush(self) -> None:
        """Run everything pending with the random numbers that plain torch would have given it."""
        self._do((fill, False) for fill in self._take_pending())

    def _do(self, fills: Iterable[tuple[Fill, bool]]) -> None:
        """Run fills, each with the numbers of its stretch, and leave the generator where it would be after them."""
        now, last = torch.get_rng_state(), None
        current = self._stretches.get(_bytes_of(now))
        self._stretches = {}
        with torch.no_grad():
            for fill, to_nowhere in fills:
                if fill.stretch is not None and fill.stretch is not last:
                    if last is not None:
                        last.state = torch.get_rng_state()
                    last = fill.stretch
                    torch.set_rng_state(last.state)
                fill.run(to_nowhere=to_nowhere)
        if last is not None:
            last.state = torch.get_rng_state()
        torch.set_rng_state(now if current is None else current.state)
        self.goes_on()

    def goes_on(self) -> None:
        """Take note that the generator has only drawn numbers."""
        self._known = _bytes_of(torch.default_generator.get_state())
        if isinstance(outer := self._operations.outer, _Operations):
            outer.deferred.goes_on()

    def _take_pending(self) -> list[Fill]:
        pending, self._pending, self._waiting = self._pending, [], set()
        for fill in pending:
            self._fresh.pop(fill.storage.cdata, None)
        return pending

    def note(self, target: torch.Tensor, operation: Callable[[torch.Tensor], Any], *, random: bool) -> bool:
        """Take down a fill instead of running it; False where it can't wait, as the memory is not fresh."""
        if (storage := self._fresh.get(storage_id(target))) is None or target.is_conj() or target.is_neg():
            return False
        view = target.dtype, target.storage_offset(), target.size(), target.stride()
        self._waiting.add(storage.cdata)
        self._pending.append(Fill(operation, storage, view, self._stretch() if random else None))
        return True

    def _stretch(self) -> Stretch:
        """Give the stretch that the generator is in."""
        now = torch.default_generator.get_state()
        if (found := self._stretches.get(_bytes_of(now))) is None:
            found = Stretch(now, is_seeded=_bytes_of(now) != self._known)
            with below_modes():  # a number drawn in vain: now the same seed, set again, is seen
                torch.rand(1, device="cpu", generator=torch.default_generator)
            self._known = _bytes_of(torch.default_generator.get_state())
            self._stretches[self._known] = found
        return found

    def allocated(self, memory: StorageWeakRef) -> None:
        """Remember memory that nothing was written to yet."""
        self._fresh[memory.cdata] = memory

    def written(self, tensor: torch.Tensor) -> None:
        """Forget that this memory was fresh."""
        self._fresh.pop(storage_id(tensor), None)


def _made_up_of(tensors: Iterable[torch.Tensor]) -> set[int]:
    """Name the memory of which these tensors are all, to the last byte: alone, or next to each other as views of it."""
    whole: set[int] = set()
    parts: dict[int, list[tuple[int, int, int]]] = {}
    for tensor in tensors:
        if (memory := storage_id(tensor)) < 0:
            continue
        size, total = tensor.nbytes, storage_of(tensor).nbytes()
        if size == total:
            whole.add(memory)
        elif _is_dense(tensor):
            begin = int(tensor.storage_offset()) * tensor.element_size()
            parts.setdefault(memory, []).append((begin, begin + size, total))
    for memory, stretches in parts.items():
        known = 0
        for begin, end, _ in sorted(stretches):
            known = max(known, end) if begin <= known else known
        if known == stretches[0][2]:
            whole.add(memory)
    return whole


def _is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether a view lies in one piece, in any order of its axes."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.numel() == reach + 1


def _bytes_of(state: torch.Tensor) -> bytes:
    """Give what a random state is compared by; `torch.equal` takes three times as long."""
    with below_modes():
        return array_of(state).tobytes()


class _Operations(Construction):
    """Sees every operation of the constructor, after autograd."""

    is_deferred = True

    def __init__(self, deferred: Deferred) -> None:
        super().__init__()
        self.deferred = deferred
        self.outer = current()  # a model that loads another one in its constructor

    def take_fill(self, tensor: torch.Tensor, operation: Callable[[torch.Tensor], Any], *, random: bool) -> bool:
        is_kept = self._kept and storage_id(tensor) in self._kept
        return is_kept or self.deferred.note(tensor, operation, random=random)

    def before_read(self, tensor: torch.Tensor) -> None:
        if self.deferred.is_pending(storage_id(tensor)):
            self.deferred.flush()
        self.deferred.written(tensor)  # whoever looks at memory may write there, now or later
        if self.outer is not None:
            self.outer.before_read(tensor)

    def _allocated(self, tensor: torch.Tensor) -> None:
        if (memory := self._mark(tensor)) is not None:
            self.deferred.allocated(memory)

    def _waits(self, func: Any, kind: Kind, args: Any, kwargs: Any) -> bool:
        """A fill may wait if it concerns fresh memory, and the random stream of everyone."""
        numbers = args[1:]
        if kwargs.get("generator") is not None:
            return False
        return self.deferred.note(args[0], lambda memory: func(memory, *numbers, **kwargs), random=kind.random)

    def _before(self, kind: Kind, inputs: list[torch.Tensor]) -> None:
        if kind.random or any(self.deferred.is_pending(storage_id(tensor)) for tensor in inputs):
            self.deferred.flush()

    def _follow(self, kind: Kind, written: list[torch.Tensor], inputs: list[torch.Tensor], result: Any) -> None:
        super()._follow(kind, written, inputs, result)
        if kind.random:
            self.deferred.goes_on()
        for tensor in written:
            self.deferred.written(tensor)
