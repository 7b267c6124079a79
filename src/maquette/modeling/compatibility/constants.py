"""Names from Transformers that stand for a value or for a type."""

import enum
from typing import Any, TypedDict
from typing import Unpack as Unpack

CONFIG_NAME, WEIGHTS_NAME, SAFE_WEIGHTS_NAME = "config.json", "pytorch_model.bin", "model.safetensors"
DUMMY_INPUTS = [[7, 6, 0, 0, 1], [1, 2, 3, 0, 0], [0, 0, 0, 4, 5]]
DUMMY_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]

# Means and standard deviations of pixels, red, green, blue, in the data that models were trained on.
IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
OPENAI_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

# For annotations.
AudioInput = EncodedInput = ImageInput = PreTokenizedInput = TextInput = Any


class TransformersKwargs(TypedDict, total=False):
    """Further arguments of a `forward`."""


class FlashAttentionKwargs(TypedDict, total=False):
    """Further arguments of an attention function."""


class ExplicitEnum(str, enum.Enum):  # noqa: UP042 - texts are formatted by their names, as Transformers has it
    """Choices that are texts; an unknown one is an error that lists the known ones."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise ValueError(f"{value!r} is no {cls.__name__}. There are: {', '.join(repr(one.value) for one in cls)}.")


class ChannelDimension(ExplicitEnum):
    """Where the channels of an image array are."""

    FIRST = "channels_first"
    LAST = "channels_last"


class PaddingStrategy(ExplicitEnum):
    """What rows are padded to."""

    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TruncationStrategy(ExplicitEnum):
    """Which text of a pair is cut."""

    ONLY_FIRST = "only_first"
    ONLY_SECOND = "only_second"
    LONGEST_FIRST = "longest_first"
    DO_NOT_TRUNCATE = "do_not_truncate"


class TensorType(ExplicitEnum):
    """What arrays are given as."""

    PYTORCH = "pt"
    TENSORFLOW = "tf"
    NUMPY = "np"
    JAX = "jax"
