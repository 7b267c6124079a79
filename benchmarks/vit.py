"""ViT-Base on 8 images of 224 by 224: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/vit.py [--rounds 3] [--threads 2]

Both libraries load one folder of random weights, with the attention that they choose by themselves, and run forward
under `inference_mode`: the encoder (`ViTModel`), and a classifier, which reads one token. The floor is the time of the
same matrix products (every linear layer, the patches' projection, and both products of attention) as plain `torch.mm`
and `torch.bmm`, taken in the same processes after the forward passes: no model can run faster. CPU seconds are those of
all threads, and suffer less from what else the machine does.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = {"encoder": "ViTModel", "classifier": "ViTForImageClassification"}
LABELS, BATCH, TOKENS, PATCHES, DIM, INNER, HEADS, WIDTH, LAYERS = 10, 8, 197, 196, 768, 3072, 12, 64, 12


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, threads=chosen.threads)
        return
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds):
            order = list(interpreters) if number % 2 == 0 else list(interpreters)[::-1]
            for library in order:
                command = [interpreters[library], "-W", "ignore", __file__, "--worker", library, folder]
                done = subprocess.run([*command, "--threads", str(chosen.threads)], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results)


def work(library: str, folder: str, *, threads: int) -> None:
    """Run in a process of its own: measure, and compare with what the other process left."""
    import torch

    torch.set_num_threads(threads)
    if library == "transformers":
        let_torchvision_import()
    module = importlib.import_module(library)
    torch.manual_seed(0)
    pixels = torch.randn(BATCH, 3, 224, 224)
    found: dict[str, float] = {}
    with torch.inference_mode():
        models = {name: load(module, kind, f"{folder}/{name}") for name, kind in MODELS.items()}
        clocks = {name: Clock() for name in models}
        for model in models.values():
            model(pixels[:1])
        for _ in range(2):
            for name, model in models.items():
                with clocks[name]:
                    tensor = model(pixels)[0]
                found[f"{name} apart"] = compare(tensor, Path(folder, f"{name}.safetensors"))
        clocks |= time_products()
    for name, clock in clocks.items():
        found |= {name: clock.seconds, f"{name} cpu": clock.cpu_seconds}
    print(json.dumps(found))


class Clock:
    """Keeps the shortest of the times it was asked to take."""

    def __init__(self, seconds: float = float("inf"), cpu_seconds: float = float("inf")):
        self.seconds, self.cpu_seconds = seconds, cpu_seconds

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()

    def __exit__(self, *error):
        self.seconds = min(self.seconds, time.perf_counter() - self.start[0])
        self.cpu_seconds = min(self.cpu_seconds, time.process_time() - self.start[1])

    def __add__(self, other):
        return Clock(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


def let_torchvision_import() -> None:
    """Declare what torchvision misses beside a torch without CUDA; the peer imports it where it is installed."""
    import torch

    with contextlib.suppress(ImportError):
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            operators = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.torchvision_operators = operators  # they live as long as the library


def load(module, kind: str, folder: str):
    """Load the model that the first process made."""
    import torch

    model_class = getattr(module, kind)
    if not Path(folder).exists():
        torch.manual_seed(0)
        model_class(module.ViTConfig(num_labels=LABELS)).save_pretrained(folder)
    return model_class.from_pretrained(folder).eval()


def time_products() -> dict[str, Clock]:
    """Time nothing but the products; where one token is enough, the last layer's for that token only."""
    parts = {
        "before": [make_product(BATCH * PATCHES, DIM, DIM)] + make_layer(TOKENS) * (LAYERS - 1),
        "encoder": make_layer(TOKENS),
        "classifier": make_layer(1),
    }
    clocks = {}
    for name, products in parts.items():
        clocks[name] = Clock()
        for _ in range(2):
            with clocks[name]:
                for multiply, one, other in products:
                    multiply(one, other)
    return {f"{name} floor": clocks["before"] + clocks[name] for name in MODELS}


def make_layer(queries: int) -> list:
    full, own, heads = BATCH * TOKENS, BATCH * queries, BATCH * HEADS
    sizes = [(own, DIM, DIM), (full, DIM, DIM), (full, DIM, DIM), (own, DIM, DIM), (own, DIM, INNER), (own, INNER, DIM)]
    attention = [(queries, WIDTH, TOKENS), (queries, TOKENS, WIDTH)]
    return [make_product(*size) for size in sizes] + [make_product(*size, batch=heads) for size in attention]


def make_product(rows: int, inner: int, columns: int, *, batch: int = 0) -> tuple:
    """Give a product as linear layers have it, where the weight is (columns, inner), and its two factors."""
    import torch

    lead = (batch,) if batch else ()
    one, other = torch.randn(*lead, rows, inner), torch.randn(*lead, columns, inner).transpose(-1, -2)
    return (torch.bmm if batch else torch.mm), one, other


def compare(tensor, path: Path) -> float:
    """Give the largest difference to what the first process wrote; write it, if this is the first."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        save_file({"output": tensor.contiguous()}, path)
    return (tensor - load_file(path)["output"]).abs().max().item()


def report(results: dict[str, list[dict[str, float]]]) -> None:
    ours, theirs = results["maquette"], results["transformers"]
    titles = ("maquette", "peer", "floor", "ours/floor", "peer/floor")
    print(f"{f'median of {len(ours)} rounds':22}" + "".join(f"{title:>11}" for title in titles) + "  peer/ours (range)")
    for name in MODELS:
        for end, unit in (("", "s"), (" cpu", "CPU s")):
            a, b = ([run[name + end] for run in runs] for runs in (ours, theirs))
            floor = statistics.median(run[f"{name} floor{end}"] for run in (*ours, *theirs))
            one, other = statistics.median(a), statistics.median(b)
            ratios = [y / x for x, y in zip(a, b, strict=True)]
            spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            figures = f"{one:11.3f}{other:11.3f}{floor:11.3f}{one / floor:11.3f}{other / floor:11.3f}"
            print(f"{f'{name}, {unit}':22}{figures}  {spread}")
        print(f"    outputs at most {max(run[f'{name} apart'] for run in (*ours, *theirs)):.0e} apart")


if __name__ == "__main__":
    main()
