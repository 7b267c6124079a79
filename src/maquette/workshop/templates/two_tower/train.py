"""Train a Blueprint on pictures and what they show, and have it name pictures of what it has never seen together.

A picture shows a shape of some colour, and its text says so in one of several ways. No shape is of every colour in what
is learnt: what was left out is held out, and the right text is one of those of all 30 scenes.

Usage: python train.py [--output FOLDER] [--steps 500] [--seed 0]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maquette import Trainer, TrainingArguments
from maquette.workshop.templates.two_tower.configuration import BlueprintConfig
from maquette.workshop.templates.two_tower.image_processing import BlueprintImageProcessor
from maquette.workshop.templates.two_tower.modeling import BlueprintModel
from maquette.workshop.templates.two_tower.processing import BlueprintProcessor
from maquette.workshop.templates.two_tower.tokenization import BlueprintTokenizerFast

SHAPES = ["disc", "square", "triangle", "cross", "ring"]
COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 70, 210),
    "yellow": (225, 205, 50),
    "white": (235, 235, 235),
    "black": (25, 25, 25),
}
WORDINGS = ["a {colour} {shape}", "this {shape} is {colour}", "what you see is a {shape}, and it is {colour}"]
SIDE = 32  # pixels of an image
LEARNING_RATE = 3e-3  # at its highest
VOCABULARY = 300

Scene = dict[str, str]  # a shape and its colour
Row = dict[str, Any]  # a picture of every scene, and what is said of it


def list_scenes() -> tuple[list[Scene], list[Scene]]:
    """Give the scenes to learn from, and those that are held out, one colour of each shape."""
    learnt: list[Scene] = []
    held_out: list[Scene] = []
    for number, shape in enumerate(SHAPES):
        for place, colour in enumerate(COLOURS):
            (held_out if number == place else learnt).append({"shape": shape, "colour": colour})
    return learnt, held_out


def draw(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Draw a shape somewhere in a noisy image, `(SIDE, SIDE, 3)`, bytes."""
    size, angle = random.uniform(8, 12), random.uniform(-0.4, 0.4)
    rows, columns = np.mgrid[:SIDE, :SIDE] - random.uniform(size, SIDE - size, (2, 1, 1))
    x, y = (
        (columns * np.cos(angle) + rows * np.sin(angle)) / size,
        (rows * np.cos(angle) - columns * np.sin(angle)) / size,
    )
    radius = np.hypot(x, y)
    inside = {
        "disc": radius < 0.9,
        "square": np.maximum(abs(x), abs(y)) < 0.75,
        "triangle": (y > -0.5) & (y < 1 - 1.75 * abs(x)),
        "cross": (np.maximum(abs(x), abs(y)) < 1) & (np.minimum(abs(x), abs(y)) < 0.25),
        "ring": (radius < 1) & (radius > 0.6),
    }[scene["shape"]]
    image = np.where(inside[..., None], COLOURS[scene["colour"]], random.uniform(80, 170))
    return np.clip(image + random.normal(0, 12, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)


def draw_rows(scenes: list[Scene], count: int, seed: int) -> list[Row]:
    """Draw all scenes `count` times; a row has each once, so that a text fits one picture of it alone."""
    random = np.random.default_rng(seed)
    return [
        {
            "images": [draw(scene, random) for scene in scenes],
            "texts": [random.choice(WORDINGS).format(**scene) for scene in scenes],
        }
        for _ in range(count)
    ]


@torch.no_grad()
def measure(model: Any, processor: BlueprintProcessor, rows: list[Row]) -> float:
    """Give the share of held-out pictures whose text is found among those of all scenes."""
    learnt, held_out = list_scenes()
    texts = [WORDINGS[0].format(**scene) for scene in [*held_out, *learnt]]  # the first of them belong to the pictures
    right = []
    for row in rows:
        inputs = processor(text=texts, images=row["images"], padding=True, return_tensors="pt")
        found = model.eval()(**inputs).logits_per_image.argmax(1)
        right += (found == torch.arange(len(held_out))).tolist()
    return sum(right) / len(right)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a Blueprint on pictures and what they show.")
    parser.add_argument("--output", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = list_scenes()
    rows, others = draw_rows(learnt, 120, seed=1), draw_rows(held_out, 60, seed=2)
    tokenizer = BlueprintTokenizerFast.learn([text for row in rows for text in row["texts"]], VOCABULARY)
    processor = BlueprintProcessor(BlueprintImageProcessor(), tokenizer)
    model = BlueprintModel(BlueprintConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id))

    def collate(rows: list[Row]) -> dict[str, Any]:
        (row,) = rows
        texts, images = row["texts"], row["images"]
        return {**processor(text=texts, images=images, padding=True, return_tensors="pt"), "return_loss": True}

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    arguments = TrainingArguments(
        options.output / "training",
        max_steps=options.steps,
        per_device_train_batch_size=1,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
        remove_unused_columns=False,
    )
    before = measure(model, processor, others)
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=rows, optimizers=(optimizer, schedule))
    trainer.train()

    model.cpu().save_pretrained(options.output)
    processor.save_pretrained(options.output)
    after = measure(model, processor, others)
    count = sum(len(row["images"]) for row in others)
    print(f"Right of {count} pictures of scenes never seen, among 30 texts: {before:.1%} before, {after:.1%} after.")
    print(f"Saved in {options.output}.")


if __name__ == "__main__":
    main()
