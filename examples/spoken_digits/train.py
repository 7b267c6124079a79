"""Have espeak-ng speak digits, and train a small Wav2Vec2 that writes them down, letter by letter.

Usage: python train.py [--output FOLDER] [--clips 3000] [--steps 2000] [--judge test] [--seed 0]
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from make_speech import WORDS, SpeechError, make_speech, plan
from picture import draw_clip
from recognise import SAMPLING_RATE, score, write_down
from word_errors import report

from maquette import (
    AutoModelForCTC,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

BATCH_SIZE = 16
LEARNING_RATE = 0.003  # at its highest
STRETCH = 0.15  # at most, in octaves
NOISE = 0.3  # at most, as a share of the clip's own loudness
KEPT = 8  # clips whose logits are saved
DRAWN = 4  # the first clip of five digits


def build_processor() -> Wav2Vec2Processor:
    """The letters that the ten words are made of, and sounds of 8,000 samples a second."""
    tokens = ["<pad>", "<unk>", "|", *sorted({*"".join(WORDS)})]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(sampling_rate=SAMPLING_RATE, return_attention_mask=True),
        Wav2Vec2CTCTokenizer(vocab=vocabulary, bos_token=None, eos_token=None),
    )


def build_model(processor: Wav2Vec2Processor):
    """A Wav2Vec2 with 4 blocks of width 128; it hears a frame every 30 ms."""
    config = Wav2Vec2Config(
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        conv_dim=(48, 96, 128),
        conv_kernel=(80, 8, 4),
        conv_stride=(20, 4, 3),
        conv_bias=True,
        feat_extract_norm="layer",  # padding changes nothing, and training from nothing is steady
        do_stable_layer_norm=True,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=4,
        hidden_dropout=0.05,
        activation_dropout=0.0,
        attention_dropout=0.0,
        final_dropout=0.05,
        layerdrop=0.0,
        mask_time_prob=0.05,
        mask_time_length=3,
        mask_time_min_masks=0,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
    )
    return AutoModelForCTC.from_config(config)


def vary(samples: np.ndarray) -> np.ndarray:
    """Play a clip a little faster and higher, or slower and lower, as if by a smaller or larger speaker; add noise."""
    factor = 2 ** random.uniform(-STRETCH, STRETCH)  # noqa: S311
    places = np.arange(0, len(samples) - 1, factor)
    stretched = np.interp(places, np.arange(len(samples)), samples)
    noise = torch.randn(len(places)).numpy() * random.uniform(0, NOISE)  # noqa: S311
    return (stretched + noise).astype(np.float32)


def train(model, processor, rows: list[dict], folder: Path, options) -> list[float]:
    """Give the mean loss of every ten batches."""
    pad = DataCollatorWithPadding(processor)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=options.steps, pct_start=0.15)
    args = TrainingArguments(
        folder,
        max_steps=options.steps,
        per_device_train_batch_size=BATCH_SIZE,
        group_by_length=True,
        seed=options.seed,
        logging_steps=10,
        save_strategy="no",
    )
    trainer = Trainer(
        model,
        args,
        data_collator=lambda batch: pad([{**row, "input_values": vary(row["input_values"])} for row in batch]),
        train_dataset=rows,
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    model.cpu()
    return [entry["loss"] for entry in trainer.state.log_history]


def recognise(model, processor, paths: list[str]) -> list[str]:
    parts = [paths[start : start + 30] for start in range(0, len(paths), 30)]
    return [text for part in parts for text in write_down(processor, score(model, processor, part))]


def save(model, processor, output: Path, paths: list[str]) -> None:
    """Put model and processor into one folder, and the logits that they give now beside it."""
    folder = output / "digit-recogniser"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    logits = score(model, processor, paths).numpy()
    names = [os.path.relpath(path, output) for path in paths]
    np.savez(output / "expected.npz", paths=np.array(names), logits=logits)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a Wav2Vec2 to write down spoken digits.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--clips", type=int, default=3_000, help="to train with")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--judge", choices=["dev", "test"], default="test", help="whose voices to report on")
    parser.add_argument("--judged", type=int, default=480, help="how many of their clips")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> str | None:
    """Give the reason why it failed, or None."""
    options = parse_options()
    speech = options.output / "speech"
    try:
        paths, texts = make_speech(speech, "train", options.clips)
        judged_paths, _ = make_speech(speech, options.judge, options.judged)
    except SpeechError as error:
        return str(error)
    torch.set_num_threads(1)  # so small a model gains little from more
    torch.manual_seed(options.seed)
    start, work = time.perf_counter(), time.process_time()
    processor = build_processor()
    model = build_model(processor)
    sounds, labels = processor(audio=paths, resample=True)["input_values"], processor(text=texts)["input_ids"]
    rows = [{"input_values": clip, "labels": letters} for clip, letters in zip(sounds, labels, strict=True)]
    losses = train(model, processor, rows, options.output / "training", options)
    seconds, work = time.perf_counter() - start, time.process_time() - work

    heard = recognise(model, processor, judged_paths)
    save(model, processor, options.output, judged_paths[:KEPT])
    draw_clip(options.output / "recognised.png", model, processor, judged_paths[DRAWN])

    parameters = sum(parameter.numel() for parameter in model.parameters())
    learnt = f"{parameters:,} parameters from {len(paths):,} clips, {options.steps:,} batches"
    print(f"Learnt {learnt} in {seconds:.1f} s ({work:.1f} s of one core).")
    print(f"The loss fell from {losses[0]:.2f} to {losses[-1]:.2f}.")
    print(report(plan(options.judge, options.judged), heard))
    return None


if __name__ == "__main__":
    sys.exit(main())
