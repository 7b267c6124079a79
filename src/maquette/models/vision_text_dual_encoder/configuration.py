"""What a model that compares images with texts is made of: two configurations, of any architectures."""

from typing import Annotated, Any, Self

from msgspec import Meta

from maquette import PretrainedConfig
from maquette.configuration.composed import check_parts


class VisionTextDualEncoderConfig(PretrainedConfig):
    """Configures any encoder of images beside any encoder of texts.

    Args:
        vision_config, text_config: configurations, or dictionaries with a `model_type`.
        projection_dim: width where texts and images are compared.
        logit_scale_init_value: logarithm of what cosines are multiplied by, at first.
    """

    model_type = "vision-text-dual-encoder"

    vision_config: PretrainedConfig
    text_config: PretrainedConfig
    projection_dim: Annotated[int, Meta(gt=0)] = 512
    logit_scale_init_value: float = 2.6592

    def validate(self) -> None:
        check_parts(self)

    @classmethod
    def from_vision_text_configs(cls, vision_config: Any, text_config: Any, **fields: Any) -> Self:
        """Join two configurations."""
        return cls(vision_config=vision_config, text_config=text_config, **fields)

    @property
    def vocab_size(self) -> int:
        """How many tokens the encoder of texts knows."""
        return int(self.text_config.vocab_size)

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value
