"""Run by the peer's interpreter: what the peer computes with ViT, for test_vit.py to compare with.

    python peer_vit.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {model, config, constructor, inputs, options}}), and ours/<case>, of
maquette. For every case this writes theirs/<case>, a model of the peer's own, and for both folders and both kinds of
attention results/<whose>-<case>-<kind>.safetensors with outputs and the loss, and gradients/…, a save whose weights are
the gradients, so that they have the names that checkpoints have.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from torchvision_operators import declare_operators

declare_operators()  # the peer's vision models import torchvision where it is installed

import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    for case, settings in json.loads((folder / "cases.json").read_text(encoding="utf-8")).items():
        model_class, constructor = getattr(transformers, settings["model"]), settings["constructor"]
        arguments = {name: inputs[given] for name, given in settings["inputs"].items()} | settings["options"]
        fresh = model_class(transformers.ViTConfig(**settings["config"]), **constructor)
        if (token := fresh.base_model.embeddings.mask_token) is not None:
            torch.nn.init.normal_(token)  # zeros would hide mistakes
        fresh.save_pretrained(folder / "theirs" / case)
        for place in (f"{whose}-{case}-{kind}" for whose in ("ours", "theirs") for kind in ("sdpa", "eager")):
            whose, _, kind = place.split("-")
            model, info = model_class.from_pretrained(
                folder / whose / case, attn_implementation=kind, output_loading_info=True, **constructor
            )
            if any(info.values()):
                raise SystemExit(f"The peer does not load {whose}/{case} whole: {info}")
            save_file(run(model, arguments), folder / "results" / f"{place}.safetensors")
            for parameter in model.parameters():
                parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            model.save_pretrained(folder / "gradients" / place)
    record_statistics(folder)


def run(model, arguments):
    """Give outputs and the loss, and leave gradients behind; without a loss, those of a ramp over the first output."""
    output = model(**arguments)
    kept = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    for name in ("hidden_states", "attentions"):
        kept |= {f"{name}.{number}": value for number, value in enumerate(output.get(name) or ())}
    first = output[0]
    (output.loss if "loss" in kept else (first * torch.linspace(-1, 1, first.numel()).view_as(first)).sum()).backward()
    return {name: value.detach().clone().contiguous() for name, value in kept.items()}


def record_statistics(folder):
    """Write mean, standard deviation and largest size of every fresh weight of a model of ViT-Base's width."""
    model = transformers.ViTForMaskedImageModeling(transformers.ViTConfig(num_hidden_layers=1))
    model.save_pretrained(folder / "fresh")
    weights = load_file(folder / "fresh" / "model.safetensors")
    found = {n: torch.stack([w.mean(), w.std(), w.abs().max()]) for n, w in weights.items()}
    save_file(found, folder / "results" / "fresh.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
