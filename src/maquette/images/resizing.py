"""Resizing and cropping of one image, with Pillow's filters."""

from typing import Any

import numpy as np

from maquette.images.reading import Picture, pillow


def size_of(picture: Picture) -> tuple[int, int]:
    """Give height and width."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    return picture.height, picture.width


def resize(picture: Picture, height: int, width: int, resample: int) -> Picture:
    """Give an image of another size; real numbers are resized as such, channel by channel."""
    if size_of(picture) == (height, width):
        return picture
    if not isinstance(picture, np.ndarray):
        return picture.resize((width, height), resample)
    module = pillow()
    resized = np.empty((height, width, picture.shape[2]), picture.dtype)
    for channel in range(picture.shape[2]):
        plane = module.fromarray(np.ascontiguousarray(picture[..., channel]))
        resized[..., channel] = plane.resize((width, height), resample)
    return resized


def crop(picture: Picture, height: int, width: int) -> Picture:
    """Give the middle of an image; where the image is smaller, black surrounds it."""
    there, across = size_of(picture)
    top, left = (there - height) // 2, (across - width) // 2
    if not isinstance(picture, np.ndarray):
        return picture.crop((left, top, left + width, top + height))
    cropped: np.ndarray[Any, Any] = np.zeros((height, width, picture.shape[2]), picture.dtype)
    rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
    part = picture[rows, columns]
    y, x = max(-top, 0), max(-left, 0)
    cropped[y : y + part.shape[0], x : x + part.shape[1]] = part
    return cropped
