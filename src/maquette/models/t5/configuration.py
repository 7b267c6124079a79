"""What a T5 can be: its widths, its depths, and how it tells distances."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class T5Config(PretrainedConfig):
    """Configures T5 (Raffel et al. 2020), its version 1.1 and Flan-T5; the defaults are those of T5 small.

    Args:
        vocab_size: entries of the vocabulary.
        d_model: width of a token's state.
        d_kv: width of an attention head.
        d_ff: width inside a block's feed-forward network.
        num_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder, as many as the encoder has unless given.
        num_heads: attention heads of each block.
        relative_attention_num_buckets: into how many classes distances are sorted.
        relative_attention_max_distance: from which distance on all are of one class.
        dropout_rate: share of states, inner states and attention weights to drop.
        layer_norm_epsilon: what norms add to the mean of squares.
        initializer_factor: what fresh weights are multiplied by.
        feed_forward_proj: the network's activation, a name in `ACT2FN`, with "gated-" before it where a gate multiplies
            it: "relu" in T5, "gated-gelu" in version 1.1.
        classifier_dropout: share of states to drop in the heads that classify.
        scale_decoder_outputs: whether states are multiplied by `d_model ** -0.5` before they score the vocabulary;
            unless given, as `tie_word_embeddings` says, which is true of T5 and false of version 1.1.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "t5"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: Count = 32128
    d_model: Count = 512
    d_kv: Count = 64
    d_ff: Count = 2048
    num_layers: Count = 6
    num_decoder_layers: Count | None = None
    num_heads: Count = 8
    relative_attention_num_buckets: Annotated[int, Meta(ge=4)] = 32
    relative_attention_max_distance: Count = 128
    dropout_rate: Share = 0.1
    layer_norm_epsilon: Annotated[float, Meta(ge=0)] = 1e-6
    initializer_factor: Annotated[float, Meta(ge=0)] = 1.0
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    classifier_dropout: Share = 0.0
    scale_decoder_outputs: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.num_decoder_layers = self.num_decoder_layers or self.num_layers
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings
        gate, _, name = self.feed_forward_proj.rpartition("-")
        self.is_gated_act = gate == "gated"
        self.dense_act_fn = "gelu_new" if self.feed_forward_proj == "gated-gelu" else name
        super().__post_init__(**kwargs)

    def validate(self) -> None:
        if self.feed_forward_proj.rpartition("-")[0] not in ("", "gated"):
            raise ValueError(
                f"feed_forward_proj={self.feed_forward_proj!r} is an activation, or one behind 'gated-': 'gated-gelu'."
            )
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 2:
            raise ValueError(
                f"relative_attention_max_distance={self.relative_attention_max_distance} has to be above half of "
                f"relative_attention_num_buckets={self.relative_attention_num_buckets}: near distances have one each."
            )
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
