"""What ViT takes: whether it fits is said once for every framework, and none is imported."""

from typing import Any, TypeVar

import numpy as np

from maquette.modeling import patches
from maquette.modeling.patches import Sizes, check_images, size_of

from .configuration import ViTConfig

__all__ = ["check_images", "check_mask", "check_stride", "draw_images", "draw_mask", "find_grid", "require_token"]

Token = TypeVar("Token")


def draw_images(config: ViTConfig) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give two images that the model takes, waves of all their pixels, `(2, channels, height, width)`."""
    return patches.draw_images(config.num_channels, config.image_shape)


def draw_mask(config: ViTConfig) -> "dict[str, np.ndarray[Any, np.dtype[np.bool_]]]":
    """Choose patches of these images to be masked, `(2, patches)`; none where no loss could be computed."""
    if config.patch_shape != (config.encoder_stride, config.encoder_stride):
        return {}
    return {"bool_masked_pos": (np.arange(2 * config.grid[0] * config.grid[1]) % 3 == 0).reshape(2, -1)}


def find_grid(config: ViTConfig, shape: Sizes) -> tuple[int, int]:
    """Tell how many whole patches images of a shape have from top to bottom, and from left to right."""
    height, width = size_of(config, shape)
    return height // config.patch_shape[0], width // config.patch_shape[1]


def require_token(token: Token | None) -> Token:
    """Give what stands at masked patches.

    Raises:
        ValueError: the model has none.
    """
    if token is None:
        raise ValueError("bool_masked_pos needs a mask token: build ViTModel(config, use_mask_token=True).")
    return token


def check_mask(shape: Sizes, expected: Sizes) -> None:
    """Compare the shape of a mask with the patches that there are, `(batch, patches)`.

    Raises:
        ValueError: they differ.
    """
    if len(shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, expected, strict=True)):
        raise ValueError(
            f"bool_masked_pos is of shape {tuple(shape)}, but these images have (batch, patches) = {tuple(expected)}. "
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
