"""What one parameter is called, and how its axes lie, in the three frameworks: torch's way is the files' way.

Modules of Keras and Flax models carry torch's names, so that the path to a parameter is its name. Two things are left:

- the last part of a name, which frameworks call differently (`LEAVES`);
- the axes of a `kernel`: torch has `(out, in, *space)`, the others `(*space, in, out)`. One rule covers linear layers
  and every convolution, grouped ones too.

Names and arrays are only ever translated from a framework's side: what a model has is known, what a file has is not.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Path = tuple[str, ...]

LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "scale": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "moving_mean": "running_mean",
    "var": "running_var",
    "moving_variance": "running_var",
}
NUMBERED = re.compile(r"(.+)_(\d+)")


def torch_name(path: Path) -> str:
    """Give the name in files of the parameter at a path of attributes; numbers stand for places in lists."""
    return ".".join([*path[:-1], LEAVES.get(path[-1], path[-1])])


def torch_shape(path: Path, shape: Iterable[int]) -> tuple[int, ...]:
    """Give the shape that a parameter of some shape has in files."""
    sizes = tuple(shape)
    return (sizes[-1], sizes[-2], *sizes[:-2]) if path[-1] == "kernel" else sizes


def to_torch(path: Path, array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Bring a framework's array into the order that its axes have in files; a view."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if path[-1] == "kernel" else array


def from_torch(path: Path, array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Bring an array of a file into the order that its axes have in the framework; a view."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if path[-1] == "kernel" else array


def flatten(tree: Mapping[str, Any]) -> dict[Path, Any]:
    """Name every leaf of nested dictionaries by its path, in which `layer_0` is the first of a list: `layer`, `0`.

    Lists count from 0: where there is no `linear_0`, then `linear_1` is a name like any other.
    """
    found: dict[Path, Any] = {}
    for key, value in tree.items():
        numbered = NUMBERED.fullmatch(key)
        start = numbered.groups() if numbered and f"{numbered[1]}_0" in tree else (key,)
        inner = flatten(value) if isinstance(value, Mapping) else {(): value}
        found |= {(*start, *path): leaf for path, leaf in inner.items()}
    return found


def unflatten(tree: Mapping[str, Any], leaves: Mapping[Path, Any], start: Path = ()) -> dict[str, Any]:
    """Make nested dictionaries like `tree` with other leaves; the inverse of `flatten`."""
    made: dict[str, Any] = {}
    for key, value in tree.items():
        numbered = NUMBERED.fullmatch(key)
        path = (*start, *(numbered.groups() if numbered and f"{numbered[1]}_0" in tree else (key,)))
        made[key] = unflatten(value, leaves, path) if isinstance(value, Mapping) else leaves[path]
    return made
