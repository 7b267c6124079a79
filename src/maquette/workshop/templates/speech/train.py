"""Train a Blueprint to tell vowels apart, of voices that it has never heard, and save it.

Usage: python train.py [--output FOLDER] [--steps 150] [--seed 0]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maquette import EvalPrediction, Trainer, TrainingArguments
from maquette.workshop.templates.speech.configuration import BlueprintConfig
from maquette.workshop.templates.speech.feature_extraction import BlueprintFeatureExtractor
from maquette.workshop.templates.speech.modeling import BlueprintForAudioClassification

# The first three formants of a vowel, in hertz (Peterson and Barney 1952, men).
VOWELS = {
    "i": (270, 2290, 3010),
    "e": (530, 1840, 2480),
    "a": (730, 1090, 2440),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
WIDTH = 90  # of a formant, in hertz
RATE = 8000  # samples a second
BATCH_SIZE = 32
LEARNING_RATE = 3e-3  # at its highest

Row = dict[str, Any]


def speak(vowel: str, random: np.random.Generator) -> np.ndarray:
    """Give a vowel as some voice says it: harmonics of its pitch, made louder by the formants, and noise."""
    seconds, pitch, size = random.uniform(0.15, 0.4), random.uniform(80, 260), random.uniform(0.9, 1.2)
    times = np.arange(int(RATE * seconds)) / RATE
    harmonics = pitch * np.arange(1, int(RATE / 2 / pitch))
    formants = size * np.array(VOWELS[vowel])[:, None]
    gains = (1 / (1 + ((harmonics - formants) / WIDTH) ** 2)).sum(0)
    phases = random.uniform(0, 2 * np.pi, len(harmonics))
    sound = (gains * np.sin(2 * np.pi * times[:, None] * harmonics + phases)).sum(1)
    return (sound / sound.std() + random.normal(0, 0.3, len(times))).astype(np.float32)


def speak_rows(count: int, seed: int) -> list[Row]:
    """Give sounds, each vowel as often as any other."""
    random = np.random.default_rng(seed)
    names = list(VOWELS)
    return [{"sound": speak(names[n % len(names)], random), "labels": n % len(names)} for n in range(count)]


def measure(found: EvalPrediction) -> dict[str, float]:
    """Give the share of sounds whose vowel is right."""
    return {"accuracy": float((np.argmax(found.predictions, axis=1) == found.label_ids).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a Blueprint on vowels.")
    parser.add_argument("--output", type=Path, default=Path("trained"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    learnt, held_out = speak_rows(1500, seed=1), speak_rows(300, seed=2)
    extractor = BlueprintFeatureExtractor(sampling_rate=RATE)
    model = BlueprintForAudioClassification(BlueprintConfig(id2label=dict(enumerate(VOWELS))))

    def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
        heard = extractor([row["sound"] for row in rows], padding=True, return_tensors="pt")
        return {**heard, "labels": torch.tensor([row["labels"] for row in rows])}

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
    extractor.save_pretrained(options.output)
    print(f"Right of {len(held_out)} held-out sounds: {before:.1%} before, {after:.1%} after.")
    print(f"Saved in {options.output}.")


if __name__ == "__main__":
    main()
