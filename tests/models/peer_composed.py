"""Run by the peer's interpreter: what the peer computes with models made of models, for test_composed.py.

    python peer_composed.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {"class", …}}), and ours/<case>, which maquette saved. For
every case this writes theirs/<case>, the same with weights of the peer's own, and results/<whose>-<case>.safetensors.
"""

import json
import sys
import traceback
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

warnings.filterwarnings("ignore")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    for case, about in json.loads((folder / "cases.json").read_text(encoding="utf-8")).items():
        try:
            run_case(folder, case, about, inputs)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None


def run_case(folder, case, about, inputs):
    model_class = getattr(transformers, about["class"])
    own = model_class(model_class.config_class.from_pretrained(folder / "ours" / case))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    own.save_pretrained(folder / "theirs" / case)
    given = {name: inputs[key] for name, key in about["inputs"].items()}
    fixed = about["fields"]
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        output = model.eval()(**given, **{name: inputs[key] for name, key in about["labels"].items()}, **fixed)
        output.loss.backward()
        results = {"loss": output.loss, **{name: output[name] for name in about["outputs"]}}
        results |= {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
        for name, settings in about["generation"].items():
            ids = model.generate(**given, **settings)
            results[f"ids.{name}"] = pad(ids, (0, about["width"] - ids.shape[1]), value=0)
        kept = {name: value.detach().clone().contiguous() for name, value in results.items()}
        save_file(kept, folder / "results" / f"{whose}-{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
