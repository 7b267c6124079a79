"""Images to arrays: reading, resizing, scaling, and the classes that hold the settings."""

from maquette.images.fetching import load_image
from maquette.images.processing import BaseImageProcessor, ImageFeatureExtractionMixin, ImageProcessingMixin

__all__ = ["BaseImageProcessor", "ImageFeatureExtractionMixin", "ImageProcessingMixin", "load_image"]
