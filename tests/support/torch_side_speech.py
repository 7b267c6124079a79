"""The torch half of the comparisons of Wav2Vec2 between frameworks; run as a script in a process of its own.

python torch_side_speech.py FOLDER    # a save of every case, what each gives for every mask, and after a step

Tests import from here what they compare; torch is imported in the script alone.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from frameworks import compare, flatten
from safetensors.numpy import save_file

LENGTHS, SAMPLES, FRAMES, SPAN_CASES = (600, 431, 150, 190, 299), 600, 29, 6
TINY = {
    "vocab_size": 13,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "conv_dim": (16, 24, 16),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_length": 3,
    "classifier_proj_size": 20,
}
CALM = {
    **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout", "layerdrop"), 0.0),
    "apply_spec_augment": False,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("Wav2Vec2Model", {}),
    "base stable": ("Wav2Vec2Model", {**STABLE, "hidden_act": "gelu_new", "feat_extract_activation": "gelu_fast"}),
    "base odd": ("Wav2Vec2Model", {"num_conv_pos_embeddings": 7, "feat_extract_norm": "layer", "hidden_act": "relu"}),
    "base biased": ("Wav2Vec2Model", {"conv_bias": True, "hidden_act": "gelu_10", "mask_time_prob": 0.0}),
    "base adapter": ("Wav2Vec2Model", {**STABLE, **ADAPTER}),
    "ctc": ("Wav2Vec2ForCTC", {}),
    "ctc stable": ("Wav2Vec2ForCTC", {**STABLE, "ctc_loss_reduction": "mean", "ctc_zero_infinity": True}),
    "ctc blank": ("Wav2Vec2ForCTC", {"pad_token_id": 5, "ctc_loss_reduction": "none"}),
    "ctc languages": ("Wav2Vec2ForCTC", {**STABLE, "adapter_attn_dim": 5}),
    "ctc adapter": (
        "Wav2Vec2ForCTC",
        {**STABLE, "add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 24, "ctc_zero_infinity": True},
    ),
    "class": ("Wav2Vec2ForSequenceClassification", {"num_labels": 3}),
    "class mixed": (
        "Wav2Vec2ForSequenceClassification",
        {**STABLE, "num_labels": 3, "use_weighted_layer_sum": True, "problem_type": "multi_label_classification"},
    ),
}
ADAPTERS = {"deu": 13, "fra": 17}  # languages, and how many letters they have
HOW = {"plain": {}, "kept": {"output_hidden_states": True, "output_attentions": True}}
MASKS = ("none", "right", "left", "middle")


def make_inputs() -> dict[str, np.ndarray]:
    """Five clips of different lengths in every position, one of them empty at times, and labels of every kind."""
    draw = np.random.default_rng(7)
    inputs = {"waves": draw.standard_normal((5, SAMPLES)).astype(np.float32), "mask.none": np.ones((5, SAMPLES))}
    for side in MASKS[1:]:
        first = [{"right": 0, "left": SAMPLES - n, "middle": (SAMPLES - n) // 2}[side] for n in LENGTHS]
        places = np.arange(SAMPLES) - np.array(first)[:, None]
        inputs[f"mask.{side}"] = (places >= 0) & (places < np.array(LENGTHS)[:, None])
    inputs["mask.middle"][3] = False
    labels = draw.integers(1, 5, (5, 6))
    labels[0, :4] = (3, 3, 4, 4)
    labels[1, 2] = labels[3, 1] = labels[3, 2] = -100  # holes, too
    labels[4, 1] = labels[2, 0] = 0
    labels[4, 2] = 5  # the blanks of two of the models
    inputs["labels.Wav2Vec2ForCTC"] = labels
    inputs["labels.class"] = draw.integers(0, 3, 5)
    inputs["labels.class mixed"] = draw.integers(0, 2, (5, 3)).astype(np.float32)
    inputs["hidden"] = draw.random((5, FRAMES)) < 0.4
    return {name: x.astype(np.int32) if x.dtype != np.float32 else x for name, x in inputs.items()}


def call_inputs(case: str, side: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the arguments that a model is called with in a case."""
    given = {"input_values": inputs["waves"]}
    if side != "none":
        given["attention_mask"] = inputs[f"mask.{side}"]
    label = inputs.get(f"labels.{case}", inputs.get(f"labels.{CASES[case][0]}"))
    return given if label is None else {**given, "labels": label}


def make_draws(number: int) -> dict[str, Any]:
    """Give random numbers for spans, and what spans are asked for."""
    draw = np.random.default_rng(number)
    lengths = np.array([40, 33, 4, 3, 0])
    share, span, least = [(0.3, 4, 0), (0.0, 3, 2), (1.0, 4, 0), (0.05, 10, 2), (0.6, 1, 0), (0.9, 41, 1)][number]
    draws, chance = draw.random((5, 40), dtype=np.float32), draw.random(dtype=np.float32)
    return {
        "draws": draws,
        "chance": chance,
        "lengths": lengths,
        "spans": {"share": share, "span": span, "least": least},
    }


