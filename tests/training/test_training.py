"""The training loop: against plain torch loops written here, and in what it says when something does not fit."""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset
from training_models import Net, Noisy, Tagger, make_rows, make_tagged

from maquette import (
    ConfigurationError,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    EarlyStoppingCallback,
    InputError,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    UnknownFieldError,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def arguments(tmp_path: Path):
    def make(**options: Any) -> TrainingArguments:
        usual = {"logging_steps": 1, "save_strategy": "no", "learning_rate": 0.01, "disable_tqdm": True}
        return TrainingArguments(tmp_path / "out", **{**usual, **options})

    return make


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def losses_of(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# The loop ----------------------------------------------------------------------------------------------------------


def test_a_run_is_the_plain_loop_to_the_last_bit(arguments) -> None:
    rows, args = make_rows(24), arguments(per_device_train_batch_size=8, num_train_epochs=3, weight_decay=0.1)
    torch.manual_seed(0)
    model, plain = Net(), Net()
    plain.load_state_dict(model.state_dict())
    seen: list[list[float]] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        seen.append([float(row["x"][0]) for row in batch])
        return torch.utils.data.default_collate(batch)

    trainer = Trainer(model, args, train_dataset=rows, data_collator=collate)
    trainer.train()

    by_value = {float(row["x"][0]): row for row in rows}
    batches = [[by_value[value] for value in batch] for batch in seen[1:]]  # the first is the trial
    decaying = [p for name, p in plain.named_parameters() if name in ("inner.weight", "outer.weight")]
    others = [p for name, p in plain.named_parameters() if name not in ("inner.weight", "outer.weight")]
    groups = [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=9)
    losses = []
    for batch in batches:
        loss = plain(torch.stack([row["x"] for row in batch]), torch.tensor([row["labels"] for row in batch]))["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert len(batches) == 9
    assert losses_of(trainer) == losses
    for name, value in weights_of(model).items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-6)


def test_every_row_is_seen_once_in_an_epoch_and_the_orders_differ(arguments) -> None:
    seen: list[int] = []
    rows = [{"x": torch.zeros(4), "labels": 0, "number": number} for number in range(21)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        seen.extend(row["number"] for row in batch)
        return torch.utils.data.default_collate(batch)

    Trainer(Net(), arguments(num_train_epochs=2), train_dataset=rows, data_collator=collate).train()
    epochs = seen[-42:-21], seen[-21:]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(21))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("model_class", [Net, Tagger])
def test_an_accumulated_step_has_the_gradient_of_one_large_batch(arguments, model_class) -> None:
    """With labels of -100, batches count by their labelled tokens; a mean of means would be another gradient."""
    rows = make_rows(24) if model_class is Net else make_tagged(24)
    gradients, losses = [], []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            gradients.append({name: p.grad.clone() for name, p in kwargs["model"].named_parameters()})

    for size, accumulation in ((12, 1), (3, 4)):
        torch.manual_seed(0)
        args = arguments(
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, max_steps=2, max_grad_norm=0.0
        )
        trainer = Trainer(model_class(), args, train_dataset=rows, callbacks=[Watch()])
        trainer.train()
        losses.append(losses_of(trainer))
    for one, other in zip(gradients[:2], gradients[2:], strict=True):
        for name, gradient in one.items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-5, atol=1e-7)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    if model_class is Tagger:  # the rows differ in their labelled tokens, so weighing matters
        assert len({sum(label != -100 for label in row["labels"]) for row in rows}) > 3


def test_a_step_without_any_label_changes_no_gradient(arguments) -> None:
    rows = [{"input_ids": [1, 2], "labels": [-100, -100]} for _ in range(4)]
    rows[0]["labels"] = [1, 2]
    args = arguments(per_device_train_batch_size=1, gradient_accumulation_steps=4, max_steps=2)
    trainer = Trainer(Tagger(), args, train_dataset=rows)
    trainer.train()
    assert all(math.isfinite(loss) for loss in losses_of(trainer))


def test_the_data_does_not_disturb_the_models_random_numbers(arguments) -> None:
    """Rows with noise of their own: more workers, or an evaluation between, change nothing."""
    results = []
    for options in ({}, {"dataloader_num_workers": 2}, {"eval_strategy": "steps", "eval_steps": 2}):
        torch.manual_seed(0)
        args = arguments(num_train_epochs=2, **options)
        trainer = Trainer(Net(dropout=0.3), args, train_dataset=Noisy(), eval_dataset=Noisy(12))
        trainer.train()
        results.append((losses_of(trainer), weights_of(trainer.model)))
    for losses, weights in results[1:]:
        assert losses == results[0][0]
        assert all(torch.equal(weights[name], value) for name, value in results[0][1].items())


def test_noise_differs_between_epochs_and_rows(arguments) -> None:
    seen: list[float] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        made = torch.utils.data.default_collate(batch)
        seen.extend(made["x"][:, 0].tolist())
        return made

    Trainer(Net(), arguments(num_train_epochs=2), train_dataset=Noisy(16), data_collator=collate).train()
    assert len(set(seen[-32:])) == 32


class Shapes(nn.Module):
    """Returns its loss as `kind` says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.outer = kind, nn.Linear(4, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.outer(x)
        if labels is None:
            return logits
        loss = cross_entropy(logits, labels)
        return {"tuple": (loss, logits), "dictionary": {"loss": loss, "logits": logits}}[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "dictionary"])
@pytest.mark.parametrize("form", ["dictionaries", "tuples", "dataset", "iterable"])
def test_models_and_data_of_many_forms_learn_the_same(arguments, kind: str, form: str) -> None:
    rows = make_rows(32)
    points, labels = torch.stack([row["x"] for row in rows]), torch.tensor([row["labels"] for row in rows])

    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(rows)

    forms = {
        "dictionaries": rows,
        "tuples": [(row["x"], row["labels"]) for row in rows],
        "dataset": TensorDataset(points, labels),
        "iterable": Endless(),
    }
    torch.manual_seed(0)
    steps = {"max_steps": 40} if form == "iterable" else {"num_train_epochs": 10}
    trainer = Trainer(Shapes(kind), arguments(learning_rate=0.1, **steps), train_dataset=forms[form])
    before = trainer.evaluate(forms[form])["eval_loss"]
    trainer.train()
    assert trainer.state.global_step == 40
    metrics = trainer.evaluate(forms[form])
    logits = trainer.model(points)
    assert metrics["eval_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["eval_loss"] < before / 2


def test_a_loss_function_of_your_own_and_an_overridden_loss(arguments) -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(x)

    class Own(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            inputs = dict(inputs)
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = cross_entropy(outputs, labels)
            return (loss, outputs) if return_outputs else loss

    def loss(outputs: Tensor, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        assert num_items_in_batch is None
        return cross_entropy(outputs, labels)

    found = []
    for kind, options in ((Trainer, {"compute_loss_func": loss}), (Own, {})):
        torch.manual_seed(0)
        trainer = kind(Scores(), arguments(label_names=["labels"]), train_dataset=make_rows(16), **options)
        trainer.train()
        found.append(losses_of(trainer))
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_bfloat16_computes_in_bfloat16_and_keeps_the_weights(arguments) -> None:
    kinds = set()

    class Watched(Net):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            kinds.add(self.outer(x.new_zeros(1, 8)).dtype)
            return super().forward(x, labels)

    trainer = Trainer(Watched(), arguments(bf16=True), train_dataset=make_rows(16))
    trainer.train()
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert trainer.model(torch.zeros(1, 4))["logits"].dtype == torch.float32  # the model is itself again


def test_gradient_checkpointing_and_compiling_change_nothing(arguments) -> None:
    config = DistilBertConfig(vocab_size=30, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=16)
    rows = [{"input_ids": [1, 5 + n % 7, 9, 2], "attention_mask": [1] * 4, "label": n % 2} for n in range(16)]
    found = []
    for option in ({}, {"gradient_checkpointing": True}):
        torch.manual_seed(0)
        trainer = Trainer(DistilBertForSequenceClassification(config), arguments(**option), train_dataset=rows)
        trainer.train()
        found.append(losses_of(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert trainer.model.is_gradient_checkpointing


def test_torch_compile_compiles_the_model(arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(Net, "compile", lambda self: asked.append(self))
    trainer = Trainer(Net(), arguments(torch_compile=True, max_steps=1), train_dataset=make_rows(8))
    trainer.train()
    assert asked == [trainer.model]


def test_grouping_by_length_gives_even_batches_in_random_order(arguments) -> None:
    widths: list[set[int]] = []
    rows = [{"input_ids": [1] * (1 + n % 10), "labels": [0] * (1 + n % 10)} for n in range(400)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        widths.append({len(row["input_ids"]) for row in batch})
        width = max(widths[-1])
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch]),
            "labels": torch.tensor([row["labels"] + [-100] * (width - len(row["labels"])) for row in batch]),
        }

    args = arguments(group_by_length=True, num_train_epochs=1)
    Trainer(Tagger(), args, train_dataset=rows, data_collator=collate).train()
    assert len(widths) == 51
    assert max(max(w) - min(w) for w in widths[1:]) <= 1
    firsts = [max(w) for w in widths[1:]]
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))


# Evaluation --------------------------------------------------------------------------------------------------------


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": (prediction.predictions.argmax(1) == prediction.label_ids).mean()}


def test_evaluate_and_predict_agree_with_numpy(arguments) -> None:
    rows = make_rows(21)
    trainer = Trainer(Net(), arguments(), eval_dataset=rows, compute_metrics=accuracy)
    output = trainer.predict(rows)
    points = torch.stack([row["x"] for row in rows])
    logits = trainer.model.eval()(points)["logits"].detach().numpy()
    labels = np.array([row["labels"] for row in rows])
    np.testing.assert_allclose(output.predictions, logits, atol=1e-6)
    assert (output.label_ids == labels).all()
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = {"loss": -log_probabilities[range(21), labels].mean(), "accuracy": (logits.argmax(1) == labels).mean()}
    assert output.metrics == pytest.approx({f"test_{name}": value for name, value in expected.items()}, rel=1e-5)
    assert trainer.evaluate() == pytest.approx({f"eval_{name}": value for name, value in expected.items()}, rel=1e-5)
    both = trainer.evaluate({"a": rows, "b": rows[:5]})
    assert both["eval_a_accuracy"] == expected["accuracy"]
    assert both.keys() == {"eval_a_loss", "eval_a_accuracy", "eval_b_loss", "eval_b_accuracy"}


def test_predicting_without_labels(arguments) -> None:
    rows = [{"x": row["x"]} for row in make_rows(5)]
    output = Trainer(Net(), arguments(), compute_metrics=accuracy).predict(rows)
    assert output.predictions.shape == (5, 3)
    assert (output.label_ids, output.metrics) == (None, {})


def test_predictions_of_different_lengths_are_padded(arguments) -> None:
    rows = [{"input_ids": [1] * n, "labels": [2] * n} for n in (3, 3, 5, 5)]
    args = arguments(per_device_eval_batch_size=2)
    output = Trainer(Tagger(), args).predict(rows)
    assert output.predictions.shape == (4, 5, 5)
    assert (output.predictions[:2, 3:] == -100).all()
    assert output.label_ids.tolist() == [[2, 2, 2, -100, -100]] * 2 + [[2] * 5] * 2
    probabilities = torch.from_numpy(output.predictions[:, :3]).softmax(-1)[..., 2].log()
    longer = torch.from_numpy(output.predictions[2:, 3:]).softmax(-1)[..., 2].log()
    assert output.metrics["test_loss"] == pytest.approx(-(probabilities.sum() + longer.sum()).item() / 16, rel=1e-5)


def test_the_best_model_is_kept_and_loaded(arguments, tmp_path: Path) -> None:
    """A model that is spoilt later: the best one is found, kept through the limit, and put back."""
    weights = {}

    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step > 6:
                with torch.no_grad():
                    kwargs["model"].outer.weight.zero_()
            weights[state.global_step] = weights_of(kwargs["model"])

    args = arguments(
        num_train_epochs=2, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=1,
        save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="accuracy", learning_rate=0.05,
    )  # fmt: skip
    rows = make_rows(50)
    trainer = Trainer(Net(), args, train_dataset=rows, eval_dataset=rows, compute_metrics=accuracy, callbacks=[Spoil])
    trainer.train()
    values = {e["step"]: e["eval_accuracy"] for e in trainer.state.log_history if "eval_accuracy" in e}
    best = min(step for step, value in values.items() if value == max(values.values()))
    assert best <= 6
    assert trainer.state.best_metric == max(values.values())
    assert Path(trainer.state.best_model_checkpoint) == tmp_path / "out" / f"checkpoint-{best}"
    assert all(torch.equal(value, weights[best][name]) for name, value in weights_of(trainer.model).items())
    left = sorted(int(path.name.partition("-")[2]) for path in (tmp_path / "out").glob("checkpoint-*"))
    assert left == [best, 14]


def test_saving_only_the_best(arguments, tmp_path: Path) -> None:
    args = arguments(num_train_epochs=2, eval_strategy="epoch", save_strategy="best", learning_rate=0.05)
    rows = make_rows(40)
    trainer = Trainer(Net(), args, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    losses = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    assert list(losses) == [5, 10]
    better = [5, 10] if losses[10] < losses[5] else [5]
    assert sorted(int(p.name[11:]) for p in (tmp_path / "out").glob("checkpoint-*")) == better


def test_early_stopping_waits_for_its_patience(arguments) -> None:
    values = iter([0.0, 0.5, 0.7, 0.7, 0.6, 0.9])  # the first goes to the trial before the first step
    trainer = Trainer(
        Net(),
        arguments(num_train_epochs=5, eval_strategy="epoch", metric_for_best_model="score"),
        train_dataset=make_rows(8),
        eval_dataset=make_rows(8),
        compute_metrics=lambda prediction: {"score": next(values)},
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.state.is_stopped


# Callbacks and the log ---------------------------------------------------------------------------------------------


def test_events_come_in_order_with_what_they_need(arguments) -> None:
    events: list[str] = []

    class Recorder(TrainerCallback):
        pass

    def record(name: str) -> Any:
        def on_event(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert isinstance(kwargs["model"], Net)
            events.append(name)

        return on_event

    for name in [name for name in dir(TrainerCallback) if name.startswith("on_")]:
        setattr(Recorder, name, record(name))
    args = arguments(
        num_train_epochs=1, per_device_train_batch_size=4, eval_strategy="epoch", save_strategy="epoch", logging_steps=2
    )
    rows = make_rows(8)
    Trainer(Net(), args, train_dataset=rows, eval_dataset=rows, callbacks=[Recorder]).train()
    step = ["on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end"]
    assert events == [
        "on_init_end", "on_train_begin", "on_epoch_begin", *step, *step, "on_epoch_end", "on_log",
        "on_prediction_step", "on_log", "on_evaluate", "on_save", "on_train_end",
    ]  # fmt: skip


def test_callbacks_stop_epochs_and_training(arguments) -> None:
    class Short(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_epoch_stop = state.global_step == 2
            control.should_training_stop = state.global_step == 6

    trainer = Trainer(Net(), arguments(per_device_train_batch_size=4), train_dataset=make_rows(20), callbacks=[Short])
    trainer.train()
    assert (trainer.state.global_step, trainer.state.epoch) == (6, 1.8)


def test_an_epoch_that_is_cut_short_is_evaluated_too(arguments) -> None:
    class Short(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_epoch_stop = state.global_step == 2

    args = arguments(per_device_train_batch_size=4, num_train_epochs=1, eval_strategy="epoch", max_steps=6)
    rows = make_rows(16)
    trainer = Trainer(Net(), args, train_dataset=rows, eval_dataset=rows, callbacks=[Short])
    trainer.train()
    evaluated = [(e["step"], e["epoch"]) for e in trainer.state.log_history if "eval_loss" in e]
    assert evaluated == [(2, 1.0), (6, 2.0)]


def test_a_misspelt_event_is_an_error() -> None:
    with pytest.raises(UnknownFieldError, match=r"no event 'on_step_ends'. Did you mean 'on_step_end'"):

        class Wrong(TrainerCallback):
            def on_step_ends(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None: ...


def test_the_log_is_a_file_of_json_lines(arguments, tmp_path: Path) -> None:
    args = arguments(per_device_train_batch_size=4, num_train_epochs=1, logging_steps=2)
    trainer = Trainer(Net(), args, train_dataset=make_rows(20))
    output = trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert lines == trainer.state.log_history
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert [line["epoch"] for line in lines] == [0.4, 0.8, 1.0]
    assert lines[0].keys() == {"step", "epoch", "loss", "learning_rate", "grad_norm"}
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.008, 0.004, 0.002])
    mean = (2 * lines[0]["loss"] + 2 * lines[1]["loss"] + lines[2]["loss"]) / 5
    assert output.training_loss == pytest.approx(mean)
    assert trainer.state.speed["samples_per_second"] > 0


def test_rows_are_dropped_by_name_once(arguments, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row, "text": "a", "id": 3} for row in make_rows(16)]
    with caplog.at_level(logging.WARNING):
        Trainer(Net(), arguments(), train_dataset=rows, eval_dataset=rows).train()
    assert [record.getMessage() for record in caplog.records] == [
        "Net.forward does not take these columns, which are dropped unless remove_unused_columns=False: id, text"
    ]


# What is checked before the first step -----------------------------------------------------------------------------


class NoLoss(Net):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": super().forward(x)["logits"]}


class Vector(Net):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"loss": super().forward(x)["logits"].sum(1)}


def bad(rows: list[dict[str, Any]], place: int, label: int) -> list[dict[str, Any]]:
    return [*rows[:place], {**rows[place], "labels": label}, *rows[place + 1 :]]


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (Net(), [{"x": row["x"]} for row in make_rows(8)], r"no label column: Net.forward .* 'labels', .* has x"),
        (NoLoss(), make_rows(8), r"NoLoss returned no loss"),
        (Vector(), make_rows(8), r"Vector returned a loss of shape \(8,\)"),
        (Net(), bad(make_rows(8), 1, 3), r"training data has 3 in 'labels', where 0 to 2 belong"),
        (Net(), bad(make_rows(8), 6, 3), r"Row 6 of the training data has 3 in 'labels', where 0 to 2 belong"),
        (Net(), bad(make_rows(8), 6, -1), r"Row 6 of the training data has -1 in 'labels'"),
        (Tagger(tokens=4), make_tagged(8), r"'input_ids'|index"),
        (Net(), [{"y": row["x"], "labels": 0} for row in make_rows(8)], r"needs 'x', .* columns y, labels"),
        (Net(), [], r"no rows"),
        (Net(), ["a text"] * 4, r"A row of the data is a str"),
        (Net(), [{"x": torch.zeros(4 + n), "labels": 0} for n in range(4)], r"'x' has values of different shapes"),
        (Net(), [{"x": torch.zeros(4), "labels": None}] * 4, r"'labels' has values of type NoneType"),
        (Net(), [{"x": torch.zeros(4), "labels": 0}, {"x": torch.zeros(4)}], r"row 1 has x, row 0 labels, x"),
        (Net(), iter(make_rows(8)), r"once only"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_step(arguments, model: nn.Module, rows: Any, message: str) -> None:
    before, random = weights_of(model), torch.get_rng_state()
    trainer = Trainer(model, arguments(max_steps=5), train_dataset=rows)
    with pytest.raises((ConfigurationError, InputError, IndexError), match=message):
        trainer.train()
    assert trainer.state.global_step == 0
    assert all(torch.equal(value, before[name]) for name, value in weights_of(model).items())
    torch.set_rng_state(random)


def test_labels_of_the_evaluation_are_checked_too(arguments) -> None:
    args = arguments(eval_strategy="epoch")
    trainer = Trainer(Net(), args, train_dataset=make_rows(8), eval_dataset={"far": bad(make_rows(8), 7, 9)})
    with pytest.raises(InputError, match=r"Row 7 of the evaluation far data has 9"):
        trainer.train()


def test_labels_of_data_that_is_only_read_by_rows_are_checked_in_their_batch(arguments) -> None:
    class Rows(Noisy):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {**super().__getitem__(index), "labels": 7 if index == 30 else 1}

    with pytest.raises(InputError, match=r"A batch has 7 in 'labels', where 0 to 2 belong"):
        Trainer(Net(), arguments(), train_dataset=Rows()).train()


def test_a_collator_of_ones_own_takes_tuples_in_any_order(arguments) -> None:
    """Where `forward` has its labels, these rows have numbers that no class has."""
    rows = make_rows(16)
    inputs, labels = torch.stack([row["x"] for row in rows]), torch.tensor([row["labels"] for row in rows])
    numbers = torch.arange(400, 416)

    def collate(batch: list[tuple[Tensor, Any, Any]]) -> dict[str, Tensor]:
        return {"x": torch.stack([row[0] for row in batch]), "labels": torch.tensor([int(row[2]) for row in batch])}

    found = []
    for data in (list(zip(inputs, numbers.tolist(), labels, strict=True)), TensorDataset(inputs, numbers, labels)):
        torch.manual_seed(0)
        trainer = Trainer(Net(), arguments(), train_dataset=data, data_collator=collate)
        trainer.train()
        found.append(losses_of(trainer))
    torch.manual_seed(0)
    plain = Trainer(Net(), arguments(), train_dataset=rows)
    plain.train()
    assert found == [losses_of(plain)] * 2


class Vocabulary:
    """As many tokens as `count` says."""

    model_input_names = ("input_ids",)

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def convert_ids_to_tokens(self, ids: Any) -> Any: ...


def test_embeddings_have_to_hold_the_vocabulary(arguments) -> None:
    config = DistilBertConfig(vocab_size=30, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=16)
    rows = [{"input_ids": [1, 2, 3], "label": 0}, {"input_ids": [1, 2, 30], "label": 1}]
    model = DistilBertForSequenceClassification(config)
    with pytest.raises(InputError, match=r"training data has 30 in 'input_ids', where 0 to 29 belong"):
        Trainer(model, arguments(), train_dataset=rows).train()
    with pytest.raises(ConfigurationError, match=r"knows 31 tokens, but .* embeds only 30. .*resize_token_emb"):
        Trainer(model, arguments(), train_dataset=rows[:1], processing_class=Vocabulary(31)).train()


def test_the_trial_leaves_no_trace(arguments) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.outer = nn.BatchNorm1d(4), nn.Linear(4, 3)

        def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor]:
            return (cross_entropy(self.outer(self.norm(x)), labels),)

    trainer = Trainer(Counting(), arguments(max_steps=1), train_dataset=make_rows(16))
    trainer.train()
    assert trainer.model.norm.num_batches_tracked == 1


def test_a_run_needs_data_and_an_end(arguments) -> None:
    with pytest.raises(ConfigurationError, match="nothing to train on"):
        Trainer(Net(), arguments()).train()
    with pytest.raises(ConfigurationError, match="has no eval_dataset"):
        Trainer(Net(), arguments(eval_strategy="epoch"))
    with pytest.raises(ConfigurationError, match="a model, or model_init"):
        Trainer(args=arguments())

    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(make_rows(8))

    with pytest.raises(ConfigurationError, match="set max_steps"):
        Trainer(Net(), arguments(), train_dataset=Endless()).train()


def test_an_unknown_tracker_is_an_error(arguments) -> None:
    with pytest.raises(ImportError, match=r"report_to='tensorbord'.*tensorboard"):
        Trainer(Net(), arguments(report_to="tensorbord"))


def test_trackers_get_the_arguments_and_every_entry(arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracker stands in for TensorBoard, in accelerate's own table of trackers."""
    from accelerate import tracking

    heard: list[Any] = []

    class Listening(tracking.GeneralTracker):
        name, requires_logging_directory = "tensorboard", False

        def __init__(self, run_name: str, **kwargs: Any) -> None:
            super().__init__()
            heard.append(run_name)

        @property
        def tracker(self) -> Any:
            return self

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            heard.append(values)

        def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
            heard.append((step, values))

        def finish(self) -> None:
            heard.append("finished")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Listening)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.TENSORBOARD])
    trainer = Trainer(Net(), arguments(report_to="tensorboard", max_steps=2, seed=5), train_dataset=make_rows(16))
    trainer.train()
    name, values, *entries, end = heard
    assert (name, values["seed"], values["lr_scheduler_type"], end) == ("out", 5, "linear", "finished")
    assert [{"step": step, **logs} for step, logs in entries] == [
        {key: value for key, value in entry.items() if key != "epoch"} for entry in trainer.state.log_history
    ]


