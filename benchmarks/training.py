"""Fine-tuning a DistilBERT on texts of different lengths: our Trainer and the peer's, each in a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/training.py [--steps 24] [--threads 2]

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
    options.add_argument("--steps", type=int, default=24)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, steps=chosen.steps, threads=chosen.threads)
        return
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_data(Path(folder))
        samples = [random.Random(number).sample(lengths, BATCH) for number in range(200)]
        share = statistics.mean(statistics.mean(batch) / max(batch) for batch in samples)
        print(f"{len(lengths)} paragraphs; {share:.1%} of a padded batch of {BATCH} is real; {chosen.steps} steps")
        make = (
            f"import torch, transformers as t; torch.manual_seed(0); c = t.DistilBertConfig(**{CONFIG!r}); "
            f"t.DistilBertForSequenceClassification(c).save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([interpreters["transformers"], "-W", "ignore", "-c", make], check=True, capture_output=True)
        workers = {name: start_worker(name, path, folder, chosen) for name, path in interpreters.items()}
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(chosen.steps):  # in turn, so that whatever else the machine does slows both
            for name, worker in workers.items():
                seconds[name].append(ask(worker))
        for name, worker in workers.items():
            losses = worker.communicate()[0].splitlines()[-1]
            print(f"{name:13}{1 / statistics.mean(seconds[name][1:]):7.3f} steps per second, {losses}")
        ratio = sum(seconds["transformers"][1:]) / sum(seconds["maquette"][1:])
        print(f"steps per second, maquette : peer = {ratio:.2f} (without the first step)")


def start_worker(library: str, interpreter: str, folder: str, chosen: argparse.Namespace) -> "subprocess.Popen[str]":
    command = [interpreter, "-W", "ignore", __file__, "--steps", str(chosen.steps), "--threads", str(chosen.threads)]
    command += ["--worker", library, folder]
    environment = {**os.environ, **QUIET}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(worker: "subprocess.Popen[str]") -> float:
    """Have a worker go on to the end of its next step, and give the seconds it took."""
    print("go", file=worker.stdin, flush=True)
    while not (line := worker.stdout.readline()).startswith("step "):  # the peer prints its log
        if not line:
            raise SystemExit("A worker ended before its last step.")
    return float(line.split()[1])


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
    """Train in a process of its own; print the seconds of each step, and the losses."""
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

    class Turns(module.TrainerCallback):
        """Waits for its turn before each step; a step includes the making of its batch."""

        def on_train_begin(self, args, state, control, **kwargs):
            self.wait()

        def on_step_end(self, args, state, control, **kwargs):
            print("step", time.perf_counter() - self.start, flush=True)
            if state.global_step < steps:
                self.wait()

        def wait(self):
            sys.stdin.readline()
            self.start = time.perf_counter()

    trainer.add_callback(Turns())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    first, last = statistics.mean(losses[:4]), statistics.mean(losses[-4:])
    print(f"loss {first:.3f} at first, {last:.3f} at last, {trainer.evaluate()['eval_loss']:.3f} held out", end="")


if __name__ == "__main__":
    main()
