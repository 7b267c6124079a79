"""ViT's image processor, and the older name that translated guides still use."""

from typing import ClassVar

from maquette.images import BaseImageProcessor, ImageFeatureExtractionMixin


class ViTImageProcessor(BaseImageProcessor):
    """Prepares images for ViT: 224 × 224, bilinear, from -1 to 1. Takes the settings of `BaseImageProcessor`."""

    size = 224
    resample = 2
    image_mean = [0.5, 0.5, 0.5]  # noqa: RUF012 - a setting's default: every instance has its own
    image_std = [0.5, 0.5, 0.5]  # noqa: RUF012


class ViTFeatureExtractor(ImageFeatureExtractionMixin, ViTImageProcessor):
    """The older name of `ViTImageProcessor`; it prints and saves itself under that name."""

    _new_name: ClassVar[str] = "ViTImageProcessor"
