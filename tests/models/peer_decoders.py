"""Run by the peer's interpreter: what the peer computes with its decoders, for test_decoders.py to compare with.

    python peer_decoders.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: {"class", "config", "fields", "masks"}}), and ours/<case>, which
maquette saved. For every case this writes theirs/<case>, a model of the peer's own in several files, and
results/<whose>-<case>.safetensors: outputs, losses and gradients, for every mask from theirs, and for the last one from
ours; ids that theirs generates; and defaults.json, what configurations are without arguments.
"""

import json
import sys
import traceback
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    defaults = {name: getattr(transformers, name)().to_dict() for name in {case["config"] for case in cases.values()}}
    (folder / "defaults.json").write_text(json.dumps(defaults), encoding="utf-8")
    for case, about in cases.items():
        try:
            run_case(folder, case, about, inputs)
        except Exception:
            raise SystemExit(f"{case}: {traceback.format_exc()}") from None


def run_case(folder, case, about, inputs):
    model_class, config_class = getattr(transformers, about["class"]), getattr(transformers, about["config"])
    model = model_class(config_class(**about["fields"]))
    with torch.no_grad():  # as random as weights, so that no scale is left at one
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "theirs" / case, max_shard_size="10KB")
    for whose in ("ours", "theirs"):
        model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
        assert not wrong, (case, whose, wrong)
        results = {}
        for mask in about["masks"] if whose == "theirs" else about["masks"][-1:]:
            for key, value in run(model.eval(), inputs, about["class"], mask, about["options"]).items():
                results[f"{mask}.{key}"] = value.detach().clone().contiguous()
        if whose == "theirs" and about["class"].endswith(("CausalLM", "LMHeadModel")):
            results |= {f"ids.{beams}": generate(model, inputs, beams) for beams in (1, 3)}
        save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    if about["states"]:
        record_states(folder, case, model_class, inputs)


def run(model, inputs, kind, mask_name, options):
    """Give outputs, the loss, and the gradient of every parameter."""
    model.zero_grad()
    mask = inputs[f"mask.{mask_name}"]
    ids = inputs["ids"].masked_fill(mask == 0, 0)
    given = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0), "use_cache": False, **options}
    head = next((head for head in RUNS if head in kind), "Model")
    outputs, loss = RUNS[head](model, ids, mask, inputs, given)
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**outputs, "loss": loss, **gradients}


def generate(model, inputs, beams):
    """Go on from ragged prompts; rows are of one length, padding included."""
    mask = inputs["mask.left"]
    ids = inputs["ids"].masked_fill(mask == 0, 0)
    found = model.generate(ids, attention_mask=mask, max_new_tokens=9, num_beams=beams, do_sample=False)
    return torch.nn.functional.pad(found, (0, ids.shape[1] + 9 - found.shape[1])).contiguous()


def run_base(model, ids, mask, inputs, given):
    states = model(ids, **given).last_hidden_state
    return {"last_hidden_state": states}, (states * inputs["labels.base"] * mask[..., None]).mean()


def run_causal(model, ids, mask, inputs, given):
    """A label counts where its token and the one before it are real."""
    counts = mask * torch.nn.functional.pad(mask[:, :-1], (1, 0))
    output = model(ids, labels=inputs["labels.causal"].masked_fill(counts == 0, -100), **given)
    more = {"aux_loss": output.aux_loss} if output.get("aux_loss") is not None else {}
    return {"logits": output.logits, **more}, output.loss


def run_tokens(model, ids, mask, inputs, given):
    output = model(ids, labels=inputs["labels.tokens"].masked_fill(mask == 0, -100), **given)
    return {"logits": output.logits}, output.loss


def run_rows(model, ids, mask, inputs, given):
    output = model(ids, labels=inputs["labels.rows"], **given)
    return {"logits": output.logits}, output.loss


def run_spans(model, ids, mask, inputs, given):
    """Where nothing is padding, the peer's own loss; otherwise its logits at real tokens only."""
    given = {name: value for name, value in given.items() if name != "use_cache"}
    start, end = inputs_of_spans(mask, inputs["labels.spans"])
    output = model(ids, start_positions=start, end_positions=end, **given)
    outputs = {"start_logits": output.start_logits, "end_logits": output.end_logits}
    if mask.all():
        return outputs, output.loss
    first, last = (logits.masked_fill(mask == 0, float("-inf")) for logits in outputs.values())
    return outputs, (cross_entropy(first, start) + cross_entropy(last, end)) / 2


def inputs_of_spans(mask, labels):
    """Turn two ranks into two places: those of the real tokens of these ranks."""
    real = [row.nonzero()[:, 0] for row in mask]
    return tuple(
        torch.stack([places[rank % len(places)] for places, rank in zip(real, column, strict=True)])
        for column in labels
    )


def record_states(folder, case, model_class, inputs):
    """Write every layer's states and attention weights."""
    model = model_class.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
    mask = inputs["mask.right"]
    output = model(inputs["ids"], attention_mask=mask, output_hidden_states=True, output_attentions=True)
    states = {f"state.{n}": x.detach().clone() for n, x in enumerate(output.hidden_states)}
    weights = {f"weights.{n}": x.detach().clone() for n, x in enumerate(output.attentions)}
    save_file(states | weights, folder / "results" / f"states-{case}.safetensors")


RUNS = {
    "CausalLM": run_causal,
    "LMHead": run_causal,
    "TokenClassification": run_tokens,
    "SequenceClassification": run_rows,
    "QuestionAnswering": run_spans,
    "Model": run_base,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
