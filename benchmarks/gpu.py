"""DistilBERT-base in bfloat16 on a GPU: maquette packed and padded, and Transformers, on the same padded paragraphs.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/gpu.py [--device cuda] [--rounds 20] [--batch 64]

The batch is that of `distilbert.py`. Each kind runs in a process of its own: first the forward pass, then a training
step (forward, backward, AdamW) without dropout, which torch's variable-length attention does not take. `apart` is
the largest difference of a state, at real tokens, from maquette's in float32: what bfloat16 costs shows in all three.
With `--device cpu --rounds 1 --batch 4 --layers 1` the script itself can be tried where there is no GPU.
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

from distilbert import CONFIG, QUIET, write_batch

KINDS = {
    "exact": "maquette, float32",
    "packed": "maquette, packed",
    "padded": "maquette, padded",
    "peer": "Transformers",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="cuda")
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--worker", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, device=chosen.device, rounds=chosen.rounds, batch=chosen.batch)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_batch(Path(folder))
        make = (
            "import torch; from maquette import DistilBertConfig, DistilBertForSequenceClassification as Model; "
            f"torch.manual_seed(0); Model(DistilBertConfig(**{CONFIG!r}, n_layers={chosen.layers}))"
            f".save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([sys.executable, "-c", make], check=True)
        found = {kind: run(kind, folder) for kind in KINDS if kind != "peer" or has_peer()}
    print(f"{'milliseconds, medians':24} {'forward':>9} {'step':>9} {'memory, MB':>11} {'apart':>9}")
    for kind, row in found.items():
        title = KINDS[kind]
        print(f"{title:24} {row['forward']:9.2f} {row['step']:9.2f} {row['memory']:11.0f} {row['apart']:9.1e}")
    for name in ("forward", "step"):
        against = {kind: found[kind][name] / found["packed"][name] for kind in ("padded", "peer") if kind in found}
        print(f"{name}: " + ", ".join(f"{kind} : packed = {ratio:.2f}" for kind, ratio in against.items()))


def has_peer() -> bool:
    """Tell whether Transformers is there to compare with; without it, that row is left out, and a line says so."""
    python = os.environ.get("MAQUETTE_PEER_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import transformers"], capture_output=True).returncode == 0:
        return True
    print(f"{python} has no transformers: set MAQUETTE_PEER_PYTHON to one that has, with torch built for CUDA.")
    return False


def run(kind: str, folder: str) -> dict[str, float]:
    python = os.environ.get("MAQUETTE_PEER_PYTHON", sys.executable) if kind == "peer" else sys.executable
    command = [python, "-W", "ignore", __file__, *sys.argv[1:], "--worker", kind, folder]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def work(kind: str, folder: str, *, device: str, rounds: int, batch: int) -> None:
    """Measure one kind in a process of its own."""
    import torch

    library = importlib.import_module("transformers" if kind == "peer" else "maquette")
    dtype = torch.float32 if kind == "exact" else torch.bfloat16
    rows = json.loads(Path(folder, "ids.json").read_text(encoding="utf-8"))[:batch]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
    labels = torch.arange(len(rows), device=device) % CONFIG["num_labels"]
    model = library.DistilBertForSequenceClassification.from_pretrained(f"{folder}/model", dtype=dtype).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    states: list[torch.Tensor] = []

    def forward() -> None:
        with torch.inference_mode():
            states[:] = [model.distilbert(input_ids=ids, attention_mask=mask).last_hidden_state]

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()

    with packing(kind):
        found = {"forward": median_time(forward, device, rounds), "step": median_time(step, device, rounds)}
    found["memory"] = torch.cuda.max_memory_allocated() / 1e6 if device.startswith("cuda") else float("nan")
    found["apart"] = compare(states[0][mask.bool()].float().cpu(), Path(folder, "states.pt"))
    print(json.dumps(found))


def packing(kind: str) -> contextlib.AbstractContextManager[None]:
    if kind not in ("packed", "padded"):
        return contextlib.nullcontext()
    from maquette.modeling.packing import use_packing

    return use_packing(kind == "packed")


def median_time(action, device: str, rounds: int) -> float:
    """Give milliseconds, after three runs to warm up; a GPU is waited for."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = []
    for _ in range(rounds + 3):
        wait()
        start = time.perf_counter()
        action()
        wait()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def compare(states, path: Path) -> float:
    import torch

    if not path.exists():
        torch.save(states, path)
    return (states - torch.load(path)).abs().max().item()


if __name__ == "__main__":
    main()
