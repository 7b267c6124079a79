"""Brings the weights of a checkpoint into a model: proposes a map, or takes one, applies it, and compares outputs."""

import fnmatch
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maquette.checkpoint import Checkpoint
from maquette.errors import CheckpointError, InputError, MissingFileError, MissingPackageError, SaveError, bullets
from maquette.hub.sources import open_source
from maquette.modeling.layers.rotary import RotaryEmbedding
from maquette.storage.paths import user_path
from maquette.workshop.conversion import PICKLED, convert
from maquette.workshop.graft.proposal import Proposer, count_heads, layers_of
from maquette.workshop.graft.weight_map import FILE, WeightMap
from maquette.workshop.targets import open_target

TIMM = "timm:"


@dataclass
class Grafting:
    """What was proposed, and what was done.

    Attributes:
        map: from the checkpoint to the model.
        folder: where the model is, with its map; None where nothing was written.
        model: with the weights; None where the map is not whole.
        apart: how far the outputs of both lie apart at most, as a share of the largest number; None: not compared.
        compared: which output was compared, or why none was.
        missing: tensors of the model without a source that nobody allowed to stay fresh.
        differs: whether outputs were compared, and lie further apart than allowed.
    """

    map: WeightMap
    folder: Path | None = None
    model: Any = None
    apart: float | None = None
    compared: str = ""
    missing: list[str] = field(default_factory=list)
    differs: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every tensor has a source, or may stay fresh, no question is open, and no output differs."""
        return not (self.map.questions or self.missing or self.differs)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        rules = [
            {"target": rule.target, "sources": list(rule.sources), "how": rule.how, "confidence": rule.confidence}
            | {"reason": rule.reason}
            for rule in self.map.rules
        ]
        return {
            "folder": None if self.folder is None else str(self.folder),
            "is_whole": self.is_whole,
            "rules": rules,
            "questions": [vars(question) for question in self.map.questions],
            "missing": self.missing,
            "fresh": self.map.fresh,
            "unused": self.map.unused,
            "apart": self.apart,
            "compared": self.compared,
            "differs": self.differs,
        }


def graft(
    checkpoint: Any,
    target: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    map: WeightMap | str | os.PathLike[str] | None = None,
    answers: Mapping[str, str] | None = None,
    fresh: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    trust_remote_code: bool | str | None = None,
    run: Callable[..., Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    tolerance: float = 1e-3,
) -> Grafting:
    """Bring weights into a model of another architecture, or of other names.

    Args:
        checkpoint: a safetensors file or a folder of them, a pickled state dict (read by a child process that calls
            nothing but what tensors need), `"timm:NAME"`, a state dict, or a module.
        target: a model, or what `open_target` takes: a folder, a repository, `module:Class`.
        folder: a new or an empty one for the model and its map, `graft.json`; nothing is written unless given.
        map: to be used, instead of a proposed one.
        answers: to the questions of an earlier proposal, by their names.
        fresh: patterns of the model's tensors that may keep what the constructor gave them, such as `"classifier.*"`.
        settings, auto_class, trust_remote_code: as in `open_target`.
        run: calls the original with `inputs`, for comparing; a module, and a model of timm, is called by itself.
        inputs: of the model; unless given, its `dummy_inputs`.
        tolerance: how far outputs may lie apart, as a share of the largest number.

    Returns:
        What was found. Nothing is written while questions are open, tensors are missing, or outputs differ.

    Raises:
        InputError: an answer that is none of the choices, or a target that is no torch model.
        CheckpointError: a map that does not fit.
        SaveError: there is something in the folder.
        MissingFileError, UntrustedCodeError: no such checkpoint or target, or code that was not approved.
    """
    place = None if folder is None else user_path(folder)
    if place is not None and os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        raise SaveError(f"The folder {str(place)!r} has something in it, or is none. Give an empty or a new one.")
    model: Any = target if isinstance(target, nn.Module) else _build(target, settings, auto_class, trust_remote_code)
    tensors, original = _read(checkpoint)
    wanted = _distinct(model.state_dict())  # by the names that files have
    found = WeightMap.load(map) if isinstance(map, str | os.PathLike) else map
    if found is None:
        found = Proposer(
            {name: tuple(x.shape) for name, x in tensors.items()},
            {name: tuple(x.shape) for name, x in wanted.items()},
            layers_of(model),
            {} if original is None else layers_of(original),
            count_heads(model.config),
            answers or {},
            any(isinstance(module, RotaryEmbedding) for module in model.modules()),
        ).propose()
    covered = {rule.target for rule in found.rules} | {name for each in found.questions for name in each.targets}
    missing = [name for name in wanted if name not in covered]
    allowed = [name for name in missing if any(fnmatch.fnmatch(name, pattern) for pattern in fresh)]
    found.fresh = missing
    result = Grafting(found, missing=[name for name in missing if name not in allowed])
    if strange := [rule.target for rule in found.rules if rule.target not in wanted]:
        raise InputError(f"The map has tensors that the model does not have:{bullets(strange)}")
    if wrong := [rule for rule in found.rules if rule.shape != tuple(wanted[rule.target].shape)]:
        lines = [f"{r.target} is {tuple(wanted[r.target].shape)}, and the map makes {r.shape}" for r in wrong]
        raise CheckpointError(f"The map was made for a model of another size:{bullets(lines[:12])}")
    if not result.is_whole:
        return result
    model.load_state_dict(found.apply(tensors), strict=False)
    model.tie_weights()
    result.model = model.eval()
    result.apart, result.compared = _compare(model, run or original, inputs)
    result.differs = result.apart is not None and not result.apart <= tolerance  # NaN, too
    if place is not None and not result.differs:
        model.save_pretrained(place)
        found.save(place / FILE)
        result.folder = place
    return result


def _build(target: Any, settings: Any, auto_class: str | None, trust: bool | str | None) -> Any:
    opened = open_target(target, settings=settings, auto_class=auto_class, trust_remote_code=trust)
    model = opened.build()
    if not isinstance(model, nn.Module):
        raise InputError(f"{opened.name} is {type(model).__name__}, no torch model: weights are brought into these.")
    return model


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


# The checkpoint -----------------------------------------------------------------------------------------------------


def _read(checkpoint: Any) -> tuple[dict[str, Tensor], nn.Module | None]:
    """Give a checkpoint's tensors by their names, and the module they are of, if there is one."""
    if isinstance(checkpoint, nn.Module):
        return dict(checkpoint.state_dict()), checkpoint.eval()
    if isinstance(checkpoint, Mapping):
        return {name: x for name, x in checkpoint.items() if isinstance(x, Tensor)}, None
    name = os.fspath(checkpoint)
    if name.startswith(TIMM):
        return _read(_make_timm(name.removeprefix(TIMM)))
    path = user_path(name)
    if path.is_file() and path.suffix == ".safetensors":
        return load_file(path), None
    if path.is_file() and PICKLED.match(path.name):
        with tempfile.TemporaryDirectory() as staging:
            convert(path, Path(staging) / "converted")
            return _read(Path(staging) / "converted")
    if path.is_file():
        raise InputError(f"{name} is no file of weights: give .safetensors, or .pt, .pth, .bin or .ckpt.")
    with open_source(name) as source:
        found = Checkpoint.open(source)
        return found.tensors(list(found.shapes), framework="pt"), None


