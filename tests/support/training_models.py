"""Small models, data and a run to be killed, for the tests of training."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Net(nn.Module):
    """Two layers with a norm and dropout; returns a dictionary."""

    def __init__(self, width: int = 8, classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(4, width), nn.LayerNorm(width)
        self.dropout, self.outer = nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.outer(self.dropout(self.norm(self.inner(x)).relu()))
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


class Tagger(nn.Module):
    """A class for every token; the loss is a mean over tokens whose label is not -100."""

    def __init__(self, tokens: int = 20, classes: int = 5) -> None:
        super().__init__()
        self.embed, self.outer = nn.Embedding(tokens, 8), nn.Linear(8, classes)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.outer(self.embed(input_ids).tanh())
        return logits if labels is None else (cross_entropy(logits.flatten(0, 1), labels.flatten()), logits)


def make_rows(count: int = 50, seed: int = 0) -> list[dict[str, Any]]:
    """Points of four numbers in three classes."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 4, generator=generator)
    return [{"x": x, "labels": int(x[0] > 0) + int(x[1] > 0)} for x in points]


def make_tagged(count: int = 24) -> list[dict[str, list[int]]]:
    """Rows of 6 tokens, of which 1 to 6 are labelled."""
    generator = random.Random(0)
    rows = []
    for _ in range(count):
        ids = [generator.randrange(20) for _ in range(6)]
        labelled = generator.randint(1, 6)
        rows.append({"input_ids": ids, "labels": [token % 5 for token in ids[:labelled]] + [-100] * (6 - labelled)})
    return rows


class Noisy(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows with noise of all three kinds of random numbers."""

    def __init__(self, count: int = 40) -> None:
        self.rows = make_rows(count)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = torch.randn(4) * 0.1 + random.gauss(0, 0.1) + float(np.random.normal(0, 0.1))
        return {**self.rows[index], "x": self.rows[index]["x"] + noise}


def train_noisy(folder: str, **options: Any) -> Any:
    """A run with dropout, augmentation, accumulation and evaluation, that resumes wherever it can."""
    from maquette import EarlyStoppingCallback, Trainer, TrainingArguments, get_last_checkpoint

    torch.manual_seed(1)
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 3,
        "num_train_epochs": 10,
        "bf16": False,
    }
    settings |= {"learning_rate": 0.01, "weight_decay": 0.1, "warmup_steps": 0.2, "lr_scheduler_type": "cosine"}
    settings |= {"logging_steps": 3, "save_steps": 2, "save_total_limit": 3, "eval_strategy": "steps", "eval_steps": 5}
    settings |= {"load_best_model_at_end": True, "disable_tqdm": True}
    trainer = Trainer(
        Net(dropout=0.2),
        TrainingArguments(folder, **{**settings, **options}),
        train_dataset=Noisy(),
        eval_dataset=make_rows(20, seed=1),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=100)],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) is not None)
    return trainer


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    print("ready", flush=True)
    trainer = train_noisy(str(folder))
    trainer.save_model(folder / "final")
    (folder / "done.json").write_text(json.dumps(trainer.state.log_history), encoding="utf-8")
