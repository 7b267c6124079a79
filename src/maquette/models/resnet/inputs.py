"""What ResNet takes: whether it fits is said once for every framework, and none is imported."""

from typing import Any

import numpy as np

from .configuration import ResNetConfig


def draw_images(config: ResNetConfig) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give two small images, waves of all their pixels, `(2, channels, 40, 40)`."""
    shape = (2, config.num_channels, 40, 40)
    return np.sin(np.linspace(-2, 2, np.prod(shape, dtype=int), dtype=np.float32)).reshape(shape)


def check_images(config: ResNetConfig, pixel_values: Any, *, kind: Any = object) -> None:
    """Refuse what is no batch of images, with what would make it one; tensors are of the class `kind`.

    Raises:
        ValueError: another class, another number of axes or channels, or whole numbers.
    """
    wanted = config.num_channels
    form = f"pixel_values are floating-point tensors (batch, {wanted}, height, width)"
    if not isinstance(pixel_values, kind) or not hasattr(pixel_values, "shape"):
        raise ValueError(f"{form}, not a {type(pixel_values).__name__}.")
    shape = tuple(pixel_values.shape)
    if len(shape) != 4:
        hint = " For one image, add the axis of a batch: pixel_values[None]." if len(shape) == 3 else ""
        raise ValueError(f"{form}, not of shape {shape}.{hint}")
    if shape[1] != wanted:
        last = "The channels are last here: permute(0, 3, 1, 2), which numpy and JAX call transpose(0, 3, 1, 2)."
        hint = last if shape[-1] == wanted else "Other images need other num_channels."
        raise ValueError(f"{form}, not of shape {shape}. {hint}")
    found = str(getattr(pixel_values.dtype, "name", pixel_values.dtype))
    if "float" not in found:
        raise ValueError(f"{form}, not {found}. An image processor scales and normalises them.")
