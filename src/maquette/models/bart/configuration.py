"""What a BART can be: its widths, its depths, and how it is regularised."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class BartConfig(PretrainedConfig):
    """Configures BART (Lewis et al. 2020); the defaults are those of BART large.

    Args:
        vocab_size: entries of the vocabulary.
        max_position_embeddings: the longest input of encoder and decoder, in tokens.
        d_model: width of a token's state.
        encoder_layers, decoder_layers: blocks of each stack.
        encoder_attention_heads, decoder_attention_heads: of each block; they share `d_model` equally.
        encoder_ffn_dim, decoder_ffn_dim: width inside a block's feed-forward network.
        encoder_layerdrop, decoder_layerdrop: how likely a block is left out in training (Fan et al. 2019).
        activation_function: between the network's layers, a name in `ACT2FN`.
        dropout: share of states to drop.
        attention_dropout: share of attention weights to drop.
        activation_dropout: share of a network's inner states to drop.
        classifier_dropout: share of states to drop in the head that classifies.
        init_std: standard deviation of fresh weights.
        scale_embedding: whether the vectors of tokens are multiplied by the root of `d_model`.
        forced_eos_token_id: what `generate` ends with at `max_length`.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        num_labels: 3 unless given, for inference between sentences.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations, as in the paper).
    """

    model_type = "bart"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: Count = 50265
    max_position_embeddings: Count = 1024
    encoder_layers: Count = 12
    encoder_ffn_dim: Count = 4096
    encoder_attention_heads: Count = 16
    decoder_layers: Count = 12
    decoder_ffn_dim: Count = 4096
    decoder_attention_heads: Count = 16
    encoder_layerdrop: Share = 0.0
    decoder_layerdrop: Share = 0.0
    activation_function: str = "gelu"
    d_model: Count = 1024
    dropout: Share = 0.1
    attention_dropout: Share = 0.0
    activation_dropout: Share = 0.0
    init_std: Annotated[float, Meta(ge=0)] = 0.02
    classifier_dropout: Share = 0.0
    scale_embedding: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | list[int] | None = 0
    eos_token_id: int | list[int] | None = 2
    is_encoder_decoder: bool = True
    decoder_start_token_id: int | list[int] | None = 2
    forced_eos_token_id: int | list[int] | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        if self._making.given.keys().isdisjoint({"num_labels", "id2label", "label2id"}):
            self.num_labels = 3
        super().__post_init__(**kwargs)

    def validate(self) -> None:
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(f"d_model={self.d_model} cannot be shared equally by {name}={getattr(self, name)}.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
