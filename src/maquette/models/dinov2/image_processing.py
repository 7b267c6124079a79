"""The image processor that DINOv2's folders name."""

from maquette.images import BaseImageProcessor


class BitImageProcessor(BaseImageProcessor):
    """Prepares images: the short side to 224, bicubic, the middle 224 × 224. Settings are `BaseImageProcessor`'s.

    DINOv2's folders say 256 for the short side, and the mean and deviation of ImageNet.
    """

    size = {"shortest_edge": 224}  # noqa: RUF012 - a setting's default: every instance has its own
    default_to_square = False
    resample = 3
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}  # noqa: RUF012
    image_mean = [0.48145466, 0.4578275, 0.40821073]  # noqa: RUF012
    image_std = [0.26862954, 0.26130258, 0.27577711]  # noqa: RUF012
