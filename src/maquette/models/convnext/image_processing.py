"""ConvNeXt's image processor, which below 384 pixels looks at the middle of images only."""

from typing import ClassVar

from maquette.images import BaseImageProcessor, ImageFeatureExtractionMixin
from maquette.images.reading import Picture
from maquette.images.resizing import crop, resize, size_of
from maquette.images.sizes import fit, read_exact_size, read_filter, read_size

WHOLE = 384  # from this size on, images are taken whole


class ConvNextImageProcessor(BaseImageProcessor):
    """Prepares images for ConvNeXt. Takes the settings of `BaseImageProcessor`, and one more.

    Settings:
        size: the side of the square that comes out, as `{"shortest_edge": 224}`. From 384 on, images are stretched to
            it; below, their short side becomes `size / crop_pct`, and the middle is cut out.
        crop_pct: the share of the short side that the middle is.
    """

    size = {"shortest_edge": 384}  # noqa: RUF012 - a setting's default: every instance has its own
    default_to_square = False
    resample = 3
    crop_pct: float = 224 / 256

    def validate(self) -> None:
        super().validate()
        if set(read_size(self.size, square=False)) != {"shortest_edge"}:
            raise ValueError(f'size={self.size!r} must be a number, or {{"shortest_edge": 224}}')
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct={self.crop_pct!r} must be a share, above 0 and at most 1")

    def _target_size(self, height: int, width: int) -> tuple[int, int]:
        side = read_size(self.size, square=False)["shortest_edge"]
        return (side, side) if side >= WHOLE else fit(height, width, {"shortest_edge": int(side / self.crop_pct)})

    def transform(self, image: Picture) -> Picture:
        """Resize one image, and below 384 pixels cut out its middle."""
        side = read_size(self.size, square=False)["shortest_edge"]
        if self.do_resize:
            image = resize(image, *self._target_size(*size_of(image)), read_filter(self.resample))
            image = crop(image, side, side) if side < WHOLE else image
        if self.do_center_crop:
            image = crop(image, *read_exact_size(self.crop_size, "crop_size"))
        return image


class ConvNextFeatureExtractor(ImageFeatureExtractionMixin, ConvNextImageProcessor):
    """The older name of `ConvNextImageProcessor`; it prints and saves itself under that name."""

    _new_name: ClassVar[str] = "ConvNextImageProcessor"