class Table:
    """Data in columns, with the parts of the interface of `datasets.Dataset` that are used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.columns = {name: [row[name] for row in rows] for name in rows[0]}
        self.column_names = [*self.columns]

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, key: Any) -> Any:
        return self.columns[key] if isinstance(key, str) else {name: c[key] for name, c in self.columns.items()}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Any]]:
        return [self[row] for row in rows]


def test_tables_are_read_by_rows_and_checked_by_columns(arguments) -> None:
    rows = [{**row, "labels": [token % 5 for token in row["input_ids"]]} for row in make_tagged(12)]
    found = []
    for data in (rows, Table(rows)):
        torch.manual_seed(0)
        trainer = Trainer(Tagger(), arguments(group_by_length=True), train_dataset=data)
        trainer.train()
        found.append(losses_of(trainer))
    assert found[0] == found[1]
    wrong = Table([*rows[:9], {**rows[9], "labels": [0, 0, 0, 5, 0, 0]}])
    with pytest.raises(InputError, match=r"Row 9 of the training data has 5 in 'labels', where 0 to 4 belong"):
        Trainer(Tagger(), arguments(), train_dataset=wrong).train()


class Counted(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Rows that can only be gone through, of which one knows how many they are."""

    def __len__(self) -> int:
        return 16

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(make_rows(16))


