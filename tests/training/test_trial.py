"""What the trainer tries before the first step: no stricter than the run, without a trace, and in time."""

import collections
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from training_models import Net, make_rows

from maquette import (
    ConfigurationError,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    RemoteCodeError,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


@pytest.fixture
def arguments(tmp_path: Path):
    def make(**given: Any) -> TrainingArguments:
        settings = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no", "disable_tqdm": True}
        return TrainingArguments(tmp_path / "out", **{**settings, **given})

    return make


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)


class Always(Base):
    """Labels are optional by name only."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"loss": cross_entropy(y, labels), "logits": y}  # type: ignore[arg-type]


class OneHot(Base):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x).softmax(-1)
        return {"loss": ((y - one_hot(labels, 3)) ** 2).mean(), "logits": y}  # type: ignore[arg-type]


class Named(Base):
    """Calls its labels `label`, as data sets do."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x) * (1 - 0.1 * one_hot(label, 3))  # type: ignore[arg-type]
        return {"loss": cross_entropy(y, label), "logits": y}  # type: ignore[arg-type]


class WhileTraining(Base):
    """As detectors do."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"loss": cross_entropy(y, labels)} if self.training else {"logits": y}  # type: ignore[arg-type]


class Pairs(Base):
    """Compares the halves of a batch, so it needs whole batches; and takes gradients in its forward."""

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        assert len(y) == 4
        (slope,) = torch.autograd.grad(y.sum(), self.layer.weight, create_graph=True)
        return {"loss": (y[:2] - y[2:]).square().mean() + slope.square().mean(), "logits": y}


@pytest.mark.parametrize("model_class", [Always, OneHot, Named, WhileTraining, Pairs])
def test_the_trial_is_no_stricter_than_the_run(arguments, model_class: type[nn.Module]) -> None:
    rows = make_rows(8)
    if model_class is Named:
        rows = [{"x": row["x"], "label": row["labels"]} for row in rows]
    trainer = Trainer(model_class(), arguments(), train_dataset=rows)
    assert trainer.train().global_step == 2


class Busy(Net):
    """Keeps all kinds of things of its calls."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)
        self.bn = nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.count, self.history, self.seen = 0, [[0]], collections.Counter()
        self.queue: Any = collections.deque([1, 2], maxlen=2)
        self.memory, self.table = torch.zeros(3), np.zeros(2)
        self.dice = torch.Generator().manual_seed(0)
        self.own, self.other = random.Random(0), np.random.default_rng(0)
        self.teacher = nn.Linear(4, 8).requires_grad_(False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.calls += 1
        self.count += 1
        self.history[0].append(self.count)
        self.history.append([self.count])
        self.seen["calls"] += 1
        self.queue.append(self.count)
        self.memory += 1
        self.table += 1
        self.late = self.own.random() + self.other.random() + torch.rand((), generator=self.dice).item()
        with torch.no_grad():
            self.teacher.weight.lerp_(self.inner.weight, 0.5)
        return super().forward(self.bn(x), labels)


def trace_of(model: Busy) -> dict[str, Any]:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    plain = (model.count, model.history, model.seen, model.queue, model.memory, model.table, hasattr(model, "late"))
    dice = (model.dice.get_state(), model.own.getstate(), model.other.bit_generator.state)
    modes = [module.training for module in model.modules()]
    return {"plain": repr(plain), "dice": repr(dice), "modes": modes, **weights}


def test_the_trial_leaves_no_trace_of_any_kind(arguments) -> None:
    model = Busy()

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.found, self.random = trace_of(model), torch.get_rng_state()

    watch, rows = Watch(), make_rows(8)
    options = {"train_dataset": rows, "eval_dataset": rows, "compute_metrics": lambda found: {}, "callbacks": [watch]}
    trainer = Trainer(model, arguments(eval_strategy="epoch", max_steps=1), **options)
    before = trace_of(model) | {"modes": [True] * len(list(model.modules()))}
    trainer.train()
    assert before.keys() == watch.found.keys()
    for name, value in before.items():
        now = watch.found[name]
        assert torch.equal(now, value) if isinstance(value, Tensor) else now == value, name
    assert torch.equal(watch.random, torch.Generator().manual_seed(42).get_state())
    assert (model.calls, model.count) == (1, 1)


# Columns -----------------------------------------------------------------------------------------------------------


def make_texts(count: int = 8) -> Dataset:
    rows = [{"text": "a b", "label": n % 2, "tokens": ["a", "b"], "input_ids": [2, 3 + n % 5]} for n in range(count)]
    return Dataset.from_list([{**row, "attention_mask": [1, 1]} for row in rows])


def tiny() -> DistilBertForSequenceClassification:
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=10, dim=8, n_layers=1, n_heads=2, hidden_dim=8, max_position_embeddings=8)
    return DistilBertForSequenceClassification(config)


class Wrapped(nn.Module):
    """Hands on what it does not know to the model inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class Swallows(nn.Module):
    """Takes any name, and heeds only its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **rest: Any) -> dict[str, Tensor]:
        assert rest == {}
        logits = self.table(input_ids).sum(1)
        return {"loss": cross_entropy(logits, labels), "logits": logits} if labels is not None else {"logits": logits}


