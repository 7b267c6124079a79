"""Where the values in a model under construction come from: drawn by its constructor, or brought along.

`_init_weights` may fill anew what the constructor drew: random numbers, constants, and what was computed from these.
Values from elsewhere (a state dict or a file loaded in the constructor, an array, a module that the caller hands over)
were trained or chosen, and stay. `Construction` sees every operation of the outermost constructor under way and follows
this from tensor to tensor. A single number that code writes down, `torch.tensor(0.07)`, counts as drawn.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from maquette.modeling.interception import below_modes, observed, storage_of

ALLOCATIONS = {
    f"aten::{name}"
    for name in ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
}
# Fills whose result does not depend on what was there before.
RANDOM_FILLS = {
    f"aten::{name}_"
    for name in ("uniform", "normal", "random", "bernoulli", "exponential", "log_normal", "cauchy", "geometric")
}
CONSTANT_FILLS = {"aten::fill_", "aten::zero_"}


def _measure_memory() -> float:
    """Give the bytes of the machine's memory, or of the container's where that has less."""
    try:
        machine: float = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        machine = math.inf
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            machine = min(machine, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no container, or one without a limit ("max")
            continue
    return machine


MEMORY = _measure_memory()  # bytes


class TooLargeError(Exception):
    """A constructor asked for more than there is: the tensor's shape, its bytes, and those of the model so far."""

    def explain(self, model: str, config: Any) -> str:
        """Say which fields of the configuration ask for it, and what to do."""
        shape, wanted, total = self.args
        fields = {name: value for name, value in config.to_dict().items() if type(value) is int and value > 1}
        named = [f"{name}={value}" for name, value in fields.items() if value in shape]
        named = named or [f"{name}={fields[name]}" for name in sorted(fields, key=lambda name: -fields[name])[:4]]
        much = f"{total / 2**30:,.0f} GiB" if total > wanted else f"{wanted / 2**30:,.0f} GiB for one tensor {shape}"
        return (
            f"{model} of this configuration takes {much}, more than the memory here ({MEMORY / 2**30:,.0f} GiB). It "
            f"follows from {', '.join(named)}: check these. To build the model without memory for its weights, do it "
            "inside `with torch.device('meta'):`."
        )


class Construction(TorchDispatchMode):
    """Use as a context manager around a constructor; see the module's docstring."""

    is_deferred = False  # where nothing is written, memory costs nothing

    def __init__(self) -> None:
        super().__init__()
        self._drawn: dict[int, StorageWeakRef] = {}  # a weak reference keeps the address from being used again
        self._kept: frozenset[int] = frozenset()
        self._asked = 0  # bytes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: torch would otherwise import its compiler, 1.3 s and 70 MB, to keep it from looking in here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = read_kind(func)
        if kind.sized:
            self._check_memory(args[0], kwargs)
        if kind.view:
            result = func(*args, **kwargs)
            if kind.literal and result.numel() == 1:
                self._mark(result)
            return result
        if kind.allocates:
            result = func(*args, **kwargs)
            self._allocated(result)
            return result
        written = kind.written(args, kwargs)
        if self._kept and any(storage_id(tensor) in self._kept for tensor in written):
            return written[0] if len(written) == 1 else tuple(written)
        if kind.fills and self._waits(func, kind, args, kwargs):
            return args[0]
        inputs = tensors_in((args, kwargs))
        self._before(kind, inputs)
        result = func(*args, **kwargs)
        self._follow(kind, written, inputs, result)
        return result

    def take_fill(self, tensor: torch.Tensor, operation: Callable[[torch.Tensor], Any], *, random: bool) -> bool:
        """Run one of the usual fills, which overwrite what there was, without going through the dispatcher."""
        if storage_id(tensor) in self._kept:
            return True
        if torch._C._len_torch_dispatch_stack() > 1:  # someone else wants to see it too
            return False
        with below_modes():
            operation(tensor)
        if _is_whole(tensor):
            self._mark(tensor)
        return True

    def before_read(self, tensor: torch.Tensor) -> None:
        """Make ready what is going to be read without an operation."""

    def _check_memory(self, size: Any, kwargs: Any) -> None:
        """Refuse what the machine's memory cannot hold before it is asked for."""
        if (device := kwargs.get("device")) is not None and device.type != "cpu":
            return
        wanted = math.prod(size) * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
        self._asked += wanted
        if self._asked > MEMORY and not self.is_deferred:  # temporary tensors are counted until this point
            self._asked = wanted + sum(_size_of(storage) for storage in self._drawn.values())
        if wanted > MEMORY or (self._asked > MEMORY and not self.is_deferred):
            raise TooLargeError(tuple(size), wanted, self._asked)

    def _waits(self, func: Any, kind: "Kind", args: Any, kwargs: Any) -> bool:
        """Take down a fill to run it later."""
        return False

    def _before(self, kind: "Kind", inputs: list[torch.Tensor]) -> None:
        """Make ready what an operation is going to read."""

    def _allocated(self, tensor: torch.Tensor) -> None:
        self._mark(tensor)

    def _mark(self, tensor: torch.Tensor) -> StorageWeakRef | None:
        if (found := storage_id(tensor)) < 0:
            return None
        if found not in self._drawn:
            self._drawn[found] = StorageWeakRef(storage_of(tensor))
        return self._drawn[found]

    def _follow(self, kind: "Kind", written: list[torch.Tensor], inputs: list[torch.Tensor], result: Any) -> None:
        own = {id(tensor) for tensor in written}
        is_drawn = all(id(tensor) in own or self.is_drawn(tensor) for tensor in inputs)
        for tensor in written:
            if not is_drawn:
                self._drawn.pop(storage_id(tensor), None)
            elif kind.overwrites and _is_whole(tensor):
                self._mark(tensor)
        if is_drawn and not written:
            for tensor in tensors_in(result):
                self._mark(tensor)

    def is_drawn(self, tensor: torch.Tensor) -> bool:
        """Tell whether this memory holds nothing but what the constructor drew itself."""
        return storage_id(tensor) in self._drawn

    @contextlib.contextmanager
    def keeping(self, model: nn.Module) -> Iterator[None]:
        """Let nothing inside change those of a model's values that the constructor did not draw."""
        with torch._C.DisableTorchFunction():  # to look at memory here reads none of it
            brought = [
                (tensor, tensor.data)
                for _, module in walk(model)
                for tensor in (*module._parameters.values(), *module._buffers.values())
                if tensor is not None and not is_lazy(tensor) and not self.is_drawn(tensor)
            ]
        before, self._kept = self._kept, frozenset(storage_id(tensor) for tensor, _ in brought)
        try:
            yield
        finally:
            self._kept = before
            for tensor, data in brought:  # `weight.data = …` is no operation
                if storage_id(tensor) != storage_id(data):
                    tensor.data = data


