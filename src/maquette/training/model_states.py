"""The weights and the optimizer's state of a run, whole and by name, whether they lie in one process or in many.

A model that torch's `fully_shard` divided among processes is gathered to be saved, so that one process can load what
many saved, and the other way round.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from maquette.checkpoint import WEIGHTS_NAME, Checkpoint
from maquette.errors import CheckpointError, ConfigurationError, bullets
from maquette.hub.sources import open_source
from maquette.modeling.adapters import is_adapted, pick_trained, write_adapters
from maquette.modeling.quantization import is_quantized
from maquette.modeling.torch import PreTrainedModel
from maquette.modeling.weights import check_classes
from maquette.storage.json_values import refuse, to_plain
from maquette.storage.transaction import Transaction

TRAINED = "trained.safetensors"  # of a model with adapters: what a run goes on from
logger = logging.getLogger(__name__)

GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a model's parameters are divided among processes; those that an evaluation gathered, no longer."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def unwrap(model: nn.Module) -> Any:
    """Give the model inside what `torch.compile`, `DataParallel` or `DistributedDataParallel` put around it.

    What was compiled stays so; distributing is what the trainer does itself.
    """
    compiled: Any = None
    while True:
        if type(model).__name__ == "OptimizedModule":  # naming torch's class would import its compiler
            compiled, model = model, model._modules["_orig_mod"]  # type: ignore[assignment]
        elif isinstance(model, nn.DataParallel | DistributedDataParallel):
            logger.warning("Trainer distributes a model itself: %s around it is left out.", type(model).__name__)
            model = model.module
        else:
            break
    if compiled is not None:
        model._compiled_call_impl = compiled.dynamo_ctx(model._call_impl)  # as `Module.compile` does
    return model


def keep_forward(model: nn.Module) -> Callable[[], None]:
    """Give what takes back all that accelerate puts on a model itself, such as automatic mixed precision."""
    own = model.__dict__.get("forward")

    def restore() -> None:
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            model.__dict__.pop(name, None)
        if own is not None:
            model.__dict__["forward"] = own

    return restore


# Weights ---------------------------------------------------------------------------------------------------------


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Give all weights by name; all processes have to call it, and of a divided model only the first gets them."""
    if not is_sharded(model):
        return dict(model.state_dict())
    weights: Any = get_model_state_dict(model, options=GATHERED)
    return dict(weights)


def check_weights(model: nn.Module) -> None:
    """Raise ConfigurationError where a model keeps something that no checkpoint can hold."""
    if is_adapted(model):  # whose adapters alone are saved
        return
    check_classes(model.state_dict(), type(model).__name__, ConfigurationError)
    ignored = getattr(model, "_keys_to_ignore_on_save", None) or ()
    state: dict[str, Any] = model.state_dict()
    if odd := [name for name, value in state.items() if not torch.is_tensor(value) and name not in ignored]:
        raise ConfigurationError(
            f"{type(model).__name__} keeps {odd[0]!r} in its state_dict, a {type(state[odd[0]]).__name__}, and "
            "checkpoints hold tensors only. Have get_extra_state give a tensor, or set save_strategy='no'."
        )


def check_trainable(model: nn.Module) -> None:
    """Raise ConfigurationError where a model is quantised and everything else of it would be trained."""
    weights = list(model.parameters())
    if any(map(is_quantized, weights)) and all(p.requires_grad for p in weights if not is_quantized(p)):
        raise ConfigurationError(
            f"{type(model).__name__} is quantised, so that its linear layers learn nothing, and only the rest would. "
            "Put an adapter on top (peft: model.add_adapter(LoraConfig(…))), or freeze what is not to be trained."
        )


def write_model(model: nn.Module, weights: Mapping[str, Tensor]) -> Callable[[Transaction], None]:
    """Give a function that puts a model's files into a save: those of `save_pretrained` where it has it."""
    if is_adapted(model):
        return write_adapters(model, weights)
    if isinstance(model, PreTrainedModel):
        return lambda transaction: model._write_to(transaction, state_dict=weights)
    distinct = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    return lambda transaction: save_file(distinct, transaction.path(WEIGHTS_NAME), {"format": "pt"})


