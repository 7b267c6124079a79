"""What xray takes, on configurations of a million to a trillion parameters; and what others count of small models.

    python benchmarks/xray.py [--rounds 3] [--others FOLDER]

Each size runs in a process of its own, on one thread: processor time and time of `xray` alone, and the most memory of
the whole process. `--others` is a folder with torchinfo and fvcore (`pip install --target FOLDER --no-deps torchinfo
fvcore iopath yacs termcolor tabulate portalocker tqdm`): what they and torch's own counter say, beside xray.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import maquette
from maquette.workshop.xray import xray

LLAMA = "LlamaConfig(hidden_size={}, intermediate_size={}, num_hidden_layers={}, num_attention_heads={}, \
num_key_value_heads={}, vocab_size={})"
MOE = "Qwen3MoeConfig(hidden_size={}, num_hidden_layers={}, num_attention_heads=64, num_key_value_heads={}, \
head_dim=128, moe_intermediate_size={}, num_experts={}, num_experts_per_tok=8, vocab_size={})"
SIZES = {
    "dense, 1 million": LLAMA.format(128, 352, 4, 4, 4, 1024),
    "dense, 100 million": LLAMA.format(768, 2048, 12, 12, 12, 16384),
    "dense, 7 billion": LLAMA.format(4096, 11008, 32, 32, 32, 32000),
    "dense, 70 billion": LLAMA.format(8192, 28672, 80, 64, 8, 128256),
    "experts, 235 billion": MOE.format(4096, 94, 4, 1536, 128, 151936),
    "experts, 1 trillion": MOE.format(7168, 61, 8, 2048, 384, 163840),
}
RUN = """
import json, pathlib, re, resource, time
import torch
torch.set_num_threads(1)
from maquette import *
from maquette.workshop.xray import xray
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start, before = time.perf_counter(), used()
seen = xray({config}, dtype="bf16", auto_class="AutoModelForCausalLM", train={train})
told = dict(parameters=seen.parameters, active=seen.tree.active, flops=seen.flops)
told |= dict(wall=time.perf_counter() - start, processor=used() - before)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(json.dumps(told | dict(memory=int(peak[1]) / 1000)))
"""


def measure(config: str, train: bool) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-c", RUN.format(config=config, train=train)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def show_sizes(rounds: int) -> None:
    print("| configuration | parameters | a forward: processor (wall) | a step: processor (wall) | memory |")
    print("| --- | --- | --- | --- | --- |")
    for name, config in SIZES.items():
        found = {train: [measure(config, train) for _ in range(rounds)] for train in (False, True)}
        cells = [
            " s (".join(f"{statistics.median(each[key] for each in some):.1f}" for key in ("processor", "wall")) + " s)"
            for some in found.values()
        ]
        memory = max(each["memory"] for some in found.values() for each in some)
        print(f"| {name} | {found[False][0]['parameters']:,} | {' | '.join(cells)} | {memory:.0f} MB |", flush=True)
    load = os.getloadavg()[0]
    print(f"\nLoad of the machine at the end: {load:.1f} on {os.cpu_count()} cores.\n")


# What others count --------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    """Gives one tensor, as counters that trace want it."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)[self.name]
        return found


def models() -> dict[str, tuple[Any, str, Tensor]]:
    """Small models: of the plain kind, where all should agree, and of each kind that is easily counted wrong."""
    ids, pixels = torch.ones(2, 64, dtype=torch.long), torch.zeros(2, 3, 32, 32)
    bert = {"vocab_size": 100, "dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}
    expert = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    expert |= {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 100}
    resnet = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "num_labels": 10}
    vit = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vit |= {"image_size": 32, "patch_size": 8, "num_labels": 10}
    eager = {"attn_implementation": "eager"}
    made = {
        "ResNet: convolutions": maquette.ResNetForImageClassification(maquette.ResNetConfig(**resnet)),
        "ViT, plain attention": maquette.ViTForImageClassification(maquette.ViTConfig(**vit, **eager)),
        "ViT, fused attention": maquette.ViTForImageClassification(maquette.ViTConfig(**vit)),
        "DistilBERT, plain attention, tied": maquette.DistilBertForMaskedLM(maquette.DistilBertConfig(**bert, **eager)),
        "DistilBERT, fused attention, tied": maquette.DistilBertForMaskedLM(maquette.DistilBertConfig(**bert)),
        "Mixtral: 2 of 4 experts": maquette.MixtralForCausalLM(maquette.MixtralConfig(**expert)),
    }
    return {
        name: (model.eval(), "logits", pixels if model.main_input_name == "pixel_values" else ids)
        for name, model in made.items()
    }


def count_others(model: Any, name: str, x: Tensor) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    found["torch"] = f"{sum(p.numel() for p in model.parameters()):,}", f"{counter.get_total_flops():,}"
    try:
        import torchinfo

        info = torchinfo.summary(Bare(model, name), input_data=x, verbose=0)
        found["torchinfo"] = f"{info.total_params:,}", f"{2 * info.total_mult_adds:,}"
    except Exception as error:
        found["torchinfo"] = "–", type(error).__name__
    try:
        from fvcore.nn import FlopCountAnalysis, parameter_count

        analysis = FlopCountAnalysis(Bare(model, name), x)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        found["fvcore"] = f"{parameter_count(model)['']:,}", f"{2 * analysis.total():,}"
    except Exception as error:
        found["fvcore"] = "–", type(error).__name__
    return found


def show_counts() -> None:
    print("| model | | xray | torch | torchinfo | fvcore |")
    print("| --- | --- | --- | --- | --- | --- |")
    for label, (model, name, x) in models().items():
        seen = xray(model, inputs={model.main_input_name: x})
        others = count_others(model, name, x)
        active = f", active {seen.tree.active:,}" if seen.tree.active != seen.parameters else ""
        rows = (("parameters", f"{seen.parameters:,}{active}"), ("work", f"{seen.flops:,}"))
        for place, (what, ours) in enumerate(rows):
            cells = ["" if place else label, what, ours, *(each[place] for each in others.values())]
            print(f"| {' | '.join(cells)} |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--others", default="")
    chosen = options.parse_args()
    if chosen.others:
        sys.path.append(chosen.others)
        warnings.simplefilter("ignore")
        show_counts()
    if chosen.rounds:
        show_sizes(chosen.rounds)


if __name__ == "__main__":
    main()
