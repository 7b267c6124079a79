"""Learn to write which digits are in a picture, and save the model with its code and its tokenizer.

Usage: python train.py [--output FOLDER] [--steps 600] [--seed 0]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from modeling_captioner import Captioner, CaptionerConfig, TowerConfig
from pictures import WORDS, draw, load_scans, make_tokenizer

from maquette import GPT2Config, Trainer, TrainingArguments

BATCH_SIZE, LEARNING_RATE = 32, 0.004


def build_model() -> Captioner:
    """A tower of 64 channels, and a GPT-2 of two blocks, 48 wide."""
    size = {"n_positions": 8, "n_embd": 48, "n_layer": 2, "n_head": 4, "initializer_range": 0.1}
    steady = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    decoder = GPT2Config(vocab_size=len(WORDS), bos_token_id=1, eos_token_id=2, **size, **steady)
    return Captioner(CaptionerConfig(encoder=TowerConfig(), decoder=decoder, decoder_start_token_id=1, pad_token_id=0))


def train(model: Captioner, tokenizer, folder: Path, *, steps: int, seed: int) -> list[float]:
    """Learn from pictures that are composed anew for every step; gives the mean loss of every fifty."""
    scans, rng = load_scans(held_out=False), np.random.default_rng(seed)

    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        pictures, captions = draw(*scans, len(rows), rng)
        ids = tokenizer([f"{caption} [END]" for caption in captions], padding=True, return_tensors="pt")
        labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
        return {"pixel_values": torch.from_numpy(pictures), "labels": labels}

    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    args = TrainingArguments(
        folder, max_steps=steps, per_device_train_batch_size=BATCH_SIZE, seed=seed, logging_steps=50, save_strategy="no"
    )
    rows = list(range(steps * BATCH_SIZE))
    trainer = Trainer(model, args, data_collator=collate, train_dataset=rows, optimizers=(optimizer, schedule))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def write(model: Captioner, tokenizer, pictures: np.ndarray) -> list[str]:
    """Give a caption for each picture."""
    ids = model.generate(torch.from_numpy(pictures), max_new_tokens=6, do_sample=False)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a captioner of digits.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    torch.manual_seed(options.seed)
    start, model, tokenizer = time.process_time(), build_model(), make_tokenizer()
    losses = train(model, tokenizer, options.output / "training", steps=options.steps, seed=options.seed)
    seconds = time.process_time() - start

    CaptionerConfig.register_for_auto_class()
    Captioner.register_for_auto_class("AutoModelForImageTextToText")
    folder = options.output / "own-captioner"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    pictures, captions = draw(*load_scans(held_out=True), 500, np.random.default_rng(1))
    written = write(model, tokenizer, pictures)
    np.savez_compressed(options.output / "own-captioner.npz", pictures=pictures, captions=captions, written=written)
    right = sum(one == other for one, other in zip(written, captions, strict=True))
    counted = sum(len(one.split()) == len(other.split()) for one, other in zip(written, captions, strict=True))
    print(f"Trained {model.num_parameters():,} parameters in {options.steps} steps, {seconds:.0f} s of one core.")
    print(f"Loss: {losses[0]:.2f} in the first fifty steps, {losses[-1]:.2f} in the last ones.")
    print(f"Of {len(captions)} pictures of held-out digits, {right} captions are right, {counted} of the right length.")


if __name__ == "__main__":
    main()
