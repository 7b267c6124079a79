"""What weights are brought into: names, shapes and layers of a model, or of its files where its code may not run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from maquette.configuration import read_config_file
from maquette.hub.sources import open_source
from maquette.modeling.layers.rotary import RotaryEmbedding
from maquette.workshop.graft.proposal import count_heads, layers_of
from maquette.workshop.graft.roles import read_roles
from maquette.workshop.graft.weight_map import Shape
from maquette.workshop.xray.files import read_weights


@dataclass(frozen=True)
class Destination:
    """A model, as far as it may be seen.

    Attributes:
        shapes: of its tensors, tied ones once, by the names that files have.
        layers: the class of the layer of each tensor.
        heads: how many heads of attention it has.
        is_rotary: its queries and keys are turned by their positions.
        model_type, prefix: of its class.
    """

    shapes: dict[str, Shape]
    layers: dict[str, str] = field(default_factory=dict)
    heads: int | None = None
    is_rotary: bool = False
    model_type: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, model: Any) -> "Destination":
        """Look at a model."""
        return cls(
            {name: tuple(x.shape) for name, x in _distinct(model.state_dict()).items()},
            layers_of(model),
            count_heads(model.config),
            any(isinstance(module, RotaryEmbedding) for module in model.modules()),
            model.config.model_type,
            getattr(model, "base_model_prefix", ""),
        )

    @classmethod
    def of_files(cls, target: str | os.PathLike[str], error: Exception) -> "Destination":
        """Look at the headers and the configuration of a folder or repository; runs none of its code.

        What looks like a layer's matrix is taken for one, so that square ones are asked about.

        Raises:
            Exception: the one that was given, where there are no files to look at.
        """
        with open_source(target) as source:
            headers = read_weights(source)
            if headers is None or not headers.files:
                raise error
            content = read_config_file(source)[0]
        shapes = {name: x.shape for name, x in headers.tensors.items()}
        layers = {
            name: "Linear"
            for name, role in read_roles(shapes).items()
            if len(shapes[name]) == 2 and role.kind == "weight" and not role.part.startswith("embedding")
        }
        config = SimpleNamespace(**content)
        rotary = any(name.startswith("rope_") or name.startswith("rotary") for name in content)
        return cls(shapes, layers, count_heads(config), rotary, str(content.get("model_type", "")))


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out tensors that are another one under a second name."""
    seen: set[tuple[int, torch.Size]] = set()
    found = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in seen or not tensor.numel():
            found[name] = tensor
        seen.add(key)
    return found
