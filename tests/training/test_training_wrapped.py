"""Models that something was put around: what is saved is theirs; and models are left as they were found."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_models import Net, make_rows

from maquette import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

CONFIG = {"vocab_size": 32, "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 16}
ROWS = [{"input_ids": [1, 5 + n % 7, 9, 2], "attention_mask": [1] * 4, "label": n % 2} for n in range(32)]
SETTINGS = {"max_steps": 4, "save_steps": 2, "logging_steps": 1, "learning_rate": 0.01, "disable_tqdm": True}


def make_model() -> DistilBertForSequenceClassification:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return DistilBertForSequenceClassification(DistilBertConfig(**CONFIG))


class Seeing:
    """A compiler's backend that counts the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def test_a_compiled_model_is_saved_as_itself(tmp_path: Path) -> None:
    plain = Trainer(make_model(), TrainingArguments(tmp_path / "plain", **SETTINGS), train_dataset=ROWS)
    plain.train()
    options = {**SETTINGS, "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
    backend, model = Seeing(), make_model()
    compiled = torch.compile(model, backend=backend)
    trainer = Trainer(
        compiled, TrainingArguments(tmp_path / "out", **options), train_dataset=ROWS, eval_dataset=ROWS[:8]
    )
    assert trainer.model is model
    trainer.train()
    assert backend.graphs
    trainer.save_model(tmp_path / "final")
    names = plain.model.state_dict().keys()
    for folder in (tmp_path / "final", tmp_path / "out" / "checkpoint-2"):
        assert load_file(folder / "model.safetensors").keys() == names
        assert json.loads((folder / "config.json").read_text())["dim"] == 16
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == pytest.approx([entry["loss"] for entry in plain.state.log_history], rel=1e-5)
    loaded = DistilBertForSequenceClassification.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    again = Trainer(
        torch.compile(make_model(), backend="eager"),
        TrainingArguments(tmp_path / "out", **options),
        train_dataset=ROWS,
        eval_dataset=ROWS[:8],
    )
    again.train(resume_from_checkpoint=tmp_path / "out" / "checkpoint-2")
    assert again.state.log_history == trainer.state.log_history


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_weights_of_a_wrapped_model_are_saved_under_the_model_s_names(tmp_path: Path, prefix: str) -> None:
    model = make_model()
    model.save_pretrained(tmp_path, state_dict={prefix + name: value for name, value in model.state_dict().items()})
    loaded = DistilBertForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_compiled_model_saves_itself(tmp_path: Path) -> None:
    model = make_model()
    compiled = torch.compile(model, backend="eager")
    compiled.save_pretrained(tmp_path / "one")
    compiled.save_pretrained(tmp_path / "two", state_dict=compiled.state_dict())
    for folder in ("one", "two"):
        assert load_file(tmp_path / folder / "model.safetensors").keys() == model.state_dict().keys()


def test_the_trainer_distributes_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model()
    trainer = Trainer(nn.DataParallel(model), TrainingArguments(tmp_path, **SETTINGS), train_dataset=ROWS)
    assert caplog.messages == ["Trainer distributes a model itself: DataParallel around it is left out."]
    trainer.train()
    assert load_file(tmp_path / "checkpoint-2" / "model.safetensors").keys() == model.state_dict().keys()
    inside = torch.compile(nn.DataParallel(torch.compile(model, backend="eager")), backend="eager")
    assert Trainer(inside, TrainingArguments(tmp_path), train_dataset=ROWS).model is model


# A model is left as it was ------------------------------------------------------------------------------------------


class Halves(Net):
    """Notes the number types it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        self.seen.append(self.inner(x).dtype)
        return super().forward(x, labels)


class Stumbling(TrainerCallback):
    """Fails in the second step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True])
def test_no_automatic_mixed_precision_stays_behind(tmp_path: Path, fails: bool) -> None:
    model, rows = Halves(), make_rows(32)
    before = {**vars(model)}
    args = TrainingArguments(tmp_path, **SETTINGS, bf16=True)
    for _ in range(2):  # the second run computes in it as well
        trainer = Trainer(model, args, train_dataset=rows, callbacks=[Stumbling] if fails else [])
        if fails:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        else:
            trainer.train()
        assert {*model.seen} == {torch.bfloat16}
        model.seen.clear()
        assert vars(model).keys() == before.keys()
        assert model(torch.ones(1, 4))["logits"].dtype == torch.float32
        model.seen.clear()


@pytest.mark.parametrize("where", ["model", "metrics"])
def test_a_failing_evaluation_leaves_every_module_in_its_mode(tmp_path: Path, where: str) -> None:
    class Breaking(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            if where == "model" and not self.training:
                raise RuntimeError("broken")
            return super().forward(x, labels)

    def fail(_: Any) -> dict[str, float]:
        raise RuntimeError("broken")

    model, rows = Breaking(), make_rows(8)
    model.train()
    model.norm.eval()  # as a layer that is not to learn
    trainer = Trainer(model, TrainingArguments(tmp_path), eval_dataset=rows, compute_metrics=fail)
    with pytest.raises(RuntimeError, match="broken"):
        trainer.evaluate()
    assert [module.training for module in (model, model.inner, model.norm)] == [True, True, False]
