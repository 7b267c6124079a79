"""Runs models that keep what they have read in a way of their own: code written for Transformers, with its caches.

Rows of one length are read together and share a cache of the model's. There is no padding, so that code which takes
none into account is right, too; where a step with padding has been seen to give the same, rows of all lengths go on
together. What each row has read is known by its ids; a cache is only there to save time. Where
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
    cut_front,
    find_axes,
    forget_tokens,
    is_filled,
    join_caches,
    list_tensors,
    take_rows,
)
from maquette.generation.foreign_pairs import EncoderDecoderCache, encode
from maquette.generation.step_outputs import join_rows, name_states, pick_row

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
# Whether a step of each model has been seen to give the same with rows that are padded on the left.
_pads: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


@dataclass(eq=False)
class _Group:
    """Rows that a cache holds together; `padding` says how much of the length is none of theirs, on the left."""

    cache: Any
    rows: int
    length: int
    axes: list[int | None] = field(default_factory=list)
    padding: list[int] = field(default_factory=list)

    def trimmed(self) -> "_Group":
        """Leave out what is padding in every row, now that longer ones have left."""
        least = min(self.padding, default=0)
        cache = cut_front(self.cache, least, self.axes) if least else None
        if cache is None:
            return self
        padding = [each - least for each in self.padding]
        return _Group(cache, self.rows, self.length - least, self.axes, padding if any(padding) else [])


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
        if any(each.ndim > 1 for row in rows for each in row):
            return None
        whole = [torch.cat(row) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True, padding_side="left")
        return torch.nn.functional.pad(padded, (min(self.padding), 0))

    @property
    def padding(self) -> list[int]:
        return self.group.padding if self.group and self.group.padding else [0] * len(self.slots)


class ForeignReader:
    """Reads with the caches that a model makes itself.

    Args:
        model: called as Transformers calls it.
        names: the arguments that its `forward` takes.
        whole: gives the logits of rows without a cache, `(slots) -> (rows, length, vocabulary)`, to check it once.
        inputs: what else belongs to each prompt.
        options: arguments for every call.
        prefix: of the arguments that take new tokens: "decoder_" where an encoder takes `input_ids`. All prompts are
            read by it first, and every call is given its states.
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
        prefix: str = "",
        device: Any = "cpu",
    ) -> None:
        self.model, self.names, self.whole, self.device, self.prefix = model, names, whole, device, prefix
        self.inputs = dict(inputs or {})
        self.options = {**(options or {}), **({"return_dict": True} if "return_dict" in names else {})}
        self.slots: dict[int, _Slot] = {}
        self.is_known = model in _known
        styles = [_known[model]] if self.is_known else [*_list_styles(model, names)]
        self.styles = iter([style for style in styles if not (prefix and style.prepares)])
        self.is_encoded = not prefix
        self.style = next(self.styles, None)
        self.is_alone = False  # rows of one cache cannot be told apart
        self.is_apart = False  # rows read several tokens at once, which no one has tried with padding

    def read(self, first: int, rows: Any, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says.

        Raises:
            UnusableCacheError: in no style does the model go on from what it has kept.
        """
        for place, number in enumerate(numbers, start=first):
            self.slots.setdefault(place, _Slot(number, []))
        if not self.is_encoded:
            encoded = encode(self.model, self.inputs)
            if encoded is None or "encoder_outputs" not in self.names:
                raise UnusableCacheError
            self.inputs, self.is_encoded = encoded, True
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
        self._leave_padding(slots, rows)
        parts = [*self._parts(slots, rows)]
        for part, ran in self._run_all(parts, last):
            output, group = ran
            for row, (place, slot) in enumerate(zip(part.places, part.slots, strict=True)):
                logits[place], more[place] = output["logits"][row, -last:], pick_row(output, row, len(rows[place]))
                slot.group, slot.row = group, row
        some = next(found for found in logits if found is not None)
        filled = [some[:0] if found is None else found for found in logits]
        padded = torch.nn.utils.rnn.pad_sequence(filled, batch_first=True, padding_side="left")
        return type(output)({"logits": padded, **join_rows(more)})

    def _run_all(self, parts: list[_Part], last: int) -> list[tuple[_Part, tuple[Any, _Group]]]:
        """Run the model over all parts; a step of rows of several lengths is one call where that gives the same."""
        joined = self._join(parts)
        if joined is None:
            return [(part, self._run(part, last)) for part in parts]
        together = self._run(joined, last)
        if self.model in _pads:
            return [(joined, together)]
        apart = [(part, self._run(part, last)) for part in parts]
        expected = torch.cat([output["logits"][:, -1] for _, (output, _) in apart])
        _pads[self.model] = is_near(together[0]["logits"][:, -1], expected)
        return [(joined, together)] if _pads[self.model] else apart

    def _join(self, parts: list[_Part]) -> _Part | None:
        """Put the rows of a step together, whatever their lengths, if the model may take padding."""
        takes_padding = "attention_mask" in self.names and "position_ids" in self.names and _pads.get(self.model, True)
        groups = [part.group for part in parts if part.group is not None]
        is_step = len(groups) == len(parts) > 1 and all(len(row[0]) == 1 for part in parts for row in part.unread)
        if not (self.is_known and takes_padding and is_step) or self.is_apart or self.prefix:
            return None
        lengths = [group.length for group in groups]
        axes = [group.axes for group in groups]
        cache = join_caches([group.cache for group in groups], [group.rows for group in groups], lengths, axes)
        if cache is None:
            return None
        padding = [max(lengths) - part.group.length + each for part in parts if part.group for each in part.padding]
        group = _Group(cache, len(padding), max(lengths), axes[0], padding)
        slots = [slot for part in parts for slot in part.slots]
        unread = [row for part in parts for row in part.unread]
        return _Part(slots, unread, [place for part in parts for place in part.places], group)

    def _leave_padding(self, slots: list[_Slot], rows: list[Tensor]) -> None:
        """Let rows that read several tokens be read again without padding, and never join them from now on."""
        far = [slot for slot, row in zip(slots, rows, strict=True) if slot.group is not None and len(row) > 1]
        self.is_apart |= bool(far)
        for slot in far:
            if slot.group is not None and slot.group.padding:
                slot.group = None

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
        padding = [group.padding[row] for row in rows] if group.padding else []
        new = None if cache is None else _Group(cache, len(rows), group.length, group.axes, padding).trimmed()
        for row, slot in enumerate(slots):
            slot.group, slot.row = new, row

    # Running the model ----------------------------------------------------------------------------------------------

    def _run(self, part: _Part, last: int) -> tuple[Any, _Group]:
        assert self.style is not None
        group, count = part.group, sum(map(len, part.unread[0]))
        length = (group.length if group else 0) + count
        cache = group.cache if group else self._make_cache() if self.style.is_given else None
        before = [tensor.shape for tensor in list_tensors(cache)]
        output = self.model(**self._arguments(part, cache, length, count, last))
        name_states(output, self.prefix)
        if output["logits"].shape[1] < min(last, count):
            raise UnusableCacheError
        kept = next((output[n] for n in dict.fromkeys((self.style.name, *NAMES)) if output.get(n) is not None), cache)
        if not is_filled(kept, length):
            raise UnusableCacheError
        if not self.is_known and (group is not None or self.style.is_given):
            self._check(part, output["logits"][0, -1], is_going_on=group is not None)
        after = [tensor.shape for tensor in list_tensors(kept)]
        padding = part.padding if any(part.padding) else []
        return output, _Group(kept, len(part.slots), length, find_axes(before, after, count), padding)

    def _make_cache(self) -> Any:
        """Make an empty cache: of the classes that the model's own code knows by these names, where there are such."""
        own = _find_class(self.model, "DynamicCache", DynamicCache)
        return (
            _find_class(self.model, "EncoderDecoderCache", EncoderDecoderCache)(own(), own()) if self.prefix else own()
        )

    def _arguments(self, part: _Part, cache: Any, length: int, count: int, last: int) -> dict[str, Any]:
        assert self.style is not None
        new = torch.stack([join_tokens(row, self.model) for row in part.unread]).to(self.device)
        kind = self.prefix + ("inputs_embeds" if new.ndim == 3 else "input_ids")
        places = torch.arange(length - count, length, device=self.device)
        padding = torch.tensor(part.padding, device=self.device)[:, None]
        common = {
            self.style.name: cache,
            self.prefix + "attention_mask": (torch.arange(length, device=self.device) >= padding).long(),
            "use_cache": True,
            "cache_position": places,
        }
        more = {f"{self.prefix}position_ids": places - padding, "logits_to_keep": last, "num_logits_to_keep": last}
        index = torch.tensor([slot.number for slot in part.slots], device=self.device)
        inputs = {name: value[index] for name, value in self.inputs.items()}
        given = {name: value for name, value in {**common, **more}.items() if name in self.names}
        if self.style.prepares and (ids := part.ids) is not None:
            made = self._prepare(ids.to(self.device), {**common, **inputs, **self.options})
            if made.get("input_ids") is not None and made["input_ids"].shape == new.shape:
                keeps = {name: value for name, value in given.items() if name.endswith("logits_to_keep")}
                return {**keeps, **made, self.style.name: cache, **self.options}
        if self.prefix:
            given |= {**inputs, "encoder_outputs": (inputs["encoder_outputs"],)}
        elif part.group is None:
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
        expected = self.whole(slot.number, join_tokens([*slot.held, new], self.model))
        if not is_near(logits, expected):
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
                new = None if cache is None else _Group(cache, group.rows, group.length - count, padding=group.padding)
                done[id(group)] = new
            slot.group = done[id(group)]


def is_near(found: Tensor, expected: Tensor) -> bool:
    """Tell whether logits differ by no more than rounding, `(…, vocabulary)`."""
    bound = 0.01 if found.dtype in (torch.float32, torch.float64) else 0.15
    spread = (expected.float() - expected.float().mean(-1, keepdim=True)).norm(dim=-1).clamp(min=1e-6)
    return bool(((found.float() - expected.float()).norm(dim=-1) <= bound * spread).all())


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


def _find_class(model: Any, name: str, otherwise: Any) -> Any:
    """Find a class that the model's own code knows by a name; another where it knows none."""
    found = (getattr(sys.modules.get(base.__module__), name, None) for base in type(model).__mro__)
    return next((kind for kind in found if kind is not None), otherwise)


def join_tokens(row: Sequence[Tensor], model: Any) -> Tensor:
    """Put ids together, or vectors; where both come, ids are turned into vectors as the model does it."""
    if row[0].ndim != row[-1].ndim:
        embed = model.get_input_embeddings()
        row = [part if part.ndim == 2 else embed(part) for part in row]
    return row[0] if len(row) == 1 else torch.cat(list(row))
