"""What an image tower before a decoder is made of: their configurations, and what is taken of the tower."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from maquette import PretrainedConfig
from maquette.configuration.composed import check_parts


class LlavaConfig(PretrainedConfig):
    """Configures any tower of images before any decoder (Liu et al. 2023).

    Args:
        vision_config, text_config: configurations of any architectures, or dictionaries with a `model_type`.
        image_token_index: the token that stands in a text where an image's features go.
        image_seq_length: how many features an image has.
        projector_hidden_act: between the projection's two layers, a name in `ACT2FN`.
        vision_feature_select_strategy: "default" leaves out the tower's first place, CLS; "full" takes all.
        vision_feature_layer: the tower's states to take, counted from its embeddings, or from the end; several are put
            side by side; None takes what the tower gives as `last_hidden_state`.
        multimodal_projector_bias: whether the projection's layers have one.
    """

    model_type = "llava"
    aliases: ClassVar[dict[str, str]] = {"image_token_id": "image_token_index"}

    vision_config: PretrainedConfig
    text_config: PretrainedConfig
    image_token_index: Annotated[int, Meta(ge=0)] = 32000
    image_seq_length: int = 576
    projector_hidden_act: str = "gelu"
    vision_feature_select_strategy: Literal["default", "full"] = "default"
    vision_feature_layer: int | list[int] | None = -2
    multimodal_projector_bias: bool = True
    tie_word_embeddings: bool = False
    use_cache: bool = True

    def validate(self) -> None:
        check_parts(self)

    @property
    def vocab_size(self) -> int:
        """How many tokens the decoder knows."""
        return int(self.text_config.vocab_size)

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value

    @property
    def hidden_size(self) -> Any:
        """How wide the decoder's states are."""
        return self.text_config.hidden_size

    @property
    def max_position_embeddings(self) -> int | None:
        """How many tokens the decoder has positions for; None where any number will do."""
        return getattr(self.text_config, "max_position_embeddings", None)