def test_data_with_a_length_but_no_row_numbers_is_gone_through(arguments) -> None:
    trainer = Trainer(Net(), arguments(max_steps=3), train_dataset=Counted(), eval_dataset=Counted())
    assert trainer.train().global_step == 3
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.evaluate(make_rows(16))["eval_loss"])


class Embedding(Net):
    """Gives a point in a plane beside, or instead of, its scores for five classes; its loss knows which is which."""

    def __init__(self, name: str) -> None:
        super().__init__(width=2, classes=5)
        self.name = name

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        points = self.inner(x)
        outputs = {"embeddings": points, self.name: self.outer(points)}
        return outputs if labels is None else {"loss": cross_entropy(outputs[self.name], labels), **outputs}


def test_classes_are_counted_in_the_logits(arguments) -> None:
    rows = [{**row, "labels": place % 5} for place, row in enumerate(make_rows(20))]
    for name in ("logits", "classes"):
        assert Trainer(Embedding(name), arguments(max_steps=1), train_dataset=rows).train().global_step == 1
    with pytest.raises(InputError, match=r"Row 20 of the training data has 5 in 'labels', where 0 to 4 belong"):
        Trainer(Embedding("logits"), arguments(), train_dataset=[*rows, {**rows[0], "labels": 5}]).train()


