"""A torch model's weights in memory: what a save holds of them, and how values of a file become theirs."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from maquette.modeling.provenance import is_lazy, walk
from maquette.modeling.quantization import is_quantized, put_quantized
from maquette.storage.json_files import parse_json

# Notes in the safetensors metadata of a save: which buffers were registered after the constructor, and the types of
# floating-point buffers that are not saved themselves, which `model.to(torch.bfloat16)` changes all the same.
LATE_BUFFERS = "maquette_late_buffers"
BUFFER_TYPES = "maquette_buffer_types"
WRAPPED = re.compile(r"^((_orig_mod|module)\.)+")


def list_saved(model: nn.Module) -> dict[str, Any]:
    """Name every parameter and every buffer that is saved; a buffer that is not there yet is None."""
    found: dict[str, Any] = {}
    for start, module in walk(model):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found[start + name] = parameter
        for name, buffer in module._buffers.items():
            if name not in module._non_persistent_buffers_set:
                found[start + name] = buffer
    return found


def unsaved_buffers(model: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Go through the floating-point buffers that the constructor computes and no file holds."""
    saved = list_saved(model)
    return ((n, b) for n, b in model.named_buffers() if n not in saved and b.is_floating_point())


def restore_types(model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Give buffers that no file holds the types they had when the model was saved."""
    if BUFFER_TYPES not in metadata:
        return
    buffers = dict(unsaved_buffers(model))
    kinds = parse_json(metadata[BUFFER_TYPES], f"{BUFFER_TYPES!r} in the metadata of the weights")
    for name, kind in (kinds if isinstance(kinds, dict) else {}).items():
        if name in buffers:
            buffers[name].data = buffers[name].to(as_dtype(kind))


def find_parent(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return None


def as_dtype(dtype: Any) -> torch.dtype | None:
    """Read `torch.bfloat16`, `"bfloat16"` or `"torch.bfloat16"`; None and `"auto"` mean what the file holds."""
    if dtype is None or dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if dtype == "auto" else dtype
    found = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(
            f"dtype={dtype!r} is no floating-point type of torch; give torch.bfloat16, 'float16', … or 'auto'."
        )
    return found


def converted(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def put(model: nn.Module, name: str, target: Any, value: torch.Tensor, *, copy: bool) -> None:
    """Make `value` what `name` holds, keeping the object that others may refer to."""
    if target is None:
        parent, leaf = find_parent(model, name), name.rpartition(".")[2]
        assert parent is not None
        parent._buffers.pop(leaf, None)
        parent.register_buffer(leaf, value)
    elif is_quantized(value):
        parent, leaf = find_parent(model, name), name.rpartition(".")[2]
        assert parent is not None
        put_quantized(parent, leaf, value.to(target.device))
    elif copy:
        with torch.no_grad():
            target.copy_(value)
    else:
        if is_lazy(target):
            target.materialize(value.shape)
        target.data = value.to(target.device)


def shared_memory(tensors: Iterable[torch.Tensor]) -> Callable[[Any], bool]:
    """Find out whose memory someone else looks at too (a view kept elsewhere): it has to be written in place."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None:  # a private function, which a later torch may not have: to copy into all is slower, and right
        return lambda tensor: True

    def owners(tensor: torch.Tensor) -> int:
        return int(count(tensor.untyped_storage()._cdata))

    alone = owners(torch.empty(1))
    shared = {id(tensor) for tensor in tensors if tensor.device.type == "cpu" and owners(tensor) > alone}
    return lambda tensor: id(tensor) in shared


def match_dtype(left: Iterable[Any], dtype: torch.dtype | None, found: Iterable[torch.Tensor]) -> None:
    """Give what the file did not fill the floating-point type that most of the file has."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in found:
        if tensor.is_floating_point():
            counts[tensor.dtype] += tensor.numel()
    kind = dtype or (counts.most_common(1)[0][0] if counts else None)
    for tensor in left:
        if kind and tensor is not None and not is_lazy(tensor) and tensor.is_floating_point():
            tensor.data = tensor.data.to(kind)


def evaluated(model: Any) -> Any:
    """Put a model into evaluation mode; where no module has a say in it, without torch's ways round each attribute."""
    modules = [module for _, module in walk(model)]
    for kind in {type(module) for module in modules}:
        own = kind.train, kind.eval, kind.__setattr__
        if own != (nn.Module.train, nn.Module.eval, nn.Module.__setattr__) or hasattr(kind, "training"):
            return model.eval()
    for module in modules:
        module.__dict__["training"] = False
    return model


def check_classes(state: Mapping[str, Any], model: str, error: type[Exception]) -> None:
    """Refuse tensors of classes that keep their values elsewhere, such as torchao's quantised ones."""
    wrapped = {
        name: value
        for name, value in state.items()
        if is_traceable_wrapper_subclass(value) and not hasattr(value, "full_tensor") and not is_quantized(value)
    }
    if wrapped:
        name, value = next(iter(wrapped.items()))
        raise error(
            f"{model}: {name} and {len(wrapped) - 1} others are tensors of the class {type(value).__name__}, which "
            "safetensors cannot hold. Save the model before it is quantised, and quantise it again after loading."
        )


def unwrapped(state: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take off the prefix that `torch.compile`, DataParallel and its kin put before the names of a model's weights."""
    found = {WRAPPED.sub("", name): value for name, value in state.items()}
    return found if found.keys() <= own.keys() and not state.keys() <= own.keys() else state


def find_place(tensor: torch.Tensor) -> Any:
    """Tell where values lie: what is equal for a tensor under several names, and for several over the same memory."""
    if is_lazy(tensor) or is_traceable_wrapper_subclass(tensor) or tensor.layout is not torch.strided:
        return id(tensor)
    memory = tensor.untyped_storage()._cdata
    return memory, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def distinct(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keep one name of every tied tensor, and give tensors that merely overlap memory of their own."""
    kept: dict[Any, str] = {}
    owners: set[int] = set()
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        storage = tensor.untyped_storage()._cdata
        if kept.setdefault(find_place(tensor), name) != name:
            continue
        result[name] = tensor.detach().clone() if storage in owners else tensor.detach()
        owners.add(storage)
    return result
