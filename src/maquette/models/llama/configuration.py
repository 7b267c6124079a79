"""What Llama and its relatives can be: Mistral, Qwen2 and Qwen3 are the same decoder with other details."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from maquette import RotaryConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
LayerType = Literal["full_attention", "sliding_attention"]


class LlamaConfig(RotaryConfig):
    """Configures Llama (Touvron et al. 2023), 1 to 3.x; the defaults are those of Llama 7B.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside a block's feed-forward network.
        num_hidden_layers: blocks.
        num_attention_heads: heads of queries in each block.
        num_key_value_heads: heads of keys and values, which heads of queries share; as many as those unless given.
        head_dim: width of a head; `hidden_size` shared among the heads unless given.
        hidden_act: of the gate of a feed-forward network, a name in `ACT2FN`.
        max_position_embeddings: the longest input that the model was made for.
        initializer_range: standard deviation of fresh weights.
        rms_norm_eps: what norms add to the mean of squares.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        rope_parameters: how positions become rotations, as `RotaryConfig` says.
        attention_bias: whether the layers of attention have biases.
        mlp_bias: whether the layers of the feed-forward network have biases.
        attention_dropout: share of attention weights to drop.
        pretraining_tp: kept as it comes.
        tie_word_embeddings: whether the vocabulary is scored by the input's embeddings.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations).
    """

    model_type = "llama"

    vocab_size: Count = 32000
    hidden_size: Count = 4096
    intermediate_size: Count = 11008
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Count = 2048
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: Share | None = 0.0
    pretraining_tp: int | None = 1
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | list[int] | None = 1
    eos_token_id: int | list[int] | None = 2

    norms_heads: ClassVar = False  # whether queries and keys are normed

    def __post_init__(self, **kwargs: Any) -> None:
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        super().__post_init__(**kwargs)

    @property
    def biases(self) -> dict[str, bool]:
        """Which layers have biases: those that make queries, keys and values, attention's last, the network's."""
        return {"qkv": self.attention_bias, "output": self.attention_bias, "mlp": self.mlp_bias}

    def window_of(self, layer: int) -> int | None:
        """Say how many tokens a token of a layer sees, itself included; None for all before it."""
        return None

    def validate(self) -> None:
        super().validate()
        _check_heads(self)


class MistralConfig(RotaryConfig):
    """Configures Mistral (Jiang et al. 2023): a Llama whose tokens see the last 4,096 only.

    Args:
        sliding_window: how many tokens a token sees, itself included; None for all before it.

    The others are those of `LlamaConfig`; the defaults are those of Mistral 7B.
    """

    model_type = "mistral"

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
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    sliding_window: Count | None = 4096
    attention_dropout: Share = 0.0
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | list[int] | None = 1
    eos_token_id: int | list[int] | None = 2

    norms_heads: ClassVar = False
    biases: ClassVar = {"qkv": False, "output": False, "mlp": False}

    def __post_init__(self, **kwargs: Any) -> None:
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        super().__post_init__(**kwargs)

    def window_of(self, layer: int) -> int | None:
        return self.sliding_window

    def validate(self) -> None:
        super().validate()
        _check_heads(self)


class Qwen2Config(RotaryConfig):
    """Configures Qwen2 and Qwen2.5 (Yang et al. 2024): a Llama with biases on queries, keys and values.

    Args:
        use_sliding_window: whether some layers see the last tokens only.
        sliding_window: how many tokens these see.
        max_window_layers: from which layer on they do, where `layer_types` does not say it.
        layer_types: "full_attention" or "sliding_attention" for each layer.

    The others are those of `LlamaConfig`; the defaults are those of Qwen2 7B.
    """

    model_type = "qwen2"

    vocab_size: Count = 151936
    hidden_size: Count = 4096
    intermediate_size: Count = 22016
    num_hidden_layers: Count = 32
    num_attention_heads: Count = 32
    num_key_value_heads: Count | None = 32
    head_dim: Count | None = None
    hidden_act: str = "silu"
    max_position_embeddings: Count = 32768
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    use_sliding_window: bool = False
    sliding_window: Count | None = 4096
    max_window_layers: int = 28
    layer_types: list[LayerType] | None = None
    attention_dropout: Share = 0.0
    tie_word_embeddings: bool = False

    norms_heads: ClassVar = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        if self.layer_types is None:
            slides = self.use_sliding_window and self.sliding_window is not None
            first = self.max_window_layers if slides else self.num_hidden_layers
            layers = range(self.num_hidden_layers)
            self.layer_types = ["sliding_attention" if n >= first else "full_attention" for n in layers]
        super().__post_init__(**kwargs)

    @property
    def biases(self) -> dict[str, bool]:
        return {"qkv": True, "output": False, "mlp": False}

    def window_of(self, layer: int) -> int | None:
        slides = self.use_sliding_window and (self.layer_types or ())[layer] == "sliding_attention"
        return self.sliding_window if slides else None

    def validate(self) -> None:
        super().validate()
        _check_heads(self)
        if len(self.layer_types or ()) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(self.layer_types or ())} layers, and num_hidden_layers is "
                f"{self.num_hidden_layers}. Change both, or leave layer_types out."
            )


class Qwen3Config(Qwen2Config):
    """Configures Qwen3 (Yang et al. 2025): a Qwen2 that norms queries and keys, and has a bias only where asked.

    Args:
        head_dim: width of a head.
        attention_bias: whether the layers of attention have biases.

    The others are those of `Qwen2Config`; the defaults are those of Qwen3 8B.
    """

    model_type = "qwen3"

    head_dim: Count | None = 128
    attention_bias: bool = False

    norms_heads: ClassVar = True

    @property
    def biases(self) -> dict[str, bool]:
        return {"qkv": self.attention_bias, "output": self.attention_bias, "mlp": False}


def _check_heads(config: Any) -> None:
    """Check what concerns several fields, for all four."""
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    if heads % shared:
        raise ValueError(f"num_attention_heads={heads} cannot share num_key_value_heads={shared} equally.")
    if not getattr(config, "head_dim", None) and config.hidden_size % heads:
        raise ValueError(f"hidden_size={config.hidden_size} cannot be shared equally by num_attention_heads={heads}.")
    if config.attn_implementation not in (None, "sdpa", "eager"):
        raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {config.attn_implementation!r}.')
