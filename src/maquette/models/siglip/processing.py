"""SigLIP's image processor, and the processor that puts it together with the tokenizer."""

from typing import Any

from maquette import ProcessorMixin
from maquette.images import BaseImageProcessor


class SiglipImageProcessor(BaseImageProcessor):
    """Prepares images for SigLIP: stretched to 224 × 224, bicubic, from -1 to 1. Settings: `BaseImageProcessor`'s."""

    size = {"height": 224, "width": 224}  # noqa: RUF012 - a setting's default: every instance has its own
    default_to_square = False
    resample = 3


class SiglipProcessor(ProcessorMixin):
    """Prepares texts and images; texts are padded and cut to the length that the model was trained with, unless told.

    Args:
        image_processor: such as `SiglipImageProcessor()`.
        tokenizer: such as `SiglipTokenizer(vocab_file=…)`.
    """

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012 - a declaration, never changed
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"
    image_processor: Any
    tokenizer: Any

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        super().__init__(image_processor, tokenizer)

    def __call__(self, text: Any = None, images: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Give the tokens of texts and the pixels of images, of either or of both.

        Args:
            text: a text, or several.
            images: an image, or several; see `BaseImageProcessor.preprocess`.
            options: each goes to every part that takes it; `images_kwargs` and `text_kwargs` are for one part alone.

        Raises:
            InputError: neither is given.
            UnknownFieldError: no part takes a keyword.
        """
        usual = {"padding": "max_length", "truncation": True} if text is not None else {}
        return super().__call__(images, text, **{**usual, **options})
