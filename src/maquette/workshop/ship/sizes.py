"""Inputs to export a model with, which of their sizes are free, and inputs of other sizes to compare with.

Which sizes a model leaves free is found by running it: a text three tokens longer, an image 32 pixels higher.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import ConfigurationError, InputError
from maquette.testing.comparison import flatten as flatten_values

# By how much a size grows where it is tried.
TOKENS, SAMPLES, PIXELS = 3, 400, 32
STATES = ("_states", "_outputs", "_embeds")  # the ends of names of (batch, length, width)
WITH_MASK, MASK = ("input_ids", "input_values"), "attention_mask"

Tensors = dict[str, Tensor]


@dataclass
class Sizes:
    """The inputs of a call, and which of their sizes are free.

    Attributes:
        example: inputs by their names, for exporting: no two free sizes of it are alike.
        free: the name of every free size, by input and axis.
        others: inputs of two other sizes: more and longer ones, and a single, shorter one where the model takes that.
        fixed: the names of sizes that the model does not leave free.
    """

    example: Tensors
    free: dict[str, dict[int, str]]
    others: list[Tensors] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)

    def without(self, *names: str) -> "Sizes":
        """Give the same with these sizes fixed."""
        kept = {name: {a: size for a, size in axes.items() if size not in names} for name, axes in self.free.items()}
        lengths = lengths_of(self.example, self.free)
        others = [resize(x, self.free, {name: lengths[name] for name in names}) for x in self.others]
        return Sizes(self.example, kept, others, [*self.fixed, *names])


def find_sizes(model: nn.Module, given: Mapping[str, Tensor] | None = None) -> Sizes:
    """Choose the inputs of a model, and find by running it which of their sizes are free.

    Args:
        model: in evaluation mode.
        given: inputs; unless given, the model's `dummy_inputs`, with a mask beside ids where `forward` takes one.

    Raises:
        ConfigurationError: the model does not say what it takes.
        InputError: it gives other outputs for the same inputs each time, or none.
    """
    example = _choose_inputs(model, given)
    labels = _name_sizes(model, example)
    example = _make_unlike(model, example, labels)
    _check_repeatable(model, example)
    lengths = lengths_of(example, labels)
    grown = {name: length + _step(name, example) for name, length in lengths.items()}
    grown["batch"] = 2 * lengths["batch"]
    takes = {name: _runs(model, resize(example, labels, {name: grown[name]})) for name in lengths}
    fixed = [name for name in lengths if not takes[name]]
    sizes = Sizes(example, labels, fixed=[]).without(*fixed)
    sizes.others = _choose_others(model, sizes, {name: grown[name] for name in lengths if takes[name]})
    return sizes


def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensors:
    """Give every tensor that a model returns, by its name; a cache is none."""
    with torch.no_grad():
        return flatten(model(**inputs))


def flatten(output: Any) -> Tensors:
    """Name every tensor in what a model returns: `logits`, `hidden_states.0`."""
    found = flatten_values(output, leaf=lambda value: isinstance(value, Tensor))
    return {name or "output": tensor for name, tensor in found.items()}


def lengths_of(inputs: Mapping[str, Tensor], labels: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    """Give how long each named size is."""
    return {size: inputs[name].shape[axis] for name, axes in labels.items() for axis, size in axes.items()}


def resize(
    inputs: Mapping[str, Tensor], labels: Mapping[str, Mapping[int, str]], lengths: Mapping[str, int]
) -> Tensors:
    """Give inputs with other sizes: what there is is repeated, and cut; of texts, the last tokens are repeated."""
    found = dict(inputs)
    for name, axes in labels.items():
        for axis, size in axes.items():
            if size in lengths:
                x = found[name]
                more = x.narrow(axis, -TOKENS, TOKENS) if _is_text(x, axis) else x
                times = -(-max(lengths[size] - x.shape[axis], 0) // more.shape[axis])
                found[name] = torch.cat([x] + [more] * times, axis).narrow(axis, 0, lengths[size]).contiguous()
    return found


def _is_text(x: Tensor, axis: int) -> bool:
    return axis > 0 and not x.is_floating_point() and x.shape[axis] > TOKENS


def _choose_others(model: nn.Module, sizes: Sizes, grown: Mapping[str, int]) -> list[Tensors]:
    """Make inputs of two sizes: larger ones, the last text of which is padded, and a single, shorter one."""
    example, now = sizes.example, lengths_of(sizes.example, sizes.free)
    larger = {name: length + (_step(name, example) if name != "batch" else 0) for name, length in grown.items()}
    smaller = {name: 1 if name == "batch" else max(2, now[name] - 2) for name in grown}
    first = [each for each in (larger, grown) if _runs(model, resize(example, sizes.free, each))]
    second = [each for each in (smaller, {"batch": 1}) if _runs(model, resize(example, sizes.free, each))]
    chosen = [*first[:1], *second[:1], *first[1:2], {}, {}][:2]
    return [_pad_last(resize(example, sizes.free, each)) for each in chosen]


# What a model takes ------------------------------------------------------------------------------------------------


def _choose_inputs(model: nn.Module, given: Mapping[str, Tensor] | None) -> Tensors:
    found = getattr(model, "dummy_inputs", None) if given is None else given
    inputs = {name: x.cpu() for name, x in (found or {}).items() if isinstance(x, Tensor)}
    inputs = inputs or _guess_images(model)
    if not inputs:
        raise ConfigurationError(
            f"{type(model).__name__} does not say what it takes: write a property `dummy_inputs` that gives small "
            "inputs by their names, or pass inputs={…}."
        )
    main, parameters = next(iter(inputs)), inspect.signature(model.forward).parameters
    wants = main in WITH_MASK and inputs[main].ndim == 2 and "attention_mask" in parameters
    if given is None and wants and MASK not in inputs:
        mask = torch.ones_like(inputs[main], dtype=torch.long)
        return {main: inputs.pop(main), MASK: mask, **inputs}
    return inputs


def _guess_images(model: nn.Module) -> Tensors:
    """Make images that a model takes, where it takes images and does not say how large."""
    name = next(iter(inspect.signature(model.forward).parameters), "")
    config = getattr(model, "config", None)
    found = (getattr(config, each, None) for each in ("image_size", "num_channels", "in_channels", "input_channels"))
    size, *channels = (value if isinstance(value, int) else None for value in found)
    for count in dict.fromkeys(filter(None, (*channels, 3, 1))):
        for edge in dict.fromkeys(filter(None, (size, 64, 224))):
            pixels = torch.linspace(-1, 1, 2 * count * edge * edge).view(2, count, edge, edge)
            if name == "pixel_values" and _runs(model, {name: pixels}):
                return {name: pixels}
    return {}


def _name_sizes(model: nn.Module, inputs: Tensors) -> dict[str, dict[int, str]]:
    """Name the sizes of inputs that may be free: rows, lengths of texts and sounds, heights and widths of images."""
    main = inputs.get(getattr(model, "main_input_name", ""), next(iter(inputs.values())))
    labels: dict[str, dict[int, str]] = {}
    for name, x in inputs.items():
        axes = labels[name] = {0: "batch"} if x.ndim and x.shape[0] == main.shape[0] else {}
        if x.is_floating_point() and x.ndim == 4:
            axes |= {2: "height", 3: "width"}
        elif x.is_floating_point() and x.ndim == 3 and name.endswith(STATES):
            axes[1] = "encoder_length" if name.startswith("encoder_") else "length"
        elif x.ndim in (2, 3) and (x.ndim == 2 or not x.is_floating_point()) and x.dtype != torch.bool:
            sound = (main if name == MASK else x).is_floating_point()
            start = "decoder_" if name.startswith("decoder_") else "sound_" if sound else ""
            axes[x.ndim - 1] = f"{start}length"
    if not any("batch" in axes.values() for axes in labels.values()):
        raise InputError(f"{type(model).__name__}: none of its inputs has rows first.")
    return labels


def _make_unlike(model: nn.Module, inputs: Tensors, labels: dict[str, dict[int, str]]) -> Tensors:
    """Have no two free sizes be alike, and none be 1, where the model takes that: tracers take like for same."""
    if lengths_of(inputs, labels)["batch"] < 2:
        inputs = resize(inputs, labels, {"batch": 2})
    for name, length in lengths_of(inputs, labels).items():
        others = [other for size, other in lengths_of(inputs, labels).items() if size != name]
        for wanted in (length, length - 1, length + 1, length + PIXELS, length + SAMPLES):
            if wanted > 1 and wanted not in others and _runs(model, new := resize(inputs, labels, {name: wanted})):
                inputs = new
                break
    return inputs


def _step(name: str, inputs: Tensors) -> int:
    return {"sound_length": SAMPLES, "height": PIXELS, "width": 2 * PIXELS}.get(name, TOKENS)


def _pad_last(inputs: Tensors) -> Tensors:
    """Have the last row of a text end in padding, where a mask goes with it."""
    mask = inputs.get(MASK)
    if mask is None or mask.ndim != 2 or mask.shape[1] < 4:
        return inputs
    mask = mask.clone()
    mask[-1, -mask.shape[1] // 4 :] = 0
    return {**inputs, MASK: mask}


def _runs(model: nn.Module, inputs: Tensors) -> bool:
    try:
        return bool(run(model, inputs))
    except Exception:
        return False


def _check_repeatable(model: nn.Module, inputs: Tensors) -> None:
    one, other = run(model, inputs), run(model, inputs)
    if not one:
        raise InputError(f"{type(model).__name__} gives no tensors for {', '.join(inputs)}.")
    if random := [name for name, x in one.items() if not torch.equal(x.nan_to_num(), other[name].nan_to_num())]:
        raise InputError(
            f"{type(model).__name__} gives other {', '.join(random)} each time for the same inputs in evaluation mode: "
            "nothing can be compared with it. Draw random numbers in training only: `if self.training:`, "
            "dropout(…, training=self.training)."
        )
