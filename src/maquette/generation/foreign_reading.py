"""Runs models that keep what they have read in a way of their own: code written for Transformers, with its caches.

Rows of one length are read together and share a cache of the model's; there is no padding, so that code which takes
none into account is right, too. What each row has read is known by its ids; a cache is only there to save time. Where
one cannot follow (nobody knows where rows lie, tokens cannot be taken back), a row is read again from its beginning.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from maquette.generation.foreign_caches import (
    DynamicCache,
    find_axes,
    forget_tokens,
    is_filled,
    list_tensors,
    take_rows,
)
from maquette.generation.step_outputs import join_rows, pick_row

NAMES = ("past_key_values", "past", "cache_params", "state", "mems")  # what code calls its cache


class Style(NamedTuple):
    """How a model is called.

    Attributes:
        name: of the argument that is the cache.
        is_given: whether it begins with a cache that it is given, rather than with None.
        prepares: whether its own `prepare_inputs_for_generation` makes the arguments.
    """

    name: str
    is_given: bool
    prepares: bool


class UnusableCacheError(Exception):
    """Called in one of the styles, a model keeps nothing that can be gone on from, or not rightly."""


# In which style each model has been seen to give with its cache what it gives without.
_known: "WeakKeyDictionary[Any, Style]" = WeakKeyDictionary()


@dataclass(eq=False)
class _Group:
    """Rows that a cache holds together."""

    cache: Any
    rows: int
    length: int
    axes: list[int | None] = field(default_factory=list)


@dataclass(eq=False)
class _Slot:
    """A row: its prompt's number, all it has read, and where a cache holds that."""

    number: int
    held: list[Tensor]  # ids `(length,)`, after vectors `(length, dim)` perhaps
    group: _Group | None = None
    row: int = 0

    @property
    def length(self) -> int:
        return sum(map(len, self.held))


class _Part(NamedTuple):
    """Rows that are read together: their slots, and the new tokens of each."""

    slots: list[_Slot]
    unread: list[list[Tensor]]
    places: list[int]
    group: _Group | None

    @property
    def ids(self) -> Tensor | None:
        """All tokens of the rows, `(rows, length)`, if they are ids."""
        rows = [[*(s.held if s.group else ()), *u] for s, u in zip(self.slots, self.unread, strict=True)]
        return torch.stack([torch.cat(row) for row in rows]) if rows[0][0].ndim == 1 else None


