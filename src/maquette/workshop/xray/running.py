"""One step of a model on the meta device: forward, backward, optimizer; and what is done where that cannot be run."""

import contextlib
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import ConfigurationError
from maquette.generation.cache import Cache
from maquette.modeling.model_parts import Tally
from maquette.modeling.module_tree import count_experts, share_of, sum_kinds
from maquette.modeling.provenance import storage_id, tensors_in
from maquette.workshop.xray.inputs import find_loss, make_inputs, make_targets
from maquette.workshop.xray.meter import EXPERTS, FLEX, LAYERS, Meter, watched

MOST_ATTEMPTS = 12
# What is said of operations whose result depends on values, of which there are none here.
DEPENDENT = ("meta", "data-dependent", "_local_scalar_dense", "nonzero", "FakeTensor")


@dataclass
class Run:
    """What was measured in one step.

    Attributes:
        tallies: of each module, by its path, in the forward.
        forward: floating-point operations by kind.
        backward: those of the backward pass.
        moved: bytes read and written, in the whole step.
        memory: bytes by what they are for; "peak" is the most at one time.
        peak_at: where that is.
        notes: what could not be run, by the module's path.
    """

    tallies: dict[str, Tally]
    forward: dict[str, int]
    backward: int = 0
    moved: int = 0
    memory: dict[str, int] = field(default_factory=dict)
    peak_at: str = ""
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def run_step(
    model: nn.Module,
    given: Mapping[str, Tensor] | None,
    *,
    batch: int,
    length: int,
    train: bool,
    is_gpu: bool,
    memo: dict[Any, Any],
) -> Run:
    """Run one forward, or one step of training with AdamW, and measure it.

    Raises:
        ConfigurationError: the model does not say what it takes, or cannot be run.
    """
    model.train(train)
    inputs = make_inputs(model, given, batch=batch, length=length)
    targets: dict[str, Tensor] | None = None if train else {}
    replaced: dict[str, str] = {}
    remarks: list[str] = []
    has_flex = FLEX in sys.modules
    there = [*model.parameters(), *model.buffers(), *inputs.values()]
    with _restored(model), torch.device("meta"):
        for _ in range(MOST_ATTEMPTS):
            meter = Meter(there, is_gpu=is_gpu, memo=memo)
            try:
                if targets is None:
                    targets = _make_targets(model, inputs, meter)
                    meter = Meter([*there, *targets.values()], is_gpu=is_gpu, memo=memo)
                return _measure(model, inputs, targets, meter, train=train, replaced=replaced, remarks=remarks)
            except Exception as error:
                if FLEX in sys.modules and not has_flex:  # imported on the way, and now replaced
                    has_flex = True
                    continue
                if meter.path == [""] and targets:
                    remarks.append(f"The loss is not in it, as it takes values to compute: {_first_line(error)}")
                    targets = {}
                    continue
                path = _blame(model, meter, error, replaced)
                replaced[path] = f"estimated, as it cannot be run without values: {_first_line(error)}"
                _replace(model, path, meter)
    raise ConfigurationError(f"{type(model).__name__} cannot be run on the meta device, in too many of its modules.")


def _measure(
    model: nn.Module,
    inputs: dict[str, Tensor],
    targets: dict[str, Tensor],
    meter: Meter,
    *,
    train: bool,
    replaced: dict[str, str],
    remarks: list[str],
) -> Run:
    _point_estimates(model, meter)
    weights, buffers = _distinct(model.parameters()), _distinct(model.buffers())
    memory = {"weights": weights, "buffers": buffers, "inputs": _distinct(inputs.values())}
    with watched(model, meter), torch.set_grad_enabled(train):
        output = model(**inputs, **targets)
    outputs = {name: tuple(value.shape) for name, value in _named(output)}
    loss = [find_loss(output)] if train else []  # as in a loop that keeps the loss alone
    del output
    memory["activations"] = meter.note_kept()
    tallies, forward = meter.tallies, dict(sum_kinds(meter.tallies))
    moved = sum(tally.moved for tally in tallies.values())
    run = Run(tallies, forward, moved=moved, outputs=outputs, notes=dict(replaced), remarks=remarks)
    peak = meter.peak
    if train:
        peak = _go_back(model, loss, meter, run, memory)
    else:
        memory.pop("activations")
    run.uncounted = dict(meter.uncounted)
    run.peak_at = run.peak_at or meter.peak_at or "the whole model"
    memory["temporary"] = max(0, peak - sum(memory.get(name, 0) for name in ("activations", "gradients")))
    static = weights + buffers + memory["inputs"] + memory.get("optimizer", 0)
    memory["peak"] = static + peak
    run.memory = memory
    return run


def _make_targets(model: nn.Module, inputs: dict[str, Tensor], meter: Meter) -> dict[str, Tensor]:
    """Make labels that fit what the model gives."""
    _point_estimates(model, meter)
    with watched(model, meter), torch.no_grad():
        return make_targets(model, model(**inputs))


