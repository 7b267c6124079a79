"""Wav2Vec2 for CTC on padded clips: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/wav2vec2.py [--rounds 1] [--threads 2] [--clips 16]

The model is of base size (12 layers of 768) and of the large models' kind: a norm after every convolution, norms before
attention (`feat_extract_norm="layer"`, `do_stable_layer_norm=True`). The clips are noise of 1 to 15 seconds at 16 kHz,
padded to the longest, with an attention mask. Both libraries load one folder of random weights; logits at real frames
are compared. Seconds are wall-clock, of one call each after a warm-up on two short clips; CPU seconds are those of all
threads.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--clips", type=int, default=16)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, threads=chosen.threads, clips=chosen.clips)
        return
    interpreters = {"transformers": os.environ["MAQUETTE_PEER_PYTHON"], "maquette": sys.executable}
    results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        make = (
            "import torch, maquette as m; torch.manual_seed(0); "
            f"m.Wav2Vec2ForCTC(m.Wav2Vec2Config(**{CONFIG!r})).save_pretrained({folder!r} + '/model')"
        )
        subprocess.run([sys.executable, "-W", "ignore", "-c", make], check=True, capture_output=True)
        for _ in range(chosen.rounds):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder]
                command += ["--threads", str(chosen.threads), "--clips", str(chosen.clips)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    lengths = draw_lengths(chosen.clips)
    share = sum(lengths) / len(lengths) / max(lengths)
    print(f"{len(lengths)} clips, the longest of {max(lengths) / 16000:.1f} s; {share:.1%} of the padded batch is real")
    report(results)


def draw_lengths(clips: int) -> list[int]:
    """Give the samples of each clip: from 1 to 15 seconds, evenly spaced, in no order."""
    seconds = [1 + 14 * number / max(clips - 1, 1) for number in range(clips)]
    return [int(16000 * seconds[(7 * number) % clips]) for number in range(clips)]


def work(library: str, folder: str, *, threads: int, clips: int) -> None:
    """Run in a process of its own: measure, and compare with what the other process left."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    lengths = draw_lengths(clips)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    waves = torch.randn(mask.shape) * mask
    model = importlib.import_module(library).Wav2Vec2ForCTC.from_pretrained(f"{folder}/model").eval()
    found: dict[str, float] = {}
    with torch.inference_mode():
        model(waves[:2, :16000], mask[:2, :16000])
        before = time.perf_counter(), time.process_time()
        logits = model(waves, mask).logits
        found |= {"letters": time.perf_counter() - before[0], "letters_cpu": time.process_time() - before[1]}
    real = torch.zeros(logits.shape[:2], dtype=torch.bool)
    for row, samples in enumerate(lengths):
        real[row, : model._get_feat_extract_output_lengths(torch.tensor(samples)).item()] = True
    found["letters_apart"] = compare({"logits": logits[real]}, Path(folder, "logits.safetensors"))
    print(json.dumps(found))


def compare(tensors, path: Path) -> float:
    """Give the largest difference to what the first process wrote; write it, if this is the first."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return 0.0
    other = load_file(path)
    return max((tensors[name] - other[name]).abs().max().item() for name in other)


def report(results: dict[str, list[dict[str, float]]]) -> None:
    ours, theirs = results["maquette"], results["transformers"]
    print(f"{f'median of {len(ours)} rounds':40} {'maquette':>9} {'peer':>9} {'peer / maquette':>22} {'apart':>8}")
    for key, unit in (("letters", "s"), ("letters_cpu", "CPU s")):
        a, b = ([run[key] for run in runs] for runs in (ours, theirs))
        ratios = [y / x for x, y in zip(a, b, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        apart = max(run["letters_apart"] for run in ours)
        times = f"{statistics.median(a):9.2f} {statistics.median(b):9.2f}"
        print(f"{'Wav2Vec2ForCTC, ' + unit:40} {times} {spread:>22} {apart:8.0e}")


if __name__ == "__main__":
    main()
