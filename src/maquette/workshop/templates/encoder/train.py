"""Train a Blueprint to tell code, comments and docstrings of the standard library apart, and save it.

Usage: python train.py [--output FOLDER] [--steps 200] [--seed 0]
"""

import argparse
import ast
import os
import random
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from maquette import EvalPrediction, Trainer, TrainingArguments
from maquette.workshop.templates.encoder.configuration import BlueprintConfig
from maquette.workshop.templates.encoder.modeling import BlueprintForSequenceClassification
from maquette.workshop.templates.encoder.tokenization import BlueprintTokenizerFast

KINDS = ["code", "comment", "docstring"]
BATCH_SIZE = 32
LEARNING_RATE = 3e-3  # at its highest
MODULES = 60  # of the standard library, every fifth of which is held out
VOCABULARY = 800

Line = tuple[str, int]  # a text, and the number of its kind


def read_module(path: Path) -> Iterator[Line]:
    """Give the lines of a module: code as it stands, the text of comments, the first lines of docstrings."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            yield token.string.strip("# "), KINDS.index("comment")
        elif token.type == tokenize.NEWLINE and not token.line.lstrip().startswith(("'", '"', "#")):
            yield token.line.partition("#")[0].strip(), KINDS.index("code")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield text.partition("\n")[0], KINDS.index("docstring")


def load_lines() -> tuple[list[Line], list[Line]]:
    """Give lines to learn from, and those of every fifth module, which are held out; each kind is as frequent."""
    learnt: list[list[Line]] = [[] for _ in KINDS]
    held_out: list[list[Line]] = [[] for _ in KINDS]
    for number, path in enumerate(sorted(Path(os.__file__).parent.glob("*.py"))[:MODULES]):
        for text, kind in read_module(path):
            if 20 <= len(text) <= 120:
                (held_out if number % 5 == 4 else learnt)[kind].append((text, kind))
    draw = random.Random(0)
    parts = []
    for kinds in (learnt, held_out):
        fewest = min(map(len, kinds))
        parts.append([line for lines in kinds for line in draw.sample(lines, fewest)])
    return parts[0], parts[1]


def measure(found: EvalPrediction) -> dict[str, float]:
    """Give the share of lines whose kind is right."""
    return {"accuracy": float((np.argmax(found.predictions, axis=1) == found.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a Blueprint on lines of the standard library.")
    parser.add_argument("--output", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = load_lines()
    tokenizer = BlueprintTokenizerFast.learn([text for text, _ in learnt], VOCABULARY)
    rows, others = (
        [{"input_ids": tokenizer(text)["input_ids"], "labels": kind} for text, kind in lines]
        for lines in (learnt, held_out)
    )
    model = BlueprintForSequenceClassification(
        BlueprintConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, id2label=dict(enumerate(KINDS)))
    )

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
    trainer = Trainer(
        model,
        arguments,
        processing_class=tokenizer,
        train_dataset=rows,
        eval_dataset=others,
        compute_metrics=measure,
        optimizers=(optimizer, schedule),
    )
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    after = trainer.evaluate()["eval_accuracy"]

    model.cpu().save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"Right of {len(others)} held-out lines: {before:.1%} before, {after:.1%} after.")
    print(f"Saved in {options.output}.")


if __name__ == "__main__":
    main()
