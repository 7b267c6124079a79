"""Data in an order that can be resumed: which rows make which batch is a pure function of the seed and the epoch.

What is random in a data set or a collator (augmentation, masks) follows from the seed, the epoch and the number of the
batch, and never touches the random sequences of the model. So a run that is resumed in the middle of an epoch, or reads
with more worker processes, sees the same data to the last bit.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
import torch.utils.data._utils.worker as worker_module
from torch.utils.data import DataLoader, IterableDataset, Sampler

from maquette.errors import ConfigurationError
from maquette.training.random_states import Stream, derive_seed, seeded

Collate = Callable[[list[Any]], dict[str, Any]]
MEGABATCH = 50  # batches that are sorted by length together


class BatchShard(NamedTuple):
    """What one process gets of a batch: its inputs, and how many rows of it count (0 where there were too few)."""

    inputs: dict[str, Any]
    rows: int


class Plan(NamedTuple):
    """How data is cut into batches: the rows of a batch in all processes together, and which share is this one's."""

    size: int
    seed: int
    shuffle: bool = True
    world: int = 1
    rank: int = 0

    def share(self, rows: Sequence[Any]) -> tuple[Sequence[Any], int]:
        """Give this process's share of a batch, at least one row, and how many of them count."""
        base, more = divmod(len(rows), self.world)
        start = self.rank * base + min(self.rank, more)
        own = rows[start : start + base + (self.rank < more)]
        return (own, len(own)) if own else (rows[:1], 0)

    def shares(self, count: int) -> list[int]:
        """Give how many rows of a batch of `count` each process has."""
        return [self._replace(rank=rank).share(range(count))[1] for rank in range(self.world)]


class BatchIndex(NamedTuple):
    """One batch to read: the epoch, its number in it, and this process's rows."""

    epoch: int
    number: int
    rows: Sequence[int]
    counted: int


class Batches(Sampler[BatchIndex]):
    """The batches of an epoch from any of them on; `begin(epoch, start)` says which."""

    def __init__(self, count: int, plan: Plan, lengths: Sequence[int] | None = None) -> None:
        self.count, self.plan, self.lengths = count, plan, lengths
        self.begin(0, 0)

    def begin(self, epoch: int, start: int) -> None:
        """Have the next iteration be this epoch, from batch number `start` on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return -(-self.count // self.plan.size)

    def __iter__(self) -> Iterator[BatchIndex]:
        for number, rows in islice(enumerate(self.order(self.epoch)), self.start, None):
            yield BatchIndex(self.epoch, number, *self.plan.share(rows))

    def order(self, epoch: int) -> list[list[int]]:
        """Give the rows of every batch of an epoch, in all processes together."""
        size = self.plan.size
        if not self.plan.shuffle:
            return _cut(list(range(self.count)), size)
        generator = torch.Generator().manual_seed(derive_seed("order", self.plan.seed, epoch))
        rows = torch.randperm(self.count, generator=generator).tolist()
        if self.lengths is None:
            return _cut(rows, size)
        lengths = self.lengths
        pools = [sorted(pool, key=lambda row: -lengths[row]) for pool in _cut(rows, size * MEGABATCH)]
        batches = [batch for pool in pools for batch in _cut(pool, size)]
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Rows(torch.utils.data.Dataset[Any]):
    """Reads and collates the rows of a batch, with random sequences that belong to it."""

    def __init__(self, dataset: Any, collate: Collate, plan: Plan) -> None:
        self.dataset, self.collate, self.plan = dataset, collate, plan

    def __getitems__(self, index: BatchIndex) -> BatchShard:
        with seeded("rows", self.plan.seed, index.epoch, index.number, self.plan.rank):
            return BatchShard(self.collate(read_rows(self.dataset, index.rows)), index.counted)


def read_rows(dataset: Any, rows: Sequence[int]) -> list[Any]:
    """Read rows of a data set, at once where it can."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(list(rows)))
    return [dataset[row] for row in rows]


def has_column(dataset: Any, name: str) -> bool:
    """Tell whether a column can be read by itself, and is what rows have: not where a transform makes the rows."""
    form = getattr(dataset, "format", None)
    is_made = isinstance(form, Mapping) and form.get("type") == "custom"
    return not is_made and name in (getattr(dataset, "column_names", None) or ())


def row_lengths(dataset: Any, name: str, named: Callable[[Any], Any]) -> list[int]:
    """Give the lengths of a column in all rows, from the column where the data has it, otherwise by reading them once.

    Args:
        dataset: read by row numbers.
        name: of the column.
        named: gives a row as a dictionary.
    """
    if has_column(dataset, name):
        return [len(value) for value in dataset[name]]
    with seeded("lengths"):
        return [len(named(dataset[number])[name]) for number in range(len(dataset))]