def test_a_schedule_without_its_optimizer_is_refused(arguments) -> None:
    model = Net()
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(model.parameters(), lr=1.0), 1)
    with pytest.raises(ConfigurationError, match="a schedule without its optimizer"):
        Trainer(model, arguments(), train_dataset=make_rows(8), optimizers=(None, schedule))


class Open(Net):
    """Takes any name; gives a number for the whole batch beside its scores, and a loss of its own without labels."""

    def forward(self, x: Tensor, **inputs: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        outputs = super().forward(x, **inputs)
        return {"loss": outputs["logits"].square().mean(), **outputs, "spread": outputs["logits"].std()}


def count_rows(found: Any) -> dict[str, float]:
    return {"rows": len(found.label_ids), "scores": len(found.predictions)}


def test_labels_are_found_where_forward_takes_any_name(arguments) -> None:
    rows = make_rows(20)
    trainer = Trainer(Open(), arguments(max_steps=1), train_dataset=rows, eval_dataset=rows, compute_metrics=count_rows)
    trainer.train()
    found = trainer.evaluate()
    assert (found["eval_rows"], found["eval_scores"]) == (20, 20)
    points = torch.stack([row["x"] for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    assert found["eval_loss"] == pytest.approx(cross_entropy(trainer.model(points)["logits"], labels).item())
    trainer.compute_metrics = None
    own = trainer.evaluate([{"x": row["x"]} for row in rows])["eval_loss"]
    batches = [trainer.model(part)["loss"].item() * len(part) for part in points.split(8)]
    assert own == pytest.approx(sum(batches) / 20)


class Bare(Net):
    """Gives scores, and takes no labels."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return super().forward(x)


def test_a_loss_from_outside_gets_the_labels(arguments) -> None:
    def judge(outputs: Any, labels: Tensor) -> Tensor:
        return cross_entropy(outputs["logits"], labels)

    rows = make_rows(20)
    options = {"compute_loss_func": judge, "compute_metrics": count_rows}
    trainer = Trainer(Bare(), arguments(max_steps=1), train_dataset=rows, eval_dataset=rows, **options)
    trainer.train()
    assert trainer.evaluate()["eval_rows"] == 20


def test_metrics_without_labels_are_an_error(arguments) -> None:
    rows = [{"x": row["x"]} for row in make_rows(8)]
    for model, message in ((Net(), "no label column was found among 'labels'"), (Bare(), r"was found\. Say in label_")):
        trainer = Trainer(model, arguments(), eval_dataset=rows, compute_metrics=count_rows, compute_loss_func=None)
        if isinstance(model, Bare):
            trainer.compute_loss = lambda *_, **__: (torch.zeros(()), {"logits": torch.zeros(8, 3)})  # type: ignore
        with pytest.raises(ConfigurationError, match=message):
            trainer.evaluate()
        assert trainer.predict(rows).label_ids is None
