"""What a GPT-2 can be: its widths, its depth, and how it is regularised."""

from typing import Annotated, ClassVar

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class GPT2Config(PretrainedConfig):
    """Configures GPT-2 (Radford et al. 2019); the defaults are those of its smallest.

    Args:
        vocab_size: entries of the vocabulary.
        n_positions: the longest input, in tokens.
        n_embd: width of a token's state.
        n_layer: blocks.
        n_head: attention heads of each block; they share `n_embd` equally.
        n_inner: width inside a block's feed-forward network, four times `n_embd` unless given.
        activation_function: between the network's layers, a name in `ACT2FN`.
        resid_pdrop: share of states to drop, after attention and feed-forward networks.
        embd_pdrop: share of states to drop after the embeddings.
        attn_pdrop: share of attention weights to drop.
        layer_norm_epsilon: what norms add to the variance.
        initializer_range: standard deviation of fresh weights.
        scale_attn_weights: divide attention's products by the root of a head's width.
        scale_attn_by_inverse_layer_idx: divide them by the layer's number, too.
        reorder_and_upcast_attn: compute attention in float32.
        add_cross_attention: blocks look at another model's states, too.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        summary_type, summary_use_proj, summary_activation, summary_proj_to_labels, summary_first_dropout: kept as they
            come; they are of a head that is not here.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "gpt2"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: Count = 50257
    n_positions: Count = 1024
    n_embd: Count = 768
    n_layer: Count = 12
    n_head: Count = 12
    n_inner: Count | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: Share = 0.1
    embd_pdrop: Share = 0.1
    attn_pdrop: Share = 0.1
    layer_norm_epsilon: Annotated[float, Meta(ge=0)] = 1e-5
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: Share = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    use_cache: bool = True
    bos_token_id: int | list[int] | None = 50256
    eos_token_id: int | list[int] | None = 50256

    def validate(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} cannot be shared equally by n_head={self.n_head}.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
