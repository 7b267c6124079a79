"""The torch half of the comparisons between frameworks; run as a script in a process of its own, as only it has torch.

python torch_side.py save FOLDER    # every torch class that has siblings: a save, inputs, and what it gives for them
python torch_side.py load FOLDER    # for every save in FOLDER that came from elsewhere: what torch gives for it
"""

import inspect
import sys
from pathlib import Path

import numpy as np
import torch

import maquette
from maquette.testing import Case, cases

LABELS = ("labels", "start_positions", "end_positions")


def make_labels(case: Case, config, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make labels for a head; none for models without."""
    rng, task = np.random.default_rng(7), case.auto_class.removeprefix("AutoModelFor")
    first = next(iter(inputs.values()))
    if task in ("SequenceClassification", "ImageClassification", "AudioClassification"):
        return {"labels": rng.integers(0, config.num_labels, len(first))}
    if task == "MultipleChoice":
        return {"labels": rng.integers(0, first.shape[1], len(first))}
    if task in ("MaskedLM", "TokenClassification"):
        classes = config.vocab_size if task == "MaskedLM" else config.num_labels
        labels = rng.integers(0, classes, first.shape)
        labels[0, 1] = -100
        return {"labels": labels}
    if task == "QuestionAnswering":
        return {name: rng.integers(0, first.shape[1], len(first)) for name in LABELS[1:]}
    if task == "CTC":
        labels = rng.integers(1, config.vocab_size, (len(first), 3))
        labels[0, 2] = -100
        return {"labels": labels}
    return {}


def variants(case: Case, model, inputs: dict[str, np.ndarray]) -> dict[str, dict]:
    """Give calls to compare: the inputs as they are, with everything kept, under a mask, and with labels."""
    known = {*inspect.signature(model.forward).parameters, *inspect.signature(model.base_model.forward).parameters}
    kept = {name: True for name in ("output_hidden_states", "output_attentions") if name in known}
    found = {"plain": inputs, "kept": {**inputs, **kept}}
    masked = dict(inputs)
    if "attention_mask" in known:
        first = next(iter(inputs.values()))
        mask = np.ones_like(first, dtype=np.int64)
        mask[-1, ..., first.shape[-1] * 3 // 5 :] = 0
        masked["attention_mask"] = mask
        found["masked"] = masked
    if labels := make_labels(case, model.config, inputs):
        found["labels"] = {**masked, **labels}
    return found


def flatten(output) -> dict[str, np.ndarray]:
    """Name every tensor of an output, `hidden_states.0` in tuples."""
    found = {}
    for name, value in output.items():
        for number, item in enumerate(value) if isinstance(value, tuple) else [("", value)]:
            found[f"{name}.{number}".rstrip(".")] = item.detach().float().numpy()
    return found


def call(model, arguments: dict) -> dict[str, np.ndarray]:
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    with torch.no_grad():
        return flatten(model(**tensors))


def save(folder: Path) -> None:
    siblings = [case for case in cases() if case.card.models_in("tf") or case.card.models_in("flax")]
    for number, case in enumerate(siblings):
        torch.manual_seed(number)
        model = case.model_class(case.config()).eval()
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if tensor.is_floating_point():  # zeros and ones would hide what is mistaken for what
                    tensor += torch.rand_like(tensor) * 0.1
                elif name.endswith("num_batches_tracked"):
                    tensor += 17
        place = folder / case.reference.partition(":")[2]
        model.save_pretrained(place)
        inputs = {name: tensor.numpy() for name, tensor in model.dummy_inputs.items()}
        for variant, arguments in variants(case, model, inputs).items():
            np.savez(place / f"{variant}.in.npz", **arguments)
            np.savez(place / f"{variant}.out.npz", **call(model, arguments))


def load(folder: Path) -> None:
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        auto_class = (place / "auto_class.txt").read_text(encoding="utf-8")
        model, info = getattr(maquette, auto_class).from_pretrained(place, strict=True, output_loading_info=True)
        assert not any(info.values()), info
        with np.load(place / "plain.in.npz") as inputs:
            np.savez(place / "torch.out.npz", **call(model, dict(inputs)))


if __name__ == "__main__":
    {"save": save, "load": load}[sys.argv[1]](Path(sys.argv[2]))
