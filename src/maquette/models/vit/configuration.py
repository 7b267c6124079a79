"""What a Vision Transformer can be: the images it takes, its widths, its depth, and how it is regularised."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from maquette import PretrainedConfig
from maquette.modeling.patches import PatchGridMixin

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Activation = Literal[
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
]


class ViTConfig(PatchGridMixin, PretrainedConfig):
    """Configures a Vision Transformer (Dosovitskiy et al. 2021); the defaults are those of ViT-Base, 224 by 224.

    Args:
        hidden_size: width of a patch's state.
        num_hidden_layers: blocks of the encoder.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        intermediate_size: width inside a block's feed-forward network.
        hidden_act: between a feed-forward network's layers.
        hidden_dropout_prob: share of states to drop, after embeddings, attention and feed-forward networks.
        attention_probs_dropout_prob: share of attention weights to drop.
        initializer_range: standard deviation of fresh weights.
        layer_norm_eps: added to variances before they divide.
        image_size: pixels on a side of the images, or `(height, width)`.
        patch_size: pixels on a side of the patches, or `(height, width)`; patches tile the image.
        num_channels: colours of a pixel.
        qkv_bias: queries, keys and values have a bias.
        encoder_stride: how far masked image modelling enlarges the grid of patches; with a loss, `patch_size`.
        pooler_output_size: width of what the pooler gives, `hidden_size` unless given.
        pooler_act: the pooler's activation.
        attn_implementation: "sdpa" (the default: torch's fused attention) or "eager" (plain operations).
    """

    model_type = "vit"

    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: Share = 0.0
    attention_probs_dropout_prob: Share = 0.0
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-12
    image_size: Count | tuple[Count, Count] = 224
    patch_size: Count | tuple[Count, Count] = 16
    num_channels: Count = 3
    qkv_bias: bool = True
    encoder_stride: Count = 16
    pooler_output_size: Count | None = None
    pooler_act: Activation = "tanh"

    def __post_init__(self, **kwargs: Any) -> None:
        self.pooler_output_size = self.pooler_output_size or self.hidden_size
        super().__post_init__(**kwargs)

    def validate(self) -> None:
        faults = []
        if self.hidden_size % self.num_attention_heads:
            shared = f"hidden_size={self.hidden_size} cannot be shared equally"
            faults.append(f"{shared} by num_attention_heads={self.num_attention_heads}.")
        if any(size % patch for size, patch in zip(self.image_shape, self.patch_shape, strict=True)):
            faults.append(f"patches of patch_size={self.patch_size} do not tile an image_size={self.image_size}.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            faults.append(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
        if faults:
            raise ValueError(" ".join(faults))
