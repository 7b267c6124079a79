"""Run by the peer's interpreter: what the peer computes with its encoders, for test_encoders.py to compare with.

    python peer_encoders.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {"class", "config", "fields", "masks", "head", "states"}}), and
ours/<case>, which maquette saved. For every case this writes theirs/<case>, a model of the peer's own, and
results/<whose>-<case>.safetensors: outputs, losses and gradients, for every mask from theirs, and for the last one from
ours; layers' states; ids that decoders generate; and defaults.json, what configurations are without arguments.
FOLDER/texts has texts.json and tokenizers' folders, for each of which this writes ids of texts and of pairs.
"""

import json
import sys
import traceback
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from encoder_calls import give, run


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    defaults = {name: getattr(transformers, name)().to_dict() for name in {case["config"] for case in cases.values()}}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")
    encode(folder / "texts")
    for case, about in cases.items():
        try:
            run_case(folder, case, about, inputs)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None


def encode(folder):
    """Write ids, token types, and where tokens are from."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    for place in filter(Path.is_dir, sorted(folder.iterdir())):
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        single, pairs = (
            dict(tokenizer(*given, return_offsets_mapping=True)) for given in ([texts], [texts, texts[::-1]])
        )
        decoded = tokenizer.batch_decode(single["input_ids"])
        found = {"class": type(tokenizer).__name__, "single": single, "pairs": pairs, "decoded": decoded}
        (place / "ids.json").write_text(json.dumps(found), encoding="utf-8")


def run_case(folder, case, about, inputs):
    model_class, config_class = getattr(transformers, about["class"]), getattr(transformers, about["config"])
    model = model_class(config_class(**about["fields"]))
    with torch.no_grad():  # as random as weights, so that no scale is left at one
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "theirs" / case, max_shard_size="10KB")
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        results = {}
        for mask in about["masks"] if whose == "theirs" else about["masks"][-1:]:
            for key, value in run(model.eval(), give(inputs, about, mask), inputs, about["head"]).items():
                results[f"{mask}.{key}"] = value.detach().clone().contiguous()
        if whose == "theirs" and about["head"] == "causal":
            results["ids"] = generate(model, inputs, about)
        save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    if about["states"]:
        record_states(folder, case, about, model_class, inputs)


def generate(model, inputs, about):
    """Go on from ragged prompts, greedily."""
    given = give(inputs, about, "left")
    given = {name: value for name, value in given.items() if name not in ("labels", "use_cache", "token_type_ids")}
    given["use_cache"] = not model.config.add_cross_attention  # its generate makes no cache for both kinds
    found = model.generate(**given, max_new_tokens=8, do_sample=False)
    return torch.nn.functional.pad(found, (0, inputs["ids"].shape[1] + 8 - found.shape[1])).contiguous()


def record_states(folder, case, about, model_class, inputs):
    """Write every layer's states and attention weights."""
    model = model_class.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
    given = {name: value for name, value in give(inputs, about, "right").items() if "label" not in name}
    output = model(**given, output_hidden_states=True, output_attentions=True)
    found = {}
    for name in ("hidden_states", "attentions", "cross_attentions"):
        found |= {f"{name}.{n}": x.detach().clone() for n, x in enumerate(output.get(name) or ())}
    save_file(found, folder / "results" / f"states-{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
