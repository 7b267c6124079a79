"""Checkpoints: a run that is killed and resumed ends in the bytes of one that was not, and nothing is passed over."""

import errno
import json
import logging
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import training_models
from fresh import Child, Starter
from safetensors.torch import load_file
from torch import nn
from training_models import Net, Noisy, make_rows, train_noisy

from maquette import (
    CheckpointError,
    ConfigurationError,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertTokenizerFast,
    EarlyStoppingCallback,
    MissingFileError,
    SaveError,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_last_checkpoint,
)
from maquette.storage.transaction import JOURNAL

SCRIPT = Path(training_models.__file__)
RUN = """
import os, runpy, sys
sys.argv = {arguments!r}
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
STEPS = 40
KILLS = 20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    torch.set_num_threads(1)
    trainer = train_noisy(str(folder))
    trainer.save_model(folder / "final")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Give what has to be equal: the loss log, the final weights, and every file of the checkpoints."""
    paths = [folder / "log.jsonl", folder / "final" / "model.safetensors", *folder.glob("checkpoint-*/*")]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {
        name: content.replace(str(folder).encode(), b"") for name, content in found.items() if "manifest" not in name
    }


def test_a_checkpoint_is_json_and_safetensors_with_a_hash_of_each(uninterrupted: Path) -> None:
    import hashlib

    folder = uninterrupted / f"checkpoint-{STEPS}"
    names = {path.name for path in folder.iterdir()}
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}
    hashes = json.loads((folder / "manifest.json").read_text())["sha256"]
    assert hashes == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names - {"manifest.json"}
    }
    assert len(list(uninterrupted.glob("checkpoint-*"))) == 3  # save_total_limit, the best among them


def test_resuming_from_any_checkpoint_goes_on_to_the_same_bits(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    torch.manual_seed(1)
    trainer = train_noisy(str(folder), save_total_limit=None)
    kept = sorted(int(path.name[11:]) for path in folder.glob("checkpoint-*"))
    assert kept == sorted({*range(2, STEPS + 1, 2), *(s for s in kept if s % 5 == 0)})
    for step in random.Random(0).sample(kept, 4):
        torch.manual_seed(step)  # whatever the process did before
        again = make_resumed(folder, step)
        assert again.state.log_history == trainer.state.log_history
        assert all(map(torch.equal, again.model.state_dict().values(), trainer.model.state_dict().values()))
        assert (folder / "log.jsonl").read_bytes() == (uninterrupted / "log.jsonl").read_bytes()


def make_resumed(folder: Path, step: int) -> Trainer:
    for path in folder.glob("checkpoint-*"):
        if int(path.name[11:]) > step:
            path.rename(path.with_name("later-" + path.name[11:]))
    trainer = train_noisy(str(folder), save_total_limit=None)
    for path in folder.glob("later-*"):
        target = path.with_name("checkpoint-" + path.name[6:])
        assert {p.name: p.read_bytes() for p in target.iterdir()} == {p.name: p.read_bytes() for p in path.iterdir()}
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    return trainer


def test_twenty_kills_at_random_moments_change_no_byte(uninterrupted: Path, tmp_path: Path, starter: Starter) -> None:
    """One script, killed and started again; some kills come while a checkpoint is being written."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    choose, kills, rounds = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f"round-{rounds}"
        rounds += 1
        for _ in range(100):
            process = starter.start(RUN.format(arguments=[str(SCRIPT), str(folder)]), cwd=tmp_path, environ=environment)
            while "ready" not in process.read("stdout") and not process.has_ended():
                time.sleep(0.01)
            if kills < KILLS:
                wait_for_progress(folder, process, choose)
                if not process.has_ended():
                    kills += 1
                    os.kill(process.pid, signal.SIGKILL)
            if (status := process.wait()) == 0:
                break
            assert status == -signal.SIGKILL, process.read("stderr")
        assert contents(folder) == contents(uninterrupted)


def wait_for_progress(folder: Path, process: Child, choose: random.Random) -> None:
    """Wait until the run has done a random number of things, then a random moment longer."""
    log = folder / "log.jsonl"

    def lines() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    target = lines() + choose.randint(0, 3)
    until = time.monotonic() + 60
    while not process.has_ended() and lines() < target and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(choose.uniform(0, 0.05))


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The output folder of a run with checkpoints at steps 2, 4 and 6."""
    make_trainer(tmp_path / "run").train()
    return tmp_path / "run"


def make_trainer(folder: Path, **options: Any) -> Trainer:
    torch.manual_seed(0)
    settings = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "save_steps": 2, "logging_steps": 1}
    args = TrainingArguments(folder, **{**settings, "learning_rate": 0.01, "disable_tqdm": True, **options})
    return Trainer(Net(dropout=0.1), args, train_dataset=Noisy(24))


