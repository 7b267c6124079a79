"""What a DINOv2 can be: the images it takes, its widths, its depth, and what its feature maps are."""

from typing import Annotated

from msgspec import Meta

from maquette.modeling.backbone import BackboneConfigMixin
from maquette.modeling.patches import PatchGridMixin

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Dinov2Config(PatchGridMixin, BackboneConfigMixin):
    """Configures DINOv2 (Oquab et al. 2024); the defaults are those of ViT-B/14 at 224 by 224.

    Args:
        hidden_size: width of a patch's state.
        num_hidden_layers: blocks.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        mlp_ratio: how much wider a block's feed-forward network is inside.
        hidden_act: between a feed-forward network's layers, a name in `ACT2FN`; not used by SwiGLU.
        hidden_dropout_prob: share of embeddings to drop.
        attention_probs_dropout_prob: share of attention weights to drop.
        initializer_range: standard deviation of fresh weights, cut at -2 and 2.
        layer_norm_eps: what norms add to the variance.
        image_size: pixels on a side of the images that the positions are for, or `(height, width)`.
        patch_size: pixels on a side of the patches, or `(height, width)`.
        num_channels: colours of a pixel.
        qkv_bias: queries, keys and values have a bias.
        layerscale_value: what fresh layers' contributions are multiplied by.
        drop_path_rate: share of images for which a block's part is left out while training, in every block.
        use_swiglu_ffn: feed-forward networks are gated, and two thirds as wide inside.
        apply_layernorm: a backbone's feature maps are normed.
        reshape_hidden_states: a backbone's feature maps are `(batch, channels, rows, columns)`, else `(batch, tokens,
            channels)` with the token of the whole image first.
        use_mask_token: there is a vector to put in the place of hidden patches.
        out_features, out_indices: the blocks whose feature maps a backbone gives, by name or place in `stage_names`.
    """

    model_type = "dinov2"

    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    mlp_ratio: Count = 4
    hidden_act: str = "gelu"
    hidden_dropout_prob: Share = 0.0
    attention_probs_dropout_prob: Share = 0.0
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    layer_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    image_size: Count | tuple[Count, Count] = 224
    patch_size: Count | tuple[Count, Count] = 14
    num_channels: Count = 3
    qkv_bias: bool = True
    layerscale_value: float = 1.0
    drop_path_rate: Share = 0.0
    use_swiglu_ffn: bool = False
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    use_mask_token: bool = True

    @property
    def stage_names(self) -> list[str]:
        """What blocks are called: what comes before them is the stem, then `stage1` and so on."""
        return ["stem", *(f"stage{number}" for number in range(1, self.num_hidden_layers + 1))]

    def validate(self) -> None:
        super().validate()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} cannot be shared equally by "
                f"num_attention_heads={self.num_attention_heads}."
            )
        if not all(self.grid):
            raise ValueError(f"image_size={self.image_size} is less than one patch of patch_size={self.patch_size}.")
        if self.drop_path_rate == 1:
            raise ValueError("drop_path_rate=1 leaves out every block of every image; give less.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
