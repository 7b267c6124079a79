"""Arrays as images: which axis holds the channels, and whether the numbers are what a picture's numbers are."""

from typing import Any

import numpy as np

from maquette.errors import InputError

CHANNELS = (1, 3, 4)


def as_picture(
    array: "np.ndarray[Any, Any]", label: str, *, data_format: str | None, is_scaled_later: bool, is_bounded: bool
) -> "np.ndarray[Any, Any]":
    """Give an array as (height, width, channels), uint8 where it holds whole numbers up to 255, else float32.

    Args:
        array: (height, width), or with an axis of channels at the end or at the start.
        label: which image it is, for the errors.
        data_format: "channels_first" or "channels_last"; None finds out.
        is_scaled_later: the numbers will be divided by 255 or the like, so they must not be between 0 and 1.
        is_bounded: the numbers must lie between 0 and 1, or between 0 and 255.

    Raises:
        InputError: the axis is ambiguous, a side is empty, or the numbers are out of range.
    """
    if array.ndim not in (2, 3) or not array.size:
        raise InputError(f"{label} has the shape {array.shape}: an image has a height, a width, and perhaps channels.")
    if array.ndim == 2:
        picture = array[..., None]
    elif (data_format or find_channels(array.shape, label)) == "channels_first":
        picture = np.moveaxis(array, 0, -1)
    else:
        picture = array
    if array.dtype == np.uint8:
        return picture
    if array.dtype.kind in "iu":
        return _whole(picture, label)
    if array.dtype.kind == "f":
        return _real(picture, label, is_scaled_later=is_scaled_later, is_bounded=is_bounded)
    raise InputError(f"{label} is an array of {array.dtype}; an image is of whole numbers up to 255, or of floats.")


def find_channels(shape: tuple[int, ...], label: str) -> str:
    """Tell whether the channels are the first or the last of three axes.

    Raises:
        InputError: both could be, or neither.
    """
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first != last:
        return "channels_first" if first else "channels_last"
    found = "its channels may be the first axis or the last" if first else "neither end is 1, 3 or 4 channels"
    hint = "" if first else " (a batch of grey images needs an axis of channels: images[:, None])"
    raise InputError(
        f'{label} has the shape {shape}, and {found}: pass input_data_format="channels_first" or "channels_last"{hint}.'
    )


def _whole(picture: "np.ndarray[Any, Any]", label: str) -> "np.ndarray[Any, Any]":
    low, high = int(picture.min()), int(picture.max())
    if low < 0 or high > 255:
        raise InputError(
            f"{label} holds whole numbers from {low} to {high}; an image's go from 0 to 255. Of 16-bit images, keep "
            "the upper half: (image >> 8).astype(np.uint8)."
        )
    return picture.astype(np.uint8)


def _real(
    picture: "np.ndarray[Any, Any]", label: str, *, is_scaled_later: bool, is_bounded: bool
) -> "np.ndarray[Any, Any]":
    picture = picture.astype(np.float32, copy=False)
    low, high = float(picture.min()), float(picture.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(picture.size - np.isfinite(picture).sum())
        raise InputError(f"{label} holds {count} values that are NaN or infinite, out of {picture.size}.")
    if is_bounded and (low < 0 or high > 255):
        raise InputError(
            f"{label} holds real numbers from {low:.4g} to {high:.4g}, which is neither 0 to 1 nor 0 to 255. Where "
            "they are normalised already, pass do_rescale=False and do_normalize=False."
        )
    if is_scaled_later and 0 < high <= 1:
        raise InputError(
            f"{label} holds real numbers from {low:.4g} to {high:.4g}, and do_rescale=True would scale them down "
            "again. Pass do_rescale=False, or multiply by 255."
        )
    is_whole = is_bounded and high > 1 and bool((picture == np.rint(picture)).all())
    return picture.astype(np.uint8) if is_whole else picture


def to_three_channels(picture: "np.ndarray[Any, Any]", label: str) -> "np.ndarray[Any, Any]":
    """Give a picture of real numbers red, green and blue: grey three times, transparency laid over white.

    Raises:
        InputError: another number of channels.
    """
    channels = picture.shape[2]
    if channels == 1:
        return np.repeat(picture, 3, axis=2)
    if channels == 4:
        white = 1.0 if picture.max() <= 1 else 255.0
        alpha = picture[..., 3:] / np.float32(white)
        return picture[..., :3] * alpha + np.float32(white) * (1 - alpha)
    if channels != 3:
        raise InputError(f"{label} has {channels} channels, of which no RGB image can be made: do_convert_rgb=False.")
    return picture
