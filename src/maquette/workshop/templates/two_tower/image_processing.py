"""What brings images of any size and form to what Blueprint looks at."""

from maquette import BaseImageProcessor


class BlueprintImageProcessor(BaseImageProcessor):
    """Prepares images: 32 × 32, bilinear, from -1 to 1. Takes the settings of `BaseImageProcessor`."""

    size = 32
    resample = 2
    image_mean = [0.5, 0.5, 0.5]  # noqa: RUF012 - a setting's default: every instance has its own
    image_std = [0.5, 0.5, 0.5]  # noqa: RUF012
