"""ResNet-50 on images of 224 x 224: maquette, the peer, and timm with channels last, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/resnet.py [--pairs 3] [--threads 2]

All three load the same weights; logits are compared with the peer's. Inference is in evaluation mode under
`inference_mode`; a training step is forward and backward. timm gets what it is at its fastest with: weights and images
in channels-last order beforehand. maquette and the peer get images as everyone has them. Seconds are wall-clock, the
median of a process's calls; CPU seconds are those of all threads.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
# For each measure what it is called, the number of images, whether it trains, and how often a process repeats it.
MEASURES = {
    "eight": ("inference, 8 images", 8, False, 3),
    "two": ("inference, 2 images", 2, False, 5),
    "one": ("inference, 1 image", 1, False, 10),
    "step": ("training step, 8 images", 8, True, 1),
}
MAKE = """
import sys, torch, transformers
torch.manual_seed(0)
model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(std=0.1)
        module.running_var.uniform_(0.8, 1.2)
model.save_pretrained(sys.argv[1])
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--measures", nargs="*", default=list(MEASURES), choices=list(MEASURES))
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, measures=chosen.measures, threads=chosen.threads)
        return
    peer = os.environ["MAQUETTE_PEER_PYTHON"]
    interpreters = {"transformers": peer, "timm": sys.executable, "maquette": sys.executable}
    results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([peer, "-W", "ignore", "-c", MAKE, f"{folder}/model"], check=True, capture_output=True)
        for _ in range(chosen.pairs):
            for library, interpreter in interpreters.items():
                command = [interpreter, "-W", "ignore", __file__, "--worker", library, folder]
                command += ["--threads", str(chosen.threads), "--measures", *chosen.measures]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results)


def work(library: str, folder: str, *, measures: list[str], threads: int) -> None:
    """Run in a process of its own: measure, and compare with what the first process left."""
    import torch

    torch.set_num_threads(threads)
    model = load(library, f"{folder}/model")
    found: dict[str, float] = {}
    for name in measures:
        _, count, trains, repeats = MEASURES[name]
        torch.manual_seed(1)
        images = torch.randn(count, 3, 224, 224)
        if library == "timm":
            images = images.contiguous(memory_format=torch.channels_last)
        model.train(trains)
        walls, cpus = [], []
        for _ in range(repeats + 1):
            start = time.perf_counter(), time.process_time()
            logits = step(model, images) if trains else infer(model, images)
            walls.append(time.perf_counter() - start[0])
            cpus.append(time.process_time() - start[1])
        found |= {name: statistics.median(walls[1:]), f"{name}_cpu": statistics.median(cpus[1:])}
        found[f"{name}_apart"] = 0.0 if trains else compare(logits, Path(folder, f"{name}.pt"))
    print(json.dumps(found))


def load(library: str, path: str):
    if library != "timm":
        module = __import__(library)
        return module.ResNetForImageClassification.from_pretrained(path)
    sys.path.insert(0, str(SUPPORT))
    from torchvision_operators import declare_operators

    declare_operators()
    import timm
    import torch
    from safetensors.torch import load_file

    model = timm.create_model("resnet50", num_classes=1000)
    weights = load_file(f"{path}/model.safetensors")
    model.load_state_dict({translate(name): tensor for name, tensor in weights.items()})
    return model.to(memory_format=torch.channels_last)


def translate(name: str) -> str:
    """Give timm's name of a weight."""
    name = name.replace("resnet.embedder.embedder.convolution", "conv1").replace("classifier.1", "fc")
    name = name.replace("resnet.embedder.embedder.normalization", "bn1")
    name = name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
    name = re.sub(r"resnet\.encoder\.stages\.(\d)\.layers", lambda found: f"layer{int(found[1]) + 1}", name)
    kinds = {"convolution": "conv", "normalization": "bn"}
    return re.sub(r"layer\.(\d)\.(\w+)\.", lambda found: f"{kinds[found[2]]}{int(found[1]) + 1}.", name)


def infer(model, images):
    import torch

    with torch.inference_mode():
        output = model(images)
    return getattr(output, "logits", output)


def step(model, images):
    import torch

    model.zero_grad()
    output = model(images)
    logits = getattr(output, "logits", output)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    return logits


def compare(logits, path: Path) -> float:
    """Give the largest difference to what the first process wrote, as a part of the largest value; the first writes."""
    import torch

    if not path.exists():
        torch.save(logits.clone(), path)
        return 0.0
    other = torch.load(path)
    return ((logits - other).abs().max() / other.abs().max()).item()


def report(results: dict[str, list[dict[str, float]]]) -> None:
    runs = results["maquette"]
    head = f"{'maquette':>9} {'peer':>9} {'timm':>9} {'peer / maquette':>22} {'timm / maquette':>22} {'apart':>7}"
    print(f"{f'median of {len(runs)} processes each':36} {head}")
    for name, (title, *_) in MEASURES.items():
        for key, unit in ((name, "s"), (f"{name}_cpu", "CPU s")):
            if key in runs[0]:
                times = {library: [run[key] for run in found] for library, found in results.items()}
                medians = (statistics.median(times[library]) for library in ("maquette", "transformers", "timm"))
                ratios = (spread(times[other], times["maquette"]) for other in ("transformers", "timm"))
                apart = max(run[f"{name}_apart"] for run in runs)
                numbers = " ".join(f"{median:9.3f}" for median in medians)
                print(f"{f'{title}, {unit}':36} {numbers} {' '.join(f'{ratio:>22}' for ratio in ratios)} {apart:7.0e}")


def spread(theirs: list[float], ours: list[float]) -> str:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