def _make_timm(name: str) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise MissingPackageError(f"{TIMM}{name} needs timm: pip install timm. ({error})") from None
    if name not in timm.list_models():
        near = timm.list_models(f"*{name.split('.')[0][:8]}*")[:3]
        raise MissingFileError(f"timm has no model {name!r}." + (f" It has {', '.join(near)}." if near else ""))
    model: nn.Module = timm.create_model(name, pretrained=True)
    return model


# Comparing ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _compare(model: Any, run: Any, inputs: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """Run both, and compare what has the same shape."""
    if run is None:
        return None, "the original cannot be run from its weights alone: pass run="
    given = dict(model.dummy_inputs if inputs is None else inputs)
    ours = {name: x for name, x in model(**given).items() if isinstance(x, Tensor)}
    try:
        theirs = run(given[model.main_input_name]) if isinstance(run, nn.Module) else run(**given)
    except Exception as error:
        return None, f"the original fails on these inputs: {type(error).__name__}: {error}"
    for theirs_name, other in _tensors_in(theirs):
        for name, mine in ours.items():
            if mine.shape == other.shape:
                apart = (mine - other).abs().max() / other.abs().max().clamp(min=torch.finfo(other.dtype).tiny)
                return float(apart), f"{name}{f' with {theirs_name}' if theirs_name else ''}"
    return None, "no output of the original has the shape of one of the model's"


def _tensors_in(found: Any) -> list[tuple[str, Tensor]]:
    if isinstance(found, Tensor):
        return [("", found)]
    pairs = found.items() if isinstance(found, Mapping) else enumerate(found if isinstance(found, tuple | list) else ())
    return [(str(name), x) for name, x in pairs if isinstance(x, Tensor) and x.is_floating_point()]