def damage(folder: Path, name: str, how: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[:-7])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    saved: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    log, weights = (saved / "log.jsonl").read_bytes(), (saved / "checkpoint-6" / "model.safetensors").read_bytes()
    damage(saved / "checkpoint-6", name, how)
    steps = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)

    trainer = make_trainer(saved)
    trainer.add_callback(Watch)
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=True)
    assert any(
        "Passed over" in record.getMessage() and "checkpoint-6" in record.getMessage() for record in caplog.records
    )
    assert steps == [5, 6]
    assert (saved / "log.jsonl").read_bytes() == log
    assert (saved / "checkpoint-6" / "model.safetensors").read_bytes() == weights


def test_a_run_begun_anew_is_not_resumed_from_the_one_before(saved: Path) -> None:
    """Nor does its limit remove what the other saved."""
    assert get_last_checkpoint(str(saved)) == str(saved / "checkpoint-6")

    class Die(TrainerCallback):
        def __init__(self, at: int) -> None:
            self.at = at

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == self.at:
                raise KeyboardInterrupt

    for dies_at, expected in ((1, None), (3, str(saved / "checkpoint-2"))):
        trainer = make_trainer(saved, save_total_limit=1)
        trainer.add_callback(Die(dies_at))
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert get_last_checkpoint(str(saved)) == expected
        if expected is None:
            with pytest.raises(MissingFileError, match="no checkpoint of the last run"):
                make_trainer(saved).train(resume_from_checkpoint=True)
    resumed = make_trainer(saved)
    resumed.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in resumed.state.log_history] == [*range(1, 7)]
    assert (saved / "checkpoint-4").exists()


def test_a_checkpoint_too_many_goes_when_the_run_is_resumed(tmp_path: Path) -> None:
    """A process that dies between saving and removing leaves one."""
    make_trainer(tmp_path, save_total_limit=3).train()
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3
    make_trainer(tmp_path, save_total_limit=2).train(resume_from_checkpoint=True)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}


