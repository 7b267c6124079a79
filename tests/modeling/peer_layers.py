"""Run by the peer's interpreter: what the peer computes with its blocks, for test_layers.py to compare with.

    python peer_layers.py FOLDER

FOLDER has rotary.json ({case: fields of a Llama configuration}) and inputs.safetensors. This writes results.safetensors
and configurations.json: what became of the rotary parameters.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    inputs, results, settled = load_file(folder / "inputs.safetensors"), {}, {}
    for case, fields in json.loads((folder / "rotary.json").read_text(encoding="utf-8")).items():
        config = transformers.LlamaConfig(**fields)
        settled[case] = config.rope_parameters
        for length in (30, 200):  # a fresh module for each: the peer's remember how long the last text was
            positions = torch.arange(length)[None]
            cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
            results[f"cos.{case}.{length}"], results[f"sin.{case}.{length}"] = cos.contiguous(), sin.contiguous()
    for kind, norm in (("plain", LlamaRMSNorm(16, eps=1e-5)), ("plus one", Gemma2RMSNorm(16, eps=1e-5))):
        norm.weight.data = inputs["norm.weight"]
        for dtype in (torch.float32, torch.bfloat16):
            results[f"norm.{kind}.{dtype}"] = norm.to(dtype)(inputs["norm.x"].to(dtype)).detach()
    logits = tuple(inputs["router.logits"])
    for name, mask in (("all", None), ("some", inputs["router.mask"])):
        results[f"balance.{name}"] = load_balancing_loss_func(logits, logits[0].shape[1], 2, mask).reshape(1)
    save_file(results, folder / "results.safetensors")
    (folder / "configurations.json").write_text(json.dumps(settled), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
