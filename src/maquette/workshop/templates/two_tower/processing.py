"""What prepares texts and images for Blueprint in one call."""

from maquette.processing.pairs import TextImageProcessor


class BlueprintProcessor(TextImageProcessor):
    """Prepares texts and images: `processor(text=["a disc"], images=picture, padding=True, return_tensors="pt")`.

    Args:
        image_processor: such as `BlueprintImageProcessor()`.
        tokenizer: such as `BlueprintTokenizerFast.learn(texts, 300)`.
    """
