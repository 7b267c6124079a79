"""Arguments that are checked, schedules like the peer's, and which parameters decay."""

import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from maquette import (
    ConfigurationError,
    DataCollatorWithPadding,
    DistilBertTokenizer,
    InputError,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    UnknownFieldError,
    Wav2Vec2FeatureExtractor,
    default_data_collator,
)
from maquette.training.optimization import make_optimizer, make_schedule

# Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 1.0}, r"no argument 'learning_rat'. Did you mean 'learning_rate'"),
        ({"num_epochs": 3}, r"no argument 'num_epochs'"),
        ({"warmup_ratio": 0.1}, r"'warmup_ratio'. warmup_steps below 1 is a share"),
        ({"evaluation_strategy": "no"}, r"It is called eval_strategy"),
        ({"adam_beta2": 0.9}, r"Pass Trainer\(optimizers="),
    ],
)
def test_an_unknown_argument_is_an_error_that_knows_better(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownFieldError, match=message):
        TrainingArguments(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate: Expected float"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
        ({"num_train_epochs": -1}, "num_train_epochs"),
        ({"max_steps": 0}, "max_steps: is 0"),
        ({"eval_strategy": "step"}, "eval_strategy: .*Did you mean 'steps'"),
        ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type: .*Did you mean 'cosine'"),
        ({"bf16": True, "fp16": True}, "exclude each other"),
        ({"warmup_steps": 10, "lr_scheduler_type": "constant"}, "use 'constant_with_warmup'"),
        ({"load_best_model_at_end": True}, "without evaluation there is no best"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "no"}, "set it to 'best'"),
        ({"logging_steps": 0, "seed": -1}, "(?s)logging_steps.*seed"),
    ],
)
def test_wrong_values_are_said_all_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingArguments(**given)


def test_arguments_are_checked_when_they_change_and_compare_by_value(tmp_path: Path) -> None:
    args = TrainingArguments(tmp_path, learning_rate=1, report_to="none")
    assert (args.output_dir, args.learning_rate, args.report_to) == (str(tmp_path), 1.0, [])
    args.learning_rate = 0.5
    with pytest.raises(UnknownFieldError, match=r"'learning_rte'. Did you mean 'learning_rate'"):
        args.learning_rte = 0.1
    with pytest.raises(ConfigurationError, match="learning_rate: Expected float"):
        args.learning_rate = "x"
    assert args.to_dict()["learning_rate"] == 0.5
    assert json.loads(json.dumps(args.to_dict())) == args.to_dict()
    assert TrainingArguments(**args.to_dict()) == args != TrainingArguments(tmp_path)
    assert repr(TrainingArguments("a", seed=3)) == "TrainingArguments(output_dir='a', seed=3)"
    args.report_to.append("wandb")
    assert TrainingArguments().report_to == []


def test_there_are_about_as_many_arguments_as_a_page_holds() -> None:
    assert len(TrainingArguments().to_dict()) <= 36