def _go_back(model: nn.Module, loss: list[Tensor], meter: Meter, run: Run, memory: dict[str, int]) -> int:
    """Run the backward pass and the optimizer's step; gives the most memory at a time, beside what stays."""
    where = meter.peak_at
    before = meter.peak
    meter.tallies, meter.path = {"": Tally()}, [""]
    with watched(model, meter):
        loss.pop().backward()
    run.backward = sum_kinds(meter.tallies).total()
    run.moved += sum(tally.moved for tally in meter.tallies.values())
    run.peak_at = where if meter.peak == before else "the backward pass"
    learnt = [parameter for parameter in model.parameters() if parameter.grad is not None]
    memory["gradients"] = _distinct(parameter.grad for parameter in learnt if parameter.grad is not None)
    memory["optimizer"] = 2 * sum(parameter.numel() * parameter.element_size() for parameter in learnt)
    # AdamW goes from parameter to parameter, with two numbers more for each of one of them
    largest = max((parameter.numel() * parameter.element_size() for parameter in learnt), default=0)
    step = memory["gradients"] + 2 * largest
    for parameter in model.parameters():
        parameter.grad = None
    if step > meter.peak:
        run.peak_at = "the optimizer's step"
    return max(meter.peak, step)


def _named(output: Any) -> list[tuple[str, Tensor]]:
    if isinstance(output, Mapping):
        return [(name, value) for name, value in output.items() if isinstance(value, Tensor)]
    return [(str(number), tensor) for number, tensor in enumerate(tensors_in(output))]


def _distinct(tensors: Any) -> int:
    """Count the bytes of tensors, memory that several share once."""
    return sum({storage_id(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


# What cannot be run ---------------------------------------------------------------------------------------------------


def _blame(model: nn.Module, meter: Meter, error: Exception, replaced: Mapping[str, str]) -> str:
    """Say which module to estimate, as its operations depend on values; raises the error where it is none of those."""
    dependent = isinstance(error, NotImplementedError | RuntimeError) and any(w in str(error) for w in DEPENDENT)
    for place in reversed(meter.path):
        follows = any(other.startswith(place) for other in replaced)  # an estimate gave what it cannot use
        if place and place not in replaced and meter.tallies[place].takes_floats and (dependent or follows):
            return place
    raise ConfigurationError(f"{type(model).__name__} cannot be run here: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


class _Estimate:
    """Stands in the place of a module's forward: gives what came in first, and counts what its weights would do."""

    def __init__(self, module: nn.Module, path: str, config: Any) -> None:
        self.meter: Meter | None = None
        experts = count_experts(config)
        self.weights = [
            (parameter, _share(module, path, name, experts), "expert" in f"{path}.{name}")
            for name, parameter in module.named_parameters()
            if parameter.ndim > 1
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first = next(tensor for tensor in tensors_in((args, kwargs)) if tensor.is_floating_point())
        rows = first.numel() // first.shape[-1]
        for parameter, share, is_expert in self.weights:
            if self.meter is not None:
                self.meter.count(round(2 * parameter.numel() * share) * rows, EXPERTS if is_expert else LAYERS)
        return first.clone()


def _share(module: nn.Module, path: str, name: str, experts: tuple[int, int]) -> float:
    share, place = share_of(module, path, experts), path
    for part in name.split(".")[:-1]:
        module, place = module.get_submodule(part), f"{place}.{part}"
        share *= share_of(module, place, experts)
    return share


def _replace(model: nn.Module, path: str, meter: Meter) -> None:
    module = model.get_submodule(path)
    module.forward = _Estimate(module, path, getattr(model, "config", None))


def _point_estimates(model: nn.Module, meter: Meter) -> None:
    for module in model.modules():
        if isinstance(found := vars(module).get("forward"), _Estimate):
            found.meter = meter


@contextlib.contextmanager
def _restored(model: nn.Module) -> Any:
    """Leave a model's modules as they were."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
            if isinstance(vars(module).get("forward"), _Estimate):
                del module.forward


# The cache ------------------------------------------------------------------------------------------------------------


def measure_cache(model: Any, *, batch: int, length: int, memo: dict[Any, Any]) -> int:
    """Count the bytes that generating keeps for each batch of texts; 0 for a model that does not generate."""
    can = getattr(model, "can_generate", None)
    if not isinstance(can, types.MethodType) or not can():
        return 0
    cache = Cache()
    model.eval()
    inputs = make_inputs(model, None, batch=batch, length=length)
    try:
        with torch.device("meta"), torch.no_grad(), watched(model, Meter([], is_gpu=True, memo=memo)):
            model(**inputs, past_key_values=cache, use_cache=True)
    except Exception:  # which a cache of its own, or operations that depend on values, bring about
        return 0
    return cache.memory_footprint()
