"""Images cut into patches: how large they are, and whether images fit. No framework is imported."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Sizes = Sequence[int | None]  # None where a compiler leaves a size open; then it is the model's own


class PatchGridMixin:
    """What follows from `image_size` and `patch_size`, one number or `(height, width)` each, for a configuration."""

    image_size: Any
    patch_size: Any

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return as_pair(self.image_size)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of the patches, in pixels."""
        return as_pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """How many whole patches an image has from top to bottom, and from left to right."""
        return self.image_shape[0] // self.patch_shape[0], self.image_shape[1] // self.patch_shape[1]


def as_pair(size: Any) -> tuple[int, int]:
    """Give height and width of what is one number, or both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def draw_images(channels: int, shape: tuple[int, int]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Give two images, waves of all their pixels, `(2, channels, height, width)`."""
    import numpy as np  # configurations import this module, and need none

    whole = (2, channels, *shape)
    return np.sin(np.linspace(-9, 9, np.prod(whole, dtype=int), dtype=np.float32)).reshape(whole)


def check_images(config: Any, shape: Sizes, kind: Any, *, interpolates: bool, offers: bool = True) -> None:
    """Compare the shape of images, `(batch, channels, height, width)`, and their type with what a model is for.

    Args:
        config: has `num_channels` and the properties of `PatchGridMixin`.
        shape, kind: of the images.
        interpolates: positions are stretched over images of another size.
        offers: a call can ask for that.

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
    size = size_of(config, shape)
    found = f"Images are of {size[0]} x {size[1]} pixels (height x width)"
    if not interpolates and size != image:
        way = ", or pass interpolate_pos_encoding=True to stretch the positions over images of another size"
        raise ValueError(f"{found}, but the model is for {image[0]} x {image[1]}. Resize them{way if offers else ''}.")
    if size[0] < patch[0] or size[1] < patch[1]:
        raise ValueError(f"{found}, smaller than one patch of {patch[0]} x {patch[1]}. Enlarge them.")


def size_of(config: Any, shape: Sizes) -> tuple[int, int]:
    """Give height and width of images, the model's own where a compiler leaves them open."""
    height, width = (own if found is None else found for found, own in zip(shape[2:], config.image_shape, strict=True))
    return height, width
