"""Learn a vocabulary and a small DistilBERT that tells languages apart, and save both into one folder.

Usage: python train.py [--data FOLDER] [--output FOLDER] [--epochs 60] [--seed 0]
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from prose import GUIDES, DataError, Sentence, read_sentences, split
from torch import Tensor
from torch.utils.data import Dataset

from maquette import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertTokenizerFast,
    Trainer,
    TrainingArguments,
)

VOCABULARY_SIZE = 2_000
BATCH_SIZE = 32
LEARNING_RATE = 0.002  # at its highest
SHORTEST_STRETCH = 4  # tokens
HIDDEN = 0.1  # of the tokens


def learn_vocabulary(texts: list[str]) -> DistilBertTokenizerFast:
    """Start from a tokenizer that knows its special tokens only, and learn the pieces of words from the texts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
        # Accents tell languages apart; by default, an uncased tokenizer drops them.
        empty = DistilBertTokenizerFast(path, do_lower_case=True, strip_accents=False)
    return empty.train_new_from_iterator(texts, VOCABULARY_SIZE, show_progress=False)


def build_model(tokenizer: DistilBertTokenizerFast, languages: list[str]):
    """A DistilBERT with 2 blocks of width 64; it knows its classes by the languages' names."""
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=tokenizer.model_max_length,
        dim=64,
        hidden_dim=256,
        n_layers=2,
        n_heads=4,
        id2label=dict(enumerate(languages)),
        label2id={language: number for number, language in enumerate(languages)},
    )
    return AutoModelForSequenceClassification.from_config(config)


def vary(row: list[int], unknown: int) -> list[int]:
    """Keep a random stretch of a sentence and hide some of its tokens.

    So short texts are learnt too, no sentence is easily learnt by heart, and unknown tokens occur in every language.
    """
    first, *inner, last = row
    length = random.randint(min(SHORTEST_STRETCH, len(inner)), len(inner))  # noqa: S311
    start = random.randint(0, len(inner) - length)  # noqa: S311
    kept = [unknown if random.random() < HIDDEN else token for token in inner[start : start + length]]  # noqa: S311
    return [first, *kept, last]


class VariedSentences(Dataset):
    """Sentences as token ids, a little different each time they are read."""

    def __init__(self, tokenizer: DistilBertTokenizerFast, sentences: list[Sentence], numbers: dict[str, int]) -> None:
        self.unknown = tokenizer.unk_token_id
        self.rows = tokenizer([sentence.text for sentence in sentences], truncation=True)["input_ids"]
        self.labels = [numbers[sentence.language] for sentence in sentences]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": vary(self.rows[index], self.unknown), "labels": self.labels[index]}


def train(model, tokenizer: DistilBertTokenizerFast, sentences: list[Sentence], folder: Path, options) -> None:
    data = VariedSentences(tokenizer, sentences, model.config.label2id)
    args = TrainingArguments(
        folder,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.3,
        weight_decay=0.05,
        seed=options.seed,
        logging_steps=-(-len(data) // BATCH_SIZE),  # once in an epoch
        save_strategy="no",
    )
    Trainer(model, args, train_dataset=data, processing_class=tokenizer).train()
    model.cpu()


@torch.no_grad()
def predict(model, tokenizer: DistilBertTokenizerFast, texts: list[str]) -> Tensor:
    """Give logits, `(texts, languages)`."""
    return model.eval()(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a DistilBERT to tell languages apart.")
    parser.add_argument("--data", type=Path, default=GUIDES, help="text files named by language: French.txt")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> str | None:
    """Give the reason why it failed, or None."""
    options = parse_options()
    try:
        sentences, held_out = split(read_sentences(options.data), share=0.2)
    except DataError as error:
        return str(error)
    torch.set_num_threads(1)  # so small a model gains nothing from more
    torch.manual_seed(options.seed)
    start = time.perf_counter()
    tokenizer = learn_vocabulary([sentence.text for sentence in sentences])
    model = build_model(tokenizer, sorted({sentence.language for sentence in sentences}))
    train(model, tokenizer, sentences, options.output / "training", options)
    seconds = time.perf_counter() - start

    texts = [sentence.text for sentence in held_out]
    labels = np.array([model.config.label2id[sentence.language] for sentence in held_out])
    logits = predict(model, tokenizer, texts).numpy()
    folder = options.output / "language-classifier"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    np.savez(options.output / "held_out.npz", texts=np.array(texts), labels=labels, logits=logits)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    right = int((logits.argmax(1) == labels).sum())
    learnt = f"{len(tokenizer):,} tokens and {parameters:,} parameters from {len(sentences):,} sentences"
    print(f"Learnt {learnt}, {options.epochs} epochs in {seconds:.1f} s.")
    print(f"Held-out accuracy: {100 * right / len(texts):.1f} % ({right} of {len(texts)} sentences).")
    return None


if __name__ == "__main__":
    sys.exit(main())
