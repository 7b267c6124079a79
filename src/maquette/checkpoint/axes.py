"""What one parameter is called, and how its axes lie, in the three frameworks: torch's way is the files' way.

Modules of Keras and Flax models carry torch's names, so that the path to a parameter is its name. Two things are left:

- the last part of a name, which frameworks call differently (`LEAVES`);
- the axes of a `kernel`: torch has `(out, in, *space)`, the others `(*space, in, out)`. One rule covers linear layers
  and every convolution, grouped ones too. Two kinds that modules call `kernel` are told apart by names of ours:
  `depthwise_kernel`, `(*space, in, times)` in Keras, and `flipped_kernel`, of Flax' `ConvTranspose` as it is made.

Names and arrays are only ever translated from a framework's side: what a model has is known, what a file has is not.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Path = tuple[str, ...]

LEAVES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "flipped_kernel": "weight",
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
    return tuple(to_torch(path, np.broadcast_to(False, tuple(shape))).shape)


def to_torch(path: Path, array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Bring a framework's array into the order that its axes have in files; a view where there can be one."""
    match path[-1]:
        case "kernel":
            return np.moveaxis(array, (-1, -2), (0, 1))
        case "flipped_kernel":
            return _flip(np.moveaxis(array, (-2, -1), (0, 1)))
        case "depthwise_kernel":
            moved = np.moveaxis(array, (-2, -1), (0, 1))
            return moved.reshape(-1, 1, *moved.shape[2:])
    return array


def from_torch(path: Path, array: "np.ndarray[Any, Any]", shape: Iterable[int]) -> "np.ndarray[Any, Any]":
    """Bring an array of a file into the order and shape that it has in the framework."""
    match path[-1]:
        case "kernel":
            return np.moveaxis(array, (0, 1), (-1, -2))
        case "flipped_kernel":
            return np.moveaxis(_flip(array), (0, 1), (-2, -1))
        case "depthwise_kernel":
            *space, channels, times = shape
            return np.moveaxis(array.reshape(channels, times, *space), (0, 1), (-2, -1))
    return array


def _flip(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Turn round the axes of space, which are all but the first two."""
    return np.flip(array, tuple(range(2, array.ndim)))


def flatten(tree: Mapping[str, Any], places: Mapping[Path, Path] | None = None, start: Path = ()) -> dict[Path, Any]:
    """Name every leaf of nested dictionaries by its path, in which `layer_0` is the first of a list: `layer`, `0`.

    Lists count from 0: where there is no `linear_0`, then `linear_1` is a name like any other.

    Args:
        tree: nested dictionaries.
        places: what is known better, by the keys that lead there: what to call the last of them.
        start: the keys that lead to `tree`.
    """
    found: dict[Path, Any] = {}
    for key, value in tree.items():
        here = _place(tree, key, places, start)
        inner = flatten(value, places, (*start, key)) if isinstance(value, Mapping) else {(): value}
        found |= {(*here, *path): leaf for path, leaf in inner.items()}
    return found


def unflatten(
    tree: Mapping[str, Any],
    leaves: Mapping[Path, Any],
    places: Mapping[Path, Path] | None = None,
    start: Path = (),
    path: Path = (),
) -> dict[str, Any]:
    """Make nested dictionaries like `tree` with other leaves; the inverse of `flatten`."""
    made: dict[str, Any] = {}
    for key, value in tree.items():
        here = (*path, *_place(tree, key, places, start))
        inner = isinstance(value, Mapping)
        made[key] = unflatten(value, leaves, places, (*start, key), here) if inner else leaves[here]
    return made


def _place(tree: Mapping[str, Any], key: str, places: Mapping[Path, Path] | None, start: Path) -> Path:
    numbered = NUMBERED.fullmatch(key)
    guess = numbered.groups() if numbered and f"{numbered[1]}_0" in tree else (key,)
    return (places or {}).get((*start, key), guess)
