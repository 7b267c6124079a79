"""Train a Blueprint on what Python says about itself, and save it with its tokenizer.

Usage: python train.py [--output FOLDER] [--steps 200] [--seed 0]
"""

import argparse
import math
import re
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch

from maquette import GenerationConfig, Trainer, TrainingArguments
from maquette.workshop.templates.decoder.configuration import BlueprintConfig
from maquette.workshop.templates.decoder.modeling import BlueprintForCausalLM
from maquette.workshop.templates.decoder.tokenization import BlueprintTokenizerFast

BATCH_SIZE = 16
LEARNING_RATE = 3e-3  # at its highest
LONGEST = 600  # letters of a paragraph; longer ones are left out
VOCABULARY = 1000

Row = dict[str, list[int]]


def load_paragraphs() -> tuple[list[str], list[str]]:
    """Give paragraphs of Python's help to learn from, and those of every eighth topic, which are held out."""
    learnt: list[str] = []
    held_out: list[str] = []
    seen: set[str] = set()
    for number, name in enumerate(sorted(topics)):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(paragraph.split())
            if 40 <= len(text) <= LONGEST and text not in seen:  # topics share some paragraphs
                seen.add(text)
                (held_out if number % 8 == 7 else learnt).append(text)
    return learnt, held_out


def encode(tokenizer: BlueprintTokenizerFast, paragraphs: list[str]) -> list[Row]:
    """Give the ids of each paragraph, and of its end."""
    return [{"input_ids": [*ids, tokenizer.eos_token_id]} for ids in tokenizer(paragraphs)["input_ids"]]


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Pad on the right; the model leaves padding out of the computation."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return {"input_ids": padded, "attention_mask": mask, "labels": padded.masked_fill(mask == 0, -100)}


@torch.no_grad()
def measure(model: Any, rows: list[Row]) -> float:
    """Give the perplexity of a token, in the mean over rows."""
    total, count = 0.0, 0
    for start in range(0, len(rows), 32):
        batch = collate(rows[start : start + 32])
        labels = int((batch["labels"][:, 1:] != -100).sum())
        total += float(model.eval()(**batch).loss) * labels
        count += labels
    return math.exp(total / count)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a Blueprint on Python's help topics.")
    parser.add_argument("--output", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = load_paragraphs()
    tokenizer = BlueprintTokenizerFast.learn(learnt, VOCABULARY)
    config = BlueprintConfig(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model = BlueprintForCausalLM(config)
    rows, others = encode(tokenizer, learnt), encode(tokenizer, held_out)
    before = measure(model, others)

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    arguments = TrainingArguments(
        options.output / "training",
        max_steps=options.steps,
        per_device_train_batch_size=BATCH_SIZE,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
    )
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows, optimizers=(optimizer, schedule))
    trainer.train()

    model.generation_config = GenerationConfig(max_new_tokens=40, eos_token_id=config.eos_token_id)
    model.cpu().save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"Perplexity on {len(others)} held-out paragraphs: {before:.0f} before, {measure(model, others):.0f} after.")
    prompt = tokenizer(["The with statement"], return_tensors="pt")
    ids = model.generate(**prompt, do_sample=True, temperature=0.7, seed=1)
    print(tokenizer.decode(ids[0], skip_special_tokens=True))
    print(f"Saved in {options.output}.")


if __name__ == "__main__":
    main()
