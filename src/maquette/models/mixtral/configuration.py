"""What Mixtral and Qwen3-MoE can be: decoders whose feed-forward networks are mixtures of experts."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette import RotaryConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class MixtralConfig(RotaryConfig):
    """Configures Mixtral (Jiang et al. 2024); the defaults are those of Mixtral 8x7B.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside an expert.
        num_hidden_layers: blocks.
        num_attention_heads: heads of queries in each block.
        num_key_value_heads: heads of keys and values, which heads of queries share.
        head_dim: width of a head; `hidden_size` shared among the heads unless given.
        hidden_act: of an expert's gate, a name in `ACT2FN`.
        max_position_embeddings: the longest input that the model was made for.
        initializer_range: standard deviation of fresh weights.
        rms_norm_eps: what norms add to the mean of squares.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        rope_parameters: how positions become rotations, as `RotaryConfig` says.
        sliding_window: how many tokens a token sees, itself included; None for all before it.
        attention_dropout: share of attention weights to drop.
        num_experts_per_tok: to how many experts a token goes.
        num_local_experts: how many experts a layer has.
        output_router_logits: whether calls give the routers' logits, and with labels add the loss that spreads tokens.
        router_aux_loss_coef: how much that loss counts.
        router_jitter_noise: while training, states that are routed are scaled by up to this much.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations).
    """

    model_type = "mixtral"
    default_theta = 1_000_000.0
    aliases: ClassVar[dict[str, str]] = {"num_experts": "num_local_experts"}

    vocab_size: Count = 32000
    hidden_size: Count = 4096
    intermediate_size: Count = 14336
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count | None = 8
    head_dim: Count | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Count = 4096 * 32
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-5
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    sliding_window: Count | None = None
    attention_dropout: Share = 0.0
    num_experts_per_tok: Count = 2
    num_local_experts: Count = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: Share = 0.0
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | list[int] | None = 1
    eos_token_id: int | list[int] | None = 2

    attention_bias: ClassVar = False
    norms_heads: ClassVar = False  # whether queries and keys are normed
    norm_topk_prob: ClassVar = True  # whether the weights of a token's experts sum to 1
    mixture: ClassVar = "block_sparse_moe"  # what a block calls its experts in files, and their layers
    projections: ClassVar = ("w1", "w3", "w2")

    def __post_init__(self, **kwargs: Any) -> None:
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        super().__post_init__(**kwargs)

    @property
    def window(self) -> int | None:
        """How many tokens a token sees, itself included; None for all before it."""
        return self.sliding_window

    @property
    def expert_size(self) -> int:
        """Width inside an expert."""
        return self.intermediate_size

    def has_experts(self, layer: int) -> bool:
        """Tell whether a layer's feed-forward network is a mixture of experts."""
        return True

    def validate(self) -> None:
        super().validate()
        _check(self, self.num_local_experts)


class Qwen3MoeConfig(RotaryConfig):
    """Configures Qwen3-MoE (Yang et al. 2025); the defaults are those of Qwen3 15B A2B.

    Args:
        intermediate_size: width inside the network of layers without experts.
        attention_bias: whether the layers of attention have biases.
        use_sliding_window: whether tokens see the last `sliding_window` only.
        decoder_sparse_step: every so many layers, one has experts.
        moe_intermediate_size: width inside an expert.
        num_experts: how many experts a layer has.
        norm_topk_prob: whether the weights of a token's experts are made to sum to 1.
        mlp_only_layers: numbers of layers without experts.

    The others are those of `MixtralConfig`.
    """

    model_type = "qwen3_moe"
    aliases: ClassVar[dict[str, str]] = {"num_local_experts": "num_experts"}

    vocab_size: Count = 151936
    hidden_size: Count = 2048
    intermediate_size: Count = 6144
    num_hidden_layers: Count = 24
    num_attention_heads: Count = 32
    num_key_value_heads: Count = 4
    head_dim: Count | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Count = 32768
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    attention_dropout: Share = 0.0
    decoder_sparse_step: Count = 1
    moe_intermediate_size: Count = 768
    num_experts_per_tok: Count = 8
    num_experts: int = 128
    norm_topk_prob: bool = False
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    mlp_only_layers: list[int] | None = None
    tie_word_embeddings: bool = False

    norms_heads: ClassVar = True
    router_jitter_noise: ClassVar = 0.0
    mixture: ClassVar = "mlp"
    projections: ClassVar = ("gate_proj", "up_proj", "down_proj")

    def __post_init__(self, **kwargs: Any) -> None:
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        self.mlp_only_layers = self.mlp_only_layers or []
        super().__post_init__(**kwargs)

    @property
    def window(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    @property
    def expert_size(self) -> int:
        return self.moe_intermediate_size

    def has_experts(self, layer: int) -> bool:
        chosen = layer not in (self.mlp_only_layers or ()) and (layer + 1) % self.decoder_sparse_step == 0
        return chosen and self.num_experts > 0

    def validate(self) -> None:
        super().validate()
        _check(self, self.num_experts)


def _check(config: Any, experts: int) -> None:
    """Check what concerns several fields, for both."""
    heads, shared, top_k, faults = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.num_experts_per_tok,
        [],
    )
    if heads % shared:
        faults.append(f"num_attention_heads={heads} cannot share num_key_value_heads={shared} equally.")
    if not config.head_dim and config.hidden_size % heads:
        faults.append(f"hidden_size={config.hidden_size} cannot be shared equally by num_attention_heads={heads}.")
    if 0 < experts < top_k:
        faults.append(f"num_experts_per_tok={top_k}: there are {experts} experts.")
    if config.attn_implementation not in (None, "sdpa", "eager"):
        faults.append(f'attn_implementation must be "sdpa" or "eager", not {config.attn_implementation!r}.')
    if faults:
        raise ValueError(" ".join(faults))
