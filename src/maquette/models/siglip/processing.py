"""SigLIP's image processor, and the processor that puts it together with the tokenizer."""

from typing import Any

from maquette.images import BaseImageProcessor
from maquette.processing.pairs import TextImageProcessor


class SiglipImageProcessor(BaseImageProcessor):
    """Prepares images for SigLIP: stretched to 224 × 224, bicubic, from -1 to 1. Settings: `BaseImageProcessor`'s."""

    size = {"height": 224, "width": 224}  # noqa: RUF012 - a setting's default: every instance has its own
    default_to_square = False
    resample = 3


class SiglipProcessor(TextImageProcessor):
    """Prepares texts and images; texts are padded and cut to the length that the model was trained with, unless told.

    Args:
        image_processor: such as `SiglipImageProcessor()`.
        tokenizer: such as `SiglipTokenizer(vocab_file=…)`.
    """

    def __call__(self, text: Any = None, images: Any = None, **options: Any) -> Any:  # type: ignore[override]
        usual = {"padding": "max_length", "truncation": True} if text is not None else {}
        return super().__call__(text, images, **{**usual, **options})
