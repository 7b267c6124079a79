"""One process of several: trains as a test asks and writes what came of it.

    python training_processes.py FOLDER CASE

RANK, WORLD_SIZE and the address come from the environment, as a launcher sets them.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from training_models import Net, Tagger, make_rows, make_tagged

from maquette import DistilBertConfig, DistilBertForSequenceClassification, Trainer, TrainingArguments

CONFIG = {"vocab_size": 32, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 16}
CONFIG |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}


def make_model(case: str) -> Any:
    if case.startswith("sharded"):
        return DistilBertForSequenceClassification(DistilBertConfig(**CONFIG))
    return Tagger() if case == "tokens" else Net()


def make_data(case: str) -> list[Any]:
    if case.startswith("sharded"):
        return [{"input_ids": [1, 5 + n % 7, 9, 2], "attention_mask": [1] * 4, "label": n % 2} for n in range(26)]
    return make_tagged(27) if case == "tokens" else make_rows(25)  # neither divides evenly


def accuracy(prediction: Any) -> dict[str, float]:
    labels = prediction.label_ids
    return {"accuracy": (prediction.predictions.argmax(-1) == labels)[labels != -100].mean(), "count": len(labels)}


def train(folder: Path, case: str, *, rows: int, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    model = make_model(case)
    if case.startswith("sharded") and torch.distributed.is_initialized():
        shard(model)
    args = TrainingArguments(
        folder, per_device_train_batch_size=rows, per_device_eval_batch_size=rows, num_train_epochs=3, logging_steps=1,
        eval_strategy="epoch", save_steps=4, learning_rate=0.01, gradient_accumulation_steps=2, disable_tqdm=True,
        load_best_model_at_end=case == "sharded best",
    )  # fmt: skip
    data = make_data(case)
    trainer = Trainer(model, args, train_dataset=data, eval_dataset=data[:7], compute_metrics=accuracy)
    trainer.train(resume_from_checkpoint=folder / "checkpoint-4" if resume else None)
    return trainer


def shard(model: Any) -> None:
    """Divide a model among processes, as torch does it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for layer in model.distilbert.transformer.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def main(folder: Path, case: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    resume = case.endswith("resumed")
    trainer = train(folder, case, rows=2, resume=resume)
    trainer.save_model(folder / "final")
    output = trainer.predict(make_data(case)[:7])
    if os.environ["RANK"] == "0":
        found = {"log": trainer.state.log_history, "predictions": output.predictions.tolist()}
        (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo sometimes abort an interpreter that ends in order


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
