"""Images and texts for a model that compares them."""

from maquette import PreTrainedTokenizerBase, ProcessorMixin
from maquette.images.processing import BaseImageProcessor


class VisionTextDualEncoderProcessor(ProcessorMixin):
    """An image processor and a tokenizer in one."""

    image_processor: BaseImageProcessor
    tokenizer: PreTrainedTokenizerBase