class IterableBatches(IterableDataset[BatchShard]):
    """The batches of something that can only be gone through from its beginning, with random sequences of its own.

    With several reading processes, data that asks torch's `get_worker_info` for its share is taken at its word. Of any
    other, each process goes through all rows and makes every batch whose turn is its.
    """

    def __init__(self, dataset: Iterable[Any], collate: Collate, plan: Plan) -> None:
        self.dataset, self.collate, self.plan = dataset, collate, plan
        self.begin(0, 0)

    def begin(self, epoch: int, start: int) -> None:
        """Have the next iteration be this epoch, from batch number `start` on; those before are read and left out."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[BatchShard]:
        stream, size = Stream("flow", self.plan.seed, self.epoch), self.plan.size
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
        with _watched() as worker, stream:
            source = iter(self.dataset)
            rest = chain(list(islice(source, 1)), source)  # by its first row, data has asked for its share
        if worker.is_asked:  # other rows than its neighbours'
            stream, start, between = Stream("flow", self.plan.seed, self.epoch, worker.rank), worker.rank, 0
        else:
            start, between = self.start + worker.rank, worker.count - 1
        skipped = 0 if worker.is_asked else start
        for number in range(start, 2**63, worker.count):
            with stream:
                rows = list(islice(rest, skipped * size, (skipped + 1) * size))
            if not rows:
                return
            own, counted = self.plan.share(rows)
            with seeded("rows", self.plan.seed, self.epoch, number, self.plan.rank):
                inputs = self.collate(list(own))
            yield BatchShard(inputs, counted)
            skipped = between


class _Worker:
    """What torch tells a reading process of itself, with a note of whether the number of processes was asked for."""

    def __init__(self, info: Any) -> None:
        self._info, self.is_asked = info, False
        self.rank: int = info.id if info else 0
        self.count: int = info.num_workers if info else 1

    def __getattr__(self, name: str) -> Any:
        self.is_asked |= name == "num_workers"
        return getattr(self._info, name)


@contextlib.contextmanager
def _watched() -> Iterator[_Worker]:
    """See whether data asks for its share inside a `with` block; torch has no public way to tell."""
    info = worker_module._worker_info
    worker = _Worker(info)
    worker_module._worker_info = worker if info else None  # type: ignore[assignment]
    try:
        yield worker
    finally:
        worker_module._worker_info = info


def make_loader(
    dataset: Any, collate: Collate, plan: Plan, *, workers: int = 0, lengths: Sequence[int] | None = None
) -> "DataLoader[Any]":
    """Make the loader of a data set: one that is read by row numbers, or one that is gone through.

    Raises:
        ConfigurationError: an iterator, which has one beginning only.
    """
    pinned = torch.cuda.is_available()
    own = torch.Generator().manual_seed(plan.seed)  # torch's loader draws a number; not from the model's sequence
    if is_indexed(dataset):
        batches: Any = Batches(len(dataset), plan, lengths)
        rows = Rows(dataset, collate, plan)
        options: dict[str, Any] = {"batch_sampler": batches, "num_workers": workers, "collate_fn": _as_it_is}
        return DataLoader(rows, pin_memory=pinned, generator=own, **options)
    if iter(dataset) is dataset:
        raise ConfigurationError(
            f"The data is a {type(dataset).__name__}, which can be gone through once only. Give something whose "
            "__iter__ begins anew each time, or a list."
        )
    batches = IterableBatches(dataset, collate, plan)
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pinned, generator=own)


def is_indexed(dataset: Any) -> bool:
    """Tell whether rows can be read by their numbers; the `__getitem__` of torch's IterableDataset only raises."""
    return isinstance(dataset, Sized) and hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)


def begin(loader: Any, epoch: int, start: int) -> Iterator[Any]:
    """Go through a loader from batch number `start` of an epoch on, whoever made it."""
    for place in (getattr(loader, "batch_sampler", None), getattr(loader, "dataset", None)):
        if isinstance(place, IterableBatches) and loader.num_workers:  # they alone know whose are which
            place.begin(epoch, 0)
            return islice(iter(loader), start, None)
        if isinstance(place, Batches | IterableBatches):
            place.begin(epoch, start)
            return iter(loader)
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
    return islice(iter(loader), start, None)


def cut_windows(shards: Iterator[BatchShard], size: int) -> Iterator[tuple[list[BatchShard], bool]]:
    """Give the batches of each step, and whether they are the last of the epoch."""
    window = list(islice(shards, size))
    while window:
        following = list(islice(shards, size))
        yield window, not following
        window = following


def _as_it_is(shard: BatchShard) -> BatchShard:
    return shard
