"""The optimizer and the schedules of its learning rate."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from maquette.errors import ConfigurationError
from maquette.training.arguments import TrainingArguments

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)
LAST_RATE = 1e-7  # where the polynomial schedule ends
SOFT_STEPS = 10_000  # the time scale of inverse_sqrt without warm-up


def make_optimizer(model: nn.Module, args: TrainingArguments) -> Optimizer:
    """Make AdamW (Loshchilov & Hutter 2019) over what is trainable; norms, biases and other vectors do not decay."""
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters(recurse=False)}
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ConfigurationError(f"{type(model).__name__} has nothing to train: no parameter has requires_grad.")
    decaying = [p for p in trainable if p.ndim > 1 and id(p) not in norms]
    kept = {id(p) for p in decaying}
    groups = [
        {"params": decaying, "weight_decay": args.weight_decay},
        {"params": [p for p in trainable if id(p) not in kept], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=args.learning_rate, fused=_can_fuse(trainable))


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)


def make_schedule(optimizer: Optimizer, args: TrainingArguments, *, steps: int) -> LambdaLR:
    """Make the schedule that the arguments name, over that many steps."""
    warm = args.warm_up(steps)
    shapes: dict[str, Callable[[int], float]] = {
        "linear": lambda step: _left(step, warm, steps),
        "cosine": lambda step: 0.5 * (1 + math.cos(math.pi * (1 - _left(step, warm, steps)))),
        "polynomial": lambda step: _between(_left(step, warm, steps), args.learning_rate),
        "inverse_sqrt": lambda step: math.sqrt((warm or SOFT_STEPS) / (step + (0 if warm else SOFT_STEPS))),
    }
    shape = shapes.get(args.lr_scheduler_type, lambda step: 1.0)
    return LambdaLR(optimizer, lambda step: step / warm if step < warm else shape(step))


def _left(step: int, warm: int, steps: int) -> float:
    """Give the share of the steps after warm-up that is still to come."""
    return max(0.0, (steps - step) / max(1, steps - warm))


def _between(left: float, rate: float) -> float:
    """Go in a line from the full rate to `LAST_RATE`."""
    return left + (1 - left) * LAST_RATE / rate if rate else 0.0
