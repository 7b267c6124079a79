"""Loading a 256 MB checkpoint from a warm cache: maquette and the peer in turn, each run a process of its own.

    MAQUETTE_PEER_PYTHON=path/to/python python benchmarks/loading.py [--pairs 9]

Each process builds the same user-written model (an embedding, blocks of linear layers and norms; 64 million float32
parameters), loads the same folder with `from_pretrained`, and then sums every weight, so that memory that is merely
mapped is read once as well. Times are of the calls alone; memory is the peak of the whole process, and what the load
added to it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = """
import torch
from torch import nn
from {library} import PretrainedConfig, PreTrainedModel


class BlocksConfig(PretrainedConfig):
    model_type = "blocks-benchmark"

    def __init__(self, width=1024, depth=7, vocabulary=5000, **kwargs):
        self.width = width
        self.depth = depth
        self.vocabulary = vocabulary
        super().__init__(**kwargs)


class Blocks(PreTrainedModel):
    config_class = BlocksConfig

    def __init__(self, config):
        super().__init__(config)
        width = config.width
        self.embed = nn.Embedding(config.vocabulary, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(config.depth)
        )
        self.post_init()

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer(x)
        return x
"""

RUN = """
import json, resource, sys, time
sys.path.insert(0, {folder!r})
import torch
torch.set_num_threads(2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
bare = peak()
from blocks_{library} import Blocks, BlocksConfig
before, at_start = peak(), time.perf_counter()
model = Blocks.from_pretrained({checkpoint!r})
loaded = time.perf_counter()
after = peak()
total = sum(float(p.sum()) for p in model.parameters())
touched = time.perf_counter()
print(json.dumps(dict(load=loaded - at_start, touched=touched - at_start, bare=bare, peak=after, added=after - before,
                      above=after - bare, peak_touched=peak(), total=total)))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    pairs = options.parse_args().pairs
    interpreters = {"maquette": sys.executable, "transformers": os.environ["MAQUETTE_PEER_PYTHON"]}
    with tempfile.TemporaryDirectory() as folder:
        for library in interpreters:
            Path(folder, f"blocks_{library}.py").write_text(MODEL.format(library=library), encoding="utf-8")
        checkpoint = f"{folder}/checkpoint"
        save = f"import sys; sys.path.insert(0, {folder!r}); from blocks_maquette import *; Blocks(BlocksConfig())"
        subprocess.run([sys.executable, "-c", f"{save}.save_pretrained({checkpoint!r})"], check=True)
        size = Path(checkpoint, "model.safetensors").stat().st_size
        print(f"checkpoint: {size / 1e6:.0f} MB")
        results: dict[str, list[dict[str, float]]] = {library: [] for library in interpreters}
        for number in range(pairs + 1):
            for library, interpreter in interpreters.items():
                code = RUN.format(folder=folder, library=library, checkpoint=checkpoint)
                done = subprocess.run(
                    [interpreter, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True
                )
                if number:  # the first of each warms the cache
                    results[library].append(json.loads(done.stdout.splitlines()[-1]))
    report(results)


def report(results: dict[str, list[dict[str, float]]]) -> None:
    ours, theirs = results["maquette"], results["transformers"]
    if abs(ours[0]["total"] - theirs[0]["total"]) > 1e-3 * abs(theirs[0]["total"]):
        raise SystemExit("The two libraries loaded different weights; the times mean nothing.")
    print(f"{'median of ' + str(len(ours)) + ' pairs':34} {'maquette':>10} {'peer':>10} {'ratio':>7}")
    rows = {
        "from_pretrained, s": "load",
        "… and every weight read once, s": "touched",
        "peak memory of the process, MB": "peak",
        "… and every weight read once, MB": "peak_touched",
        "of which `import torch` alone, MB": "bare",
        "peak above `import torch`, MB": "above",
        "added by from_pretrained, MB": "added",
    }
    for title, key in rows.items():
        a, b = ([run[key] for run in runs] for runs in (ours, theirs))
        ratio = statistics.median(x / y if y else float("nan") for x, y in zip(a, b, strict=True))
        print(f"{title:34} {statistics.median(a):10.3f} {statistics.median(b):10.3f} {ratio:7.3f}")


if __name__ == "__main__":
    main()
