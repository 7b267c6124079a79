"""What ViT takes: whether it fits is said once for every framework, and none is imported."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from .configuration import ViTConfig

Token = TypeVar("Token")
Sizes = Sequence[int | None]  # None where a compiler leaves a size open; then it is the model's own


def draw_images(config: ViTConfig) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give two images that the model takes, waves of all their pixels, `(2, channels, height, width)`."""
    shape = (2, config.num_channels, *config.image_shape)
    return np.sin(np.linspace(-9, 9, np.prod(shape, dtype=int), dtype=np.float32)).reshape(shape)


def draw_mask(config: ViTConfig) -> "dict[str, np.ndarray[Any, np.dtype[np.bool_]]]":
    """Choose patches of these images to be masked, `(2, patches)`; none where no loss could be computed."""
    if config.patch_shape != (config.encoder_stride, config.encoder_stride):
        return {}
    return {"bool_masked_pos": (np.arange(2 * config.grid[0] * config.grid[1]) % 3 == 0).reshape(2, -1)}


def find_grid(config: ViTConfig, shape: Sizes) -> tuple[int, int]:
    """Tell how many whole patches images of a shape have from top to bottom, and from left to right."""
    height, width = _size_of(config, shape)
    return height // config.patch_shape[0], width // config.patch_shape[1]


def check_images(config: ViTConfig, shape: Sizes, kind: Any, *, interpolates: bool) -> None:
    """Compare the shape of images, `(batch, channels, height, width)`, and their type with what the model is for.

    Raises:
        ValueError: whole numbers, another number of axes or channels, another size, or less than a patch.
    """
    if "float" not in str(kind):
        raise ValueError(f"pixel_values are floating-point, not {kind}. An image processor scales and normalises them.")
    if len(shape) != 4 or shape[1] not in (None, config.num_channels):
        raise ValueError(
            f"pixel_values are of shape {tuple(shape)}, but the model wants (batch, channels, height, width) with "
            f"{config.num_channels} channels (num_channels)."
        )
    image, patch = config.image_shape, config.patch_shape
    size = _size_of(config, shape)
    found = f"Images are of {size[0]} x {size[1]} pixels (height x width)"
    if not interpolates and size != image:
        raise ValueError(
            f"{found}, but the model is for {image[0]} x {image[1]}. Resize them, or pass "
            "interpolate_pos_encoding=True to stretch the positions over images of another size."
        )
    if size[0] < patch[0] or size[1] < patch[1]:
        raise ValueError(f"{found}, smaller than one patch of {patch[0]} x {patch[1]}. Enlarge them.")


def require_token(token: Token | None) -> Token:
    """Give what stands at masked patches.

    Raises:
        ValueError: the model has none.
    """
    if token is None:
        raise ValueError("bool_masked_pos needs a mask token: build ViTModel(config, use_mask_token=True).")
    return token


def check_mask(shape: Sizes, patches: Sizes) -> None:
    """Compare the shape of a mask with the patches that there are, `(batch, patches)`.

    Raises:
        ValueError: they differ.
    """
    if len(shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, patches, strict=True)):
        raise ValueError(
            f"bool_masked_pos is of shape {tuple(shape)}, but these images have (batch, patches) = {tuple(patches)}. "
            "Give one truth value per patch, row by row."
        )


def check_stride(config: ViTConfig) -> None:
    """Make sure that patches come out as large as they went in, so that pixels can be compared.

    Raises:
        ValueError: they do not.
    """
    stride = config.encoder_stride
    if config.patch_shape != (stride, stride):
        raise ValueError(
            f"The loss compares pixels, so patches have to come out as large as they went in: encoder_stride={stride} "
            f"must equal patch_size={config.patch_size}."
        )


def _size_of(config: ViTConfig, shape: Sizes) -> tuple[int, int]:
    height, width = (own if found is None else found for found, own in zip(shape[2:], config.image_shape, strict=True))
    return height, width
