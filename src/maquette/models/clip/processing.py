"""CLIP's image processor, and the processor that puts it together with the tokenizer."""

from typing import Any, ClassVar

from maquette import ProcessorMixin
from maquette.images import BaseImageProcessor, ImageFeatureExtractionMixin


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


class CLIPProcessor(ProcessorMixin):
    """Prepares texts and images: `processor(text=["a cat"], images=picture, padding=True, return_tensors="pt")`.

    Args:
        image_processor: such as `CLIPImageProcessor()`.
        tokenizer: such as `CLIPTokenizerFast(vocab_file=…, merges_file=…)`.
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
        return super().__call__(images, text, **options)
