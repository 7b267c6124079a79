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
from tqdm import tqdm

from maquette import AutoConfig, AutoModel, AutoModelForImageClassification

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


def train(model, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, epochs: int) -> dict:
    """A plain training loop; gives loss and accuracy after every epoch."""
    steps = math.ceil(len(images) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    history = {"loss": [], "test_loss": [], "accuracy": []}
    with tqdm(total=epochs * steps, desc="Training", unit="batch", disable=None) as bar:
        for _ in range(epochs):
            model.train()
            total = 0.0
            for batch in torch.randperm(len(images)).split(BATCH_SIZE):
                loss = model(augment(images[batch]), labels=labels[batch])["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
                bar.update()
            logits = predict(model, test_images)
            history["loss"].append(total / len(images))
            history["test_loss"].append(nn.functional.cross_entropy(logits, test_labels).item())
            history["accuracy"].append((logits.argmax(1) == test_labels).double().mean().item())
            bar.set_postfix_str(f"held-out accuracy {100 * history['accuracy'][-1]:.1f} %")
    return history


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
    images, test_images, labels, test_labels = split_digits()
    model = build_model()

    start = time.perf_counter()
    history = train(model, images, labels, test_images, test_labels, options.epochs)
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
