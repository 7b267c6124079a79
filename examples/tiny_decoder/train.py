"""Train a decoder of one's own on what Python says about itself, and save it with its code and its tokenizer.

Usage: python train.py [--output FOLDER] [--steps 500] [--seed 0]
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from modeling_echo import EchoConfig, EchoForCausalLM
from texts import load_paragraphs, train_tokenizer

from maquette import GenerationConfig, Trainer, TrainingArguments

BATCH_SIZE = 16
LEARNING_RATE = 3e-3  # at its highest


def encode(tokenizer, paragraphs: list[str]) -> list[dict[str, list[int]]]:
    """Give the ids of each paragraph, and of its end."""
    return [{"input_ids": [*ids, tokenizer.eos_token_id]} for ids in tokenizer(paragraphs)["input_ids"]]


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad on the right; the model leaves padding out of the computation."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return {"input_ids": padded, "attention_mask": mask, "labels": padded.masked_fill(mask == 0, -100)}


@torch.no_grad()
def measure(model, rows: list[dict[str, list[int]]]) -> float:
    """Give the bits that a token of the held-out paragraphs costs, in the mean."""
    total, count = 0.0, 0
    for start in range(0, len(rows), 32):
        batch = collate(rows[start : start + 32])
        labels = int((batch["labels"][:, 1:] != -100).sum())
        total += float(model(**batch).loss) * labels
        count += labels
    return total / count / math.log(2)


def train(model, rows, folder: Path, options) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    args = TrainingArguments(
        folder,
        max_steps=options.steps,
        per_device_train_batch_size=BATCH_SIZE,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
    )
    trainer = Trainer(model, args, data_collator=collate, train_dataset=rows, optimizers=(optimizer, schedule))
    trainer.train()
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a decoder on Python's help topics.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-echo", action="store_true", help="the same model, which hears no echo")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = load_paragraphs()
    tokenizer = train_tokenizer(learnt)
    config = EchoConfig(
        vocab_size=len(tokenizer),
        echoes=not options.without_echo,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = EchoForCausalLM(config)
    start = time.perf_counter()
    log = train(model, encode(tokenizer, learnt), options.output / "training", options)
    seconds = time.perf_counter() - start
    model.eval()
    bits = measure(model, encode(tokenizer, held_out))
    letters = sum(map(len, held_out)) / sum(len(row["input_ids"]) for row in encode(tokenizer, held_out))

    model.generation_config = GenerationConfig(max_new_tokens=80, eos_token_id=config.eos_token_id)
    EchoForCausalLM.register_for_auto_class("AutoModelForCausalLM")
    folder = options.output / "echo"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (options.output / "echo-log.json").write_text(json.dumps({"log": log, "bits": bits}), encoding="utf-8")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"Trained {count:,} parameters on {len(learnt):,} paragraphs, {options.steps} steps in {seconds:.0f} s.")
    print(
        f"Held out: {len(held_out)} paragraphs, perplexity {2**bits:.1f} a token ({bits / letters:.2f} bits a letter)."
    )


if __name__ == "__main__":
    main()
