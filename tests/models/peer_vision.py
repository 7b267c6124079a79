"""Run by the peer's interpreter: what the peer computes with its models of images, for test_vision.py to compare with.

    python peer_vision.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {class, config, fields, inputs, options, shown}}), and ours/<case>,
which maquette saved. For every case this writes theirs/<case>, a model of the peer's own, and for both folders
results/<whose>-<case>.safetensors, outputs and the loss, and gradients/<whose>-<case>, a save whose weights are the
gradients, so that they have the names that checkpoints have; of shown cases also states and attention weights. It
writes how fresh weights of fresh.json are distributed, and what configurations are without arguments. FOLDER/parts has
folders of tokenizers and image processors, for each of which this writes what the peer makes of texts and images.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from torchvision_operators import declare_operators

declare_operators()  # the peer's vision models import torchvision where it is installed

import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from vision_calls import flatten, hide, run  # noqa: E402


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    for case, about in cases.items():
        try:
            run_case(folder, case, about, inputs)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None
    fresh = {}
    for case, about in json.loads((folder / "fresh.json").read_text(encoding="utf-8")).items():
        make(about).save_pretrained(folder / "fresh" / case)
        weights = load_file(folder / "fresh" / case / "model.safetensors")
        fresh[case] = {name: [w.mean().item(), w.std().item(), w.abs().max().item()] for name, w in weights.items()}
    (folder / "drawn.json").write_text(json.dumps(fresh), encoding="utf-8")
    defaults = {name: getattr(transformers, name)().to_dict() for name in {about["config"] for about in cases.values()}}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")
    prepare(folder / "parts")


def make(about):
    return getattr(transformers, about["class"])(getattr(transformers, about["config"])(**about["fields"]))


def run_case(folder, case, about, inputs):
    model_class, model = getattr(transformers, about["class"]), make(about)
    with torch.no_grad():  # as random as weights, so that no scale is left at one
        for parameter in model.parameters():
            if parameter.ndim < 2 or parameter.std() == 0:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "theirs" / case)
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        found = {name: value.detach().clone().contiguous() for name, value in run(model.eval(), about, inputs).items()}
        save_file(found, folder / "results" / f"{whose}-{case}.safetensors")
        for parameter in model.parameters():
            parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        model.save_pretrained(folder / "gradients" / f"{whose}-{case}")
    if about["shown"]:
        model = model_class.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
        given = {name: inputs[place] for name, place in about["inputs"].items()}
        shown = {"output_hidden_states": True, **({"output_attentions": True} if about["shown"] == "all" else {})}
        found = hide(flatten(model(**given, **about["options"], **shown)), given.get("attention_mask"))
        found = {name: value.detach().clone().contiguous() for name, value in found.items()}
        save_file(found, folder / "results" / f"shown-{case}.safetensors")


def prepare(folder):
    """Write what image processors and tokenizers make of images and texts, and what is saved of them."""
    pictures = [Image.open(path) for path in sorted(folder.glob("*.png"))]
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    for place in filter(Path.is_dir, sorted(folder.iterdir())):
        about = json.loads((place / "about.json").read_text(encoding="utf-8"))
        if about["kind"] == "images":
            module = importlib.import_module(f"transformers.models.{about['module']}")
            processor = getattr(module, about["class"]).from_pretrained(place)
            found = [processor(picture, return_tensors="np")["pixel_values"][0] for picture in pictures]
            np.savez(place / "pixels.npz", **{str(number): array for number, array in enumerate(found)})
            processor.save_pretrained(place / "theirs")
            plain = getattr(module, about["class"])()
            np.savez(place / "plain.npz", plain(pictures[0], return_tensors="np")["pixel_values"][0])
        else:
            tokenizer = getattr(transformers, about["class"]).from_pretrained(place)
            found = {"single": tokenizer(texts)["input_ids"], "pairs": tokenizer(texts, texts[::-1])["input_ids"]}
            found["decoded"] = tokenizer.batch_decode(found["single"], skip_special_tokens=True)
            (place / "ids.json").write_text(json.dumps(found), encoding="utf-8")
            tokenizer.save_pretrained(place / "theirs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
