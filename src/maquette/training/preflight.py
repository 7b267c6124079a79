"""What is checked before the first step: that model and data fit, so that nothing crashes after 900 of them.

The labels of data that can be looked through cheaply (lists, tensors, columns) are all looked at. Of other data the
first rows are tried, and every batch is checked when it is made, on the CPU, with a message that says what is wrong.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from maquette.errors import ConfigurationError, InputError, bullets, did_you_mean
from maquette.modeling.interface import Interface
from maquette.modeling.problems import IGNORED
from maquette.training.collation import LABEL_SPELLINGS
from maquette.training.data import has_column, is_indexed, read_rows
from maquette.training.metrics import read_scores
from maquette.training.random_states import seeded
from maquette.training.undoing import undone

logger = logging.getLogger(__name__)


class Limit(NamedTuple):
    """Whole numbers of a column have to be below a limit; -100 passes in labels."""

    column: str
    below: int
    advice: str

    def check(self, values: Tensor, place: str) -> None:
        """Raise InputError where a value is outside."""
        if values.is_floating_point() or values.dtype is torch.bool or not values.numel():
            return
        is_label = "label" in self.column
        wrong = values[((values < 0) & ~((values == IGNORED) & is_label)) | (values >= self.below)]
        if wrong.numel():
            raise InputError(
                f"{place} has {int(wrong[0])} in {self.column!r}, where 0 to {self.below - 1} belong"
                f"{f' (or {IGNORED}, for what does not count)' if is_label else ''}. {self.advice}"
            )


@dataclass
class Intake:
    """From rows to what a model takes: collated, without columns that it does not take, and within limits.

    Attributes:
        collate: makes a batch of rows.
        interface: of the model.
        drops: whether columns that it does not take are dropped.
        early: drop them before collating; a collator of the user's own sees everything.
        limits: what is checked in every batch.
    """

    collate: Callable[[list[Any]], Any]
    interface: Interface
    drops: bool = True
    early: bool = True
    limits: list[Limit] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        batch = dict(self.collate([self.taken(self.named(row)) for row in rows] if self.early else rows))
        batch = self._spelled(batch) if self.early else self.taken(batch)
        for limit in self.limits:
            if isinstance(batch.get(limit.column), Tensor):
                limit.check(batch[limit.column], "A batch")
        return batch

    def named(self, row: Any) -> Mapping[str, Any]:
        """Give a row by names; the items of a tuple are the arguments of `forward`, in order."""
        if isinstance(row, tuple | list):
            return dict(zip(self.interface.names, row, strict=False))
        if isinstance(row, Mapping):
            return row
        raise InputError(
            f"A row of the data is a {type(row).__name__}. Rows are dictionaries, or tuples in the order of "
            f"{self.interface.model}.forward({', '.join(self.interface.names)}); or pass a data_collator."
        )

    def _spelled(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Call the labels what `forward` does, which may not be what collators call them."""
        own = next((name for name in LABEL_SPELLINGS if name in self.interface.names), None)
        if own and "labels" in batch and "labels" not in self.interface.names:
            batch[own] = batch.pop("labels")
        return batch

    def taken(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what the model does not take, and say so the first time."""
        wanted = {*self.interface.names, *self.interface.labels}
        if "labels" in self.interface.labels and "labels" not in columns:
            wanted |= {*LABEL_SPELLINGS}
        if not self.drops or self.interface.takes_any:
            return dict(columns)
        if new := sorted(columns.keys() - wanted - self.dropped):
            self.dropped |= {*new}
            logger.warning(
                "%s.forward does not take these columns, which are dropped unless remove_unused_columns=False: %s",
                self.interface.model,
                ", ".join(new),
            )
        return {name: value for name, value in columns.items() if name in wanted}


def try_rows(dataset: Any, intake: Intake, count: int = 2, *, spread: bool = False) -> dict[str, Any]:
    """Make a batch of the first rows, or of rows spread over the data, where these can be read by their numbers.

    Raises:
        InputError: there is no row, or what the collator or the limits say.
        ConfigurationError: the model needs something that is not there.
    """
    with seeded("trial"):
        if is_indexed(dataset):
            step = max(1, len(dataset) // count) if spread else 1
            rows = read_rows(dataset, range(0, len(dataset), step)[:count])
        else:
            rows = list(islice(iter(dataset), count))
        if not rows:
            raise InputError("The data has no rows.")
        batch = intake(rows)
    _check_columns(batch, intake.interface, [*(rows[0] if isinstance(rows[0], Mapping) else batch)])
    return batch


def _check_columns(batch: Mapping[str, Any], interface: Interface, columns: list[str]) -> None:
    if missing := [name for name in interface.needed if name not in batch]:
        raise ConfigurationError(
            f"{interface.model}.forward needs {missing[0]!r}, which the data does not have."
            f"{did_you_mean(missing[0], columns)} It has the columns "
            f"{', '.join(columns)}; rename one, or pass a data_collator that makes it."
        )


class MissingLossError(ConfigurationError):
    """A model returned no loss; `outputs` are what it returned."""

    outputs: Any = None


def explain_missing_loss(interface: Interface, batch: Iterable[str], outputs: Any = None) -> MissingLossError:
    """Say why a model that was given this batch returned no loss."""
    if interface.labels and not {*interface.labels} & {*batch}:
        labels = " and ".join(map(repr, interface.labels))
        found = MissingLossError(
            f"There is no label column: {interface.model}.forward gives a loss when it gets {labels}, and the data has "
            f"{', '.join(batch)}. Rename the column that holds the labels, or say it in label_names."
        )
    else:
        found = MissingLossError(
            f"{interface.model} returned no loss. Have its forward return a dictionary or an output with 'loss', or a "
            "tuple that begins with it; or pass compute_loss_func, or override compute_loss."
        )
    found.outputs = outputs
    return found


# Limits ----------------------------------------------------------------------------------------------------------


def find_limits(model: nn.Module, batch: Mapping[str, Any], tokenizer: Any = None) -> list[Limit]:
    """Find how many tokens a model embeds.

    Raises:
        ConfigurationError: fewer than the tokenizer's vocabulary has.
    """
    count = None
    if "input_ids" in batch and hasattr(model, "get_input_embeddings"):
        with contextlib.suppress(NotImplementedError):  # the model cannot say which ones they are
            count = getattr(cast(Any, model).get_input_embeddings(), "num_embeddings", None)
    if count is None:
        return []
    known = len(tokenizer) if hasattr(tokenizer, "convert_ids_to_tokens") else 0
    if known > count:
        raise ConfigurationError(
            f"The tokenizer knows {known} tokens, but {type(model).__name__} embeds only {count}. Call "
            f"model.resize_token_embeddings({known}) before training."
        )
    return [
        Limit("input_ids", count, f"{type(model).__name__} embeds {count} tokens: resize_token_embeddings makes more.")
    ]


def find_classes(model: nn.Module, batch: dict[str, Any], interface: Interface) -> list[Limit]:
    """Find how many classes a model tells apart, from its `logits`, or its only scores, for inputs without labels.

    A model that cannot do without labels, whatever its signature says, tells nothing.
    """
    name = next((name for name in interface.labels if name in batch), None)
    labels = batch.get(name or "")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or {*interface.labels} & {*interface.needed}:
        return []
    try:
        outputs = model(**{key: value for key, value in batch.items() if key not in interface.labels})
    except Exception:  # of the model's own code: the trial with labels shows whether it matters
        return []
    scores = outputs.get("logits") if isinstance(outputs, Mapping) else None
    scores = read_scores(outputs) if scores is None else scores
    if not isinstance(scores, Tensor) or scores.shape[:-1] != labels.shape or scores.shape[-1] == 1:
        return []
    return [
        Limit(str(name), scores.shape[-1], f"{interface.model} tells {scores.shape[-1]} classes apart: see num_labels.")
    ]


def scan_labels(dataset: Any, limit: Limit, intake: Intake, place: str) -> None:
    """Look through all labels of data that makes it cheap.

    Raises:
        InputError: with the row.
    """
    for number, value in enumerate(_column(dataset, limit.column, intake)):
        if isinstance(value, int) and 0 <= value < limit.below:  # by far the most
            continue
        array = np.asarray(value)
        if array.dtype.kind in "iu":
            limit.check(torch.from_numpy(np.atleast_1d(array).astype(np.int64)), f"Row {number} of the {place} data")


def _column(dataset: Any, name: str, intake: Intake) -> Iterable[Any]:
    names = (name, *LABEL_SPELLINGS) if name == "labels" else (name,)
    arguments = intake.interface.names if intake.early else ()  # what is where, only the user's own collator knows
    place = arguments.index(name) if name in arguments else -1
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[place].numpy() if 0 <= place < len(dataset.tensors) else ()
    if isinstance(dataset, list | tuple):
        return (_item(row, names, place) for row in dataset)
    found = next((column for column in names if has_column(dataset, column)), None)
    return dataset[found] if found and is_indexed(dataset) else ()


def _item(row: Any, names: Sequence[str], place: int) -> Any:
    if isinstance(row, Mapping):
        return next((row[name] for name in names if name in row), ())
    return row[place] if isinstance(row, tuple) and 0 <= place < len(row) else ()


# The whole check ---------------------------------------------------------------------------------------------------


def check_run(
    model: nn.Module,
    bare: nn.Module,
    intake: Intake,
    data: Mapping[str, Any],
    *,
    rows: int,
    tokenizer: Any,
    move: Callable[[dict[str, Any]], dict[str, Any]],
    compute_loss: Callable[[dict[str, Any]], Any],
) -> dict[str, Any]:
    """Try a model on the first rows, as the run will, without a trace: all of it stays as it was.

    Args:
        model: as it will be run, which may be wrapped for several processes.
        bare: the model itself.
        intake: makes batches; it is given the limits that are found.
        data: `"training"`, and what else is going to be gone through, by name.
        rows: of a batch.
        tokenizer: the one the data was made with, if there was one.
        move: brings a batch to the model's device.
        compute_loss: gives the loss of a batch, with the model in the mode it trains in.

    Returns:
        The batch that was tried.

    Raises:
        ConfigurationError, InputError: what does not fit.
    """
    intake.limits = []
    batches = {place: try_rows(dataset, intake, rows if place == "training" else 2) for place, dataset in data.items()}
    batch = batches["training"]
    intake.limits = find_limits(bare, batch, tokenizer)
    _check_batches(intake.limits, batches)
    with undone(bare), evaluating(model), torch.no_grad():
        classes = find_classes(model, move(batch), intake.interface)
    for limit in classes:
        for place, dataset in data.items():
            scan_labels(dataset, limit, intake, place)
    _check_batches(classes, batches)
    intake.limits += classes
    with _explained(batch), undone(bare):
        loss = compute_loss(move(batch))
    _check_loss(loss, intake.interface.model)
    return batch


def _check_loss(loss: Any, model: str) -> None:
    if not isinstance(loss, Tensor):
        raise ConfigurationError(
            f"{model} returned a loss that is a {type(loss).__name__}; it has to be a tensor of one number, the mean."
        )
    if loss.numel() != 1:
        raise ConfigurationError(
            f"{model} returned a loss of shape {tuple(loss.shape)}; it has to be one number, the mean."
        )


@contextlib.contextmanager
def _explained(batch: Mapping[str, Any]) -> Iterator[None]:
    """Have an error inside a `with` block say that it came from the trial, and of which batch."""
    try:
        yield
    except Exception as error:
        shapes = (f"{n}: {v.dtype} {tuple(v.shape)}" for n, v in batch.items() if isinstance(v, Tensor))
        error.add_note(f"The model was being tried on the first rows, before the first step:{bullets(shapes)}")
        raise


def _check_batches(limits: Iterable[Limit], batches: Mapping[str, Mapping[str, Any]]) -> None:
    for limit in limits:
        for place, batch in batches.items():
            if isinstance(batch.get(limit.column), Tensor):
                limit.check(batch[limit.column], f"The {place} data")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode inside a `with` block, and every module of it as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
