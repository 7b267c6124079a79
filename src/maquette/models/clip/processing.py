"""CLIP's image processor, and the processor that puts it together with the tokenizer."""

from typing import ClassVar

from maquette.images import BaseImageProcessor, ImageFeatureExtractionMixin
from maquette.processing.pairs import TextImageProcessor


class CLIPImageProcessor(BaseImageProcessor):
    """Prepares images for CLIP: the short side to 224, bicubic, the middle 224 × 224.

    Takes the settings of `BaseImageProcessor`.
    """

    size = {"shortest_edge": 224}  # noqa: RUF012 - a setting's default: every instance has its own
    default_to_square = False
    resample = 3
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}  # noqa: RUF012
    image_mean = [0.48145466, 0.4578275, 0.40821073]  # noqa: RUF012
    image_std = [0.26862954, 0.26130258, 0.27577711]  # noqa: RUF012


class CLIPFeatureExtractor(ImageFeatureExtractionMixin, CLIPImageProcessor):
    """The older name of `CLIPImageProcessor`; it prints and saves itself under that name."""

    _new_name: ClassVar[str] = "CLIPImageProcessor"


class CLIPProcessor(TextImageProcessor):
    """Prepares texts and images: `processor(text=["a cat"], images=picture, padding=True, return_tensors="pt")`.

    Args:
        image_processor: such as `CLIPImageProcessor()`.
        tokenizer: such as `CLIPTokenizerFast(vocab_file=…, merges_file=…)`.
    """
