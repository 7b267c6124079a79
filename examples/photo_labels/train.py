"""Learn what is where from a part of each of scikit-learn's two photographs, and save model and processor together.

Usage: python train.py [--output FOLDER] [--steps 300] [--seed 0]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from regions import LABELS, Place, cut, load_photos, split
from tiles import predict
from torch import Tensor

from maquette import AutoModelForImageClassification, Trainer, TrainingArguments, ViTConfig, ViTImageProcessor

BATCH_SIZE = 64
LEARNING_RATE = 0.001  # at its highest


def build_model():
    """A ViT with 3 blocks of width 64, for tiles enlarged to 32 x 32 pixels; it knows its classes by name."""
    config = ViTConfig(
        image_size=32,
        patch_size=4,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    return AutoModelForImageClassification.from_config(config)


def vary(tiles: np.ndarray) -> np.ndarray:
    """Mirror every second tile, and change its light and its tint a little: what is in it stays the same."""
    each = (len(tiles), 1, 1)
    mirrored = np.where(np.random.random((*each, 1)) < 0.5, tiles, tiles[:, :, ::-1])
    light = np.random.uniform(0.85, 1.15, (*each, 1)) * np.random.uniform(0.95, 1.05, (*each, 3))
    return np.clip(mirrored * light + np.random.uniform(-8, 8, (*each, 1)), 0, 255).astype(np.uint8)


def train(model, processor: ViTImageProcessor, places: list[Place], folder: Path, options) -> list[float]:
    """Draw places so that every label is as frequent as any other; gives the mean loss of every ten steps."""
    photos, labels = load_photos(), torch.tensor([place.label for place in places])
    rows = torch.multinomial(1 / labels.bincount()[labels], options.steps * BATCH_SIZE, replacement=True)
    drawn = [places[row] for row in rows]

    def collate(batch: list[Place]) -> dict[str, Tensor]:
        labels = torch.tensor([place.label for place in batch])
        return {**processor(vary(cut(photos, batch)), return_tensors="pt"), "labels": labels}

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps)
    args = TrainingArguments(
        folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
    )
    trainer = Trainer(model, args, data_collator=collate, train_dataset=drawn, optimizers=(optimizer, schedule))
    trainer.train()
    model.cpu()
    return [entry["loss"] for entry in trainer.state.log_history]


def guess_by_colour(learnt: list[Place], held_out: list[Place]) -> np.ndarray:
    """Give for each tile the label whose tiles are nearest in mean colour: what needs no model."""
    photos = load_photos()
    colours = [cut(photos, places).mean((1, 2)) for places in (learnt, held_out)]  # (places, 3)
    numbers = np.array([place.label for place in learnt])
    means = np.stack([colours[0][numbers == number].mean(0) for number in range(len(LABELS))])
    return np.square(colours[1][:, None] - means).sum(2).argmin(1)


def report(labels: np.ndarray, predicted: np.ndarray, by_colour: np.ndarray) -> None:
    right = predicted == labels
    print(f"Held-out accuracy: {100 * right.mean():.1f} % ({right.sum()} of {len(labels)} tiles).")
    print(f"The nearest mean colour alone: {100 * (by_colour == labels).mean():.1f} %.")
    each = (f"{name} {right[labels == number].sum()}/{(labels == number).sum()}" for number, name in enumerate(LABELS))
    print(f"By label: {', '.join(each)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a ViT to tell what is where in two photographs.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    torch.manual_seed(options.seed)
    start = time.perf_counter()
    learnt, held_out = split()
    model, processor = build_model(), ViTImageProcessor(size=32)
    losses = train(model, processor, learnt, options.output / "training", options)
    seconds = time.perf_counter() - start

    tiles, labels = cut(load_photos(), held_out), np.array([place.label for place in held_out])
    logits = predict(model, processor, tiles)
    folder = options.output / "photo-labels"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    places = {"photos": [place.photo for place in held_out], "corners": [place[1:3] for place in held_out]}
    np.savez_compressed(options.output / "photo-labels.npz", tiles=tiles, labels=labels, logits=logits, **places)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"Trained {parameters:,} parameters on {len(learnt):,} places, {options.steps} steps in {seconds:.1f} s.")
    print(f"Loss: {losses[0]:.2f} in the first ten steps, {losses[-1]:.2f} in the last ones.")
    report(labels, logits.argmax(1), guess_by_colour(learnt, held_out))


if __name__ == "__main__":
    main()
