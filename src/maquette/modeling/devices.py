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
from safetensors.torch import save_file
from torch import Tensor, nn

from maquette.checkpoint import Checkpoint
from maquette.errors import ConfigurationError, MissingPackageError, bullets, did_you_mean
from maquette.modeling.offloading import Files, Offloading, Read
from maquette.modeling.quantization import is_quantized
from maquette.modeling.weights import list_saved
from maquette.storage.sizes import parse_size

logger = logging.getLogger(__name__)

WAYS = ("auto", "balanced", "balanced_low_0", "sequential")
KINDS = ("cpu", "cuda", "mps", "xpu")
DISK = "disk"


class Places(NamedTuple):
    """Where the parts of a model go."""

    devices: dict[str, Any]  # by names of modules; "" is the whole model
    offload_folder: str | None = None


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
        return Places(devices, offload_folder)
    if device_map not in WAYS:
        return Places({"": _read_device(device_map)})
    memory = {name: parse_size(size, name="max_memory") for name, size in max_memory.items()} if max_memory else None
    devices = _divide(model, str(device_map), memory, dtype)
    return Places(devices, offload_folder)


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


# Placing ---------------------------------------------------------------------------------------------------------


def place(model: Any, places: Places, checkpoint: Checkpoint, assigned: Mapping[str, str]) -> None:
    """Put a filled model where it is to be.

    What goes to disk is read from the checkpoint's own files in every forward; what these do not have, by that shape,
    is written to `offload_folder` first.

    Args:
        checkpoint: from which it was filled.
        assigned: names of the model's weights, and of those of the file that they were filled from.
    """
    runs_on = [device for device in dict.fromkeys(places.devices.values()) if device not in ("cpu", DISK)]
    if len(runs_on) > 1:
        if DISK in places.devices.values():
            raise ConfigurationError("Weights can be left on disk beside one device that computes, not beside several.")
        skip = [*getattr(model, "_skip_keys_device_placement", ())]
        whole = [*{type(module).__name__ for module in find_whole(model)}]
        import_accelerate().dispatch_model(model, places.devices, skip_keys=skip or None, preload_module_classes=whole)
        return
    device = torch.device(runs_on[0] if runs_on else "cpu")
    sources = _find_sources(model, places, device, checkpoint, assigned)
    if sources:
        Offloading(model, sources, device, find_whole(model))
    for tensor in [*model.parameters(), *model.buffers()]:
        if not tensor.is_meta:
            tensor.data = tensor.to(device)
    model.hf_device_map = dict(places.devices)


def _find_sources(
    model: Any, places: Places, device: torch.device, checkpoint: Checkpoint, assigned: Mapping[str, str]
) -> dict[str, Read]:
    """Say how to read each weight that lies elsewhere."""
    saved = {name: tensor for name, tensor in list_saved(model).items() if isinstance(tensor, nn.Parameter)}
    first: dict[int, Any] = {}  # a tied weight lies where the first of its names does
    homes = {n: first.setdefault(id(tensor), _find_home(places.devices, n)) for n, tensor in saved.items()}
    away = {name: home for name, home in homes.items() if home == DISK or (home == "cpu" and device.type != "cpu")}
    if any(is_quantized(saved[name]) for name, home in away.items() if home == DISK):
        raise ConfigurationError("Quantised weights cannot be left on disk: name other devices for them in device_map.")
    filled = {id(saved[name]): key for name, key in assigned.items() if name in saved}  # tied ones by all their names
    files, opened, sources = checkpoint.find_files(), Files(), dict[str, Read]()
    left = {}
    for name, home in away.items():
        stored, tensor = filled.get(id(saved[name]), ""), saved[name]
        if home == "cpu":
            sources[name] = tensor.detach
        elif stored in files and checkpoint.shapes[stored] == tuple(tensor.shape):
            sources[name] = opened.read(str(files[stored][0]), files[stored][1], tensor.dtype)
        else:
            left[name] = tensor
    if left and places.offload_folder is None:
        raise ConfigurationError(
            f"These are to go to disk, and are not in the file as they are:{bullets([*left][:20])}\n"
            "Give offload_folder=…, where they can be written to."
        )
    if left:
        Path(str(places.offload_folder)).mkdir(parents=True, exist_ok=True)
        name = f"{type(model).__name__}-"  # a new folder in it: others may be in use
        path = Path(tempfile.mkdtemp(prefix=name, dir=places.offload_folder)) / "weights.safetensors"
        save_file({name: tensor.detach().clone() for name, tensor in left.items()}, path)
        sources |= {name: opened.read(str(path), name, tensor.dtype) for name, tensor in left.items()}
    return sources


def _find_home(devices: Mapping[str, Any], name: str) -> Any:
    """Find what a map says of a weight: its longest entry that fits counts."""
    while name not in devices and name:
        name = name.rpartition(".")[0]
    return devices[name]


def main_device(module: nn.Module) -> torch.device | None:
    """Give the device on which a module of a divided model takes its inputs; None for one that was not divided."""
    if (offloading := module.__dict__.get("_offloading")) is not None:
        return offloading.device  # type: ignore[no-any-return]
    hook = module.__dict__.get("_hf_hook")
    for each in (hook, *getattr(hook, "hooks", ())):
        if (device := getattr(each, "execution_device", None)) is not None:
            return torch.device(device)
    return None


def read_state(model: nn.Module) -> dict[str, Tensor]:
    """Give a model's state, with the values of weights that lie elsewhere, too."""
    offloading: Offloading | None = model.__dict__.get("_offloading")
    return dict(model.state_dict()) if offloading is None else offloading.state(model)


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
