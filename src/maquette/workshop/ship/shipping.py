"""A model for another engine: what is exported is opened by the engine in a fresh process, and compared with torch."""

import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maquette.errors import InputError, SaveError, UnknownNameError, did_you_mean
from maquette.hub.sources import open_source
from maquette.storage.paths import user_path
from maquette.storage.version import __version__
from maquette.workshop.ship.comparing import Comparison
from maquette.workshop.ship.onnx import require_packages, ship_onnx
from maquette.workshop.ship.onnx_decoders import find_shapes, ship_decoder
from maquette.workshop.ship.saved_model import ship_to_saved_model
from maquette.workshop.ship.transformers import ship_to_transformers
from maquette.workshop.targets import open_target


def ship_to_onnx(model: Any, staged: Path, work: Path, *, inputs: Any, cache: bool | None, **_: Any) -> dict[str, Any]:
    """Export a model; a decoder with its cache outside, unless that is not wanted."""
    require_packages()
    shapes = find_shapes(model) if inputs is None and cache is not False else None
    if cache and shapes is None:
        raise InputError(
            f"{type(model).__name__} keeps no cache of keys and values that could be given from outside: leave out "
            "cache=True."
        )
    if shapes is not None:
        return ship_decoder(model, shapes, staged, work)
    return ship_onnx(model, staged, work, inputs=inputs)


REPORT = "ship.json"
ENGINES: dict[str, Callable[..., dict[str, Any]]] = {
    "onnx": ship_to_onnx,
    "transformers": ship_to_transformers,
    "saved-model": ship_to_saved_model,
}
# What goes along beside a model: what prepares its inputs, and settings.
BESIDE = re.compile(
    r"(tokenizer.*|special_tokens_map|added_tokens|vocab|merges|spiece|sentencepiece.*|chat_template.*|"
    r"(pre)?processor.*|preprocessor_config|video_preprocessor_config|generation_config|config)"
    r"\.(json|txt|model|jinja)"
)


@dataclass
class Shipment:
    """What was exported, and how it compares.

    Attributes:
        to: the engine.
        model: the name of the model's class.
        folder: where it is; None where outputs differ, for then nothing is written.
        files: in the folder.
        versions: of what took part.
        compared: each call that ran here and there.
        about: what else there is to know of this engine: names of inputs and outputs, fixed sizes.
    """

    to: str
    model: str
    folder: Path | None = None
    files: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    compared: list[Comparison] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether an output lies further apart than rounding accounts for, or nothing was compared."""
        return not self.compared or not all(each.is_equal for each in self.compared)

    @property
    def apart(self) -> float:
        """The largest difference."""
        return max((each.apart for each in self.compared), default=float("inf"))

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        return {
            "to": self.to,
            "model": self.model,
            "folder": None if self.folder is None else str(self.folder),
            "files": self.files,
            "versions": {"maquette": __version__, **self.versions},
            **self.about,
            "differs": self.differs,
            "apart": self.apart,
            "compared": [dataclasses.asdict(each) for each in self.compared],
        }


def ship(
    target: Any,
    folder: str | os.PathLike[str],
    *,
    to: str,
    inputs: Mapping[str, torch.Tensor] | None = None,
    processors: Sequence[Any] = (),
    cache: bool | None = None,
    python: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    trust_remote_code: bool | str | None = None,
    **places: Any,
) -> Shipment:
    """Export a model for another engine, open the result with that engine in a fresh process, and compare outputs.

    Args:
        target: a model, or what `open_target` takes: a folder, a repository, `module:Class`.
        folder: a new or an empty one.
        to: the engine: "onnx", "transformers", or for Keras models "saved-model".
        inputs: to export with, by their names; unless given, the model's `dummy_inputs`.
        processors: what prepares its inputs, to be saved beside it; of a folder, its files are copied.
        cache: whether a decoder takes its cache as inputs and gives it as outputs; where it can, unless given.
        python: for "transformers", an interpreter that has it; unless given, this one.
        settings, auto_class, trust_remote_code, places: as in `open_target`.

    Returns:
        What was done. Where `differs` is True, nothing was written.

    Raises:
        UnknownNameError: there is no such engine.
        SaveError: there is something in the folder.
        MissingPackageError: the engine is not installed.
        InputError: the model cannot be exported: an operator that the engine lacks, other outputs at each call.
        MissingFileError, UntrustedCodeError: no such target, or code that was not approved.
    """
    if to not in ENGINES:
        raise UnknownNameError(f"There is no engine {to!r}: {', '.join(ENGINES)}.{did_you_mean(to, ENGINES)}")
    place = user_path(folder)
    if os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        raise SaveError(f"The folder {str(place)!r} has something in it, or is none. Give an empty or a new one.")
    model, source = _find_model(target, to, settings, auto_class, trust_remote_code, places)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as near, _resting(model):
        staged, work = Path(near) / "staged", Path(near) / "work"
        staged.mkdir()
        found = ENGINES[to](model, staged, work, inputs=inputs, cache=cache, python=python)
        result = Shipment(to, type(model).__name__, versions=found.pop("versions"), compared=found.pop("compared"))
        result.about = found
        if not result.differs:
            _add_beside(model, source, processors, staged)
            result.files = sorted(path.name for path in staged.iterdir())
            result.folder = place
            text = json.dumps(result.to_dict() | {"folder": None}, indent=2)
            (staged / REPORT).write_text(text + "\n", encoding="utf-8")
            if place.is_dir():
                place.rmdir()
            staged.rename(place)
    return result


def _find_model(target: Any, to: str, settings: Any, auto_class: Any, trust: Any, places: Any) -> tuple[Any, Any]:
    """Give the model, and where it is from."""
    source = None
    if isinstance(target, nn.Module) or (hasattr(target, "dummy_inputs") and not isinstance(target, type)):
        model = target
    else:
        opened = open_target(target, settings=settings, auto_class=auto_class, trust_remote_code=trust, **places)
        model = opened.load()
        source = opened.place, {name: value for name, value in places.items() if value is not None}
    if isinstance(model, nn.Module) == (to == "saved-model"):
        raise InputError(
            f"{type(model).__name__} is of torch, and a SavedModel is made of Keras models: name one of its "
            "classes, such as --as TFAutoModel."
            if to == "saved-model"
            else f"{type(model).__name__} is no torch model, and these are exported. Keras models go --to saved-model."
        )
    return model, source


@contextmanager
def _resting(model: nn.Module) -> Iterator[None]:
    """Have a model on the CPU and in evaluation mode for a while."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = {module: module.training for module in model.modules()}
    device = next((x.device for x in model.parameters()), torch.device("cpu"))
    model.eval()
    model.to("cpu")
    try:
        yield
    finally:
        model.to(device)
        for module, mode in modes.items():
            module.training = mode


def _add_beside(model: Any, source: Any, processors: Sequence[Any], staged: Path) -> None:
    """Put the configuration and what prepares inputs beside what was exported."""
    if source is not None and source[0] is not None:
        with open_source(source[0], **source[1]) as opened:
            for name in opened.names():
                if BESIDE.fullmatch(name):
                    shutil.copyfile(opened.refer(name), staged / name)
    for each in processors:
        each.save_pretrained(staged)
    config = getattr(model, "config", None)
    if config is not None and not (staged / "config.json").exists():
        config.save_pretrained(staged)
