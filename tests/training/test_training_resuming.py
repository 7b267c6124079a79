"""Resuming with other settings than a checkpoint was trained with: refused with both values, or taken when asked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_models import Net, make_rows

from maquette import CheckpointError, EarlyStoppingCallback, Trainer, TrainingArguments

SETTINGS = {"max_steps": 6, "save_steps": 3, "logging_steps": 1, "learning_rate": 0.01, "disable_tqdm": True}
Make = Callable[[torch.nn.Module], tuple[Any, Any]]


def train(folder: Path, make: Make | None = None, *, resume: Path | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Net()
    rows = make_rows(48)
    trainer = Trainer(
        model,
        TrainingArguments(folder, **{**SETTINGS, **options}),
        train_dataset=rows,
        eval_dataset=rows[:8],
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
        optimizers=make(model) if make else (None, None),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint at step 3 of a run over 6 steps."""
    folder = tmp_path_factory.mktemp("run")
    train(folder, weight_decay=0.1, warmup_steps=2)
    return folder / "checkpoint-3"


def rates(trainer: Trainer) -> list[float]:
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


KEPT = {"weight_decay": 0.1, "warmup_steps": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.01, is 0.5"),
        ({"weight_decay": 0.2}, "weight_decay was 0.1, is 0.2"),
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type was 'linear', is 'cosine'"),
        ({"warmup_steps": 0.0}, "warmup_steps was 2.0, is 0.0"),
        ({"per_device_train_batch_size": 4}, "rows_in_a_batch was 8, is 4"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps was 1, is 2"),
        ({"seed": 1}, "seed was 42, is 1"),
    ],
)
def test_another_setting_is_refused_with_both_values(
    saved: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        train(tmp_path, resume=saved, **{**KEPT, **options})
    assert str(caught.value).count(" was 0.01, is") == ("learning_rate" in options)
    assert not list(tmp_path.iterdir())


def test_new_settings_are_those_of_a_run_that_had_them_from_the_beginning(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"learning_rate": 0.5, "weight_decay": 0.2, "lr_scheduler_type": "cosine", "warmup_steps": 1}
    whole = train(tmp_path / "whole", **options)
    resumed = train(tmp_path / "new", resume=saved, on_change="new", **options)
    assert rates(resumed)[3:] == rates(whole)[3:]
    assert resumed.optimizer.param_groups[0]["weight_decay"] == 0.2
    assert resumed.optimizer.param_groups[1]["weight_decay"] == 0.0
    assert [message for message in caplog.messages if "After step 3 the learning rate is" in message]
    again = train(tmp_path / "again", resume=tmp_path / "new" / "checkpoint-6", **options)  # the new ones are kept
    assert again.state.global_step == 6


def test_more_steps_stretch_the_schedule_and_say_so(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(tmp_path / "whole", **KEPT, max_steps=12)
    caplog.clear()
    resumed = train(tmp_path / "more", resume=saved, **KEPT, max_steps=12)
    assert rates(resumed)[3:] == rates(whole)[3:]
    assert rates(resumed)[3] == pytest.approx(0.01 * 9 / 10)
    (message,) = caplog.messages
    assert "After step 3 the learning rate is 0.009" in message
    assert "the checkpoint's was 0.0075" in message


def with_sgd(schedule: Callable[[Any], Any], **options: Any) -> Make:
    def make(model: torch.nn.Module) -> tuple[Any, Any]:
        optimizer = torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})
        return optimizer, schedule(optimizer)

    return make


def steps(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)


def cycle(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)


def sequence(optimizer: Any) -> Any:
    schedules = torch.optim.lr_scheduler
    return schedules.SequentialLR(optimizer, [schedules.LinearLR(optimizer, 0.1, 1.0, 2), steps(optimizer)], [2])


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        (with_sgd(steps), with_sgd(steps, momentum=0.8), "momentum was 0.9, is 0.8"),
        (with_sgd(steps), with_sgd(steps, nesterov=True), "nesterov was False, is True"),
        (
            with_sgd(steps),
            with_sgd(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.25)),
            "gamma was 0.5, is 0.25",
        ),
        (with_sgd(steps), with_sgd(cycle), "schedule was 'StepLR', is 'OneCycleLR'"),
        (
            with_sgd(cycle),
            with_sgd(lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=24)),
            "total_steps was 12, is 24",
        ),
        (
            lambda model: (torch.optim.AdamW(model.parameters(), lr=0.1), None),
            lambda model: (torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.9, 0.95)), None),
            "betas was [0.9, 0.999], is [0.9, 0.95]",
        ),
    ],
)
def test_an_optimizer_of_the_user_s_own(tmp_path: Path, was: Make, now: Make, message: str) -> None:
    train(tmp_path / "was", was)
    checkpoint = tmp_path / "was" / "checkpoint-3"
    same = train(tmp_path / "same", was, resume=checkpoint)  # nothing that only moved on counts as changed
    assert same.state.global_step == 6
    with pytest.raises(CheckpointError, match=re.escape(message)):
        train(tmp_path / "now", now, resume=checkpoint)
    resumed = train(tmp_path / "now", now, resume=checkpoint, on_change="new")
    whole = train(tmp_path / "whole", now)
    assert rates(resumed)[3:] == pytest.approx(rates(whole)[3:], rel=1e-12)
    for group, expected in zip(resumed.optimizer.param_groups, whole.optimizer.param_groups, strict=True):
        for name in expected.keys() - {"params"}:
            assert group[name] == (pytest.approx(expected[name]) if expected[name] is not None else None), name


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch's own SequentialLR
def test_schedules_within_a_schedule_are_compared(tmp_path: Path) -> None:
    train(tmp_path / "was", with_sgd(sequence))
    train(tmp_path / "same", with_sgd(sequence), resume=tmp_path / "was" / "checkpoint-3")

    def longer(optimizer: Any) -> Any:
        schedules = torch.optim.lr_scheduler
        return schedules.SequentialLR(optimizer, [schedules.LinearLR(optimizer, 0.1, 1.0, 4), steps(optimizer)], [4])

    with pytest.raises(CheckpointError, match=r"total_iters was 2, is 4") as caught:
        train(tmp_path / "now", with_sgd(longer), resume=tmp_path / "was" / "checkpoint-3")
    assert "_milestones was [2], is [4]" in str(caught.value)


