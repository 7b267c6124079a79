"""Adapters of peft on our models, trained, resumed and loaded: run in an environment that has peft.

    python peft_runs.py FOLDER

Prints, as JSON, what was seen of each case.
"""

import json
import sys
from pathlib import Path
from typing import Any

import peft  # type: ignore[import-not-found,unused-ignore]
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maquette import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

CONFIG = {"vocab_size": 40, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32}
ROWS = [{"input_ids": [1, 5 + n % 7, 9, 2], "attention_mask": [1] * 4, "label": n % 2} for n in range(32)]
SETTINGS = {"max_steps": 4, "save_steps": 2, "logging_steps": 1, "learning_rate": 0.01, "disable_tqdm": True}
SETTINGS |= {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
PROMPT = {"task_type": "SEQ_CLS", "num_virtual_tokens": 3, "num_layers": 2, "token_dim": 16, "num_attention_heads": 2}


class MeanConfig(PretrainedConfig):
    """A configuration of the user's own."""

    model_type = "mean-of-tokens"
    dim: int = 16
    vocab_size: int = 40


class Mean(PreTrainedModel):
    """A model of the user's own."""

    config_class = MeanConfig

    def __init__(self, config: MeanConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.proj, self.classifier = nn.Linear(config.dim, config.dim), nn.Linear(config.dim, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Tensor]:
        embedded = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        logits = self.classifier(self.proj(embedded).mean(1))
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.embed


def make_built_in() -> Any:
    torch.manual_seed(0)
    return DistilBertForSequenceClassification(DistilBertConfig(**CONFIG))


def make_own() -> Any:
    torch.manual_seed(0)
    return Mean(MeanConfig())


CASES: dict[str, Any] = {
    "lora": (make_built_in, lambda: peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"], lora_dropout=0.1)),
    "lora own": (make_own, lambda: peft.LoraConfig(target_modules=["proj"], modules_to_save=["classifier"])),
    "lora causal": (make_own, lambda: peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["proj"])),
    "ia3": (
        make_built_in,
        lambda: peft.IA3Config(task_type="SEQ_CLS", target_modules=["k_lin", "lin2"], feedforward_modules=["lin2"]),
    ),
    "prompt": (make_built_in, lambda: peft.PromptTuningConfig(**PROMPT)),
    "prompt own": (make_own, lambda: peft.PromptTuningConfig(**PROMPT)),
    "p-tuning": (make_built_in, lambda: peft.PromptEncoderConfig(**PROMPT, encoder_hidden_size=8)),
}
INPUTS = {"input_ids": torch.tensor([[1, 5, 9, 2]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}


def train(case: str, folder: Path, *, inside: bool, resume: Path | None = None) -> Trainer:
    make, configure = CASES[case]
    base = make()
    if inside:
        base.add_adapter(configure())
    model = base if inside else peft.get_peft_model(base, configure())
    trainer = Trainer(model, TrainingArguments(folder, **SETTINGS), train_dataset=ROWS, eval_dataset=ROWS[:8])
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def score(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(**INPUTS)["logits"]
    return found


def run(case: str, folder: Path, *, inside: bool) -> dict[str, Any]:
    make = CASES[case][0]
    whole = train(case, folder / "whole", inside=inside)
    checkpoint = folder / "whole" / "checkpoint-2"
    resumed = train(case, folder / "resumed", inside=inside, resume=checkpoint)
    state = whole.model.state_dict()
    whole.save_model(folder / "final")
    expected = score(whole.model)
    found: dict[str, Any] = {
        "resumes": resumed.state.log_history == whole.state.log_history,
        "same": all(torch.equal(value, state[name]) for name, value in resumed.model.state_dict().items()),
        "files": sorted(path.name for path in (folder / "final").iterdir()),
        "numbers": sum(value.numel() for value in load_file(checkpoint / "adapter_model.safetensors").values()),
        "all": sum(parameter.numel() for parameter in make().parameters()),
        "trained": not torch.equal(expected, score(make())),
        "peft": float((score(peft.PeftModel.from_pretrained(make(), str(folder / "final"))) - expected).abs().max()),
        "checkpoint": score(peft.PeftModel.from_pretrained(make(), str(checkpoint))).shape == expected.shape,
    }
    if case.startswith("lora"):
        found["inside"] = load_inside(make(), folder / "final", expected)
    return found


def load_inside(model: Any, folder: Path, expected: Tensor) -> dict[str, Any]:
    """Put a saved adapter into a model, switch it off and on, and take it out."""
    before, names = score(model), [*model.state_dict()]
    model.load_adapter(folder)
    found = {"loaded": float((score(model) - expected).abs().max()), "active": model.active_adapters()}
    model.disable_adapters()
    found["off"] = float((score(model) - before).abs().max())
    model.enable_adapters()
    found["on"] = float((score(model) - expected).abs().max())
    model.delete_adapter("default")
    found["out"] = float((score(model) - before).abs().max())
    found["names"] = [*model.state_dict()] == names
    return found


def ask(folder: Path) -> dict[str, Any]:
    """Do what peft does to models and configurations beside."""
    model = make_built_in()
    model.save_pretrained(folder / "base")
    model = DistilBertForSequenceClassification.from_pretrained(folder / "base")
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"]))
    adapted.save_pretrained(folder / "adapter")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(folder / "merged")
    again = DistilBertForSequenceClassification.from_pretrained(folder / "merged")
    errors = {}
    for name, call in {
        "twice": lambda: [again.add_adapter(CASES["lora"][1]()) for _ in range(2)],
        "prompt": lambda: make_built_in().add_adapter(CASES["prompt"][1]()),
        "none": lambda: make_built_in().set_adapter("x"),
        "nothing there": lambda: make_built_in().load_adapter(folder / "base"),
        "another model": lambda: make_own().load_adapter(folder / "adapter"),
        "unknown": lambda: again.set_adapter("other"),
    }.items():
        try:
            call()
        except Exception as error:
            errors[name] = f"{type(error).__name__}: {error}"
    again = DistilBertForSequenceClassification.from_pretrained(folder / "merged")
    return {
        "base": json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"],
        "merged": float((score(merged) - score(again)).abs().max()),
        "errors": errors,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = Path(sys.argv[1])
    seen: dict[str, Any] = {name: run(name, where / name, inside=False) for name in CASES}
    for name in ("lora", "lora own"):
        seen[f"{name}, inside"] = run(name, where / f"{name}-inside", inside=True)
    seen["asked"] = ask(where)
    print(json.dumps(seen))
