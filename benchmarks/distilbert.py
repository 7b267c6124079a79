"""DistilBERT-base on padded paragraphs: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/distilbert.py [--pairs 3] [--threads 2]

The batch is 64 paragraphs of Python's own language reference (of 40 words or more, cut to 512 tokens), padded to the
longest; a word is one token. Both libraries load one folder of random weights, without dropout so that results can be
compared: states of the encoder at real tokens, and every gradient of a classifier after one training step (forward,
backward, AdamW). Two more rows measure a batch without any padding. Seconds are wall-clock; CPU seconds are those of
all threads, and suffer less from what else the machine does.
"""

import argparse
import importlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

CONFIG = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "num_labels": 4}
TITLES = {
    "forward": "encoder, 64 paragraphs",
    "step": "training step, 64 paragraphs",
    "full_forward": "encoder, 16 x 128 real",
    "full_step": "training step, 16 x 128 real",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--measures", nargs="*", default=list(TITLES), choices=list(TITLES))
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, measures=chosen.measures, threads=chosen.threads)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_batch(Path(folder))
        make = (
            f"import torch, transformers as t; torch.manual_seed(0); c = t.DistilBertConfig(**{CONFIG!r}); "
            f"t.DistilBertForSequenceClassification(c).save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([interpreters["transformers"], "-W", "ignore", "-c", make], check=True, capture_output=True)
        results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
        for _ in range(chosen.pairs):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder]
                command += ["--threads", str(chosen.threads), "--measures", *chosen.measures]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    share = sum(lengths) / len(lengths) / max(lengths)
    print(f"{len(lengths)} paragraphs, the longest of {max(lengths)} tokens; {share:.1%} of the padded batch is real")
    report(results)


def write_batch(folder: Path) -> list[int]:
    """Write the token ids of the paragraphs, and give their lengths."""
    from pydoc_data.topics import topics

    texts = [text for topic in topics.values() for text in re.split(r"\n\s*\n", topic)]
    words = [re.findall(r"\w+|[^\w\s]", text)[:510] for text in texts]
    long = [paragraph for paragraph in words if len(paragraph) >= 40]
    chosen = random.Random(0).sample(long, 64)
    ids = [[101, *(1000 + zlib.crc32(word.encode()) % 29000 for word in paragraph), 102] for paragraph in chosen]
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    return [len(row) for row in ids]


def work(library: str, folder: str, *, measures: list[str], threads: int) -> None:
    """Run in a process of its own: measure, and compare with what the other process left."""
    import torch

    torch.set_num_threads(threads)
    module = importlib.import_module(library)
    rows = json.loads(Path(folder, "ids.json").read_text(encoding="utf-8"))
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    torch.manual_seed(1)
    inputs = {"": (ids, mask), "full_": (torch.randint(1000, 30000, (16, 128)), torch.ones(16, 128, dtype=torch.long))}
    found: dict[str, float] = {}
    for name in measures:
        kind = name.removeprefix("full_")
        run = {"forward": run_forward, "step": run_step}[kind]
        clock = Clock()
        tensors = run(module, f"{folder}/model", *inputs[name.removesuffix(kind)], clock)
        found |= {name: clock.seconds, f"{name}_cpu": clock.cpu_seconds}
        found[f"{name}_apart"] = compare(tensors, Path(folder, f"{name}.safetensors"))
    print(json.dumps(found))


class Clock:
    """Keeps the shortest of the times it was asked to take."""

    def __init__(self):
        self.seconds = self.cpu_seconds = float("inf")

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()

    def __exit__(self, *error):
        self.seconds = min(self.seconds, time.perf_counter() - self.start[0])
        self.cpu_seconds = min(self.cpu_seconds, time.process_time() - self.start[1])


def run_forward(module, path, ids, mask, clock):
    import torch

    model = module.DistilBertModel.from_pretrained(path).eval()
    with torch.inference_mode():
        model(ids[:2], mask[:2])
        for _ in range(2):
            with clock:
                states = model(ids, mask).last_hidden_state
    return {"states": states[mask.bool()]}


def run_step(module, path, ids, mask, clock):
    import torch

    model = module.DistilBertForSequenceClassification.from_pretrained(path).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    labels = torch.arange(len(ids)) % CONFIG["num_labels"]
    for _ in range(2):
        optimizer.zero_grad()
        with clock:
            model(ids, mask, labels=labels).loss.backward()
            optimizer.step()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def compare(tensors, path: Path) -> float:
    """Give the largest difference to what the first process wrote; write it, if this is the first."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return 0.0
    other = load_file(path)
    if other.keys() != tensors.keys():
        raise SystemExit(f"The two libraries name different tensors: {sorted(other.keys() ^ tensors.keys())}")
    return max((tensors[name] - other[name]).abs().max().item() for name in other)


def report(results: dict[str, list[dict[str, float]]]) -> None:
    ours, theirs = results["maquette"], results["transformers"]
    print(f"{f'median of {len(ours)} pairs':40} {'maquette':>9} {'peer':>9} {'peer / maquette':>22} {'apart':>8}")
    for name, title in TITLES.items():
        for key, unit in ((name, "s"), (f"{name}_cpu", "CPU s")):
            if key in ours[0]:
                a, b = ([run[key] for run in runs] for runs in (ours, theirs))
                ratios = [y / x for x, y in zip(a, b, strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                apart = max(run[f"{name}_apart"] for run in ours)
                times = f"{statistics.median(a):9.2f} {statistics.median(b):9.2f}"
                print(f"{title + ', ' + unit:40} {times} {spread:>22} {apart:8.0e}")


if __name__ == "__main__":
    main()
