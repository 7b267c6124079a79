"""Models on several devices, on the CPU and on disk, through accelerate: `from_pretrained(…, device_map="auto")`.

Blocks have to stay whole, because they add what comes in to what goes out. They are found in the tree of modules:
members of lists of layers of one class. A class that knows better says so in `_no_split_modules`.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.checkpoint import Checkpoint
from maquette.errors import ConfigurationError, MissingPackageError, bullets, did_you_mean
from maquette.modeling.quantization import is_quantized
from maquette.storage.sizes import parse_size

logger = logging.getLogger(__name__)

WAYS = ("auto", "balanced", "balanced_low_0", "sequential")
KINDS = ("cpu", "cuda", "mps", "xpu")
DISK = "disk"


class Places(NamedTuple):
    """Where the parts of a model go."""

    devices: dict[str, Any]  # by names of modules; "" is the whole model
    offload_folder: str | None = None
    offload_buffers: bool = False

    @property
    def is_divided(self) -> bool:
        """Whether parts go to different places, or to disk."""
        return len({str(device) for device in self.devices.values()}) > 1 or DISK in self.devices.values()


# Blocks ----------------------------------------------------------------------------------------------------------


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Find a model's blocks: those that its classes name in `_no_split_modules`, or the members of lists of layers.

    Stages of blocks are blocks themselves, unless a class names smaller ones.
    """
    named = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    if named:
        return [module for module in model.modules() if type(module).__name__ in named]
    return list(_find_in(model, (nn.ModuleList, nn.Sequential)))


def _find_in(module: nn.Module, lists: tuple[type, ...] = (nn.ModuleList,)) -> Iterator[nn.Module]:
    """Look for lists of layers; deeper in a model, an `nn.Sequential` may well be half of a sum."""
    for child in module.children():
        layers = list(child.children())
        is_alike = len({type(layer) for layer in layers}) == 1 and all(any(True for _ in x.children()) for x in layers)
        if isinstance(child, lists) and is_alike:
            yield from layers
        else:
            yield from _find_in(child)


def find_whole(model: nn.Module) -> list[nn.Module]:
    """Find what must not be divided: blocks, and modules beside them, which may add what comes in to what goes out."""
    blocks = {id(block) for block in find_blocks(model)}

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        if id(module) in blocks:
            yield module
        elif any(id(each) in blocks for each in module.modules()):
            for child in module.children():
                yield from walk(child)
        elif any(True for _ in module.children()):
            yield module

    return list(walk(model))


# Choosing --------------------------------------------------------------------------------------------------------


def choose_places(
    model: nn.Module,
    device_map: Any,
    *,
    max_memory: Mapping[Any, Any] | None = None,
    dtype: torch.dtype | None = None,
    offload_folder: str | None = None,
    offload_buffers: bool = False,
) -> Places | None:
    """Decide where each part of a model goes, before its weights are read; None where it was not asked for.

    Args:
        device_map: a device; "auto", "balanced" (the same), "balanced_low_0" (the first device gets little), or
            "sequential" (fill one after the other); or names of modules and their devices, "disk" among them.
        max_memory: how much of each device may be used: `{0: "10GB", "cpu": "30GB"}`.
        dtype: the type that weights will have.

    Raises:
        ConfigurationError: a map that names no module or leaves one out, a device that is not there, or a block that is
            larger than the memory of the device it would run on.
    """
    if device_map is None:
        if max_memory:
            raise ConfigurationError("max_memory says how much of each device is used: give device_map='auto' with it.")
        return None
    if isinstance(device_map, Mapping):
        devices = {name: _read_device(device) for name, device in device_map.items()}
        _check_map(model, devices)
        return Places(_untangle(model, devices), offload_folder, offload_buffers)
    if device_map not in WAYS:
        return Places({"": _read_device(device_map)})
    memory = {name: parse_size(size, name="max_memory") for name, size in max_memory.items()} if max_memory else None
    devices = _divide(model, str(device_map), memory, dtype)
    return Places(devices, offload_folder, offload_buffers)


