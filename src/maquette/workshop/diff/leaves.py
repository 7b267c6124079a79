"""Arrays in what modules take and give, each with its place. Only numpy is imported: any interpreter runs it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Leaves = dict[str, Array]  # arrays by the place where they lie: "", "0", "logits", "hidden_states.1"
Noted = tuple[str, int, str, str, Leaves, Leaves]  # what `recording.Call` is made of
KNOWN = ("torch.float64", "torch.float32", "torch.float16")  # floating-point types of torch that numpy has


def flatten(value: Any) -> Leaves:
    """Copy the tensors inside lists, tuples, dictionaries and dataclasses, as numpy arrays; the rest is left out."""
    return {".".join(place): array for place, array in _walk(value, ()) if array is not None}


def _walk(value: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Array | None]]:
    if isinstance(value, Mapping):
        inner = [(str(name), part) for name, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        inner = list(zip(value._fields, value, strict=True))
    elif isinstance(value, list | tuple):
        inner = [(str(number), part) for number, part in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(value, "shape"):
        inner = [(entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value)]
    else:
        yield place, to_array(value) if hasattr(value, "shape") and hasattr(value, "dtype") else None
        return
    for name, part in inner:
        yield from _walk(part, (*place, name))


def to_array(value: Any) -> Array | None:
    """Copy a tensor of any framework; types that numpy lacks become float32. None where it has no values yet."""
    if hasattr(value, "detach"):
        value = value.detach() if str(value.layout) == "torch.strided" else value.detach().to_dense()
        if value.device.type == "meta":
            return None
        value = value.dequantize() if value.is_quantized else value.cpu().resolve_conj().resolve_neg()
        wide = value.is_floating_point() and str(value.dtype) not in KNOWN
        return np.array((value.float() if wide else value).numpy())
    try:
        array = np.array(value)
    except Exception:  # a value of a traced function
        return None
    if array.dtype.kind == "V" or "float8" in str(array.dtype) or str(array.dtype) == "bfloat16":
        array = array.astype(np.float32)
    return None if array.dtype.kind in "OUSV" else array
