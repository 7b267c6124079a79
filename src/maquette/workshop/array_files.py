"""Files of weights that Flax and Keras wrote, read as arrays by torch's names; none of them can run anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maquette.checkpoint.axes import flatten, to_torch, torch_name
from maquette.errors import FileFormatError, MissingPackageError

NDARRAY, NUMPY_SCALAR = 1, 3  # msgpack extension types that flax writes (flax.serialization)
TYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"},
}
COLLECTIONS = {"params", "batch_stats"}
Arrays = dict[str, tuple[str, "np.ndarray[Any, Any]"]]  # a type's name, and numbers: those of bfloat16 as they lie


def read_flax(path: Path) -> Arrays:
    """Read a msgpack file of flax.

    Raises:
        FileFormatError: it is none, or holds no arrays.
    """
    try:
        tree = msgspec.msgpack.decode(path.read_bytes(), ext_hook=_read_extension)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path.name} is no msgpack file of flax: {error}") from None
    if not isinstance(tree, Mapping):
        raise FileFormatError(f"{path.name} holds no dictionary of arrays.")
    parts = [tree[name] for name in COLLECTIONS & tree.keys()] or [tree]
    return _name_all({path_: leaf for part in parts for path_, leaf in flatten(part).items()}, path.name)


def _read_extension(code: int, data: memoryview) -> Any:
    if code not in (NDARRAY, NUMPY_SCALAR):
        raise ValueError(f"it holds something of kind {code}")
    shape, kind, content = msgspec.msgpack.decode(bytes(data))
    kind = kind.decode() if isinstance(kind, bytes) else kind
    numbers = np.frombuffer(content, np.uint16 if kind == "bfloat16" else np.dtype(kind))
    return kind, numbers.reshape(shape)


def read_keras(path: Path) -> Arrays:
    """Read the HDF5 file that Transformers wrote for its models in TensorFlow, `tf_model.h5`.

    Raises:
        FileFormatError: it is none: what Keras 3 writes itself has no names that say what is what.
        MissingPackageError: h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise MissingPackageError("Files of Keras are read with h5py: pip install h5py.") from None
    leaves: dict[tuple[str, ...], Any] = {}
    try:
        with h5py.File(path, "r") as file:
            for layer in file.attrs.get("layer_names", ()):
                group = file[_text(layer)]
                for name in map(_text, group.attrs.get("weight_names", ())):
                    array = np.asarray(group[name])
                    leaves[_keras_path(name)] = (array.dtype.name, array)
    except (OSError, KeyError) as error:
        raise FileFormatError(f"{path.name} is no HDF5 file of weights: {error}") from None
    return _name_all(leaves, path.name)


def _keras_path(name: str) -> tuple[str, ...]:
    """Give the path of a variable: `tf_bert/bert/layer_._0/dense/kernel:0` is `bert.layer.0.dense`, `kernel`."""
    parts = name.partition(":")[0].replace("_._", "/").split("/")
    return tuple(parts[1:] if len(parts) > 1 else parts)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _name_all(leaves: Mapping[tuple[str, ...], Any], label: str) -> Arrays:
    if not leaves or not all(isinstance(leaf, tuple) for leaf in leaves.values()):
        raise FileFormatError(f"{label} holds no arrays by name, or something else among them.")
    return {torch_name(path): (kind, to_torch(path, array)) for path, (kind, array) in leaves.items()}


def write_arrays(arrays: Arrays, target: Path) -> None:
    """Write arrays to a safetensors file: the length of a header, the header as JSON, and the numbers in its order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, array) in arrays.items():
        if kind not in TYPES:
            raise FileFormatError(f"{name} is of the type {kind}, which safetensors files do not have.")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": TYPES[kind], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in arrays.values():
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