def _divide(model: nn.Module, way: str, memory: dict[Any, int] | None, dtype: torch.dtype | None) -> dict[str, Any]:
    accelerate = import_accelerate()
    for name in memory or ():
        if name != DISK:
            _read_device(name)
    blocks = find_whole(model)
    options: dict[str, Any] = {"no_split_module_classes": [*{type(block).__name__ for block in blocks}], "dtype": dtype}
    most = accelerate.utils.get_max_memory(memory)
    sizes = {id(block): _count(block, dtype) for block in blocks}
    runs_on = next((name for name, size in most.items() if name not in ("cpu", DISK) and size), "cpu")
    if sizes and (largest := max(sizes.values())) > most.get(runs_on, 0):
        name = next(n for n, module in model.named_modules() if sizes.get(id(module)) == largest)
        raise ConfigurationError(
            f"{type(model).__name__} needs {_say(_count(model, dtype))}, and its largest block, {name}, "
            f"{_say(largest)}; {runs_on!r} may hold {_say(most.get(runs_on, 0))}. Blocks run as a whole: allow more in "
            "max_memory, or load in fewer bits (dtype='bfloat16', quantization='int8')."
        )
    if way != "sequential":
        most = accelerate.utils.get_balanced_memory(model, max_memory=most, low_zero=way == "balanced_low_0", **options)
    found: dict[str, Any] = accelerate.infer_auto_device_map(model, max_memory=most, **options)
    if DISK in found.values():
        modules = dict(model.named_modules())
        there = sum(_count(modules[n], dtype) for n, place in found.items() if place == DISK and n in modules)
        logger.warning(
            "%s: %s of %s do not fit into memory, and are read from disk in every forward.",
            type(model).__name__,
            _say(there),
            _say(_count(model, dtype)),
        )
    return found


def _count(module: nn.Module, dtype: torch.dtype | None) -> int:
    tensors = {id(t): t for t in [*module.parameters(), *module.buffers()]}.values()
    return sum(
        t.numel() * (dtype.itemsize if dtype is not None and t.is_floating_point() else t.element_size())
        for t in tensors
        if not torch.nn.parameter.is_lazy(t)
    )


