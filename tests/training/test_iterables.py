"""Data that can only be gone through, read by several processes: every row once, in an order that can be resumed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from training_models import Net, make_rows

from maquette import CheckpointError, Trainer, TrainingArguments

ROWS = [{"x": row["x"].tolist(), "labels": row["labels"], "number": n} for n, row in enumerate(make_rows(26))]


class Plain:
    """Knows nothing of processes."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in ROWS:
            yield {**row, "x": [value + float(torch.randn(()) / 100) for value in row["x"]]}


class Seeds(IterableDataset[dict[str, Any]]):
    """Asks who it is, but not for a share."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        assert info is None or info.id in (0, 1)
        return iter(ROWS)


class Divides(IterableDataset[dict[str, Any]]):
    """Gives each process its share, as torch's documentation says."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        rank, count = (info.id, info.num_workers) if info else (0, 1)
        for row in ROWS[rank::count]:
            yield {**row, "x": [value + float(torch.randn(()) / 100) for value in row["x"]]}


def run(
    tmp_path: Path, data: Any, workers: int, *, resume: Any = None, **given: Any
) -> tuple[list[list[int]], Trainer]:
    steps: list[list[int]] = []

    class Recording(Trainer):
        def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
            steps.append(inputs.pop("number").tolist())
            return super().training_step(model, inputs, num_items_in_batch)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.tensor([row[name] for row in rows]) for name in ("x", "labels", "number")}

    settings = {"max_steps": 7, "per_device_train_batch_size": 4, "logging_steps": 1, "save_strategy": "no"}
    settings |= {"dataloader_num_workers": workers, "remove_unused_columns": False, "disable_tqdm": True, **given}
    torch.manual_seed(0)

    class Deaf(Net):
        def forward(self, x: Tensor, labels: Any = None, number: Any = None) -> dict[str, Tensor]:  # type: ignore[override]
            return super().forward(x, labels)

    trainer = Recording(Deaf(), TrainingArguments(tmp_path, **settings), train_dataset=data, data_collator=collate)
    trainer.train(resume_from_checkpoint=resume)
    return steps, trainer


@pytest.mark.parametrize("kind", [Plain, Seeds])
def test_data_that_does_not_divide_itself_is_read_in_its_order(tmp_path: Path, kind: type[Any]) -> None:
    alone, expected = run(tmp_path, kind(), 0)
    steps, trainer = run(tmp_path, kind(), 2)
    assert steps == alone == [list(range(start, min(start + 4, 26))) for start in range(0, 26, 4)]
    assert trainer.state.log_history == expected.state.log_history


def divided() -> Any:
    return Dataset.from_list(ROWS).to_iterable_dataset(num_shards=4)


@pytest.mark.parametrize("make", [Divides, divided])
def test_data_that_divides_itself_is_read_in_shares(tmp_path: Path, make: Any) -> None:
    steps, _ = run(tmp_path, make(), 2, max_steps=8)
    assert sorted(number for step in steps for number in step) == list(range(26))
    if make is Divides:
        assert steps[:2] == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize("kind", [Plain, Divides])
def test_a_run_that_reads_with_processes_resumes(tmp_path: Path, kind: type[Any]) -> None:
    whole, trainer = run(tmp_path, kind(), 2, save_strategy="steps", save_steps=3)
    rest, resumed = run(tmp_path, kind(), 2, resume=tmp_path / "checkpoint-3")
    assert rest == whole[3:]
    assert resumed.state.log_history == trainer.state.log_history
    with pytest.raises(CheckpointError, match="reading_processes was 2, is 1"):
        run(tmp_path, kind(), 1, resume=tmp_path / "checkpoint-3")
