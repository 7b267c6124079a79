"""What weights come from: names and shapes at once, from headers where there are some, and values when asked for."""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from maquette.checkpoint import Checkpoint
from maquette.configuration import read_config_file
from maquette.errors import InputError, MaquetteError, MissingFileError, MissingPackageError
from maquette.hub.sources import open_source
from maquette.storage.paths import user_path
from maquette.workshop.conversion import PICKLED, convert
from maquette.workshop.graft.proposal import layers_of
from maquette.workshop.graft.weight_map import Shape
from maquette.workshop.xray.files import read_weights

TIMM = "timm:"


@dataclass(frozen=True)
class Weights:
    """A checkpoint.

    Attributes:
        shapes: of its tensors, by their names.
        read: gives the tensors, and the module they are of, if there is one.
        layers: the class of the layer of each tensor, where it came as a module.
        model_type: of the configuration beside it, if there is one.
    """

    shapes: dict[str, Shape]
    read: Callable[[], tuple[dict[str, Tensor], nn.Module | None]]
    layers: dict[str, str] = field(default_factory=dict)
    model_type: str = ""


def open_weights(checkpoint: Any) -> Weights:
    """Look at a checkpoint: a file, a folder, a repository, `"timm:NAME"`, a state dict or a module.

    Raises:
        InputError: it is no file of weights.
        MissingFileError, FileFormatError, UntrustedCodeError, MissingPackageError: it cannot be read.
    """
    if isinstance(checkpoint, nn.Module):
        module = checkpoint
        return Weights(_shapes(module.state_dict()), lambda: _take(module), layers_of(module))
    if isinstance(checkpoint, Mapping):
        given = {name: x for name, x in checkpoint.items() if isinstance(x, Tensor)}
        return Weights(_shapes(given), lambda: (given, None))
    name = os.fspath(checkpoint)
    if name.startswith(TIMM):
        kind = name.removeprefix(TIMM)
        module = _make_timm(kind, pretrained=False)
        return Weights(
            _shapes(module.state_dict()), lambda: _take(_make_timm(kind, pretrained=True)), layers_of(module)
        )
    path = user_path(name)
    if path.is_file() and path.suffix == ".safetensors":
        return _of_files(Checkpoint({path: None}, name))
    if path.is_file() and PICKLED.match(path.name):
        with tempfile.TemporaryDirectory() as staging:
            convert(path, Path(staging) / "converted")
            with open_source(Path(staging) / "converted") as source:
                opened = _of_files(Checkpoint.open(source))
            tensors, _ = opened.read()
        return Weights(opened.shapes, lambda: (tensors, None))
    if path.is_file():
        raise InputError(f"{name} is no file of weights: give .safetensors, or .pt, .pth, .bin or .ckpt.")
    return _of_source(name)


def _of_files(found: Checkpoint) -> Weights:
    return Weights(dict(found.shapes), lambda: (found.tensors(list(found.shapes), framework="pt"), None))


def _of_source(name: str) -> Weights:
    """Look at a folder or a repository: the headers, which are read by ranges on the Hub."""

    def read() -> tuple[dict[str, Tensor], None]:
        with open_source(name) as source:
            found = Checkpoint.open(source)
            return found.tensors(list(found.shapes), framework="pt"), None

    with open_source(name) as source:
        headers = read_weights(source)
        if headers is None or not headers.files:
            Checkpoint.open(source)  # which says what is missing
        assert headers is not None
        try:
            model_type = str(read_config_file(source)[0].get("model_type", ""))
        except MaquetteError:
            model_type = ""
    return Weights({key: x.shape for key, x in headers.tensors.items()}, read, model_type=model_type)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(x.shape) for name, x in tensors.items()}


def _take(module: nn.Module) -> tuple[dict[str, Tensor], nn.Module]:
    return dict(module.state_dict()), module.eval()


def _make_timm(name: str, *, pretrained: bool) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise MissingPackageError(f"{TIMM}{name} needs timm: pip install timm. ({error})") from None
    kind = name.partition(".")[0]  # what follows says which of its weights
    if kind not in timm.list_models():
        near = timm.list_models(f"*{kind[:8]}*")[:3]
        raise MissingFileError(f"timm has no model {name!r}." + (f" It has {', '.join(near)}." if near else ""))
    try:
        model: nn.Module = timm.create_model(name if pretrained else kind, pretrained=pretrained)
    except RuntimeError as error:
        raise MissingFileError(f"timm has no such weights of {name!r}: {error}") from None
    return model