def _say(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _read_device(device: Any) -> Any:
    """Read a device, or "disk".

    Raises:
        ConfigurationError: there is none of that name, or not on this machine.
    """
    if device == DISK:
        return DISK
    try:
        found = torch.device(device if not isinstance(device, int) or torch.cuda.is_available() else f"cuda:{device}")
    except (RuntimeError, TypeError):
        raise ConfigurationError(
            f"device_map names {device!r}, and that is no device.{did_you_mean(str(device), [*WAYS, *KINDS])} It takes "
            f"{', '.join(WAYS)}; 'cpu', 'cuda:0', 0, …; or names of modules with such a device, or 'disk'."
        ) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigurationError(f"device_map names {device!r}; this machine has {count or 'no'} CUDA devices.")
    return str(found) if found.type in ("cpu", "meta") else found


def _check_map(model: nn.Module, devices: Mapping[str, Any]) -> None:
    known = {name for name, _ in model.named_modules()}
    weights = [*dict(model.named_parameters(remove_duplicate=False)), *dict(model.named_buffers())]
    if wrong := [name for name in devices if name not in known and name not in weights]:
        raise ConfigurationError(
            f"device_map names {wrong[0]!r}, and {type(model).__name__} has no such module."
            f"{did_you_mean(wrong[0], [*known - {''}, *weights])}"
        )
    left = [w for w in weights if not any(n in ("", w) or w.startswith(f"{n}.") for n in devices)]
    if left:
        modules = dict.fromkeys(name.rpartition(".")[0] or name for name in left)
        raise ConfigurationError(
            f"device_map says nothing of these parts of {type(model).__name__}:{bullets([*modules][:20])}\n"
            "Name them, or give '' for all that is not named."
        )


def _untangle(model: nn.Module, devices: Mapping[str, Any]) -> dict[str, Any]:
    """Give a map no entry of which lies inside another: the longest name counts, and the shorter one for the rest."""
    found: dict[str, Any] = {}

    def divide(name: str, module: nn.Module | None, device: Any) -> None:
        device = devices.get(name, device)
        start = f"{name}." if name else ""
        if module is None or not any(n.startswith(start) and n != name and devices[n] != device for n in devices):
            found[name] = device
            return
        for key in (*module._parameters, *(k for k in module._buffers if k not in module._non_persistent_buffers_set)):
            if getattr(module, key) is not None:
                divide(start + key, None, device)
        for key, child in module._modules.items():
            if child is not None and any(True for _ in (*child.parameters(), *child.buffers())):
                divide(start + key, child, device)

    divide("", model, None)
    return found


# Placing ---------------------------------------------------------------------------------------------------------


def place(model: Any, places: Places, checkpoint: Checkpoint, assigned: Mapping[str, str]) -> None:
    """Put a filled model where it is to be.

    What goes to disk is read from the checkpoint's own files in every forward; only where it has no tensor of that name
    and shape is it written to `offload_folder`.

    Args:
        checkpoint: from which it was filled.
        assigned: names of the model's weights, and of those of the file that they were filled from.
    """
    if not places.is_divided:
        model.to(next(iter(places.devices.values())))
        model.hf_device_map = dict(places.devices)
        return
    accelerate = import_accelerate()
    options: dict[str, Any] = {"offload_buffers": places.offload_buffers}
    if DISK in places.devices.values():
        options |= _prepare_disk(model, places, checkpoint, assigned)
    model.__dict__["_divided_names"] = _first_names(model)  # accelerate may take tied weights apart
    skip = [*getattr(model, "_skip_keys_device_placement", ())]
    accelerate.dispatch_model(model, places.devices, skip_keys=skip or None, **options)


def _prepare_disk(model: Any, places: Places, checkpoint: Checkpoint, assigned: Mapping[str, str]) -> dict[str, Any]:
    on_disk = [name for name, device in places.devices.items() if device == DISK]
    tensors = {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if any(name == n or name.startswith(f"{n}.") or not n for n in on_disk)
    }
    if any(map(is_quantized, tensors.values())):
        raise ConfigurationError("Quantised weights cannot be left on disk: name other devices for them in device_map.")
    files = checkpoint.find_files()
    filled = {
        id(tensor): assigned[name] for name, tensor in model.state_dict(keep_vars=True).items() if name in assigned
    }
    index = {}
    for name, tensor in tensors.items():
        stored = filled.get(id(tensor), "")  # a tied weight's other name, too
        if stored in files and checkpoint.shapes[stored] == tuple(tensor.shape):
            path, key = files[stored]
            kind = str(tensor.dtype).removeprefix("torch.")
            index[name] = {"safetensors_file": str(path), "weight_name": key, "dtype": kind}
    if len(index) == len(tensors):
        return {"offload_index": index}
    if places.offload_folder is None:
        raise ConfigurationError(
            f"These are to go to disk, and are not in the file as they are:"
            f"{bullets([*tensors.keys() - index.keys()][:20])}\nGive offload_folder=…, where they can be written to."
        )
    from accelerate.utils import offload_state_dict  # type: ignore[import-untyped,import-not-found,unused-ignore]

    Path(places.offload_folder).mkdir(parents=True, exist_ok=True)  # a new folder in it: others may be in use
    folder = tempfile.mkdtemp(prefix=f"{type(model).__name__}-", dir=places.offload_folder)
    offload_state_dict(folder, {name: tensor.detach() for name, tensor in tensors.items()})
    return {"offload_dir": folder}


def main_device(module: nn.Module) -> torch.device | None:
    """Give the device on which a module of a divided model takes its inputs; None where accelerate has no hook."""
    hook = module.__dict__.get("_hf_hook")
    for each in (hook, *getattr(hook, "hooks", ())):
        if (device := getattr(each, "execution_device", None)) is not None:
            return torch.device(device)
    return None


def gather(model: nn.Module) -> dict[str, Tensor]:
    """Give the values of a divided model's weights, also of those on disk; tied ones by their first names."""
    found: dict[str, Tensor] = {}
    names = model.__dict__.get("_divided_names") or _first_names(model)
    modules = dict(model.named_modules())
    for name, tensor in model.state_dict().items():
        if name not in names:
            continue
        if tensor.is_meta:
            path, _, leaf = name.rpartition(".")
            hook = modules[path].__dict__.get("_hf_hook")
            maps = [getattr(each, "weights_map", None) for each in (hook, *getattr(hook, "hooks", ()))]
            tensor = next((each[leaf] for each in maps if each is not None), tensor)
        found[name] = tensor
    return found


def _first_names(model: nn.Module) -> frozenset[str]:
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first.setdefault(id(tensor), name)
    return frozenset(first.values())


def is_offloaded(model: nn.Module) -> bool:
    """Tell whether accelerate keeps weights of a model elsewhere."""
    return main_device(model) is not None and any(p.is_meta for p in model.parameters())


def import_accelerate() -> Any:
    """Give accelerate.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import accelerate  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise MissingPackageError("Several devices need accelerate: pip install 'maquette[train]'.") from None
    return accelerate