class ForeignReader:
    """Reads with the caches that a model makes itself.

    Args:
        model: called as Transformers calls it.
        names: the arguments that its `forward` takes.
        whole: gives the logits of rows without a cache, `(slots) -> (rows, length, vocabulary)`, to check it once.
        inputs: what else belongs to each prompt.
        options: arguments for every call.
    """

    can_rewind = True

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        *,
        whole: Callable[[int, Tensor], Tensor],
        inputs: Mapping[str, Tensor] | None = None,
        options: Mapping[str, Any] | None = None,
        device: Any = "cpu",
    ) -> None:
        self.model, self.names, self.whole, self.device = model, names, whole, device
        self.inputs = dict(inputs or {})
        self.options = {**(options or {}), **({"return_dict": True} if "return_dict" in names else {})}
        self.slots: dict[int, _Slot] = {}
        self.is_known = model in _known
        self.styles = iter([_known[model]] if self.is_known else _list_styles(model, names))
        self.style = next(self.styles, None)
        self.is_alone = False  # rows of one cache cannot be told apart

    def read(self, first: int, rows: Any, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says.

        Raises:
            UnusableCacheError: in no style does the model go on from what it has kept.
        """
        for place, number in enumerate(numbers, start=first):
            self.slots.setdefault(place, _Slot(number, []))
        while self.style is not None:
            try:
                output = self._read([self.slots[first + place] for place in range(len(rows))], list(rows), last)
            except Exception:
                if self.is_known:
                    raise
                self.style = next(self.styles, None)
                for slot in self.slots.values():
                    slot.group = None
                continue
            for place, row in enumerate(rows):
                if len(row):
                    self.slots[first + place].held.append(row)
            return output
        raise UnusableCacheError

    def _read(self, slots: list[_Slot], rows: list[Tensor], last: int) -> Any:
        logits: list[Tensor | None] = [None] * len(rows)
        more: list[dict[str, list[Tensor]] | None] = [None] * len(rows)
        output: Any = None
        for part in self._parts(slots, rows):
            output, group = self._run(part, last)
            for row, (place, slot) in enumerate(zip(part.places, part.slots, strict=True)):
                logits[place], more[place] = output["logits"][row, -last:], pick_row(output, row, len(rows[place]))
                slot.group, slot.row = group, row
        some = next(found for found in logits if found is not None)
        filled = [some[:0] if found is None else found for found in logits]
        padded = torch.nn.utils.rnn.pad_sequence(filled, batch_first=True, padding_side="left")
        return type(output)({"logits": padded, **join_rows(more)})

    # Which rows go together ---------------------------------------------------------------------------------------

    def _parts(self, slots: list[_Slot], rows: list[Tensor]) -> Iterator[_Part]:
        """Sort rows by the cache that holds them and by how much they read; caches are split where rows go apart."""
        self._split(slots, rows)
        parts: dict[Any, list[int]] = {}
        for place, (slot, row) in enumerate(zip(slots, rows, strict=True)):
            if len(row):
                apart = place if self.is_alone else 0
                key = (id(slot.group), 0, 0) if slot.group else (0, slot.length + len(row), apart)
                parts.setdefault(key, []).append(place)
        for places in parts.values():
            chosen = [slots[place] for place in places]
            unread = [
                [*([] if slot.group else slot.held), rows[place]] for slot, place in zip(chosen, places, strict=True)
            ]
            yield _Part(chosen, unread, places, chosen[0].group)

    def _split(self, slots: list[_Slot], rows: list[Tensor]) -> None:
        """Give rows that go apart caches of their own, and let the rows of each be in the order of their slots."""
        counts = {id(slot): len(row) for slot, row in zip(slots, rows, strict=True)}
        groups: dict[int, dict[int, list[_Slot]]] = {}
        for _, slot in sorted(self.slots.items()):
            if slot.group is not None:
                groups.setdefault(id(slot.group), {}).setdefault(counts.get(id(slot), 0), []).append(slot)
        for parts in groups.values():
            for number, part in enumerate(parts.values()):
                self._take(part, is_shared=number + 1 < len(parts))

    def _take(self, slots: list[_Slot], *, is_shared: bool) -> None:
        group = slots[0].group
        assert group is not None
        rows = [slot.row for slot in slots]
        if rows == list(range(group.rows)) and not is_shared:
            return
        cache = take_rows(group.cache, rows, of=group.rows, model=self.model, is_shared=is_shared)
        self.is_alone |= cache is None
        new = None if cache is None else _Group(cache, len(rows), group.length, group.axes)
        for row, slot in enumerate(slots):
            slot.group, slot.row = new, row

    # Running the model ----------------------------------------------------------------------------------------------

    def _run(self, part: _Part, last: int) -> tuple[Any, _Group]:
        assert self.style is not None
        group, count = part.group, sum(map(len, part.unread[0]))
        length = (group.length if group else 0) + count
        cache = group.cache if group else _make_cache(self.model) if self.style.is_given else None
        before = [tensor.shape for tensor in list_tensors(cache)]
        output = self.model(**self._arguments(part, cache, length, count, last))
        if output["logits"].shape[1] < min(last, count):
            raise UnusableCacheError
        kept = next((output[n] for n in dict.fromkeys((self.style.name, *NAMES)) if output.get(n) is not None), cache)
        if not is_filled(kept, length):
            raise UnusableCacheError
        if not self.is_known and (group is not None or self.style.is_given):
            self._check(part, output["logits"][0, -1], is_going_on=group is not None)
        after = [tensor.shape for tensor in list_tensors(kept)]
        return output, _Group(kept, len(part.slots), length, find_axes(before, after, count))

    def _arguments(self, part: _Part, cache: Any, length: int, count: int, last: int) -> dict[str, Any]:
        assert self.style is not None
        new = torch.stack([join_tokens(row, self.model) for row in part.unread]).to(self.device)
        kind = "inputs_embeds" if new.ndim == 3 else "input_ids"
        places = torch.arange(length - count, length, device=self.device)
        common = {
            self.style.name: cache,
            "attention_mask": torch.ones(len(new), length, dtype=torch.long, device=self.device),
            "use_cache": True,
            "cache_position": places,
        }
        more = {"position_ids": places.expand(len(new), -1), "logits_to_keep": last, "num_logits_to_keep": last}
        index = torch.tensor([slot.number for slot in part.slots], device=self.device)
        inputs = {name: value[index] for name, value in self.inputs.items()}
        given = {name: value for name, value in {**common, **more}.items() if name in self.names}
        if self.style.prepares and (ids := part.ids) is not None:
            made = self._prepare(ids.to(self.device), {**common, **inputs, **self.options})
            if made.get("input_ids") is not None and made["input_ids"].shape == new.shape:
                keeps = {name: value for name, value in given.items() if name.endswith("logits_to_keep")}
                return {**keeps, **made, self.style.name: cache, **self.options}
        if part.group is None:
            given |= inputs
        return {kind: new, **given, **self.options}

    def _prepare(self, ids: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        """Let the model's own code make the arguments of its `forward`."""
        prepare = self.model.prepare_inputs_for_generation
        parameters = inspect.signature(prepare).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            given = {name: value for name, value in given.items() if name in parameters}
        made = prepare(ids, **given)
        taken = inspect.signature(self.model.forward).parameters
        is_open = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        return {name: value for name, value in made.items() if is_open or name in taken}

    def _check(self, part: _Part, logits: Tensor, *, is_going_on: bool) -> None:
        """Compare logits with those of the whole row, computed without a cache.

        Raises:
            UnusableCacheError: they differ by more than rounding.
        """
        slot, new = part.slots[0], part.unread[0][-1]
        expected = self.whole(slot.number, join_tokens([*slot.held, new], self.model)).float()
        bound = 0.01 if logits.dtype in (torch.float32, torch.float64) else 0.15
        off = (logits.float() - expected).norm() / (expected - expected.mean()).norm().clamp(min=1e-6)
        if not bool(off <= bound):
            raise UnusableCacheError
        if is_going_on:
            assert self.style is not None
            self.is_known = True
            _known[self.model] = self.style

    # Slots ------------------------------------------------------------------------------------------------------------

    def reserve(self, slots: int) -> None:
        """There is room for any number."""

    def move(self, source: int, target: int) -> None:
        """Copy a slot; its cache is shared until one of the two reads on."""
        slot = self.slots[source]
        self.slots[target] = _Slot(slot.number, slot.held[:], slot.group, slot.row)

    def clear(self, slot: int) -> None:
        """Forget a slot."""
        self.slots.pop(slot, None)

    def reorder(self, sources: Sequence[int], last: Sequence[int] | None = None) -> None:
        """Take the first slots in another order."""
        held = [self.slots[source] for source in sources]
        self.slots |= {n: _Slot(slot.number, slot.held[:], slot.group, slot.row) for n, slot in enumerate(held)}

    def drop(self, first: int, counts: Sequence[int]) -> None:
        """Take tokens back, from the cache where that can be."""
        chosen = [(self.slots[slot], count) for slot, count in enumerate(counts, start=first) if count]
        self._split([slot for slot, _ in chosen], [torch.empty(count) for _, count in chosen])
        done: dict[int, _Group | None] = {}
        for slot, count in chosen:
            slot.held = [join_tokens(slot.held, self.model)[: slot.length - count]]
            if (group := slot.group) is None:
                continue
            if id(group) not in done:
                cache = forget_tokens(group.cache, count, group.axes)
                new = None if cache is None else _Group(cache, group.rows, group.length - count)
                done[id(group)] = new
            slot.group = done[id(group)]


def is_known_as_foreign(model: Any) -> bool:
    """Tell whether a model has been seen to go on rightly from a cache of its own."""
    return model in _known


def _list_styles(model: Any, names: Sequence[str]) -> Iterator[Style]:
    """Give the styles in which a model may be called, the likeliest first."""
    of_model = getattr(type(model), "prepare_inputs_for_generation", None)
    is_own = of_model is not None and not of_model.__module__.startswith("maquette.")
    for name in (name for name in NAMES if name in names):
        for prepares in (True, False) if is_own else (False,):
            yield Style(name, False, prepares)
            yield Style(name, True, prepares)


def _make_cache(model: Any) -> Any:
    """Make an empty cache: of the class that the model's own code knows by that name, where there is one."""
    for base in type(model).__mro__:
        found = getattr(sys.modules.get(base.__module__), "DynamicCache", None)
        if found is not None:
            return found()
    return DynamicCache()


def join_tokens(row: Sequence[Tensor], model: Any) -> Tensor:
    """Put ids together, or vectors; where both come, ids are turned into vectors as the model does it."""
    if row[0].ndim != row[-1].ndim:
        embed = model.get_input_embeddings()
        row = [part if part.ndim == 2 else embed(part) for part in row]
    return row[0] if len(row) == 1 else torch.cat(list(row))
