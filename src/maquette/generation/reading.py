"""Runs a decoder over rows of tokens, and gives the logits that follow each row's last one.

A reader has slots, one for each row that is being continued. Rows in use always have the first slots, so that what is
kept of them is read without copying.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from maquette.errors import InputError
from maquette.generation.cache import Cache
from maquette.generation.foreign_reading import NAMES as CACHE_NAMES
from maquette.generation.foreign_reading import ForeignReader, UnusableCacheError, is_known_as_foreign, join_tokens
from maquette.generation.step_outputs import CROSS, align_attentions, align_cross, join_rows, name_states, pick_row
from maquette.generation.step_outputs import NAMES as STATES

logger = logging.getLogger(__name__)

Row = Tensor  # ids `(length,)`, or vectors `(length, dim)`
Rows = Sequence[Row] | Tensor  # rows of one length may also come as ids `(rows, length)`


class Reader(Protocol):
    """What the engine asks of a decoder."""

    @property
    def can_rewind(self) -> bool:
        """Whether tokens can be taken back."""

    def read(self, first: int, rows: Rows, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens of the rows in `first`, `first + 1`, …; gives an output with `logits`.

        Args:
            first: the first slot.
            rows: the new tokens of each; none at all for a row that only waits.
            numbers: the caller's number of each row's prompt, for what else belongs to it.
            last: for how many of each row's last tokens logits are wanted.

        Returns:
            An output whose logits are `(rows, last, vocabulary)`; rows with fewer tokens begin with anything.
        """

    def reserve(self, slots: int) -> None:
        """Make room for so many slots, so that new ones can be copied into."""

    def move(self, source: int, target: int) -> None:
        """Let a slot hold a copy of what another holds."""

    def clear(self, slot: int) -> None:
        """Forget what a slot holds."""

    def reorder(self, sources: Sequence[int], last: Sequence[int] | None = None) -> None:
        """Let slot i hold what slot `sources[i]` held; `last`: how many of its last tokens may be others."""

    def drop(self, first: int, counts: Sequence[int]) -> None:
        """Let slots forget so many of their last tokens."""


