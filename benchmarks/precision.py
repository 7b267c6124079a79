"""Types of weights on this processor: float32, bfloat16 and int8, in forwards, steps of training, and generation.

    python benchmarks/precision.py [--rounds 3] [--threads 2] [--rows 8] [--length 128]

All models have the same weights, a Llama of 12 layers and 768 wide; float64 says what is right. Kinds take turns within
a round, and ratios are medians over the rounds. The error is that of all logits, as a share of their size. What int8
cannot be trained in, nothing is printed for. Which instructions the processor has is said first.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import maquette

KINDS = ("float32", "bfloat16", "int8", "int8-dynamic", "bfloat16, int8")
SIZES = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "vocab_size": 8000}
SIZES |= {"num_attention_heads": 12, "num_key_value_heads": 12, "max_position_embeddings": 1024}
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"rounds": 3, "threads": 2, "rows": 8, "length": 128}.items():
        options.add_argument(f"--{name}", type=int, default=default)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    plain = maquette.LlamaForCausalLM(maquette.LlamaConfig(**SIZES)).eval()
    ids = torch.randint(1, 8000, (chosen.rows, chosen.length))
    with torch.no_grad():
        right = copy.deepcopy(plain).double()(ids).logits
    models = {kind: make(plain, kind) for kind in KINDS}
    seconds: dict[str, dict[str, list[float]]] = {}
    for _ in range(chosen.rounds):
        for kind, model in models.items():
            for task, run in tasks(model, ids).items():
                seconds.setdefault(task, {}).setdefault(kind, []).append(measure(run))
    print("this processor has", ", ".join(name for name in FLAGS if name in read_flags()) or "none of them")
    for kind, model in models.items():
        with torch.no_grad():
            error = (model(ids).logits.double() - right).norm() / right.norm()
        print(f"{kind:16} {model.get_memory_footprint() / 1e6:6.0f} MB, error {float(error):.1e}")
    for task, found in seconds.items():
        for kind, times in found.items():
            ratios = [a / b for a, b in zip(found["float32"], times, strict=True)]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            print(f"{task:10} {kind:16} {statistics.median(times):8.3f} s {statistics.median(ratios):6.2f} ({spread})")


def read_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def make(plain: Any, kind: str) -> Any:
    model = copy.deepcopy(plain)
    if kind.startswith("bfloat16"):
        model = model.to(torch.bfloat16)
    if "int8" in kind:
        model.quantize(kind.split(", ")[-1])
    return model


def tasks(model: Any, ids: torch.Tensor) -> dict[str, Callable[[], Any]]:
    def read() -> Any:
        with torch.no_grad():
            return model(ids)

    def learn() -> None:
        model.train()
        model.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        model.eval()

    found: dict[str, Callable[[], Any]] = {"forward": read}
    if not model.is_quantized:
        found["training"] = learn
    return found | {
        "one row": lambda: model.generate(ids[:1, :20], max_new_tokens=32, min_new_tokens=32),
        "all rows": lambda: model.generate(ids[:, :20], max_new_tokens=16, min_new_tokens=16),
    }


def measure(run: Callable[[], Any]) -> float:
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
