"""Compares what models compute in two frameworks: run in a process of its own, for it imports them all.

    python diff_runs.py FOLDER

Prints, as JSON, for each model and framework what `diff` says of equal weights, and of a weight changed in one layer.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import maquette
from maquette.workshop.diff import diff

TEXT = {"vocab_size": 40, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
IMAGE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "distilbert": ("DistilBertForSequenceClassification", TEXT, "transformer.layer.1.ffn.lin1"),
    "vit": ("ViTForImageClassification", IMAGE, "encoder.layer.1.intermediate.dense"),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "encoder.stages.1.layers.0.layer.1.convolution",
    ),
}


def make_inputs(name: str) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    if name != "distilbert":
        return {"pixel_values": draw.normal(size=(2, 3, 32, 32)).astype(np.float32)}
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return {"input_ids": draw.integers(1, 40, (2, 5)), "attention_mask": mask}


def main(folder: Path) -> None:
    seen = {}
    for name, (model_class, fields, changed) in CASES.items():
        torch.manual_seed(0)
        kind = getattr(maquette, model_class)
        model = kind(kind.config_class(**fields)).eval()
        model.save_pretrained(folder / name)
        with torch.no_grad():
            model.base_model.get_submodule(changed).weight.mul_(1.5)
        model.save_pretrained(folder / f"{name}-changed")
        for framework in ("flax", "keras"):
            options: dict[str, Any] = {"inputs": make_inputs(name), "frameworks": ["torch", framework]}
            alike = diff(folder / name, folder / name, **options).outputs
            other = diff(folder / name, folder / f"{name}-changed", **options).outputs
            assert alike is not None
            assert other is not None
            ends = {"compared": alike.compared, "alike": alike.first, "end": alike.last}
            seen[f"{name} {framework}"] = ends | {"first": other.first, "wanted": changed, "fed": other.inputs_equal}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