class CachedReader:
    """Reads with a decoder that keeps what it read in a `Cache`.

    Args:
        model: called as `model(input_ids, attention_mask=…, past_key_values=…)`.
        names: the further arguments that its `forward` takes.
        cache: to go on from; a new one unless given.
        inputs: what else belongs to each prompt, `(prompts, …)`, given with a row's first tokens.
        options: arguments for every call.
        prefix: of the arguments that take new tokens: "decoder_" where an encoder takes `input_ids`.
        pad: the id that stands at padding; any will do, for it is never read.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        names: Sequence[str],
        *,
        cache: Cache,
        inputs: Mapping[str, Tensor] | None = None,
        options: Mapping[str, Any] | None = None,
        prefix: str = "",
        pad: int = 0,
        device: Any = "cpu",
    ) -> None:
        self.model, self.cache, self.inputs, self.pad, self.device = model, cache, dict(inputs or {}), pad, device
        self.options, self.prefix = dict(options or {}), prefix
        if "use_cache" in names:
            self.options["use_cache"] = True
        if "return_dict" in names:
            self.options["return_dict"] = True
        self.keeps_logits = "logits_to_keep" in names
        self.gives_states = any(self.options.get(f"output_{name}") for name in STATES)

    @property
    def can_rewind(self) -> bool:
        """Whether tokens can be taken back."""
        return self.cache.can_rewind

    def read(self, first: int, rows: Rows, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says."""
        view = self.cache.narrow(first, len(rows))
        is_first = not any(view.lengths)
        can_share = is_first and not self.gives_states
        if can_share and not isinstance(rows, Tensor) and len({id(row) for row in rows}) < len(rows):
            return self._read_once(first, rows, numbers, last)
        arguments: dict[str, Any] = {**pad_rows(rows, self.pad, self.device, prefix=self.prefix)}
        if is_first and self.inputs:
            arguments |= select_inputs(self.inputs, numbers, self.device)
        if self.keeps_logits:
            arguments["logits_to_keep"] = last
        before, counts = view.lengths, [len(row) for row in rows]
        try:
            output = self.model(**arguments, past_key_values=view, **self.options)
        except Exception as error:
            if not self.cache.is_begun:
                raise NotCachedError from error
            raise
        check_logits(output, self.model)
        if view.lengths != [old + new for old, new in zip(before, counts, strict=True)]:
            raise NotCachedError
        output["logits"] = output["logits"][:, -last:]
        if not self.gives_states:
            return output
        name_states(output, self.prefix)
        if output.get(CROSS) is not None:
            mask = None if is_first else self.inputs.get("attention_mask")
            mask = None if mask is None else mask[torch.tensor(list(numbers), device=mask.device)]
            output[CROSS] = tuple(align_cross(layer, counts, mask) for layer in output[CROSS])
        if output.get("attentions") is not None:
            aligned = (align_attentions(layer, view.lengths, counts) for layer in output["attentions"])
            output["attentions"] = tuple(aligned)
        return output

    def _read_once(self, first: int, rows: Sequence[Row], numbers: Sequence[int], last: int) -> Any:
        """Read prompts that several rows begin with, once each."""
        distinct = {id(row): place for place, row in reversed(list(enumerate(rows)))}
        chosen = sorted(distinct.values())
        places = [chosen.index(distinct[id(row)]) for row in rows]
        self.reserve(first + len(rows))
        output = self.read(first, [rows[n] for n in chosen], numbers=[numbers[n] for n in chosen], last=last)
        self.reorder([*range(first), *(first + place for place in places)])
        output["logits"] = output["logits"][torch.tensor(places, device=output["logits"].device)]
        return output

    def reserve(self, slots: int) -> None:
        """Make room."""
        self.cache.narrow(0, slots)

    def move(self, source: int, target: int) -> None:
        """Copy a slot."""
        self.cache.move(source, target)

    def clear(self, slot: int) -> None:
        """Forget a slot."""
        self.cache.clear(slot)

    def reorder(self, sources: Sequence[int], last: Sequence[int] | None = None) -> None:
        """Take the first slots in another order."""
        self.cache.narrow(0, len(sources)).reorder(sources, last)

    def drop(self, first: int, counts: Sequence[int]) -> None:
        """Take tokens back."""
        view = self.cache.narrow(first, len(counts))
        view.rewind([length - count for length, count in zip(view.lengths, counts, strict=True)])


class NotCachedError(Exception):
    """A model has taken a cache, and has not put its tokens there."""


