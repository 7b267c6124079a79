"""Run by the peer's interpreter: what the peer computes with DistilBERT, for test_distilbert.py to compare with.

    python peer_distilbert.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: [class, configuration]}), and ours/<case>, which maquette saved. For
every case this writes theirs/<case>, a model of the peer's own, and results/<whose>-<case>.safetensors: outputs, losses
and gradients for every mask, from both folders.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    inputs = load_file(folder / "inputs.safetensors")
    for case, (kind, settings) in json.loads((folder / "cases.json").read_text(encoding="utf-8")).items():
        model_class = getattr(transformers, kind)
        model_class(transformers.DistilBertConfig(**settings)).save_pretrained(folder / "theirs" / case)
        for whose in ("ours", "theirs"):
            model = model_class.from_pretrained(folder / whose / case)
            results = {"keys": torch.tensor(list(json.dumps(sorted(model.state_dict())).encode()), dtype=torch.uint8)}
            for name in ("none", "right", "left", "holes"):
                for key, value in run(model, inputs, case, inputs[f"mask.{name}"]).items():
                    results[f"{name}.{key}"] = value.detach().clone().contiguous()
            save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    record_states(folder, inputs)
    table = transformers.DistilBertModel(transformers.DistilBertConfig(**settings, sinusoidal_pos_embds=True))
    save_file({"table": table.embeddings.position_embeddings.weight.detach()}, folder / "results/sinusoids.safetensors")


def run(model, inputs, case, mask):
    """Give outputs, the loss, and the gradient of every parameter."""
    model.zero_grad()
    ids, labels = inputs["ids"], inputs.get(f"labels.{case}")
    outputs, loss = RUNS.get(case, run_classifier)(model, ids, mask, labels)
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters()}
    return {**outputs, "loss": loss, **gradients}


def run_base(model, ids, mask, weights):
    states = model(ids, mask).last_hidden_state
    return {"last_hidden_state": states}, (states * weights * mask[..., None]).mean()


def run_tokens(model, ids, mask, labels):
    output = model(ids, mask, labels=labels.masked_fill(mask == 0, -100))
    return {"logits": output.logits}, output.loss


def run_spans(model, ids, mask, labels):
    """Where nothing is padding, the peer's own loss; otherwise its logits at real tokens only."""
    start, end = inputs_of_spans(mask, labels)
    output = model(ids, mask, start_positions=start, end_positions=end)
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


def run_classifier(model, ids, mask, labels):
    """Where every row begins with a real token, the peer's own logits and loss; otherwise its head on the first one."""
    if mask[:, 0].all():
        output = model(ids, mask, labels=labels)
        return {"logits": output.logits}, output.loss
    states = model.distilbert(ids, mask).last_hidden_state
    first = states[torch.arange(len(mask)), mask.argmax(1)]
    logits = model.classifier(model.pre_classifier(first).relu())
    kind = model.config.problem_type
    if kind == "single_label_classification":
        return {"logits": logits}, cross_entropy(logits, labels)
    if kind == "multi_label_classification":
        return {"logits": logits}, torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    return {"logits": logits}, torch.nn.functional.mse_loss(logits.flatten(), labels.flatten())


def run_choice(model, ids, mask, labels):
    shape = (2, len(ids) // 2, ids.shape[1])
    if mask[:, 0].all():
        output = model(ids.view(shape), mask.view(shape), labels=labels)
        return {"logits": output.logits}, output.loss
    states = model.distilbert(ids, mask).last_hidden_state
    first = states[torch.arange(len(mask)), mask.argmax(1)]
    logits = model.classifier(model.pre_classifier(first).relu()).view(shape[:2])
    return {"logits": logits}, cross_entropy(logits, labels)


def record_states(folder, inputs):
    """Write every layer's states and attention weights of the base model."""
    model = transformers.DistilBertModel.from_pretrained(folder / "theirs" / "base", attn_implementation="eager")
    output = model(inputs["ids"], inputs["mask.right"], output_hidden_states=True, output_attentions=True)
    states = {f"state.{n}": x.detach().clone() for n, x in enumerate(output.hidden_states)}
    weights = {f"weights.{n}": x.detach().clone() for n, x in enumerate(output.attentions)}
    save_file(states | weights, folder / "results" / "states.safetensors")


RUNS = {"base": run_base, "masked": run_tokens, "token": run_tokens, "question": run_spans, "choice": run_choice}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
