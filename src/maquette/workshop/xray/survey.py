"""`xray`: what a model is and what it costs, from its configuration alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from maquette.checkpoint import ExpectedParameters, match
from maquette.checkpoint.quantized import find_quantized
from maquette.modeling.model_parts import Part
from maquette.modeling.module_tree import grow
from maquette.workshop.xray.files import Weights
from maquette.workshop.xray.inputs import choose_length, says_what_it_takes
from maquette.workshop.xray.machines import Machine, find_machine
from maquette.workshop.xray.running import Run, measure_cache, run_step
from maquette.workshop.xray.subject import Subject, find_subject


@dataclass
class XRay:
    """What was seen of a model.

    Attributes:
        label: what the model is called.
        kind: its class; empty where it could not be built.
        batch, length, dtype, train: what was computed.
        tree: its modules; None where it could not be built.
        run: what one forward, or one step of training, does; None where it could not be run.
        cache: bytes that generating keeps for this batch at this length.
        machine: the one that `speed` is about.
        weights: what the files' headers say.
        ties: parameters that are others', and whose.
        misfit: names that the files lack, that they have and the model does not want, and those of other shapes.
        notes: what could not be seen, and why.
    """

    label: str
    kind: str = ""
    batch: int = 0
    length: int = 0
    dtype: str = ""
    train: bool = False
    tree: Part | None = None
    run: Run | None = None
    cache: int = 0
    machine: Machine | None = None
    weights: Weights | None = None
    ties: dict[str, str] = field(default_factory=dict)
    misfit: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """How many numbers the model learns, tied ones once; those in the files where it could not be built."""
        return self.tree.parameters if self.tree else self.weights.count if self.weights else 0

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward, or of one whole step of training."""
        return sum(self.run.forward.values()) + self.run.backward if self.run else 0

    @property
    def intensity(self) -> float:
        """Operations for each byte that is read or written, one operation after the other, without any fused."""
        return self.flops / self.run.moved if self.run and self.run.moved else 0.0

    def bound_speed(self) -> dict[str, float]:
        """Give the most tokens (or rows, where nothing is counted in tokens) a second that a machine can reach.

        "step" is what one forward, or one step of training, is bound by: all products at the machine's full speed, or
        everything that has to be read and written once. "generate" is that of writing tokens, where every one reads
        the weights it goes through, and the cache.
        """
        machine, run = self.machine, self.run
        if machine is None or not machine.bandwidth or run is None or self.tree is None:
            return {}
        weights = run.memory["weights"]
        computing = self.flops / machine.peak(self.dtype)
        least = weights * (3 if self.train else 1) + run.memory.get("optimizer", 0) * 2
        reading = least / machine.bandwidth
        found = {"step": self.batch * self.length / max(computing, reading, 1e-12)}
        if self.cache:
            share = min(1.0, self.tree.active / max(self.tree.parameters, 1) * self.batch)
            one = sum(run.forward.values()) / max(self.length, 1) / machine.peak(self.dtype)
            found["generate"] = self.batch / max(one, (weights * share + self.cache) / machine.bandwidth)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, as `--json` writes it."""
        run, weights = self.run, self.weights
        return {
            "label": self.label,
            "class": self.kind,
            "batch": self.batch,
            "length": self.length,
            "dtype": self.dtype,
            "train": self.train,
            "parameters": {
                "unique": self.parameters,
                "tied": self.tree.tied if self.tree else None,
                "active": self.tree.active if self.tree else None,
            },
            "flops": {"total": self.flops, "forward": run.forward, "backward": run.backward} if run else None,
            "memory": run.memory | {"peak_at": run.peak_at, "cache": self.cache} if run else None,
            "bytes_moved": run.moved if run else None,
            "intensity": self.intensity,
            "outputs": {name: list(shape) for name, shape in run.outputs.items()} if run else {},
            "machine": self.machine.name if self.machine else None,
            "most_tokens_per_second": self.bound_speed(),
            "ties": self.ties,
            "misfit": self.misfit,
            "files": _describe_files(weights) if weights else None,
            "notes": self.notes,
            "tree": asdict(self.tree) if self.tree else None,
        }


def xray(
    target: Any,
    *,
    batch: int = 8,
    length: int | None = None,
    dtype: Any = None,
    train: bool = False,
    machine: str = "h100",
    settings: Mapping[str, Any] | None = None,
    auto_class: str | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    trust_remote_code: bool | str | None = None,
    **places: Any,
) -> XRay:
    """Look through a model without any of its weights: it is built and run on the meta device.

    Args:
        target: a folder, a `config.json`, a repository of the Hub, `"module:Class"`, a configuration, class or model.
        batch: rows of the inputs.
        length: tokens in a row, or samples of a sound; unless given, 512 or the most the model takes, and ten seconds.
        dtype: of weights and computation, "bf16" or as torch calls it; unless given, what the configuration says.
        train: measure a step of training with AdamW instead of a forward.
        machine: what speed is told for, a name in `MACHINES`, "cpu", or figures: "flops=1e14,bandwidth=1e12".
        settings: fields of the configuration to change.
        auto_class: says which model of a configuration is meant, such as "AutoModelForCausalLM".
        inputs: of one call, for a model that does not say what it takes; `batch` and `length` change nothing then.
        trust_remote_code: True, or `"sha256:…"`, to run code that comes with it.
        places: where to read from, as `from_pretrained` takes them.

    Raises:
        MissingFileError, UnknownNameError, ConfigurationError, FileFormatError: there is no such model, or it cannot be
            built.
        ValueError: a batch or length below 1.
    """
    if batch < 1 or (length is not None and length < 1):
        raise ValueError(f"batch={batch}, length={length}: both have to be 1 at least.")
    found = find_machine(machine)
    subject = find_subject(
        target, settings=settings, auto_class=auto_class, dtype=dtype, trust=trust_remote_code, **places
    )
    if subject.model is None:
        return XRay(subject.label, weights=subject.weights, notes=subject.notes)
    return _look(subject, subject.model, batch, length, train, found, inputs)


def _look(
    subject: Subject,
    model: nn.Module,
    batch: int,
    length: int | None,
    train: bool,
    machine: Machine,
    given: Mapping[str, Tensor] | None,
) -> XRay:
    places = choose_length(model, length)
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    seen = XRay(
        subject.label,
        type(model).__name__,
        batch,
        places,
        str(kind).removeprefix("torch."),
        train,
        machine=machine,
        weights=subject.weights,
        notes=[*subject.notes],
    )
    if given is None and not says_what_it_takes(model):
        seen.tree = grow(model)
        seen.notes.append(
            f"It was not run: {type(model).__name__} does not say what it takes. Write a property `dummy_inputs` that "
            "gives small inputs by their names, or call xray(…, inputs={…}) from Python."
        )
        return _compare(seen, model)
    memo: dict[Any, Any] = {}
    size: dict[str, Any] = {"batch": batch, "length": places, "memo": memo}
    seen.run = run = run_step(model, given, train=train, is_gpu=machine.is_gpu, **size)
    seen.tree = grow(model, run.tallies, run.notes)
    seen.cache = measure_cache(model, **size) if given is None else 0
    seen.notes += run.remarks
    if run.uncounted:
        names = ", ".join(f"{name} ({count} times)" for name, count in sorted(run.uncounted.items()))
        seen.notes.append(f"There is no formula for the work of {names}: it is not in the count.")
    seen.notes += [f"{path}: {note}" for path, note in run.notes.items()]
    if seen.weights is not None and (quantized := find_quantized(seen.weights.metadata)):
        saved = run.memory["weights"] - seen.weights.size
        run.memory["weights"] -= saved
        run.memory["peak"] -= saved
        seen.notes.append(f"{len(quantized)} weights are quantised; memory is counted as the files hold them.")
    return _compare(seen, model)


def _compare(seen: XRay, model: nn.Module) -> XRay:
    """Note what is tied in a model, and what its files lack of it."""
    assert seen.tree is not None
    seen.ties = {
        f"{part.path}.{weight.name}".lstrip("."): weight.tied_to
        for part in seen.tree.walk()
        for weight in part.weights
        if weight.tied_to and weight.kind == "parameter"
    }
    if seen.weights is not None and seen.weights.files:
        seen.misfit = compare_names(model, seen.weights, seen.ties)
    return seen


def compare_names(model: Any, weights: Weights, ties: Mapping[str, str]) -> dict[str, list[str]]:
    """Say what loading these files into a model would find, from names and shapes."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    aliases = {name: place for name, place in ties.items() if name in shapes}
    expected = ExpectedParameters({n: s for n, s in shapes.items() if n not in aliases}, aliases)
    stored = {tensor.name: tensor.shape for tensor in weights.tensors.values()}
    for name, parts in find_quantized(weights.metadata).items():
        kept = [stored.pop(part) for part in parts if part in stored]
        if len(kept) == len(parts):
            stored[name] = shapes.get(name, kept[0])  # several numbers may share a byte
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    report = match(stored, expected, prefix=getattr(model, "base_model_prefix", ""), ignored=ignored)
    wrong = [f"{name}: {there} in the file, {here} in the model" for name, there, here in report.mismatched]
    return {"missing": report.missing, "unexpected": report.unexpected, "mismatched": wrong}


def _describe_files(weights: Weights) -> dict[str, Any]:
    return {
        "files": weights.files,
        "numbers": weights.count,
        "types": weights.types,
        "pickled": weights.pickled,
        "tensors": {
            t.name: {"dtype": t.dtype, "shape": list(t.shape), "file": t.file} for t in weights.tensors.values()
        },
    }
