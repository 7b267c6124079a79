"""Names from Transformers for images, over PIL and numpy."""

from typing import Any

import numpy as np
from PIL.Image import Resampling as PILImageResampling

__all__ = ["PILImageResampling", "make_list_of_images", "to_numpy_array"]


def make_list_of_images(images: Any, expected_ndims: int = 3) -> list[Any]:
    """Give a list of images: the list or the rows of the batch that came, or the one image as a list of it."""
    if isinstance(images, list | tuple):
        return list(images)
    return list(images) if getattr(images, "ndim", 0) == expected_ndims + 1 else [images]


def to_numpy_array(image: Any) -> "np.ndarray[Any, Any]":
    """Give an image's values as they are, `(height, width, channels)` for a picture of PIL's."""
    return np.asarray(image)
