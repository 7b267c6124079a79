"""Run by the peer's interpreter: what the peer computes with Wav2Vec2, for test_wav2vec2.py to compare with.

    python peer_wav2vec2.py FOLDER

FOLDER has inputs.safetensors, cases.json ({case: [class, configuration]}), and ours/<case>, which maquette saved. For
every case this writes theirs/<case>, a model of the peer's own, and results/<whose>-<case>.safetensors: outputs, losses
and gradients, without a mask and with one, from both folders. Cases whose name ends in "alone" are computed clip by
clip, because the peer lets padding into what it computes of a batch.
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
        model_class(transformers.Wav2Vec2Config(**settings)).save_pretrained(folder / "theirs" / case)
        for whose in ("ours", "theirs"):
            model, info = model_class.from_pretrained(folder / whose / case, output_loading_info=True)
            assert not any(info.values()), info
            results = {"keys": torch.tensor(list(json.dumps(sorted(model.state_dict())).encode()), dtype=torch.uint8)}
            for name in ("none", "right"):
                found = run_alone if case.endswith("alone") and name == "right" else run
                for key, value in found(model, inputs, case, inputs[f"mask.{name}"]).items():
                    results[f"{name}.{key}"] = value.detach().clone().contiguous()
            save_file(results, folder / "results" / f"{whose}-{case}.safetensors")
    record_states(folder, inputs)


def run(model, inputs, case, mask):
    """Give outputs, the loss, and the gradient of every parameter that has one."""
    model.zero_grad()
    outputs, loss = RUNS[case.split()[0]](model, inputs, None if mask.all() else mask)
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**outputs, "loss": loss, **gradients}


def run_alone(model, inputs, case, mask):
    """Give outputs of each clip by itself, padded with zeros."""
    rows = []
    for wave, length in zip(inputs["waves"], mask.sum(1).tolist(), strict=True):
        output = model(wave[None, :length])
        rows.append({name: value[0] for name, value in output.items()})
    padded = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: torch.nn.utils.rnn.pad_sequence(v, batch_first=True) if case.startswith("base") else torch.stack(v)
        for name, v in padded.items()
    }


def real_frames(model, mask, frames):
    lengths = model._get_feat_extract_output_lengths(mask.sum(1), add_adapter=False)
    return torch.arange(frames) < lengths[:, None]


def run_base(model, inputs, mask):
    output = model(inputs["waves"], mask)
    states = output.last_hidden_state
    weights = inputs["weights"][:, : states.shape[1], : states.shape[2]]
    if mask is not None:
        weights = weights * real_frames(model, mask, states.shape[1])[..., None]
    return dict(output), (states * weights).mean()


def run_labels(model, inputs, mask):
    output = model(inputs["waves"], mask, labels=inputs[f"labels.{type(model).__name__}"])
    return {name: value for name, value in output.items() if name != "loss"}, output.loss


def run_frames(model, inputs, mask):
    """Without a mask the peer's own loss; with one, the loss of its logits at real frames."""
    labels = inputs["labels.Wav2Vec2ForAudioFrameClassification"]
    if mask is None:
        output = model(inputs["waves"], labels=torch.nn.functional.one_hot(labels))
        return {"logits": output.logits}, output.loss
    logits = model(inputs["waves"], mask).logits
    real = real_frames(model, mask, logits.shape[1])
    return {"logits": logits}, cross_entropy(logits[real], labels[real])


def run_pretraining(model, inputs, mask):
    which = "none" if mask is None else "right"
    hidden, negatives = inputs[f"hidden.{which}"].bool(), inputs[f"negatives.{which}"]
    output = model(inputs["waves"], mask, mask_time_indices=hidden, sampled_negative_indices=negatives)
    return {name: value for name, value in output.items() if name != "loss"}, output.loss


def record_states(folder, inputs):
    """Write every layer's states and attention weights of the base models."""
    for case in ("base", "base stable"):
        model = transformers.Wav2Vec2Model.from_pretrained(folder / "theirs" / case, attn_implementation="eager")
        output = model(inputs["waves"], inputs["mask.right"], output_hidden_states=True, output_attentions=True)
        states = {f"state.{n}": x.detach().clone() for n, x in enumerate(output.hidden_states)}
        weights = {f"weights.{n}": x.detach().clone() for n, x in enumerate(output.attentions)}
        save_file(states | weights, folder / "results" / f"states-{case}.safetensors")


RUNS = {
    "base": run_base,
    "ctc": run_labels,
    "class": run_labels,
    "voice": run_labels,
    "frames": run_frames,
    "pretraining": run_pretraining,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