def write_trained(model: nn.Module, weights: Mapping[str, Tensor]) -> Callable[[Transaction], None]:
    """Give a function that adds to a checkpoint what the files of a model with adapters do not hold in full."""

    def write(transaction: Transaction) -> None:
        if is_adapted(model):
            save_file(pick_trained(model, weights), transaction.path(TRAINED), {"format": "pt"})

    return write


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put saved weights into a model that is in use, keeping its parameters the objects that the optimizer knows.

    Raises:
        CheckpointError: the names differ.
    """
    trained = folder / TRAINED if is_adapted(model) else None
    if trained and trained.exists():
        weights: dict[str, Any] = load_file(trained)
    else:
        with open_source(folder) as source:
            checkpoint = Checkpoint.open(source)
            weights = checkpoint.tensors(sorted(checkpoint.shapes), framework="pt")  # processes divide in one order
    if is_sharded(model):
        options = StateDictOptions(full_state_dict=True, strict=False)
        missing, unexpected = set_model_state_dict(model, weights, options=options)
    else:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    filled = {id(own[name]) for name in weights if name in own}
    ignored = tuple(getattr(model, "_keys_to_ignore_on_save", None) or ())
    absent = [name for name in missing if id(own.get(name)) not in filled and name not in ignored]
    if trained:  # what is frozen is as it was made
        absent = [name for name in absent if own[name].requires_grad]
    if faults := [
        *(f"{name}: not in the file" for name in absent),
        *(f"{name}: not in the model" for name in unexpected),
    ]:
        raise CheckpointError(f"The weights of {str(folder)!r} do not fit {type(model).__name__}:{bullets(faults)}")


# The optimizer's state -------------------------------------------------------------------------------------------


def gather_optimizer(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give an optimizer's state by the names of the parameters, as plain data and as tensors named `exp_avg/fc.weight`.

    All processes have to call it, and of a divided model only the first gets it.

    Raises:
        SaveError: the optimizer keeps something that is neither a tensor nor plain data.
    """
    if is_sharded(model):
        content: Any = get_optimizer_state_dict(model, optimizer, options=GATHERED)
        state = content.get("state", {})
    else:
        content = optimizer.state_dict()
        names = _names(model, optimizer)
        state = {names[place]: values for place, values in content["state"].items()}
        for group in content["param_groups"]:
            group["params"] = [names[place] for place in group["params"]]
    tensors: dict[str, Tensor] = {}
    rest = {name: _without_tensors(kept, name, "", tensors) for name, kept in state.items()}
    values = {name: kept for name, kept in rest.items() if kept}
    document = {"groups": content.get("param_groups", []), "values": values}
    return to_plain(document, type(optimizer).__name__, refuse), tensors


def _without_tensors(value: Any, name: str, place: str, tensors: dict[str, Tensor]) -> Any:
    """Take the tensors out of a parameter's state, however deep they lie; lists keep None in their places."""
    if isinstance(value, Mapping):
        found = {key: _without_tensors(item, name, f"{place}{key}/", tensors) for key, item in value.items()}
        return {key: item for key, item in found.items() if not torch.is_tensor(value[key])}
    if isinstance(value, list | tuple):
        return [_without_tensors(item, name, f"{place}{at}/", tensors) for at, item in enumerate(value)]
    if torch.is_tensor(value):
        tensors[place + name] = value.contiguous()
        return None
    return value


def _put_tensor(state: Any, place: list[str], tensor: Tensor) -> None:
    """Put a tensor back where `_without_tensors` took it from."""
    *way, last = place
    for key in way:
        state = state[int(key)] if isinstance(state, list) else state.setdefault(key, {})
    state[int(last) if isinstance(state, list) else last] = tensor


def load_optimizer(
    model: nn.Module, optimizer: Optimizer, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `gather_optimizer` gave.

    Raises:
        CheckpointError: the optimizer has other groups of parameters.
    """
    state: dict[str, dict[str, Any]] = {name: dict(values) for name, values in document["values"].items()}
    for key, tensor in tensors.items():
        *place, name = key.split("/")
        _put_tensor(state.setdefault(name, {}), place, tensor)
    divided, names = is_sharded(model), _names(model, optimizer)
    numbers = iter(range(len(names)))
    own = [[names[next(numbers)] for _ in group["params"]] for group in optimizer.param_groups]
    if [sorted(group["params"]) for group in document["groups"]] != [sorted(group) for group in own]:
        raise CheckpointError(
            f"The optimizer of the checkpoint has other parameters, or other groups of them, than this "
            f"{type(optimizer).__name__}. Make the model and the optimizer as in the run that is resumed."
        )
    groups = [as_declared(group, now) for group, now in zip(document["groups"], optimizer.param_groups, strict=True)]
    if divided:
        content: Any = {"state": state, "param_groups": groups}
        set_optimizer_state_dict(model, optimizer, content, options=StateDictOptions(full_state_dict=True))
        return
    places = {name: place for place, name in names.items()}
    for group in groups:
        group["params"] = sorted(places[name] for name in group["params"])
    optimizer.load_state_dict(
        {"state": {places[name]: values for name, values in state.items()}, "param_groups": groups}
    )


def _names(model: nn.Module, optimizer: Optimizer) -> dict[int, str]:
    """Name the optimizer's parameters, which it numbers, as the model does; others by their numbers."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {place: names.get(id(parameter), f"#{place}") for place, parameter in enumerate(parameters)}


def as_declared(saved: Any, now: Any) -> Any:
    """Give what came back from JSON the types that it has `now`: tuples, counters, and whole numbers as keys."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        key = int if any(type(name) is int for name in now) else str
        found = {key(name): as_declared(value, now.get(key(name))) for name, value in saved.items()}
        return Counter(found) if isinstance(now, Counter) else found
    if isinstance(saved, list) and isinstance(now, list | tuple):
        items = map(as_declared, saved, now) if len(saved) == len(now) else saved
        return tuple(items) if isinstance(now, tuple) else list(items)
    return saved
