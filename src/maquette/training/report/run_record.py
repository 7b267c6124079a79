"""What is known of a training run when it is over."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from maquette.storage.version import __version__


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model; `shape` is None where it has none yet."""

    name: str
    shape: tuple[int, ...] | None
    count: int
    dtype: str
    trainable: bool


@dataclass
class RunRecord:
    """A training run.

    Args:
        title: what was trained.
        started: when it began.
        seconds: how long it took.
        arguments: its settings by name.
        defaults: what these settings are where nobody sets them, so that a reader sees what was chosen.
        history: the log, in order. Each entry has its `step`, mostly its `epoch`, and results such as `loss` and
            `learning_rate`, or `eval_loss` and other names that start with `eval_`.
        throughput: steps, and how many samples were trained on in a second up to there.
        parameters: those of the model.
        environment: versions and the device, by name.
        xray: an `XRay`, what was seen of the model, where it could be looked through.
        texts: what it wrote along the way: each with its `step`, `prompt` and `text`.
        note: what a reader should know before anything else, such as that the run was cut short.
    """

    title: str
    started: datetime
    seconds: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    throughput: list[tuple[int, float]] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    xray: Any = None
    texts: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def describe_parameters(model: Any) -> list[Parameter]:
    """List the parameters of a torch module in their order, those that are tied once."""
    return [
        Parameter(
            name,
            shape := _shape(parameter),
            parameter.numel() if shape is not None else 0,
            str(parameter.dtype).removeprefix("torch."),
            bool(parameter.requires_grad),
        )
        for name, parameter in model.named_parameters()
    ]


def _shape(parameter: Any) -> tuple[int, ...] | None:
    try:
        return tuple(parameter.shape)
    except RuntimeError:  # of a lazy module that has seen no input yet
        return None


def describe_environment(model: Any) -> dict[str, str]:
    """Name versions, the device and the machine; of frameworks those that the run has imported."""
    found = {"maquette": __version__, "Python": platform.python_version()}
    for name in ("torch", "accelerate", "numpy"):
        if version := getattr(sys.modules.get(name), "__version__", None):
            found[name] = str(version)
    if model is not None and (parameter := next(iter(model.parameters()), None)) is not None:
        found["device"] = _device(parameter.device)
    return found | {"system": platform.platform(terse=True), "processors": str(os.cpu_count())}


def _device(device: Any) -> str:
    if device.type != "cuda":
        return str(device)
    return f"{device}, {sys.modules['torch'].cuda.get_device_name(device)}"