def make_reference(folder: Path) -> Path:
    """Run this file in a process of its own, and give the folder that it filled."""
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def compare_all(found: Mapping[str, Any], results: Mapping[str, Any], start: str, *, tolerance: float = 1e-5) -> None:
    """Compare named arrays with those results whose names begin so; infinite is infinite."""
    wanted = {name.removeprefix(start): value for name, value in results.items() if name.startswith(start)}
    assert found.keys() == wanted.keys() and wanted
    for name, value in wanted.items():
        assert (np.isposinf(found[name]) == np.isposinf(value)).all(), name
    finite = ({n: np.where(np.isposinf(values[n]), 0, values[n]) for n in wanted} for values in (found, wanted))
    compare(*finite, tolerance=tolerance)


def main(folder: Path) -> None:
    import torch

    from maquette.models.wav2vec2 import modeling
    from maquette.models.wav2vec2.configuration import Wav2Vec2Config

    inputs, results = make_inputs(), {}
    for case, (name, fields) in CASES.items():
        torch.manual_seed(0)
        model = getattr(modeling, name)(Wav2Vec2Config(**{**TINY, **CALM, **fields})).eval()
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * 0.02  # no bias is zero, no norm is one
        model.save_pretrained(folder / case)
        for side in MASKS:
            given = {k: torch.from_numpy(v) for k, v in call_inputs(case, side, inputs).items()}
            for how, kept in HOW.items():
                with torch.no_grad():
                    found = flatten(model(**given, **kept))
                results |= {f"{case}/{side}/{how}/{key}": value for key, value in found.items()}
        add_training(model, case, folder, inputs, results)
    model = modeling.Wav2Vec2Model.from_pretrained(folder / "base", apply_spec_augment=True)
    hidden = model(torch.from_numpy(inputs["waves"]), mask_time_indices=torch.from_numpy(inputs["hidden"]))
    results["hidden/last_hidden_state"] = hidden.last_hidden_state.detach().numpy()
    languages = folder / "ctc languages"
    draw = np.random.default_rng(3)
    model = modeling.Wav2Vec2ForCTC.from_pretrained(languages)
    for language, size in ADAPTERS.items():
        shapes = {n: tuple(p.shape) for n, p in model.state_dict().items() if ".adapter_layer." in n}
        shapes |= {"lm_head.weight": (size, TINY["hidden_size"]), "lm_head.bias": (size,)}
        weights = {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
        save_file(weights, languages / f"adapter.{language}.safetensors")
        speaks = modeling.Wav2Vec2ForCTC.from_pretrained(languages, target_lang=language)
        results[f"{language}/logits"] = speaks(torch.from_numpy(inputs["waves"])).logits.detach().numpy()
    np.savez(folder / "results.npz", **results, **dict(draw_spans()))


def add_training(model: Any, case: str, folder: Path, inputs: Any, results: dict[str, Any]) -> None:
    """Note the gradient of a sum of all that comes out, and the weights after one step on the loss."""
    import torch

    given = {k: torch.from_numpy(v) for k, v in call_inputs(case, "left", inputs).items()}
    output = model(**given)
    main_output = output["last_hidden_state" if "base" in case else "logits"]
    (main_output * torch.arange(main_output.numel()).view_as(main_output).sin()).sum().backward()
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        results[f"{case}/gradient/{name}"] = gradient.numpy().copy()
    if "base" in case:
        return
    model.zero_grad()
    model(**given).loss.sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    for name, parameter in model.named_parameters():
        results[f"{case}/step/{name}"] = parameter.detach().numpy()


def draw_spans() -> Any:
    """Give what torch makes of random numbers that everyone is given."""
    import torch

    from maquette.models.wav2vec2.masking import compute_mask_indices

    rand = torch.rand
    for number in range(SPAN_CASES):
        made = make_draws(number)
        numbers = iter([torch.tensor(made["chance"]), torch.from_numpy(made["draws"])])
        torch.rand = lambda *_, **__: next(numbers)  # noqa: B023 - used before the next round
        spans, real = made["spans"], torch.arange(40) < torch.from_numpy(made["lengths"])[:, None]
        options = {"mask_length": spans["span"], "min_masks": spans["least"], "attention_mask": real}
        yield f"spans.{number}", compute_mask_indices((5, 40), spans["share"], **options).numpy()
    torch.rand = rand


if __name__ == "__main__":
    main(Path(sys.argv[1]))