@pytest.mark.parametrize("model", [tiny(), Wrapped(tiny()), Wrapped(Wrapped(tiny())), Swallows()])
def test_a_model_gets_the_columns_that_it_and_its_base_model_name(
    arguments, model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(model, arguments(), train_dataset=make_texts(), eval_dataset=make_texts())
        trainer.train()
    assert "text, tokens" in caplog.text
    assert trainer.evaluate().keys() == {"eval_loss"}
    assert trainer.predict(make_texts()).predictions.shape == (8, 2)


def test_all_columns_go_on_where_no_signature_names_any(arguments) -> None:
    class Free(Swallows):
        def forward(self, **inputs: Any) -> Any:  # type: ignore[override]
            assert inputs.pop("attention_mask").shape == (len(inputs["labels"]), 2)
            return super().forward(**inputs)

    rows = make_texts().remove_columns(["text", "tokens"])
    assert Trainer(Free(), arguments(), train_dataset=rows).train().global_step == 2


def test_columns_that_a_transform_makes(arguments) -> None:
    def make(batch: dict[str, list[Any]]) -> dict[str, Any]:
        points = [torch.tensor([float(n), 0.0, 1.0, 2.0]) for n in batch["number"]]
        return {"x": points, "labels": [kind % 3 for kind in batch["label"]]}

    raw = Dataset.from_dict({"number": list(range(8)), "label": [7] * 8})
    rows = raw.with_transform(make)
    trainer = Trainer(Net(), arguments(group_by_length=False), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert trainer.predict(rows).label_ids.tolist() == [1] * 8
    formatted = Dataset.from_list([{"x": row["x"].tolist(), "label": row["labels"]} for row in make_rows(8)])
    assert Trainer(Net(), arguments(), train_dataset=formatted.with_format("torch")).train().global_step == 2


def test_labels_that_are_texts_and_a_dictionary_of_data_sets_are_refused(arguments) -> None:
    rows = [{"x": row["x"], "label": "good"} for row in make_rows(8)]
    with pytest.raises(ConfigurationError, match=r"'labels', holds texts \('good'\)\. Models take the numbers"):
        Trainer(Net(), arguments(), train_dataset=rows).train()
    with pytest.raises(ConfigurationError, match=r"train_dataset is a dict of several: train, test"):
        Trainer(Net(), arguments(), train_dataset={"train": rows, "test": rows}).train()


# What would only show hours later ----------------------------------------------------------------------------------


class OwnConfig(PretrainedConfig):
    model_type = "own-of-main"


class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.net = Net()
        self.steps = 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        self.steps += self.training
        return self.net(x, labels)


def test_a_class_that_cannot_be_saved_is_refused_before_the_first_step(arguments, tmp_path: Path) -> None:
    class Notebook(OwnModel):
        pass

    Notebook.__module__ = "__main__"
    Notebook.register_for_auto_class("AutoModel")
    model = Notebook(OwnConfig())
    with pytest.raises(RemoteCodeError, match="__main__"):
        Trainer(model, arguments(save_strategy="steps", save_steps=1), train_dataset=make_rows(8)).train()
    assert model.steps == 0
    assert not list(tmp_path.glob("out/checkpoint-*"))
    Trainer(model, arguments(max_steps=1), train_dataset=make_rows(8)).train()  # nothing is saved


def test_faulty_metrics_show_before_the_first_step(arguments) -> None:
    model, rows = OwnModel(OwnConfig()), make_rows(8)

    def attempt(
        match: str, error: type[Exception] = ConfigurationError, **given: Any
    ) -> pytest.ExceptionInfo[Exception]:
        options = {"train_dataset": rows, "eval_dataset": rows, "compute_metrics": lambda found: {"score": 1.0}}
        settings = {"eval_strategy": "epoch", **given.pop("settings", {})}
        with pytest.raises(error, match=match) as caught:
            Trainer(model, arguments(**settings), **{**options, **given}).train()
        assert model.steps == 0
        return caught

    caught = attempt("f1", KeyError, compute_metrics=lambda found: {"f1": {}["f1"]})
    assert "before the first step" in "".join(caught.value.__notes__)
    attempt("preprocess", ValueError, preprocess_logits_for_metrics=lambda logits, labels: fail("preprocess"))
    attempt("gave a float; it has to give a dictionary", compute_metrics=lambda found: 1.0)
    best = {"load_best_model_at_end": True, "save_strategy": "epoch", "metric_for_best_model": "scores"}
    attempt("Did you mean 'score'", settings=best)
    attempt("has nothing to compare with", eval_dataset=[{"x": row["x"]} for row in rows])
    quiet = Trainer(model, arguments(), train_dataset=rows, eval_dataset=rows, compute_metrics=lambda found: fail("x"))
    quiet.train()


def test_a_loss_that_is_there_in_training_only(arguments) -> None:
    rows = make_rows(8)
    options = {"train_dataset": rows, "eval_dataset": {"odd": rows}}
    with pytest.raises(ConfigurationError, match="WhileTraining returned no loss") as caught:
        Trainer(WhileTraining(), arguments(eval_strategy="epoch"), **options).train()
    assert "evaluation data 'odd'" in "".join(caught.value.__notes__)
    trainer = Trainer(WhileTraining(), arguments(eval_strategy="epoch"), **options, compute_metrics=count)
    trainer.train()
    assert trainer.evaluate() == {"eval_odd_rows": 8}
    assert trainer.predict(rows).predictions.shape == (8, 3)


def count(found: Any) -> dict[str, int]:
    return {"rows": len(found.predictions)}


def fail(text: str) -> Any:
    raise ValueError(text)


def test_scores_are_prepared_for_the_metrics(arguments) -> None:
    found: list[Any] = []
    trainer = Trainer(
        Net(),
        arguments(),
        eval_dataset=make_rows(20),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        compute_metrics=lambda result: found.append(result) or {},
    )
    trainer.evaluate()
    expected = trainer.model(torch.stack([row["x"] for row in make_rows(20)]))["logits"].argmax(-1)
    assert found[0].predictions.tolist() == expected.tolist()
