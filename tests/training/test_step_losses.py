"""What the loss of a step counts, what a model gives beside it, and losses that are no numbers."""

import logging
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from training_models import Net, Tagger, make_rows

from maquette import NonFiniteError, Trainer, TrainerCallback, TrainingArguments


@pytest.fixture
def arguments(tmp_path: Path):
    def make(**given: Any) -> TrainingArguments:
        settings = {"max_steps": 1, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
        return TrainingArguments(tmp_path / "out", **{**settings, "max_grad_norm": 0.0, **given})

    return make


class Causal(nn.Module):
    """Predicts the next token from this one and a sum of those before; shifts its labels."""

    reduction, extra = "mean", 0.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.outer = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.calls = 0

    def score(self, input_ids: Tensor) -> Tensor:
        self.calls += 1
        return self.outer(self.embed(input_ids).cumsum(1).tanh())

    def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> dict[str, Tensor]:
        logits = self.score(input_ids)
        if labels is None:
            return {"logits": logits}
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="mean")
        return {"loss": loss, "logits": logits}


class Clamped(Causal):
    """A sum over a count that is never 0, and a term of its own: a loss without labels is a number too."""

    def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> dict[str, Tensor]:
        logits, own = self.score(input_ids), self.outer.weight.square().mean()
        if labels is None:
            return {"logits": logits}
        targets = labels[:, 1:].flatten()
        total = cross_entropy(logits[:, :-1].flatten(0, 1), targets, reduction="sum")
        return {"loss": total / (targets != -100).sum().clamp(min=1) + own, "logits": logits}


class Divides(Causal):
    """Divides the sum of its losses by what it is told."""

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None, num_items_in_batch: Any = None
    ) -> dict[str, Tensor]:
        logits = self.score(input_ids)
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction=reduction)
        return {"loss": loss if num_items_in_batch is None else loss / num_items_in_batch, "logits": logits}


