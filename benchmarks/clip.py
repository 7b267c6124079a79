"""CLIP's two towers: maquette and the peer in turn, each run a process of its own, on one folder of random weights.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/clip.py [--rounds 3] [--threads 1] [--layers 4]

Sizes are those of ViT-B/32, with fewer blocks. The texts are 32 captions of 5 to 20 tokens, padded to 77 as CLIP was
trained, or without any padding; the images 16 of 224 by 224. Measured are both towers in one call of `CLIPModel` under
`inference_mode`, each tower alone, and a training step of the two with the contrastive loss. Processor seconds are
those of all threads, and suffer less from what else the machine does; each is the shortest that a process measured.
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
from typing import Any

TEXTS, IMAGES, LENGTH, END, REPEATS = 32, 16, 77, 49407, 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--worker", nargs=2, metavar=("LIBRARY", "FOLDER"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        work(*chosen.worker, threads=chosen.threads, layers=chosen.layers)
        return
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds):
            for library in list(interpreters)[:: 1 if number % 2 == 0 else -1]:
                command = [interpreters[library], "-W", "ignore", __file__, "--worker", library, folder]
                command += ["--threads", str(chosen.threads), "--layers", str(chosen.layers)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results)


def work(library: str, folder: str, *, threads: int, layers: int) -> None:
    """Run in a process of its own: measure."""
    import torch

    torch.set_num_threads(threads)
    if library == "transformers":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
        importlib.import_module("torchvision_operators").declare_operators()
    module = importlib.import_module(library)
    model, place = load(module, Path(folder), layers), Path(folder)
    inputs = make_inputs()
    found: dict[str, float] = {}
    jobs = {
        "both towers, padded": lambda: model(inputs["ids"], inputs["pixels"], inputs["mask"]).logits_per_image,
        "both towers, unpadded": lambda: model(inputs["full"], inputs["pixels"]).logits_per_image,
        "texts, padded": lambda: model.text_model(inputs["ids"], inputs["mask"]).pooler_output,
        "texts, unpadded": lambda: model.text_model(inputs["full"]).pooler_output,
        "images": lambda: model.vision_model(inputs["pixels"]).pooler_output,
    }
    with torch.inference_mode():
        for name, job in jobs.items():
            output = job()
            file = place / f"{name}.pt"
            torch.save(output, file) if not file.exists() else None
            found[f"{name} apart"] = (output - torch.load(file)).abs().max().item() / output.abs().max().item()
            found[name] = min(measure(job) for _ in range(REPEATS))
    model.train()
    half = {
        "input_ids": inputs["ids"][:IMAGES],
        "attention_mask": inputs["mask"][:IMAGES],
        "pixel_values": inputs["pixels"],
    }

    def step() -> Any:
        model.zero_grad()
        model(**half, return_loss=True).loss.backward()

    step()
    found["a training step, padded"] = min(measure(step) for _ in range(REPEATS))
    print(json.dumps(found))


def measure(job: Any) -> float:
    """Give the processor seconds of all threads."""
    start = time.process_time()
    job()
    return time.process_time() - start


def load(module: Any, folder: Path, layers: int) -> Any:
    """Load the folder, or make it first."""
    import torch

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        depth = {"num_hidden_layers": layers}
        module.CLIPModel(module.CLIPConfig(text_config=depth, vision_config=depth)).save_pretrained(folder)
    return module.CLIPModel.from_pretrained(folder).eval()


def make_inputs() -> dict[str, Any]:
    """Make captions, images, and texts without padding."""
    import torch

    torch.manual_seed(0)
    lengths = torch.randint(5, 21, (TEXTS, 1))
    places = torch.arange(LENGTH)
    ids = torch.randint(1000, 40000, (TEXTS, LENGTH))
    full = torch.randint(1000, 40000, (TEXTS, 16))
    full[:, -1] = END
    return {
        "ids": ids.masked_fill(places >= lengths - 1, END),
        "mask": (places < lengths).long(),
        "full": full,
        "pixels": torch.randn(IMAGES, 3, 224, 224),
    }


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """Print medians and their ratios."""
    names = [name for name in results["maquette"][0] if not name.endswith(" apart")]
    print("| work | maquette | Transformers | ratio |\n| --- | --- | --- | --- |")
    for name in names:
        mine, theirs = (statistics.median(run[name] for run in results[library]) for library in results)
        print(f"| {name} | {mine:.3f} s | {theirs:.3f} s | {theirs / mine:.2f} |")
    apart = max(value for runs in results.values() for run in runs for key, value in run.items() if "apart" in key)
    print(f"\nOutputs differ by at most {apart:.1e} of the largest.")


if __name__ == "__main__":
    main()