class RecomputingReader:
    """Reads whole rows again for every token, with a model that keeps nothing; rows of one length together."""

    can_rewind = True

    def __init__(
        self,
        model: Callable[..., Any],
        names: Sequence[str],
        *,
        inputs: Mapping[str, Tensor] | None = None,
        options: Mapping[str, Any] | None = None,
        prefix: str = "",
        device: Any = "cpu",
    ) -> None:
        self.model, self.inputs, self.device, self.prefix = model, dict(inputs or {}), device, prefix
        self.options = {**(options or {}), **{n: v for n, v in _WITHOUT_CACHE.items() if n in names}}
        self.takes_mask = prefix + "attention_mask" in names
        self.slots: dict[int, tuple[int, Row]] = {}

    def read(self, first: int, rows: Rows, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says."""
        for slot, (row, number) in enumerate(zip(rows, numbers, strict=True), start=first):
            held = self.slots.get(slot)
            self.slots[slot] = (number, row if held is None else join_tokens([held[1], row], self.model))
        groups: dict[int, list[int]] = {}
        for place in range(len(rows)):
            if length := len(self.slots[first + place][1]):
                groups.setdefault(length, []).append(place)
        logits: list[Tensor | None] = [None] * len(rows)
        more: list[dict[str, list[Tensor]] | None] = [None] * len(rows)
        output: Any = None
        for length, places in groups.items():
            output = self._read_group([self.slots[first + place] for place in places], length)
            for row, (place, found) in enumerate(zip(places, output["logits"][:, -last:], strict=True)):
                logits[place], more[place] = found, pick_row(output, row, len(rows[place]))
        return type(output)({"logits": pad_left(logits), **join_rows(more)})

    def _read_group(self, held: Sequence[tuple[int, Row]], length: int) -> Any:
        arguments = pad_rows([row for _, row in held], 0, self.device, prefix=self.prefix)
        if not self.takes_mask:
            arguments.pop(self.prefix + "attention_mask", None)
        more = select_inputs(self.inputs, [number for number, _ in held], self.device)
        output = self.model(**arguments, **more, **self.options)
        check_logits(output, self.model)
        name_states(output, self.prefix)
        return output

    def read_alone(self, number: int, row: Row) -> Tensor:
        """Give the logits after a row's last token, `(vocabulary,)`, and keep nothing."""
        logits: Tensor = self._read_group([(number, row)], len(row))["logits"][0, -1]
        return logits

    def reserve(self, slots: int) -> None:
        """There is room for any number."""

    def move(self, source: int, target: int) -> None:
        """Copy a slot."""
        self.slots[target] = self.slots[source]

    def clear(self, slot: int) -> None:
        """Forget a slot."""
        self.slots.pop(slot, None)

    def reorder(self, sources: Sequence[int], last: Sequence[int] | None = None) -> None:
        """Take the first slots in another order."""
        held = [self.slots[source] for source in sources]
        self.slots.update(enumerate(held))

    def drop(self, first: int, counts: Sequence[int]) -> None:
        """Take tokens back."""
        for slot, count in enumerate(counts, start=first):
            number, row = self.slots[slot]
            self.slots[slot] = (number, row[: len(row) - count])


class ModelReader:
    """Reads with a `Cache` where the model keeps one, then with a cache of its own, and otherwise whole rows again.

    The last is said once.

    Args:
        names: the arguments that the model's `forward` takes.
        cache: to go on from; None always reads whole rows.
        chunk: how many tokens of each row are read at once; a decoder without an encoder only where they come with
            nothing else.
        cached: makes the reader with a cache.
        inputs, options, prefix, device: as for `CachedReader`.
    """

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        *,
        cache: Cache | None,
        chunk: int | None = None,
        cached: Callable[..., Reader] = CachedReader,
        **more: Any,
    ) -> None:
        self.model, self.names, self.more, self.cache = model, names, more, cache
        self.chunk, self.is_compiled = chunk, cached is not CachedReader
        if chunk is not None and more.get("inputs") and not more.get("prefix"):
            self.chunk = None  # which piece they belong to, only the model knows
            logger.warning(
                "prefill_chunk_size=%d has no effect here: prompts come with %s, and are read at once.",
                chunk,
                " and ".join(more["inputs"]),
            )
        self.recomputing = RecomputingReader(model, names, **more)
        self.reader: Reader = self.recomputing
        if cache is None:
            pass
        elif "past_key_values" in names and (any(cache.lengths) or not is_known_as_foreign(model)):
            self.reader = cached(model, names, cache=cache, **more)
        elif any(name in names for name in CACHE_NAMES):
            self.reader = self._foreign()
        else:
            self._say()
        self._hand_on()

    def _say_uncompiled(self) -> None:
        if self.is_compiled:
            self.is_compiled = False
            logger.warning(
                "compile_config has no effect: %s does not keep what it reads in a maquette.Cache, and only such steps "
                "are compiled.",
                type(self.model).__name__,
            )

    def _foreign(self) -> Reader:
        self._say_uncompiled()
        return ForeignReader(self.model, self.names, whole=self.recomputing.read_alone, **self.more)

    def _hand_on(self) -> None:
        self.reserve, self.move, self.clear = self.reader.reserve, self.reader.move, self.reader.clear
        self.reorder, self.drop = self.reader.reorder, self.reader.drop

    @property
    def can_rewind(self) -> bool:
        """Whether tokens can be taken back."""
        return self.reader.can_rewind

    def read(self, first: int, rows: Rows, *, numbers: Sequence[int], last: int = 1) -> Any:
        """Read new tokens, as `Reader` says."""
        if self.chunk and last == 1 and self.reader is not self.recomputing and max(map(len, rows)) > self.chunk:
            rows = self._read_beginnings(first, rows, numbers, self.chunk)
        try:
            return self.reader.read(first, rows, numbers=numbers, last=last)
        except NotCachedError:
            self._check_new()
            self.reader = self._foreign()
        except UnusableCacheError:
            self._recompute()
        self._hand_on()
        return self.read(first, rows, numbers=numbers, last=last)

    def _read_beginnings(self, first: int, rows: Rows, numbers: Sequence[int], chunk: int) -> Rows:
        """Read all but the last so many tokens of each row, piece by piece; gives what is left."""
        starts = range((max(map(len, rows)) - 1) // chunk * chunk, 0, -chunk)  # counted from the ends of rows
        for start in starts:
            bounds = [(max(len(row) - start - chunk, 0), max(len(row) - start, 0)) for row in rows]
            pieces = [row[begin:end] for row, (begin, end) in zip(rows, bounds, strict=True)]
            self.read(first, pieces, numbers=numbers)
        return [row[max(len(row) - chunk, 0) :] for row in rows]

    def _check_new(self) -> None:
        if self.cache is not None and any(self.cache.lengths):
            raise InputError(
                f"{type(self.model).__name__} does not go on from a maquette.Cache, so that generate cannot go on from "
                "past_key_values: leave them out, and the whole prompt is read."
            )

    def _recompute(self) -> None:
        self._say()
        assert isinstance(self.reader, ForeignReader)
        self.recomputing.slots = {
            n: (s.number, join_tokens(s.held, self.model)) for n, s in self.reader.slots.items() if s.held
        }
        self.reader = self.recomputing

    def _say(self) -> None:
        self._say_uncompiled()
        logger.warning(
            "%s keeps nothing of what it has read that could be gone on from: whole texts are computed again for every "
            "token. docs/generation.md shows a model that keeps it.",
            type(self.model).__name__,
        )


def pad_left(rows: Sequence[Tensor | None]) -> Tensor:
    """Stack `(length, …)` so that rows end together; None is an empty row."""
    some = next(row for row in rows if row is not None)
    filled = [some[:0] if row is None else row for row in rows]
    return torch.nn.utils.rnn.pad_sequence(filled, batch_first=True, padding_side="left")


_WITHOUT_CACHE = {"use_cache": False, "return_dict": True}


def select_inputs(inputs: Mapping[str, Tensor], numbers: Sequence[int], device: Any) -> dict[str, Any]:
    """Give what belongs to the prompts of these numbers; states of an encoder as the tuple that models take."""
    index = torch.tensor(list(numbers), device=device)
    found: dict[str, Any] = {name: value[index] for name, value in inputs.items()}
    if "encoder_outputs" in found:
        found["encoder_outputs"] = (found["encoder_outputs"],)
    return found


def pad_rows(rows: Rows, pad: int, device: Any, *, prefix: str = "") -> dict[str, Tensor]:
    """Give the arguments that say what to read: padded on the left, so that the last place is each row's last."""
    if isinstance(rows, Tensor):
        return {prefix + "input_ids": rows}
    kind = prefix + ("inputs_embeds" if rows[0].ndim == 2 else "input_ids")
    lengths = [len(row) for row in rows]
    if min(lengths) == max(lengths):
        return {kind: torch.stack(list(rows)).to(device)}
    fill = pad if rows[0].ndim == 1 else 0.0
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=fill, padding_side="left")
    places = torch.arange(-max(lengths), 0)
    mask = (places >= -torch.tensor(lengths)[:, None]).long()
    return {kind: padded.to(device), prefix + "attention_mask": mask.to(device)}


def check_logits(output: Any, model: Any) -> None:
    """Refuse an output that has no scores of a vocabulary.

    Raises:
        InputError: saying what there is.
    """
    names = list(output) if isinstance(output, Mapping) else [type(output).__name__]
    if not isinstance(output, Mapping) or not isinstance(output.get("logits"), Tensor) or output["logits"].ndim != 3:
        raise InputError(
            f"{type(model).__name__}.generate: forward gives {', '.join(names) or 'nothing'}, and generating needs "
            "`logits` of shape (batch, length, vocabulary) in a ModelOutput. Load a model with a head for causal "
            "language modelling, or return CausalLMOutput(logits=…)."
        )
