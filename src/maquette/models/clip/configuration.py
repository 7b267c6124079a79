"""What CLIP can be: its two towers, and where they meet."""

from typing import Annotated, Any

from msgspec import Meta

from maquette.modeling.tower_configurations import ImageTowerConfig, TextTowerConfig, TwoTowerConfig

Count = Annotated[int, Meta(gt=0)]
Factor = Annotated[float, Meta(ge=0)]


class CLIPTextConfig(TextTowerConfig):
    """Configures CLIP's tower of texts; the defaults are those of ViT-B/32.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside a block's feed-forward network.
        projection_dim: width where texts and images are compared, of the tower with a projection alone.
        num_hidden_layers: blocks.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        max_position_embeddings: tokens of a text at most.
        hidden_act: between a feed-forward network's layers, a name in `ACT2FN`.
        layer_norm_eps: what norms add to the variance.
        attention_dropout: share of attention weights to drop.
        initializer_range: not used by texts; kept as files have it.
        initializer_factor: times the standard deviations of fresh weights.
        eos_token_id: the token whose state stands for a text, at its first place. 2, as files of before 2023 say, means
            the highest id there is in the text.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations).
    """

    model_type = "clip_text_model"

    hidden_size: Count = 512
    intermediate_size: Count = 2048
    projection_dim: Count = 512
    num_attention_heads: Count = 8
    hidden_act: str = "quick_gelu"
    initializer_range: Factor = 0.02
    initializer_factor: Factor = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] = 49407


class CLIPVisionConfig(ImageTowerConfig):
    """Configures CLIP's tower of images, a Vision Transformer; the defaults are those of ViT-B/32.

    Args:
        num_channels: colours of a pixel.
        image_size: pixels on a side of the images, or `(height, width)`.
        patch_size: pixels on a side of the patches, or `(height, width)`.
        initializer_range: standard deviation of fresh patch and position embeddings.

    The others are those of `CLIPTextConfig`.
    """

    model_type = "clip_vision_model"

    projection_dim: Count = 512
    patch_size: Count | tuple[Count, Count] = 32
    hidden_act: str = "quick_gelu"
    initializer_range: Factor = 0.02
    initializer_factor: Factor = 1.0


class CLIPConfig(TwoTowerConfig):
    """Configures CLIP (Radford et al. 2021): two towers, and the space where what they give is compared.

    Args:
        text_config, vision_config: the towers, as configurations or dictionaries.
        projection_dim: width where texts and images are compared.
        logit_scale_init_value: logarithm of what cosines are multiplied by, at first.
        initializer_factor: times the standard deviations of fresh projections.
    """

    model_type = "clip"

    text_config: CLIPTextConfig = CLIPTextConfig()
    vision_config: CLIPVisionConfig = CLIPVisionConfig()
    projection_dim: Count = 512
    logit_scale_init_value: float = 2.6592
    initializer_factor: Factor = 1.0

    @classmethod
    def from_text_vision_configs(cls, text_config: Any, vision_config: Any, **kwargs: Any) -> "CLIPConfig":
        """Put two towers together; `kwargs` are further arguments."""
        return cls(text_config=text_config, vision_config=vision_config, **kwargs)
