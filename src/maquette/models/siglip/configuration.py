"""What SigLIP can be: its two towers."""

from typing import Annotated, Any

from msgspec import Meta

from maquette.modeling.tower_configurations import ImageTowerConfig, TextTowerConfig, TwoTowerConfig

Count = Annotated[int, Meta(gt=0)]


class SiglipTextConfig(TextTowerConfig):
    """Configures SigLIP's tower of texts; the defaults are those of ViT-B/16.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside a block's feed-forward network.
        num_hidden_layers: blocks.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        max_position_embeddings: tokens of a text, all of which a text is padded to.
        hidden_act: between a feed-forward network's layers, a name in `ACT2FN`.
        layer_norm_eps: what norms add to the variance.
        attention_dropout: share of attention weights to drop.
        projection_size: width of the vectors of texts, `hidden_size` unless given.
        attn_implementation: "sdpa" (the default: torch's fused attention) or "eager" (plain operations).
    """

    model_type = "siglip_text_model"

    vocab_size: Count = 32000
    max_position_embeddings: Count = 64
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] | None = 49407
    projection_size: Count | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.projection_size = self.projection_size or self.hidden_size
        super().__post_init__(**kwargs)


class SiglipVisionConfig(ImageTowerConfig):
    """Configures SigLIP's tower of images, a Vision Transformer; the defaults are those of ViT-B/16.

    Args:
        num_channels: colours of a pixel.
        image_size: pixels on a side of the images, or `(height, width)`.
        patch_size: pixels on a side of the patches, or `(height, width)`.
        vision_use_head: attention makes one vector of an image's patches.

    The others are those of `SiglipTextConfig`.
    """

    model_type = "siglip_vision_model"

    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    vision_use_head: bool = True


class SiglipConfig(TwoTowerConfig):
    """Configures SigLIP (Zhai et al. 2023): two towers whose vectors are of one width.

    Args:
        text_config, vision_config: the towers, as configurations or dictionaries.
        initializer_factor: times the standard deviation of a fresh classifier.
    """

    model_type = "siglip"

    text_config: SiglipTextConfig = SiglipTextConfig()
    vision_config: SiglipVisionConfig = SiglipVisionConfig()
    initializer_factor: Annotated[float, Meta(ge=0)] = 1.0

    def validate(self) -> None:
        if self.text_config.projection_size != self.vision_config.hidden_size:
            raise ValueError(
                f"text_config.projection_size={self.text_config.projection_size} must be the width of images, "
                f"vision_config.hidden_size={self.vision_config.hidden_size}, so that the two can be compared."
            )
