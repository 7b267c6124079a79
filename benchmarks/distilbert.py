"""DistilBERT-base on padded paragraphs: maquette and the peer, each in a process of its own, run by run in turn.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/distilbert.py [--rounds 2] [--threads 2]

The batch is 64 paragraphs of Python's own language reference (of 40 words or more, cut to 512 tokens), padded to the
longest; a word is one token. Both libraries load one folder of random weights, without dropout so that results can be
compared: states of the encoder at real tokens, and every gradient of a classifier after one training step (forward,
backward, AdamW). Two more rows measure a batch without any padding.
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
import zlib
from pathlib import Path

CONFIG = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "num_labels": 4}
TITLES = {
    "full_forward": "encoder, 16 x 128 real",
    "forward": "encoder, 64 paragraphs",
    "full_step": "training step, 16 x 128 real",
    "step": "training step, 64 paragraphs",
}
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--measures", nargs="*", default=list(TITLES), choices=list(TITLES))
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, threads=chosen.threads)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_batch(Path(folder))
        make = (
            f"import torch, transformers as t; torch.manual_seed(0); c = t.DistilBertConfig(**{CONFIG!r}); "
            f"t.DistilBertForSequenceClassification(c).save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([interpreters["transformers"], "-W", "ignore", "-c", make], check=True, capture_output=True)
        workers = [start_worker(*item, folder, chosen.threads) for item in interpreters.items()]
        share = sum(lengths) / len(lengths) / max(lengths)
        print(
            f"{len(lengths)} paragraphs, the longest of {max(lengths)} tokens; {share:.1%} of the padded batch is real"
        )
        print(f"{'seconds':28} {'maquette':>9} {'peer':>9} {'ratio':>6} {'of single rounds':>22} {'apart':>8}")
        for name in chosen.measures:
            warm_up = name.startswith("full_")  # the long measures follow short ones of their kind
            rounds = [[ask(worker, name) for worker in workers] for _ in range(chosen.rounds + warm_up)]
            report(name, rounds[warm_up:])
        for worker in workers:
            worker.communicate(timeout=60)


def start_worker(library: str, interpreter: str, folder: str, threads: int) -> "subprocess.Popen[str]":
    command = [interpreter, "-W", "ignore", __file__, "--threads", str(threads), "--worker", library, folder]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET}
    )


def ask(worker: "subprocess.Popen[str]", name: str) -> dict[str, float]:
    """Have a worker run one measure once."""
    print(name, file=worker.stdin, flush=True)
    return json.loads(worker.stdout.readline())


def report(name: str, rounds: list[list[dict[str, float]]]) -> None:
    """Print the fastest run of each, their ratio, and the ratios of the rounds: median, least and greatest."""
    theirs, ours = zip(*rounds, strict=True)
    ratios = [peer["seconds"] / own["seconds"] for peer, own in rounds]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    a, b = (min(run["seconds"] for run in runs) for runs in (ours, theirs))
    apart = max(run["apart"] for run in ours)
    print(f"{TITLES[name]:28} {a:9.2f} {b:9.2f} {b / a:6.2f} {spread:>22} {apart:8.0e}", flush=True)


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


def work(library: str, folder: str, *, threads: int) -> None:
    """Answer, in a process of its own, each line that names a measure with its time and its distance to the other's."""
    import torch

    logging.disable(logging.WARNING)  # both say that the encoder leaves the classifier's weights
    torch.set_num_threads(threads)
    module = importlib.import_module(library)
    rows = json.loads(Path(folder, "ids.json").read_text(encoding="utf-8"))
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    torch.manual_seed(1)
    inputs = {"": (ids, mask), "full_": (torch.randint(1000, 30000, (16, 128)), torch.ones(16, 128, dtype=torch.long))}
    encoder = module.DistilBertModel.from_pretrained(f"{folder}/model").eval()
    classifier = module.DistilBertForSequenceClassification.from_pretrained(f"{folder}/model").train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.0, weight_decay=0.0)
    for line in sys.stdin:
        name = line.strip()
        kind = name.removeprefix("full_")
        model = encoder if kind == "forward" else (classifier, optimizer)
        seconds, tensors = {"forward": run_forward, "step": run_step}[kind](model, *inputs[name.removesuffix(kind)])
        apart = compare(tensors, Path(folder, f"{name}.safetensors"))
        print(json.dumps({"seconds": seconds, "apart": apart}), flush=True)


def run_forward(model, ids, mask):
    import torch

    with torch.inference_mode():
        start = time.perf_counter()
        states = model(ids, mask).last_hidden_state
        seconds = time.perf_counter() - start
        return seconds, {"states": states[mask.bool()]}


def run_step(models, ids, mask):
    import torch

    model, optimizer = models
    labels = torch.arange(len(ids)) % CONFIG["num_labels"]
    optimizer.zero_grad()
    start = time.perf_counter()
    model(ids, mask, labels=labels).loss.backward()
    optimizer.step()
    return time.perf_counter() - start, {name: parameter.grad for name, parameter in model.named_parameters()}


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


if __name__ == "__main__":
    main()
