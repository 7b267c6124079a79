"""Quantised weights in files: which tensors are parts of which weight, as torchao's metadata of safetensors says."""

import json
from collections.abc import Mapping
from typing import Any

from maquette.errors import CheckpointError

FIELD = "quantization_config"  # of a config.json
METHOD = "torchao"


def find_quantized(metadata: Mapping[str, str]) -> dict[str, list[str]]:
    """Give the names of quantised weights, and for each the names of the tensors that a file holds in its place."""
    found: dict[str, list[str]] = {}
    for name, text in metadata.items():
        if "." not in name or not text.startswith("{"):
            continue
        try:
            parts = json.loads(text).get("_tensor_data_names")
        except ValueError:
            continue
        if isinstance(parts, list):
            module, _, weight = name.rpartition(".")
            found[name] = [f"{module}._{weight}_{part}" for part in parts]
    return found


def check_method(config: Any, metadata: Mapping[str, str], label: str, *, reads: bool) -> None:
    """Refuse weights that were quantised by something else, or where none are read.

    Args:
        reads: whether the framework reads those of torchao.

    Raises:
        CheckpointError: naming what they were quantised by, and what to do.
    """
    given = getattr(config, FIELD, None) or {}
    method = given.get("quant_method", "unnamed") if isinstance(given, Mapping) else "unnamed"
    if given and method != METHOD:
        raise CheckpointError(
            f"{label!r} was quantised by {method!r}, and maquette reads what {METHOD!r} has quantised. Load the model "
            "that it was made from, with quantization='int8' or another; or take quantization_config out of "
            "config.json where the weights are plain."
        )
    if not reads and find_quantized(metadata):
        raise CheckpointError(
            f"{label!r} holds weights that {METHOD} has quantised, which only torch models read. Load the model that "
            "it was made from."
        )
