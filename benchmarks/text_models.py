"""BERT and ModernBERT on padded paragraphs, and T5-small on summaries: maquette and the peer, by turns.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/text_models.py [--rounds 3] [--threads 2] [--only bert …]

The paragraphs are those of `distilbert.py`. Both libraries load one folder of random weights, each run in a process of
its own. T5 writes greedily, and texts end by themselves because many tokens are ends; how many rows have the same ids
is printed. Seconds are wall-clock, after a warm-up; ratios are the median over the rounds.
"""

import argparse
import functools
import importlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distilbert import QUIET, write_batch

TASKS = {
    "bert": "BERT, 4 layers, 64 paragraphs",
    "bert_full": "BERT, 4 layers, 16 x 128 without padding",
    "modernbert": "ModernBERT, 4 layers, 64 paragraphs",
    "modernbert_full": "ModernBERT, 4 layers, 16 x 128 without padding",
    "t5": "T5-small, summaries of 32 paragraphs, at most 60 tokens",
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {"num_hidden_layers": 4}),
    "modernbert": ("ModernBert", {"num_hidden_layers": 4}),
    "t5": (
        "T5",
        {"vocab_size": 32128, "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
        | {"decoder_start_token_id": 0},
    ),
}
ENDS = list(range(1, 32128, 40))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", nargs="*", choices=TASKS, default=[*TASKS])
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, threads=chosen.threads, tasks=chosen.only)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    results: dict[str, list[dict[str, Any]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_batch(Path(folder))
        print(f"{sum(lengths) / len(lengths) / max(lengths):.1%} of the padded batch of 64 paragraphs is real")
        make_models(Path(folder), {task.partition("_")[0] for task in chosen.only})
        for _ in range(chosen.rounds):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder]
                command += ["--threads", str(chosen.threads), "--only", *chosen.only]
                done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results, chosen.only)


def make_models(folder: Path, names: set[str]) -> None:
    import torch

    import maquette

    for name in names:
        torch.manual_seed(0)
        family, fields = CONFIGS[name]
        head = "ForConditionalGeneration" if name == "t5" else "Model"
        model = getattr(maquette, family + head)(getattr(maquette, f"{family}Config")(**fields))
        model.save_pretrained(folder / name)


def work(library: str, folder: str, *, threads: int, tasks: list[str]) -> None:
    """Measure in a process of its own."""
    import torch

    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    module = importlib.import_module(library)
    rows = json.loads(Path(folder, "ids.json").read_text(encoding="utf-8"))
    torch.manual_seed(1)
    full = torch.randint(1000, 30000, (16, 128))
    found: dict[str, Any] = {}
    for task in tasks:
        family = CONFIGS[task.partition("_")[0]][0]
        kind = "T5ForConditionalGeneration" if task == "t5" else f"{family}Model"
        model = getattr(module, kind).from_pretrained(Path(folder) / task.partition("_")[0]).eval()
        ids, mask = (full, torch.ones_like(full)) if task.endswith("_full") else pad(rows[: 32 if task == "t5" else 64])
        run = functools.partial(write if task == "t5" else read, model, ids, mask)
        with torch.inference_mode():
            seconds, output = measure(run, 1)
        found[task] = {"seconds": seconds, "output": summarize(output)}
    print(json.dumps(found))


def read(model: Any, ids: Any, mask: Any) -> Any:
    return model(ids, attention_mask=mask).last_hidden_state[mask.bool()]


def write(model: Any, ids: Any, mask: Any) -> Any:
    how = {"max_new_tokens": 60, "do_sample": False, "eos_token_id": ENDS, "pad_token_id": 0}
    return model.generate(input_ids=ids, attention_mask=mask, **how)


def pad(rows: list[list[int]]) -> Any:
    import torch

    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


def measure(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    result, best = run(), float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


def summarize(output: Any) -> Any:
    """Give rows of ids up to their end, or some of the numbers."""
    if output.is_floating_point():
        return output[::97, ::31].tolist()
    rows = [row[1:] for row in output.tolist()]
    return [row[: next((n for n, token in enumerate(row) if token in ENDS), len(row))] for row in rows]


def report(results: dict[str, list[dict[str, Any]]], tasks: list[str]) -> None:
    print(f"{'':58} {'maquette':>9} {'peer':>9} {'ratio':>6}")
    for task in tasks:
        ours, theirs = ([run[task] for run in results[name]] for name in ("maquette", "transformers"))
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)]
        a, b = (statistics.median(run["seconds"] for run in runs) for runs in (ours, theirs))
        one, other = ours[0]["output"], theirs[0]["output"]
        if task == "t5":
            agreed = f"{sum(x == y for x, y in zip(one, other, strict=True))} of {len(one)} rows the same"
        else:
            pairs = [(x, y) for row, twin in zip(one, other, strict=True) for x, y in zip(row, twin, strict=True)]
            agreed = f"{max(abs(x - y) for x, y in pairs):.0e} apart"
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"{TASKS[task]:58} {a:8.3f}s {b:8.3f}s {statistics.median(ratios):6.2f} {spread} {agreed}")


if __name__ == "__main__":
    main()
