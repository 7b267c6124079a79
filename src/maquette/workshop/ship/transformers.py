"""Transformers: a custom model's folder that loads there with `trust_remote_code=True`, without maquette."""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import InputError, MissingPackageError
from maquette.registry import MODEL_AUTO_CLASSES
from maquette.remote_code.bundling import Closure
from maquette.remote_code.package import package_of
from maquette.workshop.ship.comparing import Comparison, compare, run_elsewhere
from maquette.workshop.ship.peer_code import Folder, flat
from maquette.workshop.ship.sizes import Tensors, find_sizes
from maquette.workshop.ship.sizes import run as run_model

READER = Path(__file__).with_name("peer_reader.py")
STEPS = 6  # tokens that are written for the comparison


def ship_to_transformers(
    model: Any, staged: Path, work: Path, *, inputs: Mapping[str, Tensor] | None, python: Any = None, **_: Any
) -> dict[str, Any]:
    """Write a folder for Transformers, have it loaded in a process without maquette, and compare.

    Args:
        model: in evaluation mode, on the CPU.
        staged, work: folders, for the result, and for what goes to and fro.
        inputs: to compare with; unless given, the model's `dummy_inputs`.
        python: an interpreter that has Transformers; unless given, this one.

    Raises:
        InputError: it is a built-in model, or its code needs what Transformers does not have.
        MissingPackageError: the interpreter has no Transformers.
    """
    cls, config_class = type(model), type(model.config)
    if cls.__module__.startswith("maquette."):
        raise InputError(
            f"{cls.__name__} is built in: the folder that save_pretrained writes loads in Transformers as it is, as "
            f"{cls.__name__}. --to transformers is for models with code of their own."
        )
    files, model_place, config_place = _find_code(cls, config_class)
    generates = cls.__name__.endswith(("ForCausalLM", "LMHeadModel"))
    code = Folder(files, generates=generates).write()
    auto_class = _choose_auto_class(cls)
    model.save_pretrained(staged)
    for path in list(staged.rglob("*.py")):  # which a save brings along under names of its own
        path.unlink()
    if ties := find_ties(model):
        file = f"{model_place.rpartition('.')[0]}.py"
        code[file] += f"\n\n{cls.__name__}._tied_weights_keys = {ties!r}\n"
    for name, text in code.items():
        (staged / name).write_text(text, encoding="utf-8")
    _write_configuration(model, staged, {"AutoConfig": config_place, auto_class: model_place}, is_tied=bool(ties))
    calls = find_sizes(model, inputs).others
    compared = _compare(model, calls, auto_class, staged, work, python, generates=generates)
    versions = json.loads((work / "versions.json").read_text(encoding="utf-8"))
    return {"versions": versions, "compared": compared, "auto_class": auto_class}


def _find_code(cls: type, config_class: type) -> tuple[Mapping[str, bytes], str, str]:
    """Give a model's own files, and where in the new folder its class and its configuration's are."""
    if package := package_of(cls):
        references = [str(one) for one in package.auto_map.values() if isinstance(one, str)]
        found = [
            next((one for one in references if one.rpartition(".")[2] == each.__name__), "")
            for each in (cls, config_class)
        ]
        if not all(found):
            raise InputError(f"The auto_map of {package.label!r} does not name {cls.__name__} and its configuration.")
        files: Mapping[str, bytes] = package.files
    else:
        closure = Closure(cls, [cls, config_class])
        places = [closure.take(each, needed=True) for each in (cls, config_class)]
        if None in places:
            raise InputError(f"{config_class.__name__} is built in, and {cls.__name__} is not: derive one of your own.")
        found = [closure.refer(*place) for place in places if place]
        files = closure.files()
    spelt = [f"{flat(module)}.{name}" for module, _, name in (one.rpartition(".") for one in found)]
    return files, spelt[0], spelt[1]


def _choose_auto_class(cls: Any) -> str:
    """Find the AutoClass of Transformers that a class belongs to: what it is registered for, or what its name says."""
    if cls._auto_class:
        return str(cls._auto_class)
    ends = sorted((name for name in MODEL_AUTO_CLASSES if name.startswith("AutoModelFor")), key=len, reverse=True)
    return next((name for name in ends if cls.__name__.endswith(name.removeprefix("AutoModel"))), "AutoModel")


def find_ties(model: nn.Module) -> dict[str, str]:
    """Name the parameters that are another one, and that other, which is saved: as Transformers wants to be told."""
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (other := first.setdefault(id(parameter), name)) != name:
            ties[name] = other
    return ties


def _write_configuration(model: Any, staged: Path, auto_map: dict[str, str], *, is_tied: bool) -> None:
    path = staged / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in [name for name in content if name.startswith("maquette_")]:
        del content[name]
    content |= {"auto_map": auto_map, "architectures": [type(model).__name__], "tie_word_embeddings": is_tied}
    content.setdefault("dtype", str(next(model.parameters()).dtype).removeprefix("torch."))
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _compare(
    model: nn.Module,
    calls: Sequence[Tensors],
    auto_class: str,
    staged: Path,
    work: Path,
    python: Any,
    *,
    generates: bool,
) -> list[Comparison]:
    known = inspect.signature(model.forward).parameters
    calls, expected, steps, beams = [*calls], [run_model(model, call) for call in calls], [0] * len(calls), [1] * 4
    if generates and "input_ids" in known:
        ids = calls[0]["input_ids"]
        mask = torch.ones_like(ids)
        mask[-1, : ids.shape[1] // 2] = 0  # padded on the left, as prompts are
        for count in (1, 2):
            settings = {"do_sample": False, "max_new_tokens": STEPS, "eos_token_id": None, "pad_token_id": 0}
            written = model.generate(ids, attention_mask=mask, num_beams=count, **settings)  # type: ignore[operator]
            calls.append({"input_ids": ids, "attention_mask": mask})
            expected.append({"ids": written})
            steps.append(STEPS)
            beams[len(calls) - 1 :] = [count]
    job = {"model": str(staged.resolve()), "auto_class": auto_class, "steps": steps, "beams": beams}
    try:
        found = run_elsewhere(READER, work, calls, python=python or sys.executable, **job)
    except InputError as error:
        if "Transformers is not installed there" in str(error):
            raise MissingPackageError(str(error).splitlines()[-1]) from None
        raise
    return [compare(call, wanted, other) for call, wanted, other in zip(calls, expected, found, strict=True)]
