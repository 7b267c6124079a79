"""Run by the peer's interpreter: what the peer computes with encoders and decoders, for test_seq2seq.py.

    python peer_seq2seq.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {"class", "config", "fields", …}}), and ours/<case>, which
maquette saved. For every case this writes theirs/<case>, a model of the peer's own in several files, and
results/<whose>-<case>.safetensors: outputs, losses and gradients, for every mask from theirs, and for the last one from
ours; ids that theirs generates, for each setting in generation.json; and defaults.json.
"""

import json
import sys
import traceback
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from seq2seq_runs import run


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
    defaults = {name: getattr(transformers, name)().to_dict() for name in {case["config"] for case in cases.values()}}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")
    for case, about in cases.items():
        try:
            run_case(folder, case, about, inputs, settings)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None


def run_case(folder, case, about, inputs, settings):
    model_class, config_class = getattr(transformers, about["class"]), getattr(transformers, about["config"])
    model = model_class(config_class(**about["fields"]))
    with torch.no_grad():  # as random as weights, so that no scale is left at one
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias) * 0.1)
        if about["unties"]:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
            model.config.tie_word_embeddings = False
    model.save_pretrained(folder / "theirs" / case, max_shard_size="10KB")
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        results = {}
        for mask in about["masks"] if whose == "theirs" else about["masks"][-1:]:
            for key, value in run(model.eval(), inputs, about["class"], mask).items():
                results[f"{mask}.{key}"] = value.detach().clone().contiguous()
        if whose == "theirs" and about["generates"]:
            results |= {f"ids.{name}": generate(model, inputs, given) for name, given in settings.items()}
        save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    if about["states"]:
        record_states(folder, case, model_class, inputs)


def generate(model, inputs, given):
    """Go on from ragged texts; each by itself where the peer takes padding for a part of the text."""
    given = dict(given)
    more = {"decoder_input_ids": inputs["decoder_ids"][:, :3]} if given.pop("begins", False) else {}
    mask, padding = inputs["mask.right"], model.config.pad_token_id
    ids = inputs["ids"].masked_fill(mask == 0, padding)
    if given.pop("alone", False):
        found = [model.generate(row[real.bool()][None], **given) for row, real in zip(ids, mask, strict=True)]
    else:
        found = [model.generate(ids, attention_mask=mask, **more, **given)]
    return torch.cat([pad(rows, (0, 24 - rows.shape[1]), value=padding) for rows in found]).contiguous()


def record_states(folder, case, model_class, inputs):
    """Write every layer's states and attention weights."""
    model = model_class.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    ids, mask = inputs["ids"], inputs["mask.right"]
    output = model(ids, attention_mask=mask, decoder_input_ids=inputs["decoder_ids"], **wanted)
    names = ("encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions")
    kept = {
        f"{name}.{n}": x.detach().clone().contiguous()
        for name in (*names, "cross_attentions")
        for n, x in enumerate(output[name])
    }
    save_file(kept, folder / "results" / f"states-{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