def make_row(length: int, seed: int) -> dict[str, list[int]]:
    ids = torch.randint(1, 20, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return {"input_ids": ids, "labels": ids, "attention_mask": [1] * length}


def collate(side: str) -> Any:
    def pad(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        made = {}
        for name, value in fill.items():
            more = [[value] * (width - len(row[name])) for row in rows]
            pairs = zip(rows, more, strict=True)
            made[name] = torch.tensor([row[name] + m if side == "right" else m + row[name] for row, m in pairs])
        return made

    return pad


class Gradients(TrainerCallback):
    def __init__(self) -> None:
        self.all: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.all.append({name: p.grad.clone() for name, p in kwargs["model"].named_parameters()})


def step(args: TrainingArguments, model: nn.Module, rows: list[Any], side: str = "right") -> tuple[Any, float]:
    watch = Gradients()
    trainer = Trainer(model, args, train_dataset=rows, data_collator=collate(side), callbacks=[watch])
    trainer.train()
    return watch.all[0], trainer.state.log_history[0]["loss"]


LENGTHS = [4, 60]


@pytest.mark.parametrize("model_class", [Causal, Clamped, Divides])
@pytest.mark.parametrize("side", ["right", "left"])
def test_accumulation_counts_what_a_shifting_loss_counts(arguments, model_class: type[Causal], side: str) -> None:
    """The gradient is that of a loss over all shifted labels, worked out here row by row."""
    rows = [make_row(length, length) for length in LENGTHS]
    model = model_class()
    total = sum(length - 1 for length in LENGTHS)
    expected = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        own = model.outer.weight.square().mean() if model_class is Clamped else 0.0
        logits = model.score(ids)[:, :-1].flatten(0, 1)
        expected = (
            expected + (cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum") + own * (len(ids[0]) - 1)) / total
        )
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    args = arguments(per_device_train_batch_size=1, gradient_accumulation_steps=2)
    found, loss = step(args, model_class(), rows, side)
    for value, gradient in zip(wanted, found.values(), strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    trainer = Trainer(
        model_class(), arguments(per_device_eval_batch_size=1), eval_dataset=rows, data_collator=collate(side)
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_padding_is_not_asked_for_the_first_token(arguments, caplog: pytest.LogCaptureFixture) -> None:
    """With padding on the left, the labels that count are those that count without padding."""
    rows = [make_row(length, length) for length in LENGTHS]

    class Reset(Causal):  # padding leaves no trace in the states, so that both sides are the same but for labels
        def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> dict[str, Tensor]:
            kept = self.embed.weight[input_ids] * attention_mask[..., None]
            logits = self.outer(kept.cumsum(1).tanh())
            return {"loss": cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), "logits": logits}

    args = arguments(per_device_train_batch_size=2)
    with caplog.at_level(logging.WARNING):
        right, loss = step(args, Reset(), rows)
        assert caplog.text == ""
        left, same = step(args, Reset(), rows, "left")
    assert "would have to tell from padding" in caplog.text
    assert same == pytest.approx(loss, rel=1e-6)
    for name, gradient in right.items():
        torch.testing.assert_close(left[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_loss_that_does_not_shift_counts_every_label(arguments) -> None:
    trainer = Trainer(Tagger(), arguments(), train_dataset=[{"input_ids": [1, 2, 3], "labels": [1, 2, -100]}] * 4)
    trainer.train()
    assert trainer.count_items({"labels": torch.tensor([[1, 2, -100]])}) == 2
    assert trainer._shifts is False


# Beside the loss ---------------------------------------------------------------------------------------------------


class Rich(Net):
    """Gives more than scores: numbers for the batch, and a vector for each row."""

    def forward(self, x: Tensor, labels: Any = None) -> dict[str, Any]:  # type: ignore[override]
        found: dict[str, Any] = super().forward(x, labels)
        return {
            **found,
            "aux_loss": x.mean(),
            "temperature": 0.5,
            "learning_rate": 7.0,
            "states": self.inner(x),
            "note": "a",
        }


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()}


def test_numbers_beside_the_loss_are_logged(arguments) -> None:
    rows = make_rows(20)
    args = arguments(per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=4, logging_steps=2)
    trainer = Trainer(Rich(), args, train_dataset=rows, eval_dataset=rows)
    seen: list[float] = []
    whole = trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, **more: (  # type: ignore[method-assign]
        seen.append(inputs["x"].mean().item()) or whole(model, inputs, **more)
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["temperature"] for entry in entries] == [0.5, 0.5]
    assert all(0 < entry["learning_rate"] < 1 for entry in entries)
    taken = [seen[-8:-4], seen[-4:]]
    assert [entry["aux_loss"] for entry in entries] == pytest.approx([sum(part) / 4 for part in taken], rel=1e-5)
    points = torch.stack([row["x"] for row in rows])
    assert trainer.evaluate()["eval_aux_loss"] == pytest.approx(points.mean().item(), rel=1e-5)


def test_predictions_keep_their_names(arguments) -> None:
    rows = make_rows(20)
    trainer = Trainer(Rich(), arguments(), eval_dataset=rows, compute_metrics=accuracy)
    found = trainer.predict(rows)
    points = torch.stack([row["x"] for row in rows])
    logits = trainer.model(points)["logits"].detach().numpy()
    labels = np.array([row["labels"] for row in rows])
    assert found.metrics["test_accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    both = pickle.loads(pickle.dumps(found.predictions))
    for value in (both.logits, both["logits"], both[0], np.asarray(both)):
        np.testing.assert_allclose(value, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both.states, trainer.model.inner(points).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert np.argmax(both, axis=-1).tolist() == logits.argmax(-1).tolist()
    first, second = both
    assert (first.shape, second.shape) == ((20, 3), (20, 8))
    with pytest.raises(AttributeError, match="has no attribute 'stats'"):
        _ = both.stats


# Losses that are no numbers ----------------------------------------------------------------------------------------


class Breaks(Net):
    """Its loss is NaN in the third step."""

    steps = 0

    def forward(self, x: Tensor, labels: Any = None) -> dict[str, Tensor]:  # type: ignore[override]
        self.steps += self.training and labels is not None
        found = super().forward(x, labels)
        return (
            {**found, "loss": found["loss"] * (math.nan if self.steps == 3 else 1.0)} if labels is not None else found
        )


def test_a_loss_that_is_nan_is_told_of_at_once(arguments, caplog: pytest.LogCaptureFixture) -> None:
    rows = make_rows(24)
    with caplog.at_level(logging.WARNING):
        Trainer(Breaks(), arguments(max_steps=3), train_dataset=rows).train()
    assert [r.getMessage()[:25] for r in caplog.records] == ["The loss is nan at step 3"]
    caplog.clear()
    Trainer(Breaks(), arguments(max_steps=3, on_nan="ignore"), train_dataset=rows).train()
    assert not caplog.records


def test_a_run_that_stops_at_nan_keeps_its_weights(arguments) -> None:
    trainer = Trainer(Breaks(), arguments(max_steps=5, on_nan="stop"), train_dataset=make_rows(40))
    with pytest.raises(NonFiniteError, match="loss is nan at step 3, and on_nan"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())

    class Root(Net):  # a finite loss whose gradient is not
        def forward(self, x: Tensor, labels: Any = None) -> dict[str, Tensor]:  # type: ignore[override]
            found = super().forward(x, labels)
            return {**found, "loss": (found["logits"] * 0).sum().sqrt()} if labels is not None else found

    with pytest.raises(NonFiniteError, match="The gradient's norm is nan at step 1"):
        Trainer(Root(), arguments(on_nan="stop", max_grad_norm=1.0), train_dataset=make_rows(8)).train()
