"""Fine-tuning a DistilBERT on texts of different lengths: our Trainer and the peer's, each in a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/training.py [--rounds 2] [--steps 24] [--threads 2]

The data are paragraphs of Python's language reference as they are (cut to 512 tokens); what is to be learnt is
whether a paragraph speaks of objects. Both trainers start from one folder of random weights, with the same tokenizer
and its padding collator, the same batch size, seed, schedule and number of steps, without dropout. They shuffle the
rows in orders of their own. The peer needs accelerate.
"""

import argparse
import importlib
import json
import logging
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

CONFIG = {"dim": 384, "hidden_dim": 1536, "n_layers": 6, "n_heads": 6, "num_labels": 2}
CONFIG |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
BATCH = 32
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--steps", type=int, default=24)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, steps=chosen.steps, threads=chosen.threads)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_data(Path(folder))
        share = statistics.mean(
            statistics.mean(batch) / max(batch)
            for batch in (random.Random(n).sample(lengths, BATCH) for n in range(200))
        )
        print(f"{len(lengths)} paragraphs; {share:.1%} of a padded batch of {BATCH} is real; {chosen.steps} steps")
        make = (
            f"import torch, transformers as t; torch.manual_seed(0); c = t.DistilBertConfig(**{CONFIG!r}); "
            f"t.DistilBertForSequenceClassification(c).save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([interpreters["transformers"], "-W", "ignore", "-c", make], check=True, capture_output=True)
        rounds = []
        for _ in range(chosen.rounds):
            rounds.append({name: run(name, path, folder, chosen) for name, path in interpreters.items()})
            report(rounds[-1])
        ratios = [both["maquette"]["speed"] / both["transformers"]["speed"] for both in rounds]
        print(f"maquette : peer, steps per second: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def run(library: str, interpreter: str, folder: str, chosen: argparse.Namespace) -> dict[str, float]:
    command = [interpreter, "-W", "ignore", __file__, "--steps", str(chosen.steps), "--threads", str(chosen.threads)]
    command += ["--worker", library, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET})
    return json.loads(done.stdout.splitlines()[-1])


def report(both: dict[str, dict[str, float]]) -> None:
    for name, found in both.items():
        losses = f"first loss {found['first']:.3f}, last {found['last']:.3f}, held out {found['held_out']:.3f}"
        print(f"{name:14} {found['speed']:6.3f} steps per second, {losses}", flush=True)


def write_data(folder: Path) -> list[int]:
    """Write the paragraphs with their labels, and a vocabulary of their words; give the lengths in words."""
    from pydoc_data.topics import topics

    texts = [" ".join(text.lower().split()) for topic in topics.values() for text in re.split(r"\n\s*\n", topic)]
    texts = [text for text in dict.fromkeys(texts) if text]
    random.Random(0).shuffle(texts)
    rows = [{"text": re.sub(r"objects?", "thing", text), "label": int("object" in text)} for text in texts]
    counts = Counter(word for row in rows for word in re.findall(r"\w+|[^\w\s]", row["text"]))
    words = [word for word, _ in counts.most_common(12_000) if word.isascii()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return [min(512, len(re.findall(r"\w+|[^\w\s]", row["text"])) + 2) for row in rows]


def work(library: str, folder: str, *, steps: int, threads: int) -> None:
    """Train in a process of its own; print steps per second and losses."""
    import torch

    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    module = importlib.import_module(library)
    tokenizer = module.DistilBertTokenizerFast(str(Path(folder, "vocab.txt")))
    found = json.loads(Path(folder, "rows.json").read_text(encoding="utf-8"))
    rows = [{**tokenizer(row["text"], truncation=True, max_length=512), "labels": row["label"]} for row in found]
    rows = [{name: row[name] for name in ("input_ids", "attention_mask", "labels")} for row in rows]
    held_out, rows = rows[:64], rows[64:]
    model = module.DistilBertForSequenceClassification.from_pretrained(f"{folder}/model")
    args = module.TrainingArguments(
        f"{folder}/{library}", per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, max_steps=steps,
        learning_rate=3e-4, warmup_steps=4, weight_decay=0.01, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    collator = module.DataCollatorWithPadding(tokenizer)
    trainer = module.Trainer(model, args, data_collator=collator, train_dataset=rows, eval_dataset=held_out)
    clock: list[float] = []

    class Clock(module.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            clock.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    results = {"speed": (len(clock) - 1) / (clock[-1] - clock[0]), "first": statistics.mean(losses[:4])}
    results |= {"last": statistics.mean(losses[-4:]), "held_out": trainer.evaluate()["eval_loss"]}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
