"""Train a Blueprint to name shapes that it has never seen at that place, size, angle and colour, and save it.

Usage: python train.py [--output FOLDER] [--steps 300] [--seed 0]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maquette import EvalPrediction, Trainer, TrainingArguments
from maquette.workshop.templates.vision.configuration import BlueprintConfig
from maquette.workshop.templates.vision.image_processing import BlueprintImageProcessor
from maquette.workshop.templates.vision.modeling import BlueprintForImageClassification

SHAPES = ["disc", "square", "triangle", "cross", "ring"]
SIDE = 32  # pixels of an image
BATCH_SIZE = 32
LEARNING_RATE = 3e-3  # at its highest

Row = dict[str, Any]


def draw(shape: int, random: np.random.Generator) -> np.ndarray:
    """Draw a shape somewhere in a noisy image, `(SIDE, SIDE, 3)`, bytes."""
    size, angle = random.uniform(6, 11), random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:SIDE, :SIDE] - random.uniform(size, SIDE - size, (2, 1, 1))
    x, y = (
        (columns * np.cos(angle) + rows * np.sin(angle)) / size,
        (rows * np.cos(angle) - columns * np.sin(angle)) / size,
    )
    radius = np.hypot(x, y)
    inside = [
        radius < 0.9,
        np.maximum(abs(x), abs(y)) < 0.75,
        (y > -0.5) & (y < 1 - 1.75 * abs(x)),
        (np.maximum(abs(x), abs(y)) < 1) & (np.minimum(abs(x), abs(y)) < 0.25),
        (radius < 1) & (radius > 0.6),
    ][shape]
    ground, colour = random.uniform(0, 100, 3), random.uniform(155, 255, 3)
    image = np.where(inside[..., None], colour, ground) + random.normal(0, 20, (SIDE, SIDE, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_rows(count: int, seed: int) -> list[Row]:
    """Draw images, each shape as often as any other."""
    random = np.random.default_rng(seed)
    return [{"image": draw(number % len(SHAPES), random), "labels": number % len(SHAPES)} for number in range(count)]


def measure(found: EvalPrediction) -> dict[str, float]:
    """Give the share of images whose shape is right."""
    return {"accuracy": float((np.argmax(found.predictions, axis=1) == found.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a Blueprint on images of shapes.")
    parser.add_argument("--output", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = draw_rows(3000, seed=1), draw_rows(300, seed=2)
    processor = BlueprintImageProcessor()
    model = BlueprintForImageClassification(BlueprintConfig(id2label=dict(enumerate(SHAPES))))

    def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
        pixels = processor([row["image"] for row in rows], return_tensors="pt")
        return {**pixels, "labels": torch.tensor([row["labels"] for row in rows])}

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    arguments = TrainingArguments(
        options.output / "training",
        max_steps=options.steps,
        per_device_train_batch_size=BATCH_SIZE,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model,
        arguments,
        data_collator=collate,
        train_dataset=learnt,
        eval_dataset=held_out,
        compute_metrics=measure,
        optimizers=(optimizer, schedule),
    )
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    after = trainer.evaluate()["eval_accuracy"]

    model.cpu().save_pretrained(options.output)
    processor.save_pretrained(options.output)
    print(f"Right of {len(held_out)} held-out images: {before:.1%} before, {after:.1%} after.")
    print(f"Saved in {options.output}.")


if __name__ == "__main__":
    main()