def test_the_page_on_arguments_names_them_all_with_their_defaults() -> None:
    """What the page leaves out does not exist: every argument of both classes, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "trainer_arguments.md").read_text(encoding="utf-8")
    trainer, arguments, written, elsewhere = page.split("\n## ")[1:]
    own = Seq2SeqTrainingArguments.defaults().keys() - TrainingArguments.defaults().keys()
    assert own == {*re.findall(r"^\| `(\w+)`", written, re.M)}
    rows = {name: line for line in arguments.splitlines() for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    defaults = TrainingArguments.defaults()
    assert rows.keys() - {"TrainingArguments"} == defaults.keys()
    for name, line in rows.items():
        if name in defaults:
            assert ast.literal_eval(line.split(" | ")[1].strip("`")) == defaults[name], name
    named = [re.findall(r"`(\w+)`", line.split(" | ")[0]) for line in trainer.splitlines() if line.startswith("| `")]
    assert [name for line in named for name in line] == [*inspect.signature(Trainer).parameters]
    for name in re.findall(r"`(\w+)`", " ".join(line.split(" | ")[0] for line in elsewhere.splitlines())):
        with pytest.raises(UnknownFieldError, match=name) as caught:
            TrainingArguments(**{name: 1})
        assert "Did you mean" not in str(caught.value), name


def test_which_metrics_are_better_when_greater() -> None:
    for name, greater in {"loss": False, "eval_loss": False, "accuracy": True, "wer": False, "f1": True}.items():
        assert TrainingArguments(metric_for_best_model=name).best_is_greater is greater
    assert TrainingArguments(metric_for_best_model="depth", greater_is_better=False).best_is_greater is False


# Schedules and the optimizer ---------------------------------------------------------------------------------------

CASES = [
    {"lr_scheduler_type": kind, "warmup_steps": warm, "learning_rate": 0.01}
    for kind in ("linear", "cosine", "polynomial", "constant_with_warmup", "inverse_sqrt")
    for warm in (0, 7, 0.25)
]
PEER = """
import json, sys, warnings
import torch
from transformers import get_scheduler
found = []
for case in json.loads(sys.argv[1]):
    warm = case["warmup_steps"]
    warm = int(warm) if warm >= 1 else -int(-warm * 30 // 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=case["learning_rate"])
    schedule = get_scheduler(case["lr_scheduler_type"], optimizer, num_warmup_steps=warm, num_training_steps=30)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    found.append(rates)
print(json.dumps(found))
"""


def rates_of(case: dict[str, Any]) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=case["learning_rate"])
    schedule = make_schedule(optimizer, TrainingArguments(**case), steps=30)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_schedules_are_the_peers(run_peer: Callable[..., str]) -> None:
    printed = run_peer(PEER, json.dumps(CASES))
    for case, expected in zip(CASES, json.loads(printed.splitlines()[-1]), strict=True):
        assert rates_of(case) == pytest.approx(expected, rel=1e-9, abs=1e-12), case


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_schedules_are_torchs(kind: str) -> None:
    """The same from torch's own schedulers: a rise, then a line or half a cosine."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    schedulers = torch.optim.lr_scheduler
    rise = schedulers.LinearLR(optimizer, 1e-9, 1.0, total_iters=6)
    fall = {"linear": lambda: schedulers.LinearLR(optimizer, 1.0, 0.0, total_iters=24),
            "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, 24)}[kind]()  # fmt: skip
    both = schedulers.SequentialLR(optimizer, [rise, fall], milestones=[6])
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    found = rates_of({"lr_scheduler_type": kind, "warmup_steps": 6, "learning_rate": 0.01})
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-10)


def test_norms_biases_and_vectors_do_not_decay() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm, self.batch = nn.Linear(3, 3), nn.LayerNorm((2, 3)), nn.BatchNorm2d(3)
            self.words, self.scale, self.frozen = nn.Embedding(4, 3), nn.Parameter(torch.ones(3)), nn.Linear(2, 2)
            self.frozen.requires_grad_(False)

    model = Mixed()
    optimizer = make_optimizer(model, TrainingArguments(weight_decay=0.3, learning_rate=0.2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {
        **dict.fromkeys(("linear.weight", "words.weight"), 0.3),
        **dict.fromkeys(("linear.bias", "norm.weight", "norm.bias", "batch.weight", "batch.bias", "scale"), 0.0),
    }
    assert {group["lr"] for group in optimizer.param_groups} == {0.2}
    model.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="nothing to train"):
        make_optimizer(model, TrainingArguments())


# Collators ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokenizer(tmp_path: Path) -> DistilBertTokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue"]))
    return DistilBertTokenizer(tmp_path / "vocab.txt")


def test_rows_are_stacked(tokenizer: DistilBertTokenizer) -> None:
    batch = default_data_collator([{"x": [1.5, 2], "label": 1, "name": "a"}, {"x": [3.0, 4], "label": 0, "name": "b"}])
    assert batch["x"].dtype == torch.float32
    assert batch["x"].tolist() == [[1.5, 2], [3, 4]]
    assert (batch["labels"].dtype, batch["labels"].tolist(), batch["name"]) == (torch.int64, [1, 0], ["a", "b"])
    assert default_data_collator([{"label_ids": 0.5}])["labels"].dtype == torch.float32
    with pytest.raises(InputError, match=r"'x' has values of different shapes"):
        default_data_collator([{"x": [1]}, {"x": [1, 2]}])


@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_and_their_labels_are_padded(tokenizer: DistilBertTokenizer, side: str) -> None:
    tokenizer.padding_side = side
    rows = [{**tokenizer(text), "labels": [*range(len(tokenizer(text).input_ids))]} for text in ("red", "red blue red")]
    batch = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)(rows)
    padding = slice(3, None) if side == "right" else slice(None, 5)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape == (2, 8)
    assert (batch["labels"][0, padding] == -100).all()
    assert (batch["attention_mask"][0, padding] == 0).all()
    assert (batch["labels"][0] != -100).tolist() == (batch["attention_mask"][0] == 1).tolist()
    one = DataCollatorWithPadding(tokenizer)([{**tokenizer("red"), "label": 1}, {**tokenizer("red blue"), "label": 0}])
    assert one["labels"].tolist() == [1, 0]
    with pytest.raises(InputError, match=r"nothing that DistilBertTokenizer pads in rows with text"):
        DataCollatorWithPadding(tokenizer)([{"text": "red"}])


def test_sounds_and_their_transcripts_are_padded() -> None:
    rows = [{"input_values": [0.5] * n, "labels": [3] * letters} for n, letters in ((5, 4), (9, 2))]
    batch = DataCollatorWithPadding(Wav2Vec2FeatureExtractor(return_attention_mask=True))(rows)
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 9)
    assert batch["labels"].tolist() == [[3, 3, 3, 3], [3, 3, -100, -100]]


def test_the_trainer_takes_the_tokenizers_collator(tokenizer: DistilBertTokenizer) -> None:
    for name in ("processing_class", "tokenizer"):
        trainer = Trainer(nn.Linear(2, 2), TrainingArguments(), **{name: tokenizer})
        assert isinstance(trainer.data_collator, DataCollatorWithPadding)
        assert trainer.processing_class is tokenizer
    assert Trainer(nn.Linear(2, 2)).data_collator is default_data_collator
