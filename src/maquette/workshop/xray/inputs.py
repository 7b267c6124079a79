"""Inputs and labels of the size that is asked for, on the meta device, from the small ones that a model names."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maquette.configuration import PretrainedConfig
from maquette.errors import ConfigurationError
from maquette.modeling.provenance import tensors_in
from maquette.testing.labels import label_names, make_labels

LENGTH = 512  # tokens, unless told otherwise
SAMPLES = 160_000  # of a sound: ten seconds
# What configurations call the longest text they were made for.
LONGEST = (
    "max_position_embeddings",
    "max_target_positions",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "block_size",
    "context_length",
)


def choose_length(model: nn.Module, length: int | None) -> int:
    """Give the length that was asked for, or what is usual and the model takes."""
    if length is not None:
        return length
    if getattr(model, "main_input_name", "") == "input_values":
        return SAMPLES
    config = getattr(model, "config", None)
    inner = [value for value in vars(config or model).values() if isinstance(value, PretrainedConfig)]
    most = [
        value
        for each in (config, *inner)
        for name in LONGEST
        if isinstance(value := getattr(each, name, None), int) and value > 0
    ]
    return min(LENGTH, *(value - _count_before(model, value) for value in most)) if most else LENGTH


def _count_before(model: nn.Module, rows: int) -> int:
    """Say how many rows of a table of positions no token has: RoBERTa counts from behind the padding's."""
    tables = (each for each in model.modules() if isinstance(each, nn.Embedding) and each.num_embeddings == rows)
    starts = [each.padding_idx + 1 for each in tables if each.padding_idx is not None]
    return min([*starts, rows - 1]) if starts else 0


def says_what_it_takes(model: nn.Module) -> bool:
    """Tell whether a model names inputs of its own."""
    return bool(getattr(model, "dummy_inputs", None))


def make_inputs(model: nn.Module, given: Mapping[str, Tensor] | None, *, batch: int, length: int) -> dict[str, Tensor]:
    """Make the inputs of one call.

    The model's `dummy_inputs` are stretched: what has the batch of its main input first gets `batch` rows, and ids and
    what else is as long, `length` places; beside a sound, whose length is in samples, a text stays as it is. Inputs
    that are given stay as they are.

    Raises:
        ConfigurationError: the model does not say what it takes.
    """
    if given is not None:
        return {name: torch.empty_like(value, device="meta") for name, value in given.items()}
    small = getattr(model, "dummy_inputs", None)
    if not small:
        raise ConfigurationError(
            f"{type(model).__name__} does not say what it takes: write a property `dummy_inputs` that gives small "
            "inputs by their names, or call xray(…, inputs={…}) from Python."
        )
    main = getattr(model, "main_input_name", "")
    first = small[main] if main in small else next(iter(small.values()))
    if not _has_length(first):  # an image, beside which there may be a text
        texts = (value for value in small.values() if _has_length(value) and value.dtype != torch.bool)
        first = next(texts, first)
    rows, places = first.shape[0], first.shape[-1] if _has_length(first) else None
    is_sound = first.is_floating_point()  # whose length counts samples; that of its text stays small
    kind = next((t.dtype for t in model.parameters() if t.is_floating_point()), torch.float32)
    found = {}
    for name, value in small.items():
        if name.endswith("attention_mask"):  # all tokens are real
            continue
        shape = list(value.shape)
        if shape and shape[0] == rows:
            shape[0] = batch
        if _has_length(value) and (shape[-1] == places or (name.endswith("input_ids") and not is_sound)):
            shape[-1] = length
        found[name] = torch.empty(shape, dtype=kind if value.is_floating_point() else value.dtype, device="meta")
    return found


def _has_length(value: Tensor) -> bool:
    """Tell whether the last axis counts tokens, or samples of a sound: images have theirs from the configuration."""
    return value.ndim in (2, 3) and (value.ndim == 2 or not value.is_floating_point())


def make_targets(model: nn.Module, output: Any) -> dict[str, Tensor]:
    """Make the labels with which a model computes its loss; none where it takes none."""
    parameters = inspect.signature(model.forward).parameters
    names = label_names(parameters, None)
    kept = {name: value for name, value in _by_name(output).items() if name.endswith("logits")}
    arrays = {name: np.broadcast_to(np.float32(0), tuple(value.shape)) for name, value in kept.items()}
    made = make_labels(names, arrays, getattr(model, "config", None), model_name=type(model).__name__)
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to("meta") for name, array in made.items()}


def _by_name(output: Any) -> dict[str, Tensor]:
    pairs = output.items() if isinstance(output, Mapping) else ()
    return {name: value for name, value in pairs if isinstance(value, Tensor)}


def find_loss(output: Any) -> Tensor:
    """Give the loss that a model computed, or one number of everything that it gives where it computes none."""
    loss = _by_name(output).get("loss")
    if loss is not None and loss.requires_grad:
        return loss
    found = [tensor for tensor in tensors_in(_plain(output)) if tensor.requires_grad]
    return torch.stack([tensor.sum(dtype=torch.float32) for tensor in found[:1]]).sum()


def _plain(output: Any) -> Any:
    return list(output.values()) if isinstance(output, Mapping) else output
