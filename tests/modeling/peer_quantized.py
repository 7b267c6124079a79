"""Quantised folders in the peer, with torchao, and adapters on quantised models: run in the peer's environment.

    python peer_quantized.py FOLDER SOURCE

Loads every folder `FOLDER/ours-*`, saves models that it has quantised itself as `FOLDER/theirs-*`, and trains an
adapter on a model of maquette, which lies in `SOURCE`. Prints, as JSON, what was seen.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch  # noqa: E402
import torchao.quantization as torchao  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, TorchAoConfig  # noqa: E402

SCHEMES = {"int8": torchao.Int8WeightOnlyConfig(version=2), "fp8": torchao.Float8WeightOnlyConfig()}


def main(folder: Path, source: str) -> None:
    ids = load_file(folder / "ids.safetensors")["ids"]
    seen: dict[str, Any] = {}
    for place in sorted(folder.glob("ours-*")):
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
        with torch.no_grad():
            save_file({"logits": model(ids).logits}, place / "seen.safetensors")
        seen[place.name] = type(model.model.layers[0].mlp.up_proj.weight).__name__
    for name, scheme in SCHEMES.items():
        model = AutoModelForCausalLM.from_pretrained(
            folder / "plain", quantization_config=TorchAoConfig(scheme), dtype=torch.float32
        ).eval()
        model.save_pretrained(folder / f"theirs-{name}")
        with torch.no_grad():
            save_file({"logits": model(ids).logits}, folder / f"theirs-{name}" / "seen.safetensors")
    print(json.dumps(seen | {"adapter": train(folder, source, ids)}))


def train(folder: Path, source: str, ids: torch.Tensor) -> dict[str, Any]:
    sys.path.insert(0, source)
    from peft import LoraConfig, PeftModel, get_peft_model

    import maquette

    load = lambda: maquette.LlamaForCausalLM.from_pretrained(folder / "plain", quantization="int8")  # noqa: E731
    model = get_peft_model(load(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    rows = [{"input_ids": row, "labels": row} for row in ids.tolist()] * 8
    settings = {"max_steps": 12, "learning_rate": 0.02, "save_strategy": "no", "disable_tqdm": True}
    arguments = maquette.TrainingArguments(output_dir=str(folder / "run"), logging_steps=1, **settings)
    trainer = maquette.Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    model.save_pretrained(folder / "adapter")
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        again = PeftModel.from_pretrained(load(), folder / "adapter").eval()(input_ids=ids).logits
    return {"first": losses[0], "last": losses[-1], "same": torch.equal(again, expected)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
