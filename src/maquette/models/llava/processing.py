"""Texts and images for LLaVA: each mark of an image in a text becomes as many tokens as the image has features."""

from collections.abc import Mapping
from typing import Any, Literal

from maquette import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from maquette.errors import ConfigurationError, InputError
from maquette.images.processing import BaseImageProcessor


class LlavaProcessor(ProcessorMixin):
    """An image processor and a tokenizer in one.

    Args:
        image_processor, tokenizer: the parts.
        patch_size: of the tower, in pixels.
        vision_feature_select_strategy: as in the model's configuration.
        image_token: what stands for an image in a text; the tokenizer has it as one token.
        num_additional_image_tokens: places that the tower has beside its patches, such as 1 for CLS.
    """

    image_processor: BaseImageProcessor
    tokenizer: PreTrainedTokenizerBase
    patch_size: int | None = None
    vision_feature_select_strategy: Literal["default", "full"] | None = None
    image_token: str = "<image>"  # noqa: S105 - a mark, no password
    num_additional_image_tokens: int = 0

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Give `input_ids`, `attention_mask` and `pixel_values`, whose images are in the order of their marks.

        Raises:
            InputError: another number of images than of marks.
        """
        if images is None or text is None:
            return super().__call__(images, text, **options)
        shares = self._share(options, {"image_processor": "image_processor", "tokenizer": "tokenizer"}, "__call__")
        pixels = self.image_processor(images, **shares["image_processor"])
        texts = [text] if isinstance(text, str) else list(text)
        marks = sum(each.count(self.image_token) for each in texts)
        if marks != len(pixels["pixel_values"]):
            raise InputError(
                f"The texts have {marks} marks {self.image_token!r}, and there are {len(pixels['pixel_values'])} "
                "images: one for each."
            )
        count = self.count_tokens(pixels["pixel_values"][0].shape) if marks else 0
        expanded = [each.replace(self.image_token, self.image_token * count) for each in texts]
        read: Mapping[str, Any] = self.tokenizer(expanded, **shares["tokenizer"])
        return BatchFeature({**read, **pixels})

    def count_tokens(self, shape: tuple[int, ...]) -> int:
        """Say how many tokens an image `(channels, height, width)` has.

        Raises:
            ConfigurationError: the processor does not know the size of patches.
        """
        if not self.patch_size:
            raise ConfigurationError(
                "LlavaProcessor needs patch_size, the tower's, to know how many tokens an image has."
            )
        count = (shape[-2] // self.patch_size) * (shape[-1] // self.patch_size) + self.num_additional_image_tokens
        return count - (self.vision_feature_select_strategy == "default")
