"""What all pipelines do: tell one input from many, run rows in batches that waste nothing, answer in order.

A task says how inputs become rows (`prepare`), what is kept of the model's outputs for each row (`read`), and what the
answer for one input is (`answer`).
"""

import dataclasses
import inspect
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from maquette.errors import InputError, UnknownFieldError, did_you_mean

SET_APART = "set_apart"  # the field of options in which a task keeps those of others
UNASKED = 16  # rows of one length that go together where no batch_size was asked for


@dataclass
class Row:
    """One row of what the model takes, without the axis of the batch, and what the answer needs to know of it."""

    inputs: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(next(iter(self.inputs.values())))


class Pipeline:
    """A model with what prepares its data, called on inputs as they are.

    A list gives a list of answers, in order. An iterator, a generator or a data set gives an iterator that reads on as
    answers are taken.

    Args:
        model: an object; `pipeline` loads one by name.
        tokenizer, image_processor, feature_extractor, processor: what the task needs of these.
        device: where the model is to be; where it is, unless given. A number counts CUDA devices, -1 is the CPU.
        dtype: what type of numbers it computes in; its own, unless given.
        batch_size: how many rows go through the model at once. Unless given, only rows of one length go together, so
            that nothing is padded.
        options: those of the task's call, for every call.

    Class attributes:
        task: its name.
        auto_classes: which AutoClasses load models for it.
        needs: which of the four parts it needs.
        ahead: how many inputs of a list are prepared at a time.
        options_class: the options of a call.
    """

    task: ClassVar[str] = ""
    auto_classes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    ahead: ClassVar[int] = 64
    options_class: ClassVar[type] = object
    tokenizer: Any
    image_processor: Any
    feature_extractor: Any

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        image_processor: Any = None,
        feature_extractor: Any = None,
        processor: Any = None,
        *,
        device: Any = None,
        dtype: Any = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        parts = {"tokenizer": tokenizer, "image_processor": image_processor, "feature_extractor": feature_extractor}
        for name, part in parts.items():
            setattr(self, name, part if part is not None else getattr(processor, name, None))
        self.processor = processor
        if missing := [name for name in self.needs if getattr(self, name) is None]:
            raise InputError(f"The {self.task} pipeline needs {' and '.join(missing)}: pass {missing[0]}=….")
        self.model = model.eval()
        if device is not None:
            self.model.to(_device(device))
        if dtype is not None and dtype != "auto":
            self.model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        self.batch_size = _check_size(batch_size)
        self.defaults = options
        self.settle(options)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        place: torch.device = self.model.device
        return place

    @property
    def dtype(self) -> torch.dtype:
        """What type of numbers the model computes in."""
        kind: torch.dtype = self.model.dtype
        return kind

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and everything that prepares its data into one folder."""
        self.model.save_pretrained(save_directory, **kwargs)
        parts = (self.processor,) if self.processor is not None else tuple(getattr(self, name) for name in self.needs)
        for part in parts:
            part.save_pretrained(save_directory)

    # What a task says

    def prepare(self, items: list[Any], options: Any) -> list[list[Row]]:
        """Turn inputs into rows: one for each, or several where an input is long."""
        raise NotImplementedError

    def pad(self, rows: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Bring rows of different lengths to one, as tensors."""
        raise NotImplementedError

    def read(self, outputs: Any, rows: list[Row], options: Any) -> list[Any]:
        """Give what is kept of the model's outputs for each row; their logits, unless a task says otherwise."""
        return list(outputs["logits"].float().cpu().numpy())

    def answer(self, rows: list[Row], outputs: list[Any], options: Any) -> Any:
        """Give the answer for one input, of whose rows these are."""
        raise NotImplementedError

    def is_single(self, inputs: Any) -> bool:
        """Tell one input from several."""
        return isinstance(inputs, str | bytes | os.PathLike | Mapping)

    def further_options(self) -> Iterable[str]:
        """Name the options that go to a tokenizer or to `generate`, which the task sets apart."""
        return ()

    def settle(self, options: Mapping[str, Any]) -> Any:
        """Check the options of a call.

        Raises:
            UnknownFieldError: one that the task does not have, with the nearest that it has.
        """
        known = [one.name for one in dataclasses.fields(self.options_class) if one.name != SET_APART]
        if unknown := [name for name in options if name not in known]:
            near = did_you_mean(unknown[0], {*known, *self.further_options()})
            raise UnknownFieldError(
                f"The {self.task} pipeline takes no {unknown[0]!r}.{near} It takes: {', '.join(known)}."
            )
        return self.options_class(**options)

    # The call

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Give the answer for an input, or the answers for several.

        Args:
            inputs: one input, a list of inputs, or an iterator or data set of them.
            batch_size: how many rows go through the model at once; the pipeline's own, unless given.
            num_workers: passed over; accepted for the sake of code that passes it.
            options: the task's own.
        """
        settled = self.settle({**self.defaults, **options})
        size = self.batch_size if batch_size is None else _check_size(batch_size)
        if self.is_single(inputs):
            return self.finish(next(self._answers([inputs], settled, size, 1)), inputs, options)
        if isinstance(inputs, list | tuple) or hasattr(inputs, "ndim"):
            answers = self._answers(inputs, settled, size, max(self.ahead, size or 1))
            return self.finish(list(answers), inputs, options)
        return self._answers(_items(inputs, self.task), settled, size, 1 if size is None else 8 * size)

    def finish(self, answers: Any, inputs: Any, options: Mapping[str, Any]) -> Any:
        """Change the answers to one input or a list, where a task has a form of its own for these."""
        return answers

    def _answers(self, items: Iterable[Any], options: Any, size: int | None, ahead: int) -> Iterator[Any]:
        """Answer inputs in order, a stretch of them at a time."""
        waiting = iter(items)
        while stretch := list(itertools.islice(waiting, ahead)):
            prepared = self.prepare(stretch, options)
            rows = [row for own in prepared for row in own]
            outputs = iter(self.run(rows, options, size))
            for own in prepared:
                yield self.answer(own, list(itertools.islice(outputs, len(own))), options)

    def run(self, rows: list[Row], options: Any, size: int | None) -> list[Any]:
        """Put rows through the model, the longest first; gives what is kept of each, in their order."""
        found: list[Any] = [None] * len(rows)
        for batch in self._batches(rows, size):
            outputs = self.forward([rows[index] for index in batch], options)
            for index, output in zip(batch, outputs, strict=True):
                found[index] = output
        return found

    def _batches(self, rows: list[Row], size: int | None) -> Iterator[list[int]]:
        """Divide rows, by length: different lengths go together only where padding is marked and was asked for."""
        order = sorted(range(len(rows)), key=lambda index: rows[index].shape, reverse=True)
        mixes = size is not None and self._takes_mask and all("attention_mask" in row.inputs for row in rows)
        groups = [order] if mixes else [list(same) for _, same in itertools.groupby(order, lambda i: rows[i].shape)]
        for group in groups:
            step = size or UNASKED
            yield from (group[start : start + step] for start in range(0, len(group), step))

    def forward(self, rows: list[Row], options: Any) -> list[Any]:
        """Run one batch, and keep what the task needs of it."""
        batch = self.gather(rows)
        with torch.inference_mode():
            return self.read(self.model(**self.place(batch)), rows, options)

    def gather(self, rows: list[Row]) -> Mapping[str, Any]:
        """Put rows together as tensors."""
        inputs = [{name: value for name, value in row.inputs.items() if self._takes(name)} for row in rows]
        if len({row.shape for row in rows}) > 1:
            return self.pad(inputs)
        return {name: torch.as_tensor(np.stack([np.asarray(one[name]) for one in inputs])) for name in inputs[0]}

    def place(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Bring tensors to the model: to its device, and numbers to its type."""
        kinds = {name: self.dtype if tensor.is_floating_point() else tensor.dtype for name, tensor in batch.items()}
        return {name: tensor.to(self.device, kinds[name]) for name, tensor in batch.items()}

    @cached_property
    def _arguments(self) -> tuple[set[str], bool]:
        parameters = inspect.signature(self.model.forward).parameters.values()
        return {one.name for one in parameters}, any(one.kind is one.VAR_KEYWORD for one in parameters)

    @property
    def _takes_mask(self) -> bool:
        return "attention_mask" in self._arguments[0]

    def _takes(self, name: str) -> bool:
        """Tell whether the model takes an input; what it does not know of a tokenizer's is left out."""
        known, is_open = self._arguments
        return name in known or (is_open and name not in ("token_type_ids", "attention_mask"))


def _device(device: Any) -> torch.device:
    if isinstance(device, int) and not isinstance(device, bool):
        return torch.device("cpu" if device < 0 else f"cuda:{device}")
    return torch.device(device)


def _check_size(size: int | None) -> int | None:
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"batch_size={size!r}: a whole number of at least 1 is needed, or None.")
    return size


def _items(inputs: Any, task: str) -> Any:
    """Go through what is no list: an iterator, a generator, a data set."""
    if hasattr(inputs, "__iter__"):
        return inputs
    if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):
        return (inputs[index] for index in range(len(inputs)))
    raise InputError(f"The {task} pipeline cannot take {inputs!r:.80} ({type(inputs).__name__}).")
