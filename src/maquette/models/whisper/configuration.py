"""What a Whisper can be: its widths, its depths, how long a window it hears, and how it is regularised."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from maquette import PretrainedConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Ids = list[int] | None


class WhisperConfig(PretrainedConfig):
    """Configures Whisper (Radford et al. 2022); the defaults are those of the tiny model for English.

    Args:
        vocab_size: entries of the vocabulary, time stamps among them.
        num_mel_bins: bands of frequencies of the features, 80 or, from large-v3 on, 128.
        d_model: width of a state.
        encoder_layers, decoder_layers: blocks of each stack.
        encoder_attention_heads, decoder_attention_heads: of each block; they share `d_model` equally.
        encoder_ffn_dim, decoder_ffn_dim: width inside a block's feed-forward network.
        encoder_layerdrop, decoder_layerdrop: how likely a block is left out in training (Fan et al. 2019).
        activation_function: between the network's layers, a name in `ACT2FN`.
        dropout: share of states to drop.
        attention_dropout: share of attention weights to drop.
        activation_dropout: share of a network's inner states to drop.
        init_std: standard deviation of fresh weights.
        scale_embedding: kept for the sake of files; Whisper does not scale its tokens' vectors.
        max_source_positions: states of a window; the features have twice as many frames, 3000 for 30 s.
        max_target_positions: the longest text that the decoder reads and writes, in tokens.
        suppress_tokens, begin_suppress_tokens: what `generate` never writes, and what it does not begin with.
        use_weighted_layer_sum: whether the head that classifies mixes the states of all layers.
        classifier_proj_size: width of what that head averages.
        apply_spec_augment: whether spans of features are hidden in training (Park et al. 2019).
        mask_time_prob, mask_feature_prob: the largest share of frames, and of bands, that is hidden.
        mask_time_length, mask_feature_length: frames, and bands, of a span.
        mask_time_min_masks, mask_feature_min_masks: the fewest spans of a clip.
        median_filter_width: over how many states attention is smoothed where tokens get times; an odd number.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        attn_implementation: "sdpa" (the default: torch's fused attention) or "eager" (plain operations).
    """

    model_type = "whisper"
    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: Count = 51865
    num_mel_bins: Count = 80
    encoder_layers: Count = 4
    encoder_attention_heads: Count = 6
    decoder_layers: Count = 4
    decoder_attention_heads: Count = 6
    decoder_ffn_dim: Count = 1536
    encoder_ffn_dim: Count = 1536
    encoder_layerdrop: Share = 0.0
    decoder_layerdrop: Share = 0.0
    use_cache: bool = True
    activation_function: str = "gelu"
    d_model: Count = 384
    dropout: Share = 0.0
    attention_dropout: Share = 0.0
    activation_dropout: Share = 0.0
    init_std: Annotated[float, Meta(ge=0)] = 0.02
    scale_embedding: bool = False
    max_source_positions: Count = 1500
    max_target_positions: Count = 448
    suppress_tokens: Ids = None
    begin_suppress_tokens: Ids = [220, 50256]  # noqa: RUF012 - a declaration, copied for each configuration
    use_weighted_layer_sum: bool = False
    classifier_proj_size: Count = 256
    apply_spec_augment: bool = False
    mask_time_prob: Share = 0.05
    mask_time_length: Count = 10
    mask_time_min_masks: Annotated[int, Meta(ge=0)] = 2
    mask_feature_prob: Share = 0.0
    mask_feature_length: Count = 10
    mask_feature_min_masks: Annotated[int, Meta(ge=0)] = 0
    median_filter_width: Count = 7
    pad_token_id: int | None = 50256
    bos_token_id: int | list[int] | None = 50256
    eos_token_id: int | list[int] | None = 50256
    decoder_start_token_id: int | list[int] | None = 50257
    is_encoder_decoder: bool = True

    def validate(self) -> None:
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(f"d_model={self.d_model} cannot be shared equally by {name}={getattr(self, name)}.")
        if self.d_model % 2 or self.d_model < 4:
            raise ValueError(f"d_model={self.d_model}: places are told by sines and cosines, an even number from 4 on.")
        if self.median_filter_width % 2 == 0:
            raise ValueError(f"median_filter_width={self.median_filter_width}: an odd number has a middle.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')

    @property
    def window(self) -> int:
        """How many frames of features the encoder hears at once."""
        return 2 * self.max_source_positions

    def check_features(self, shape: Any, *, is_window: bool = True) -> None:
        """Refuse features that are no windows of this model's, or no recordings of any length.

        Raises:
            ValueError: another number of bands or frames.
        """
        if len(shape) != 3 or shape[1] != self.num_mel_bins:
            raise ValueError(
                f"input_features are (batch, {self.num_mel_bins} mel bands, frames) for this model, not "
                f"{tuple(shape)}: its feature extractor has feature_size={self.num_mel_bins}."
            )
        if shape[2] != self.window if is_window else shape[2] < self.window:
            raise ValueError(
                f"The encoder hears windows of {self.window} frames, and input_features have {shape[2]}: pad or cut "
                "them, as the feature extractor does unless told otherwise. `generate` takes longer ones."
            )
