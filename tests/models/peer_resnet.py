"""Computes in the peer's environment what tests/models/test_resnet.py expects. Usage: peer_resnet.py <folder>.

The folder holds `inputs.safetensors`, `cases.json` (a configuration and the names of images for each case), and our
models in `ours/<case>`. Written are the peer's own models in `theirs/<case>`, and for both kinds
`results/<kind>-<case>.safetensors`.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    inputs = load_file(folder / "inputs.safetensors")
    for case, settings in json.loads((folder / "cases.json").read_text(encoding="utf-8")).items():
        torch.manual_seed(1)
        own = transformers.ResNetForImageClassification(transformers.ResNetConfig(**settings["config"]))
        scatter(own)
        own.save_pretrained(folder / "theirs" / case)
        for whose in ("ours", "theirs"):
            found = {}
            for name in settings["images"]:
                path, images, labels = folder / whose / case, inputs[name], inputs[f"labels.{case}"]
                found |= {f"{name}.{key}": value for key, value in run(path, images, labels).items()}
            keys = json.dumps(sorted(own.state_dict())).encode()
            found["keys"] = torch.tensor(list(keys), dtype=torch.uint8)
            found = {name: value.detach().clone().contiguous() for name, value in found.items()}
            save_file(found, folder / "results" / f"{whose}-{case}.safetensors")


def scatter(model) -> None:
    """Give batch normalisation weights and statistics that are not those of a fresh one."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.3)


def run(path: Path, images, labels) -> dict:
    """Give outputs without and with gradients, a training step's gradients and statistics, and feature maps."""
    model = transformers.ResNetForImageClassification.from_pretrained(path)
    labels = labels[: len(images)]
    with torch.no_grad():
        output = model(images, labels, output_hidden_states=True)
        base = model.resnet(images)
    found = {"logits": output.logits, "loss": output.loss, "last": base.last_hidden_state, "pooled": base.pooler_output}
    found |= {f"state.{number}": state for number, state in enumerate(output.hidden_states)}
    if len(images) > 4:  # as in the test
        model, images = model.double(), images.double()
    for mode in () if images.shape[-1] > 200 else ("eval", "train"):
        model.train(mode == "train").zero_grad()
        output = model(images, labels)
        output.loss.backward()
        found |= {f"{mode}.logits": output.logits, f"{mode}.loss": output.loss}
        found |= {f"{mode}.grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    found |= {f"buffer.{name}": buffer for name, buffer in model.named_buffers()}
    backbone = transformers.ResNetBackbone.from_pretrained(path, out_features=["stem", "stage2"])
    with torch.no_grad():
        maps = backbone(images.float()).feature_maps
    return {**found, **{f"map.{number}": value for number, value in enumerate(maps)}}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
