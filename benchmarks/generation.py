"""Decoders that generate: maquette and Transformers on the same weights and ids, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/generation.py [--rounds 3] [--threads 2] [--only one_5m …]

Models are Llamas with random weights, whose texts end by themselves because many tokens are ends. Both libraries load
one folder, by turns; how many rows have the same ids is printed, and the floors: the bytes of weights that a token has
to read, over the bandwidth that a large sum reaches in the same process. Seconds are wall-clock, the best of a run's
repeats after a warm-up; ratios are the median over the rounds.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, int]] = {
    "124m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
    | {"num_key_value_heads": 12, "vocab_size": 50257},
    "110m": {"hidden_size": 768, "intermediate_size": 2560, "num_hidden_layers": 12, "num_attention_heads": 12}
    | {"num_key_value_heads": 4, "vocab_size": 32000},
    "5m": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
    | {"num_key_value_heads": 6, "vocab_size": 8000},
}
TASKS = {
    "one_124m": "124 M parameters, one prompt, 64 tokens",
    "half_124m": "124 M, bfloat16, one prompt, 16 tokens",
    "one_5m": "5 M, one prompt, 64 tokens",
    "compiled_5m": "5 M, one prompt, 64 tokens, a compiled step (there: none)",
    "ragged_5m": "5 M, 64 prompts that end by themselves, at most 111 tokens",
    "grouped_110m": "110 M, grouped queries, 16 prompts, 64 tokens",
    "many_5m": "5 M, 1,000 prompts, 16 rows busy",
    "beams_5m": "5 M, 4 beams, 8 prompts, 48 tokens",
    "prefill_110m": "110 M, prefill of 32 prompts, a fifth real",
    "train_5m": "5 M, a training step of 32 paragraphs, a fifth real",
}


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
        make_models(Path(folder), {task.rpartition("_")[2] for task in chosen.only})
        for _ in range(chosen.rounds):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder, "--only", *chosen.only]
                done = subprocess.run(
                    [*command, "--threads", str(chosen.threads)], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results, chosen.only)


def make_models(folder: Path, names: set[str]) -> None:
    import torch

    import maquette

    for name in names:
        torch.manual_seed(0)
        config = maquette.LlamaConfig(**MODELS[name], max_position_embeddings=1024, pad_token_id=0, eos_token_id=None)
        config.tie_word_embeddings = name != "5m"
        model = maquette.LlamaForCausalLM(config)
        torch.nn.init.normal_(model.lm_head.weight, std=0.08)  # a sharp distribution
        model.save_pretrained(folder / name)


def draw_prompts(count: int, shortest: int, longest: int, vocabulary: int) -> list[list[int]]:
    import random

    draw = random.Random(count)
    return [[draw.randrange(5, vocabulary) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]


def pad(rows: list[list[int]]) -> dict[str, Any]:
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])}


def draw_uneven(vocabulary: int) -> dict[str, Any]:
    """Give 32 rows, one of which is far longer than the others: a fifth of the places is real."""
    return pad([*draw_prompts(31, 5, 75, vocabulary), *draw_prompts(1, 200, 200, vocabulary)])


def work(library: str, folder: str, *, threads: int, tasks: list[str]) -> None:
    import torch

    torch.set_num_threads(threads)
    loaded = importlib.import_module(library)
    results: dict[str, Any] = {"bandwidth": measure_bandwidth()}
    for task in tasks:
        name = task.rpartition("_")[2]
        model = loaded.AutoModelForCausalLM.from_pretrained(Path(folder) / name).eval()
        model.generation_config.pad_token_id = 0
        run, repeats = globals()[f"make_{task.rpartition('_')[0]}"](model, library)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, result, first = measure(run, repeats)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        results[task] = {"seconds": seconds, "result": result, "peak": peak, "first": first}
        results[task]["bytes"] = sum(p.numel() * p.element_size() for p in model.parameters())
    print(json.dumps(results))


def measure_bandwidth() -> float:
    """Give the bytes a second that reading a large tensor reaches."""
    import torch

    x = torch.ones(64_000_000)
    return x.nbytes / measure(lambda: float(x.sum()), 5)[0]


def measure(run: Callable[[], Any], repeats: int) -> tuple[float, Any, float]:
    """Give the best seconds of some repeats, what came out, and the seconds of the first run before them."""
    first = 0.0
    result, best = None, float("inf")
    for number in range(repeats + 1):
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        best, first = (min(best, seconds), first) if number else (best, seconds)
    return best, result, first


def ends(vocabulary: int) -> list[int]:
    return list(range(5, vocabulary, 20))


def new_ids(output: Any, width: int, stops: list[int]) -> list[list[int]]:
    """Give each row up to its end."""
    found, stopping = [], {*stops}
    for row in output[:, width:].tolist():
        end = next((place + 1 for place, token in enumerate(row) if token in stopping), len(row))
        found.append(row[:end])
    return found


def make_one(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    batch = pad(draw_prompts(1, 20, 20, model.config.vocab_size))
    options = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False}
    return lambda: model.generate(**batch, **options)[:, 20:].tolist(), 3


def make_half(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    import torch

    batch, half = pad(draw_prompts(1, 20, 20, model.config.vocab_size)), model.to(torch.bfloat16)
    options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
    return lambda: half.generate(**batch, **options)[:, 20:].tolist(), 2


def make_compiled(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    """Compile the step here; Transformers runs as in `make_one`."""
    run, repeats = make_one(model, library)
    if library != "maquette":
        return run, repeats
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = (
        "1"  # what an earlier run compiled would make this one's first quick
    )
    batch = pad(draw_prompts(1, 20, 20, model.config.vocab_size))
    options = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False, "compile_config": {}}
    return lambda: model.generate(**batch, **options)[:, 20:].tolist(), repeats


def make_grouped(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    batch = pad(draw_prompts(16, 5, 60, model.config.vocab_size))
    options = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False}
    return lambda: model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :].tolist(), 1


def make_ragged(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    batch, stops = pad(draw_prompts(64, 5, 60, model.config.vocab_size)), ends(model.config.vocab_size)
    options = {"max_new_tokens": 111, "do_sample": False, "eos_token_id": stops}
    return lambda: new_ids(model.generate(**batch, **options), batch["input_ids"].shape[1], stops), 2


def make_many(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    prompts, stops = draw_prompts(1000, 5, 60, model.config.vocab_size), ends(model.config.vocab_size)
    options = {"max_new_tokens": 111, "do_sample": False, "eos_token_id": stops}

    def run() -> Any:
        if library == "maquette":
            return new_ids(model.generate(prompts, max_rows=16, **options), max(map(len, prompts)), stops)
        found: list[list[int]] = []
        for start in range(0, 1000, 16):
            batch = pad(prompts[start : start + 16])
            found += new_ids(model.generate(**batch, **options), batch["input_ids"].shape[1], stops)
        return found

    return run, 1


def make_beams(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    batch = pad(draw_prompts(8, 5, 60, model.config.vocab_size))
    options = {"max_new_tokens": 48, "num_beams": 4, "do_sample": False}
    return lambda: model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :].tolist(), 1


def make_prefill(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    import torch

    batch = pad(
        [*draw_prompts(31, 5, 75, model.config.vocab_size), draw_prompts(1, 200, 200, model.config.vocab_size)[0]]
    )

    @torch.no_grad()
    def run() -> Any:
        logits = model(**batch, use_cache=True, logits_to_keep=1).logits
        return logits.argmax(-1).tolist()

    return run, 2


def make_train(model: Any, library: str) -> tuple[Callable[[], Any], int]:
    batch = pad(
        [*draw_prompts(31, 5, 75, model.config.vocab_size), draw_prompts(1, 200, 200, model.config.vocab_size)[0]]
    )
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model.train()

    def run() -> Any:
        model.zero_grad()
        loss = model(**batch, labels=labels, use_cache=False).loss
        loss.backward()
        return round(float(loss.detach()), 4)

    return run, 2


def report(results: dict[str, list[dict[str, Any]]], tasks: list[str]) -> None:
    ours, theirs = results["maquette"], results["transformers"]
    bandwidth = max(run["bandwidth"] for run in ours + theirs)
    print(f"reading {bandwidth / 1e9:.0f} GB/s; medians of {len(ours)} rounds, the range of the ratio behind it")
    print(f"{'':62} {'maquette':>10} {'peer':>10} {'ratio':>7}")
    for task in tasks:
        a, b = ([run[task]["seconds"] for run in runs] for runs in (ours, theirs))
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        line = f"{TASKS[task]:62} {statistics.median(a):9.3f}s {statistics.median(b):9.3f}s"
        line += f" {statistics.median(ratios):7.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        one, other = ours[0][task]["result"], theirs[0][task]["result"]
        if isinstance(one, list):
            line += f"  {sum(x == y for x, y in zip(one, other, strict=True))} of {len(one)} rows the same"
        else:
            peaks = f"{ours[0][task]['peak']:.0f} and {theirs[0][task]['peak']:.0f} MB"
            line += f"  losses {one} and {other}; peak memory {peaks}"
        if task.startswith("compiled"):
            line += f"  the first call, which compiles: {ours[0][task]['first']:.0f} s"
        if task.startswith("one"):
            line += f"  floor {64 * ours[0][task]['bytes'] / bandwidth:.3f} s"
        print(line)


if __name__ == "__main__":
    main()
