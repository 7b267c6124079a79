"""Checks of what training needs: a loss, gradients everywhere, and the same ones when activations are recomputed."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from maquette.testing.basics import loss_faults
from maquette.testing.choices import judge_reach
from maquette.testing.comparison import compare
from maquette.testing.report import Fault, NotApplicableError, Unchecked
from maquette.testing.torch.subject import Subject, Tensors, flatten, seeded, snapshot

# The loss --------------------------------------------------------------------------------------------------------


def check_loss(subject: Subject) -> Iterator[Fault]:
    """With labels, `forward` returns by key a loss that trains, and logits."""
    model = subject.build()
    yield from loss_faults(
        subject,
        lambda: model(**snapshot(subject.inputs), **snapshot(subject.labels)),
        lambda loss: _check_loss_tensor(model, loss),
    )


def _check_loss_tensor(model: Any, loss: Any) -> Iterator[Fault]:
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        shape = (
            f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
        )
        yield Fault(f"the loss is {shape}, not one number", 'return a tensor of no dimensions: reduction="mean"')
    elif not loss.isfinite():
        yield Fault(f"the loss is {loss.item()}", "initialise every parameter, and check that the labels are in range")
    elif not loss.requires_grad:
        yield Fault("the loss does not backpropagate", "compute it from the logits, without detach, item or no_grad")
    else:
        torch.autograd.backward(loss)
        if all(parameter.grad is None for parameter in model.parameters()):
            yield Fault("no parameter receives a gradient from the loss", "compute it from the logits, without detach")


# Gradients -------------------------------------------------------------------------------------------------------


def backpropagate(subject: Subject, model: Any) -> None:
    """Run the loss backwards, or random weights of every output where there is no loss."""
    output = model(**snapshot(subject.inputs), **snapshot(subject.labels))
    if isinstance(output, Mapping) and isinstance(loss := output.get("loss"), torch.Tensor):
        torch.autograd.backward(loss.sum())
        return
    tensors = [tensor for tensor in flatten(output).values() if tensor.requires_grad]
    if tensors:
        total = torch.stack([(tensor * torch.randn_like(tensor)).sum() for tensor in tensors]).sum()
        torch.autograd.backward(total)


def gradients(subject: Subject, model: Any, *, training: bool) -> Tensors:
    """Name the gradients that one run gives."""
    model.zero_grad(set_to_none=True)
    with seeded(4):
        backpropagate(subject, model.train(training))
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_gradients(subject: Subject) -> Iterator[Fault | Unchecked]:
    """Every trainable parameter receives a gradient, in training or evaluation mode, and a finite one."""
    model = subject.build()
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise NotApplicableError(f"{subject.name} has no trainable parameters")
    reached = _reach(subject, model, trainable)
    yield from judge_reach(
        trainable,
        reached,
        lambda seed: _reach(subject, subject.vary(seed), trainable).keys(),
        what="parameter",
        fix="it is not used in forward, or detached on the way; remove it, or set requires_grad_(False)",
    )
    for name, gradient in reached.items():
        if not gradient.isfinite().all():
            yield Fault(f"the gradient of `{name}` is not finite", "avoid 0/0, log(0) and sqrt(0) in forward")


def _reach(subject: Subject, model: Any, names: Collection[str]) -> Tensors:
    """Name the gradients of evaluation mode, and of training mode too where those leave some out."""
    reached = gradients(subject, model, training=False)
    return reached if set(names) <= reached.keys() else gradients(subject, model, training=True) | reached


def check_checkpointing(subject: Subject) -> Iterator[Fault]:
    """Recomputing activations changes no gradient."""
    model = subject.build()
    modules = {name: module for name, module in model.named_modules() if hasattr(module, "gradient_checkpointing")}
    if not modules:
        if subject.model_class.supports_gradient_checkpointing:
            yield Fault(
                "supports_gradient_checkpointing is True, but no module has an attribute `gradient_checkpointing`",
                f"set it to False in the module that runs the layers; {RECOMPUTE}",
            )
            return
        raise NotApplicableError("no module has an attribute `gradient_checkpointing`")
    plain = gradients(subject, model, training=True)
    kept = _count_kept(subject, model)
    model.gradient_checkpointing_enable()
    found = gradients(subject, model, training=True)
    idle = {name for name in modules if not _saves_memory(subject, model, modules, name, kept)}
    for name in sorted(idle):
        if all(other in idle for other in modules if _is_inside(other, name)):  # others may follow a switch above them
            yield Fault(
                f"`{name or subject.name}` has an attribute `gradient_checkpointing`, but recomputes nothing: with it, "
                "a run keeps as much for the backward pass",
                RECOMPUTE,
            )
    for name, difference in compare(plain, found, subject.tolerance).items():
        yield Fault(
            f"the gradient of `{name}` is {difference} with gradient checkpointing",
            "recompute the layer itself from all its inputs, and use its result",
        )


def _saves_memory(subject: Subject, model: Any, modules: Mapping[str, Any], name: str, kept: int) -> bool:
    """Tell whether a run keeps less where one module alone has its switch on."""
    for other, module in modules.items():
        module.gradient_checkpointing = other == name
    return _count_kept(subject, model) < kept


def _is_inside(name: str, outer: str) -> bool:
    return name != outer and (not outer or name.startswith(f"{outer}."))


def _count_kept(subject: Subject, model: Any) -> int:
    """Count the numbers that a run in training keeps for the backward pass; what is recomputed is not among them."""
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with seeded(4), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(**snapshot(subject.inputs), **snapshot(subject.labels))
    return sum(kept)


RECOMPUTE = (
    "while training and where it is True, run the layers through self._gradient_checkpointing_func(layer, *inputs), or "
    "through torch.utils.checkpoint"
)