def test_a_damaged_newest_one_costs_no_older_one(tmp_path: Path) -> None:
    """It will be written again, so it does not count among those to keep."""
    make_trainer(tmp_path).train()
    damage(tmp_path / "checkpoint-6", "model.safetensors", "cut")
    seen = []

    class Look(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.extend([state.global_step, *sorted(path.name for path in tmp_path.glob("checkpoint-*"))])

    trainer = make_trainer(tmp_path, save_total_limit=2)
    trainer.add_callback(Look())
    trainer.train(resume_from_checkpoint=True)
    assert seen == [4, "checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}


def test_none_left_is_an_error_and_no_silent_restart(saved: Path, tmp_path: Path) -> None:
    for step in (2, 4, 6):
        damage(saved / f"checkpoint-{step}", "optimizer.safetensors", "bit")
    with pytest.raises(CheckpointError, match=r"Nothing to resume from is whole") as caught:
        make_trainer(saved).train(resume_from_checkpoint=True)
    assert all(f"checkpoint-{step}" in str(caught.value) for step in (2, 4, 6))
    assert get_last_checkpoint(str(saved)) == str(saved / "checkpoint-6")
    with pytest.raises(CheckpointError, match="checkpoint-4"):
        make_trainer(saved).train(resume_from_checkpoint=saved / "checkpoint-4")
    with pytest.raises(MissingFileError, match=r"no checkpoint of the last run in .*empty"):
        make_trainer(tmp_path / "empty").train(resume_from_checkpoint=True)
    with pytest.raises(MissingFileError, match=r"no checkpoint .*checkpoint-5"):
        make_trainer(saved).train(resume_from_checkpoint=str(saved / "checkpoint-5"))
    assert get_last_checkpoint(str(tmp_path / "nowhere")) is None


def test_a_save_whose_process_died_after_its_moment_counts(saved: Path) -> None:
    """The journal stands and the files wait in their staging folder: as whole as any."""
    folder = saved / "checkpoint-6"
    weights = (folder / "model.safetensors").read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    staging = folder / ".maquette-staged-dead"
    staging.mkdir()
    for name in names[::2]:
        (folder / name).rename(staging / name)
    (folder / JOURNAL).write_text(json.dumps({"staging": staging.name, "files": names, "removed": []}))
    assert get_last_checkpoint(str(saved)) == str(folder)
    trainer = make_trainer(saved)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("what", ["weights", "optimizer", "sync"])
def test_a_full_disk_stops_the_run_and_harms_nothing(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maquette.storage import transaction
    from maquette.training import checkpoints, model_states

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Fill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:
                module = {"weights": model_states, "optimizer": checkpoints}.get(what)
                if module is None:
                    monkeypatch.setattr(transaction, "_sync", refuse)
                else:
                    monkeypatch.setattr(module, "save_file", write_a_part)

    def refuse(path: Path) -> None:
        raise full

    def write_a_part(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(safetensors.torch.save(tensors)[:100])
        raise full

    trainer = make_trainer(tmp_path / "run")
    trainer.add_callback(Fill)
    with pytest.raises(SaveError, match=r"checkpoint-4.* could not be written: .*No space left on device"):
        trainer.train()
    monkeypatch.undo()
    assert not (tmp_path / "run" / "checkpoint-4").exists()
    resumed = make_trainer(tmp_path / "run")
    resumed.train(resume_from_checkpoint=True)
    whole = make_trainer(tmp_path / "other")
    whole.train()
    assert resumed.state.log_history == whole.state.log_history


# What has to fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_device_train_batch_size": 4}, "rows_in_a_batch was 8, is 4"),
        ({"seed": 3}, "seed was 42, is 3"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps was 1, is 2"),
    ],
)
def test_resuming_with_other_data_is_an_error(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        make_trainer(saved, **options).train(resume_from_checkpoint=True)


def test_resuming_with_another_model_or_optimizer_is_an_error(saved: Path) -> None:
    class Other(Net):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(2, 2)

    args = TrainingArguments(saved, per_device_train_batch_size=8, disable_tqdm=True)
    with pytest.raises(CheckpointError, match=r"do not fit Other:\n  - more.weight: not in the file\n  - more.bias"):
        Trainer(Other(), args, train_dataset=Noisy(24)).train(resume_from_checkpoint=True)
    model = Net(dropout=0.1)
    optimizers = torch.optim.AdamW(model.inner.parameters(), lr=0.01, weight_decay=0.0), None
    with pytest.raises(CheckpointError, match=r"other parameters, or other groups"):
        Trainer(model, args, train_dataset=Noisy(24), optimizers=optimizers).train(resume_from_checkpoint=True)


def test_a_finished_run_can_go_on_for_more_epochs(saved: Path) -> None:
    done = make_trainer(saved)
    done.train(resume_from_checkpoint=True)
    assert done.state.global_step == 6
    more = make_trainer(saved, num_train_epochs=3)
    more.train(resume_from_checkpoint=True)
    assert more.state.global_step == 9
    assert [entry["step"] for entry in more.state.log_history] == [*range(1, 10)]


def test_a_user_s_own_optimizer_and_schedule_resume(tmp_path: Path) -> None:
    def make(folder: str) -> Trainer:
        torch.manual_seed(0)
        model = Net(dropout=0.1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
        args = TrainingArguments(tmp_path / folder, per_device_train_batch_size=8, num_train_epochs=2, save_steps=4,
                                 logging_steps=1, disable_tqdm=True)  # fmt: skip
        return Trainer(model, args, train_dataset=Noisy(24), optimizers=(optimizer, schedule))

    whole = make("one")
    whole.train()
    resumed = make("two")
    resumed.train(resume_from_checkpoint=tmp_path / "one" / "checkpoint-4")
    assert resumed.state.log_history == whole.state.log_history
    assert len({entry["learning_rate"] for entry in whole.state.log_history}) == 6


def test_data_that_is_only_gone_through_resumes(tmp_path: Path) -> None:
    class IterableBatches(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            for row in make_rows(22):
                yield {**row, "x": row["x"] + torch.randn(4) * random.random()}

    def make(folder: str) -> Trainer:
        torch.manual_seed(0)
        args = TrainingArguments(tmp_path / folder, max_steps=9, save_steps=5, logging_steps=1, disable_tqdm=True)
        return Trainer(Net(dropout=0.2), args, train_dataset=IterableBatches())

    whole = make("one")
    whole.train()
    assert (whole.state.global_step, whole._position.epoch) == (9, 3)
    resumed = make("two")
    resumed.train(resume_from_checkpoint=tmp_path / "one" / "checkpoint-5")
    assert resumed.state.log_history == whole.state.log_history


def test_a_checkpoint_of_a_pretrained_model_is_a_folder_to_load_from(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "day"]))
    tokenizer = DistilBertTokenizerFast(tmp_path / "vocab.txt")
    config = DistilBertConfig(vocab_size=8, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=16)
    rows = [{**tokenizer("red " * n + "blue day"), "label": n % 2} for n in range(1, 9)]
    args = TrainingArguments(tmp_path / "out", per_device_train_batch_size=4, num_train_epochs=1, disable_tqdm=True)
    trainer = Trainer(DistilBertForSequenceClassification(config), args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    folder = tmp_path / "out" / "checkpoint-2"
    model = DistilBertForSequenceClassification.from_pretrained(folder)
    assert all(map(torch.equal, model.state_dict().values(), trainer.model.state_dict().values()))
    assert DistilBertTokenizerFast.from_pretrained(folder)("red day").input_ids == tokenizer("red day").input_ids
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["DistilBertForSequenceClassification"]
    trainer.save_model(tmp_path / "final")
    assert load_file(tmp_path / "final" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


def test_tied_weights_of_a_plain_module_resume(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
            return {"loss": nn.functional.cross_entropy(self.two(self.one(x)), labels)}

    def make(folder: str) -> Trainer:
        torch.manual_seed(0)
        args = TrainingArguments(
            tmp_path / folder, num_train_epochs=2, save_steps=2, logging_steps=1, disable_tqdm=True
        )
        return Trainer(Tied(), args, train_dataset=make_rows(24))

    whole = make("one")
    whole.train()
    resumed = make("two")
    resumed.train(resume_from_checkpoint=tmp_path / "one" / "checkpoint-2")
    assert resumed.state.log_history == whole.state.log_history
    assert resumed.model.two.weight is resumed.model.one.weight


# What JSON does not keep by itself --------------------------------------------------------------------------------


def make_steps(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6])


def make_sequence(optimizer: torch.optim.Optimizer) -> Any:
    schedules = torch.optim.lr_scheduler
    first = schedules.LinearLR(optimizer, 0.1, 1.0, 2)
    return schedules.SequentialLR(optimizer, [first, schedules.MultiStepLR(optimizer, [2, 4])], [2])


@pytest.mark.parametrize("make_schedule", [make_steps, make_sequence])
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch's own SequentialLR
def test_a_schedule_with_milestones_goes_on_after_a_resume(tmp_path: Path, make_schedule) -> None:
    args = TrainingArguments(
        tmp_path, max_steps=8, save_strategy="steps", save_steps=2, logging_steps=1, disable_tqdm=True
    )
    rates = []
    for folder in (None, tmp_path / "checkpoint-2"):
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizers = (optimizer, make_schedule(optimizer))
        trainer = Trainer(model, args, train_dataset=make_rows(64), optimizers=optimizers)
        trainer.train(resume_from_checkpoint=folder)
        rates.append([entry["learning_rate"] for entry in trainer.state.log_history])
    assert rates[1] == rates[0]
    assert rates[0][-1] == pytest.approx(0.01)


def test_an_evaluation_that_gave_no_number_is_never_the_best(tmp_path: Path) -> None:
    values = iter([0.0, math.nan, 0.2, math.nan, 0.5, 0.4, math.nan])  # the first goes to the trial
    args = TrainingArguments(
        tmp_path,
        num_train_epochs=10,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        Net(),
        args,
        train_dataset=make_rows(8),
        eval_dataset=make_rows(8),
        compute_metrics=lambda _: {"score": next(values)},
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    trainer.train()
    assert trainer.state.best_metric == 0.5
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    assert trainer.state.global_step == 6  # two evaluations after the best


class Pixels(nn.Module):
    """A convolution, whose weights may lie in memory in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": nn.functional.cross_entropy(self.convolution(x).mean((2, 3)), labels)}


def test_weights_are_saved_however_they_lie_in_memory(tmp_path: Path) -> None:
    model = Pixels().to(memory_format=torch.channels_last)
    rows = [{"x": torch.randn(3, 8, 8), "labels": 0} for _ in range(8)]
    args = TrainingArguments(tmp_path, max_steps=1, save_steps=1, disable_tqdm=True)
    Trainer(model, args, train_dataset=rows).train()
    saved = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
    torch.testing.assert_close(saved, dict(model.state_dict()), rtol=0, atol=0, check_stride=False)


class Remembering(Net):
    """Keeps something beside its weights."""

    def get_extra_state(self) -> Any:
        return {"seen": 1}

    def set_extra_state(self, state: Any) -> None:
        """Nothing."""


def test_what_no_checkpoint_can_hold_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model, rows = Remembering(), make_rows(8)
    before = model.outer.weight.clone()
    with pytest.raises(ConfigurationError, match=r"Remembering keeps '_extra_state' .* a dict, .* save_strategy='no'"):
        Trainer(model, TrainingArguments(tmp_path, disable_tqdm=True), train_dataset=rows).train()
    assert torch.equal(model.outer.weight, before)
    args = TrainingArguments(tmp_path, save_strategy="no", max_steps=1, disable_tqdm=True)
    assert Trainer(model, args, train_dataset=rows).train().global_step == 1


class Stopping(TrainerCallback):
    """Ends a run at its second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= state.global_step == 2


def test_a_run_that_a_callback_ended_goes_on_where_more_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = TrainingArguments(tmp_path, max_steps=4, disable_tqdm=True)

    def resume(**options: Any) -> int:
        args_now = TrainingArguments(tmp_path, disable_tqdm=True, **options)
        trainer = Trainer(Net(), args_now, train_dataset=make_rows(64), callbacks=[Stopping()])
        return trainer.train(resume_from_checkpoint=True).global_step

    Trainer(Net(), args, train_dataset=make_rows(64), callbacks=[Stopping()]).train()
    assert not caplog.messages
    assert resume(max_steps=4) == 2
    assert caplog.messages == ["Nothing is left to do after step 2: raise num_train_epochs or max_steps."]
    assert resume(max_steps=6) == 6
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("After step 2 the learning rate is 3.3")