_current: ContextVar[Construction | None] = ContextVar("_current", default=None)


def current() -> Construction | None:
    """Give the construction under way; None outside of constructors."""
    return _current.get()


@contextlib.contextmanager
def entered(construction: Construction) -> Iterator[Construction]:
    """Make this the construction under way."""
    token = _current.set(construction)
    try:
        with construction, observed(construction):
            yield construction
    finally:
        _current.reset(token)


def constructing() -> Any:
    """Use as a context manager around any constructor: the outermost one counts."""
    return contextlib.nullcontext() if current() else entered(Construction())


@dataclass(frozen=True)
class Kind:
    """What an operator does with memory."""

    view: bool
    literal: bool  # what code writes down: torch.tensor(0.5)
    allocates: bool
    sized: bool  # makes a tensor of the size that is its first argument
    fills: bool
    overwrites: bool
    random: bool
    targets: tuple[tuple[int, str], ...]  # the arguments that it writes to: place and name

    def written(self, args: Any, kwargs: Any) -> list[torch.Tensor]:
        """Pick the tensors that a call writes to."""
        if not self.targets:
            return []
        return tensors_in([args[place] if place < len(args) else kwargs.get(name) for place, name in self.targets])


@functools.cache
def read_kind(func: Any) -> Kind:
    """Read off an operator's schema what it does with memory."""
    schema = func._schema
    targets = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    in_place = bool(targets) and targets[0][0] == 0
    aliases = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
    only_numbers = not any("Tensor" in str(argument.type) for argument in schema.arguments[1:])
    is_single = in_place and str(schema.arguments[0].type) == "Tensor"  # not a list of them, as of `_foreach_mul_`
    random = torch.Tag.nondeterministic_seeded in func.tags
    return Kind(
        view=(aliases and not in_place) or torch.Tag.inplace_view in func.tags,
        literal=schema.name == "aten::lift_fresh",
        allocates=schema.name in ALLOCATIONS,
        sized=bool(schema.arguments) and schema.arguments[0].name == "size" and only_numbers,
        # Arithmetic in place (`mul_`, `clamp_`) may wait too: it finds what the earlier notes leave
        fills=in_place and is_single and only_numbers and (schema.name in RANDOM_FILLS or not random),
        overwrites=only_numbers and schema.name in RANDOM_FILLS | CONSTANT_FILLS,
        random=random,
        targets=targets,
    )


def walk(model: nn.Module, start: str = "") -> list[tuple[str, nn.Module]]:
    """List a model's modules, each with what stands before the names in it; shared ones in every place.

    `named_modules(remove_duplicate=False)` does the same, some ten times slower.
    """
    found = [(start, model)]
    for name, child in model._modules.items():
        if child is not None and child._modules:
            found += walk(child, f"{start}{name}.")
        elif child is not None:
            found.append((f"{start}{name}.", child))
    return found


def storage_id(tensor: torch.Tensor) -> int:
    """Name a tensor's memory; below zero where it has none of its own (sparse tensors, wrappers of others)."""
    try:
        return int(storage_of(tensor)._cdata)
    except (NotImplementedError, RuntimeError):
        return -id(tensor)


def _is_whole(tensor: torch.Tensor) -> bool:
    return storage_id(tensor) > 0 and tensor.numel() * tensor.element_size() == storage_of(tensor).nbytes()


def _size_of(storage: StorageWeakRef) -> int:
    memory = torch.UntypedStorage._new_with_weak_ptr(storage.cdata)
    return memory.nbytes() if memory is not None and memory.device.type == "cpu" else 0


def is_lazy(tensor: Any) -> bool:
    """Tell whether a parameter or buffer waits for its first input to have a shape."""
    return isinstance(tensor, UninitializedParameter | UninitializedBuffer)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """List the tensors inside lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    found: list[torch.Tensor] = []
    if isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, torch.Tensor):
                found.append(part)
            elif isinstance(part, list | tuple | dict) and part:
                found += tensors_in(part)
    return found
