"""Train a ResNet of your own on handwritten digits, and save it with its code.

Usage: python train.py [--output FOLDER] [--epochs 12] [--seed 0]
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from picture import draw_training
from resnet_model.configuration_resnet import ResnetConfig
from resnet_model.modeling_resnet import ResnetModel, ResnetModelForImageClassification
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from maquette import AutoConfig, AutoModel, AutoModelForImageClassification, Trainer, TrainingArguments

# AutoClasses find the model in this process ...
AutoConfig.register("custom_resnet", ResnetConfig)
AutoModel.register(ResnetConfig, ResnetModel)
AutoModelForImageClassification.register(ResnetConfig, ResnetModelForImageClassification)

# ... and, because saves carry the code, in every other one.
ResnetConfig.register_for_auto_class()
ResnetModel.register_for_auto_class("AutoModel")
ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")

BATCH_SIZE = 64
LEARNING_RATE = 0.001  # at its highest


def split_digits() -> list[Tensor]:
    """1,437 scans to train with and 360 to test with, the same ones every time; pixels from 0 (paper) to 1 (ink)."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)  # (1797, 1, 8, 8)
    parts = train_test_split(images, digits.target, test_size=0.2, stratify=digits.target, random_state=0)
    return [torch.from_numpy(part) for part in parts]


def build_model() -> ResnetModelForImageClassification:
    """A small ResNet-D: two stages of two blocks, on the 8x8 grid and then on 4x4."""
    config = ResnetConfig(
        block_type="basic",
        layers=[2, 2],
        num_classes=10,
        input_channels=1,
        stem_width=32,
        stem_type="deep",
        avg_down=True,
        small_images=True,
    )
    return AutoModelForImageClassification.from_config(config)


def augment(images: Tensor) -> Tensor:
    """Turn, stretch and move each image a little: up to 10 degrees, 10 % and half a pixel."""
    angle, stretch, across, down = torch.empty(4, len(images)).uniform_(-1, 1)
    angle, stretch, across, down = angle * math.radians(10), 1 + 0.1 * stretch, across / 8, down / 8
    cos, sin = stretch * angle.cos(), stretch * angle.sin()
    matrices = torch.stack([cos, -sin, across, sin, cos, down], dim=1).view(-1, 2, 3)
    grid = nn.functional.affine_grid(matrices, images.shape, align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


class VariedDigits(TensorDataset):
    """Digits that look a little different each time they are read."""

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        images, labels = self[rows]
        return list(zip(augment(images), labels, strict=True))


def train(model, parts: list[Tensor], folder: Path, *, epochs: int, seed: int) -> dict[str, list[float]]:
    """Give loss and accuracy after every epoch."""
    images, test_images, labels, test_labels = parts
    steps = math.ceil(len(images) / BATCH_SIZE)  # of an epoch
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    args = TrainingArguments(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=len(test_images),
        max_grad_norm=0.0,
        seed=seed,
        logging_steps=steps,
        eval_strategy="epoch",
        save_strategy="no",
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=VariedDigits(images, labels),
        eval_dataset=TensorDataset(test_images, test_labels),
        compute_metrics=lambda found: {"accuracy": (found.predictions.argmax(1) == found.label_ids).mean()},
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    model.cpu()
    names = {"loss": "loss", "test_loss": "eval_loss", "accuracy": "eval_accuracy"}
    return {name: [entry[key] for entry in trainer.state.log_history if key in entry] for name, key in names.items()}


@torch.no_grad()
def predict(model, images: Tensor) -> Tensor:
    return model.eval()(images)["logits"]


def main():
    parser = argparse.ArgumentParser(description="Train a ResNet on handwritten digits.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    parts = split_digits()
    images, test_images, _, test_labels = parts
    model = build_model()

    start = time.perf_counter()
    history = train(model, parts, options.output / "training", epochs=options.epochs, seed=options.seed)
    seconds = time.perf_counter() - start

    logits = predict(model, test_images)
    right = int((logits.argmax(1) == test_labels).sum())
    model.save_pretrained(options.output / "digits-resnet")
    np.savez(options.output / "predictions.npz", images=test_images, labels=test_labels, logits=logits)
    draw_training(options.output / "training.png", history, test_labels.numpy(), logits.argmax(1).numpy())

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"Trained {parameters:,} parameters on {len(images):,} digits, {options.epochs} epochs in {seconds:.1f} s.")
    print(f"Held-out accuracy: {100 * right / len(test_labels):.1f} % ({right} of {len(test_labels)} digits).")


if __name__ == "__main__":
    main()