def test_another_optimizer_is_refused_in_any_case(saved: Path, tmp_path: Path) -> None:
    for on_change in ("error", "new"):
        with pytest.raises(CheckpointError, match="AdamW") as caught:
            train(tmp_path, with_sgd(steps), resume=saved, on_change=on_change)
        assert "SGD" in str(caught.value)


def test_one_trainer_with_its_own_optimizer_resumes_itself(tmp_path: Path) -> None:
    trainer = train(tmp_path, with_sgd(cycle))
    trainer.train(resume_from_checkpoint=tmp_path / "checkpoint-3")
    assert trainer.state.global_step == 6


def test_the_best_of_one_metric_is_not_that_of_another(tmp_path: Path) -> None:
    """A loss of 0.9 would never be passed by an accuracy below it, or always."""
    options: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True}
    train(tmp_path, **options)
    other = {**options, "metric_for_best_model": "accuracy"}
    with pytest.raises(CheckpointError, match="metric_for_best_model was 'loss', is 'accuracy'"):
        train(tmp_path, resume=tmp_path / "checkpoint-3", **other)
    trainer = train(tmp_path, resume=tmp_path / "checkpoint-3", on_change="new", **other)
    assert trainer.state.best_metric == trainer.state.log_history[-1]["eval_accuracy"]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-6")


def test_early_stopping_begins_anew_with_another_metric(tmp_path: Path) -> None:
    args = {**SETTINGS, "eval_strategy": "steps", "eval_steps": 3}
    rows = make_rows(48)

    def make(**options: Any) -> tuple[Trainer, EarlyStoppingCallback]:
        stopping = EarlyStoppingCallback(early_stopping_patience=9)
        made = TrainingArguments(tmp_path, **{**args, **options})
        metrics = {"compute_metrics": lambda _: {"score": 5.0}}
        return Trainer(Net(), made, train_dataset=rows, eval_dataset=rows, callbacks=[stopping], **metrics), stopping

    make()[0].train()
    trainer, stopping = make(metric_for_best_model="score", greater_is_better=False, on_change="new")
    trainer.train(resume_from_checkpoint=tmp_path / "checkpoint-3")
    assert (stopping.best, stopping.waited) == (5.0, 0)


class Quantised(torch.optim.Optimizer):
    """Keeps tensors within its state, as optimizers of bitsandbytes do."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01})

    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            if not state:
                inner = {"absmax": torch.zeros(2), "block": 64}
                state.update(quantised=inner, history=[torch.zeros_like(parameter), 0], step=0)
            state["quantised"]["absmax"] += 1
            state["history"] = [parameter.grad.clone(), state["history"][1] + 1]
            state["step"] += 1
            parameter.data -= 0.01 * (parameter.grad + state["history"][0]) * float(state["quantised"]["absmax"][0])


def test_tensors_deep_in_an_optimizer_s_state_resume(tmp_path: Path) -> None:
    def make(model: torch.nn.Module) -> tuple[Any, Any]:
        return Quantised(model.parameters()), None

    whole = train(tmp_path / "one", make)
    resumed = train(tmp_path / "two", make, resume=tmp_path / "one" / "checkpoint-3")
    assert resumed.state.log_history == whole.state.log_history
    pairs = zip(whole.optimizer.param_groups[0]["params"], resumed.optimizer.param_groups[0]["params"], strict=True)
    for one, other in ((whole.optimizer.state[mine], resumed.optimizer.state[theirs]) for mine, theirs in pairs):
        assert one["quantised"]["block"] == other["quantised"]["block"] == 64
        torch.testing.assert_close(
            (one["quantised"]["absmax"], one["history"]), (other["quantised"]["absmax"], other["history"])
        )
