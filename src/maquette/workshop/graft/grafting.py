"""Brings the weights of a checkpoint into a model: proposes a map, or takes one, applies it, and compares outputs."""

import contextlib
import fnmatch
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import CheckpointError, InputError, SaveError, UntrustedCodeError, bullets
from maquette.storage.paths import user_path
from maquette.workshop.graft.destination import Destination
from maquette.workshop.graft.proposal import Proposer
from maquette.workshop.graft.sources import open_weights
from maquette.workshop.graft.weight_map import FILE, WeightMap
from maquette.workshop.targets import open_target


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
        notes: what could not be seen, and why; nothing is written then.
    """

    map: WeightMap
    folder: Path | None = None
    model: Any = None
    apart: float | None = None
    compared: str = ""
    missing: list[str] = field(default_factory=list)
    differs: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether every tensor has a source, or may stay fresh, no question is open, and all was seen and agrees."""
        return not (self.map.questions or self.missing or self.differs or self.notes)

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
            "notes": self.notes,
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
    notes: list[str] = []
    try:
        model: Any = (
            target if isinstance(target, nn.Module) else _build(target, settings, auto_class, trust_remote_code)
        )
        seen = Destination.of(model)
    except UntrustedCodeError as error:
        model, seen = None, Destination.of_files(target, error)
        notes.append(
            f"{target} brings code that was not approved, and none of it ran: names and shapes are those of its files. "
            "The kinds of its layers, what is tied, and outputs could not be seen, so nothing is written. What the "
            f"code can do: maquette trust {target}"
        )
    source = open_weights(checkpoint)
    wanted = seen.shapes  # by the names that files have
    found = WeightMap.load(map) if isinstance(map, str | os.PathLike) else map
    if found is None:
        found = Proposer(
            source.shapes,
            wanted,
            seen.layers,
            source.layers,
            seen.heads,
            answers or {},
            seen.is_rotary,
            source.model_type == seen.model_type and bool(source.model_type),
            seen.prefix,
        ).propose()
    covered = {rule.target for rule in found.rules} | {name for each in found.questions for name in each.targets}
    missing = [name for name in wanted if name not in covered]
    allowed = [name for name in missing if any(fnmatch.fnmatch(name, pattern) for pattern in fresh)]
    found.fresh = missing
    result = Grafting(found, missing=[name for name in missing if name not in allowed], notes=notes)
    if strange := [rule.target for rule in found.rules if rule.target not in wanted]:
        raise InputError(f"The map has tensors that the model does not have:{bullets(strange)}")
    if wrong := [rule for rule in found.rules if rule.shape != wanted[rule.target]]:
        lines = [f"{r.target} is {wanted[r.target]}, and the map makes {r.shape}" for r in wrong]
        raise CheckpointError(f"The map was made for a model of another size:{bullets(lines[:12])}")
    if not result.is_whole:
        return result
    tensors, original = source.read()
    model.load_state_dict(found.apply(tensors), strict=False)
    model.tie_weights()
    result.model = model.eval()
    result.apart, result.compared = _compare(model, run or original, inputs)
    result.differs = result.apart is not None and not result.apart <= tolerance  # NaN, too
    if place is not None and not result.differs:
        _write(model, found, place)
        result.folder = place
    return result


def _build(target: Any, settings: Any, auto_class: str | None, trust: bool | str | None) -> Any:
    opened = open_target(target, settings=settings, auto_class=auto_class, trust_remote_code=trust)
    model = opened.build()
    if not isinstance(model, nn.Module):
        raise InputError(f"{opened.name} is {type(model).__name__}, no torch model: weights are brought into these.")
    return model


def _write(model: Any, found: WeightMap, place: Path) -> None:
    """Write a model and its map: no model is ever there without, and nothing stays where either cannot be written."""
    was_there = place.is_dir()
    place.mkdir(parents=True, exist_ok=True)
    try:
        found.save(place / FILE)
        model.save_pretrained(place)
    except BaseException:
        (place / FILE).unlink(missing_ok=True)
        if not was_there:
            with contextlib.suppress(OSError):  # what else is in it, nobody here has put there
                place.rmdir()
        raise


# Comparing ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _compare(model: Any, run: Any, inputs: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """Run both, and compare what has the same shape."""
    if run is None:
        return None, "the original cannot be run from its weights alone: give run=, or --run"
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
