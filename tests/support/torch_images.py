"""The torch half of the tests of image models in Keras and Flax; run as a script in a process of its own.

    python torch_images.py FOLDER

For every case this writes FOLDER/<case>: a save, `inputs.npz` and `outputs.npz`; and `trained`, one step of gradient
descent on the classifier "step", as a save with `counts.json`, over how many values each norm took its mean.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
VIT |= {"image_size": 12, "patch_size": 4, "encoder_stride": 4, "num_labels": 3}
BASIC = {"layer_type": "basic", "embedding_size": 6, "hidden_sizes": [6, 10], "depths": [2, 2], "num_labels": 3}
NARROW = {"embedding_size": 6, "hidden_sizes": [12, 20, 24], "depths": [2, 1, 2], "num_labels": 3}
STRETCHED = {"interpolate_pos_encoding": True}
CLASSES = {"labels": np.array([2, 0])}
# For each case the torch class, its configuration, the images' shape, what else it is called with, how it is made.
CASES = {
    "larger": ("ViTModel", VIT, (2, 3, 20, 28), STRETCHED, {}),
    "smaller": ("ViTModel", VIT, (2, 3, 4, 8), STRETCHED, {}),
    "ragged": ("ViTModel", VIT, (2, 3, 23, 41), STRETCHED, {"add_pooling_layer": False}),
    "as learned": ("ViTModel", VIT, (2, 3, 12, 12), STRETCHED, {}),
    "oblong": ("ViTModel", {**VIT, "image_size": (12, 20), "patch_size": (2, 5)}, (2, 3, 14, 15), STRETCHED, {}),
    "masked": (
        "ViTModel",
        VIT,
        (2, 3, 12, 12),
        {"bool_masked_pos": np.arange(18).reshape(2, 9) % 4 < 2},
        {"use_mask_token": True},
    ),
    "first only": ("ViTModel", VIT, (2, 3, 12, 12), {"only_first": True}, {}),
    "pruned": ("ViTModel", {**VIT, "pruned_heads": {1: [0, 2]}, "qkv_bias": False}, (2, 3, 12, 12), {}, {}),
    "vector": ("ViTModel", {**VIT, "pooler_output_size": 5, "pooler_act": "gelu"}, (2, 3, 12, 12), {}, {}),
    "attentions": ("ViTForImageClassification", VIT, (2, 3, 12, 12), {"output_attentions": True, **CLASSES}, {}),
    "no classes": ("ViTForImageClassification", {**VIT, "num_labels": 0}, (2, 3, 12, 12), {}, {}),
    "pixels": (
        "ViTForMaskedImageModeling",
        VIT,
        (2, 3, 19, 21),
        {"bool_masked_pos": np.arange(40).reshape(2, 20) % 3 == 0, **STRETCHED},
        {},
    ),
    "finer pixels": ("ViTForMaskedImageModeling", {**VIT, "encoder_stride": 6}, (2, 3, 12, 12), {}, {}),
    "odd": ("ResNetModel", NARROW, (2, 3, 61, 47), {}, {}),
    "even": ("ResNetModel", BASIC, (2, 3, 64, 32), {}, {}),
    "tiny": ("ResNetModel", NARROW, (1, 3, 5, 1), {}, {}),
    "earlier": ("ResNetModel", {**NARROW, "downsample_in_bottleneck": True}, (2, 3, 50, 50), {}, {}),
    "finer": ("ResNetModel", {**BASIC, "downsample_in_first_stage": True}, (2, 3, 37, 38), {}, {}),
    "grey": ("ResNetModel", {**NARROW, "num_channels": 1, "hidden_act": "gelu"}, (2, 1, 45, 45), {}, {}),
    "one of three": ("ResNetForImageClassification", BASIC, (2, 3, 40, 40), CLASSES, {}),
    "many": (
        "ResNetForImageClassification",
        {**BASIC, "problem_type": "multi_label_classification"},
        (2, 3, 40, 40),
        {"labels": np.array([[0, 1, 1], [0.5, 0, 1]], "float32")},
        {},
    ),
    "a number": (
        "ResNetForImageClassification",
        {**BASIC, "num_labels": 1},
        (2, 3, 40, 40),
        {"labels": np.array([0.3, -2], "float32")},
        {},
    ),
    "unclassified": ("ResNetForImageClassification", {**BASIC, "num_labels": 0}, (2, 3, 40, 40), {}, {}),
    "step": ("ResNetForImageClassification", BASIC, (4, 3, 40, 33), {"labels": np.array([2, 0, 1, 1])}, {}),
    "maps": ("ResNetBackbone", {**NARROW, "out_features": ["stem", "stage2"]}, (2, 3, 33, 40), {}, {}),
}


@pytest.fixture(scope="session")
def torch_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that this script writes."""
    folder = tmp_path_factory.mktemp("torch-images")
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def expected_statistics(before: dict, after: dict, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Tell what torch's save after a step would hold if its variances were, as elsewhere, means over n."""
    found = {name: value for name, value in after.items() if not name.endswith("num_batches_tracked")}
    for norm, count in counts.items():
        old = before[f"{norm}.running_var"]
        found[f"{norm}.running_var"] = old * 0.9 + (after[f"{norm}.running_var"] - old * 0.9) * (count - 1) / count
    return found


def write(folder: Path) -> None:
    import torch
    from torch_side import call

    import maquette

    for number, (case, (name, fields, shape, options, made)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        kind = getattr(maquette, name)
        model = kind(kind.config_class(**fields), **made).eval()
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():  # zeros and ones would hide what is mistaken for what
                    tensor += torch.rand_like(tensor) * 0.6 - 0.3
        model.save_pretrained(folder / case)
        inputs = {"pixel_values": torch.randn(shape).numpy(), **options}
        np.savez(folder / case / "inputs.npz", **inputs)
        np.savez(folder / case / "outputs.npz", **call(model, {"output_hidden_states": True, **inputs}))
        if case == "step":
            train(model, inputs, folder / "trained")


def train(model, inputs: dict[str, np.ndarray], folder: Path) -> None:
    import torch

    counts = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, x, name=name: counts.update({name: x[0][:, 0].numel()}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(**{name: torch.from_numpy(value) for name, value in inputs.items()}).loss.backward()
    optimizer.step()
    model.save_pretrained(folder)
    (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
