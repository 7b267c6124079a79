"""What Gemma 2 and the texts' half of Gemma 3 can be."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from maquette import RotaryConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cap = Annotated[float, Meta(gt=0)]
LayerType = Literal["full_attention", "sliding_attention"]


class Gemma2Config(RotaryConfig):
    """Configures Gemma 2 (Gemma Team 2024); the defaults are those of Gemma 2 2B.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside a block's feed-forward network.
        num_hidden_layers: blocks.
        num_attention_heads: heads of queries in each block.
        num_key_value_heads: heads of keys and values, which heads of queries share.
        head_dim: width of a head.
        hidden_activation: of the gate of a feed-forward network, a name in `ACT2FN`.
        max_position_embeddings: the longest input that the model was made for.
        initializer_range: standard deviation of fresh weights.
        rms_norm_eps: what norms add to the mean of squares.
        use_cache: whether calls give a cache unless they say otherwise; not while training.
        rope_parameters: how positions become rotations, as `RotaryConfig` says.
        attention_bias: whether the layers of attention have biases.
        attention_dropout: share of attention weights to drop.
        query_pre_attn_scalar: attention's products are divided by its root.
        sliding_window: how many tokens a token of a "sliding_attention" layer sees, itself included.
        layer_types: "full_attention" or "sliding_attention" for each layer; every second slides, the first one too,
            unless given.
        final_logit_softcapping: what logits are kept below; None leaves them.
        attn_logit_softcapping: what attention's scores are kept below; None leaves them.
        use_bidirectional_attention: let tokens see those after them; here for Gemma 3 only.
        attn_implementation: "sdpa" (the default: torch's fused attention where no cap is in the way, and without
            padding where that pays) or "eager" (plain operations).
    """

    model_type = "gemma2"

    vocab_size: Count = 256000
    hidden_size: Count = 2304
    intermediate_size: Count = 9216
    num_hidden_layers: Count = 26
    num_attention_heads: Count = 8
    num_key_value_heads: Count = 4
    head_dim: Count = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: Count = 8192
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    rms_norm_eps: Annotated[float, Meta(ge=0)] = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: Share | None = 0.0
    query_pre_attn_scalar: Count = 256
    sliding_window: Count | None = 4096
    layer_types: list[LayerType] | None = None
    final_logit_softcapping: Cap | None = 30.0
    attn_logit_softcapping: Cap | None = 50.0
    use_bidirectional_attention: bool | None = None
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | list[int] | None = 2

    norms_heads: ClassVar = False  # whether queries and keys are normed
    _pattern: ClassVar = 2  # every so many layers, one sees all tokens

    def __post_init__(self, **kwargs: Any) -> None:
        pattern = kwargs.get("sliding_window_pattern") or self._pattern
        if self.layer_types is None and isinstance(pattern, int):
            kinds: tuple[LayerType, LayerType] = ("full_attention", "sliding_attention")
            self.layer_types = [kinds[(number + 1) % pattern > 0] for number in range(self.num_hidden_layers)]
        super().__post_init__(**kwargs)

    def window_of(self, layer: int) -> int | None:
        """Say how many tokens a token of a layer sees, itself included; None for all before it."""
        return self.sliding_window if (self.layer_types or ())[layer] == "sliding_attention" else None

    @property
    def is_causal(self) -> bool:
        """Whether tokens see none of those after them."""
        return not self.use_bidirectional_attention

    def validate(self) -> None:
        super().validate()
        heads, shared, kinds = self.num_attention_heads, self.num_key_value_heads, self.layer_types or ()
        faults = []
        if heads % shared:
            faults.append(f"num_attention_heads={heads} cannot share num_key_value_heads={shared} equally.")
        if len(kinds) != self.num_hidden_layers:
            named = f"layer_types names {len(kinds)} layers, and num_hidden_layers is {self.num_hidden_layers}."
            faults.append(f"{named} Change both, or leave layer_types out.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            faults.append(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
        if self.use_bidirectional_attention and self.model_type == "gemma2":
            faults.append("use_bidirectional_attention=True: this Gemma 2 reads from left to right only.")
        if faults:
            raise ValueError(" ".join(faults))


class Gemma3TextConfig(Gemma2Config):
    """Configures the texts' half of Gemma 3 (Gemma Team 2025): five of six layers slide, each kind turns its own way.

    Args:
        rope_parameters: for "full_attention" and "sliding_attention" each, how positions become rotations. Older files
            have `rope_theta`, `rope_scaling` (of full attention) and `rope_local_base_freq` (of sliding attention).
        layer_types: every sixth is "full_attention" unless given; or as `sliding_window_pattern` says.
        use_bidirectional_attention: let tokens see those after them, half of `sliding_window` in either direction; no
            cache is kept then.

    The others are those of `Gemma2Config`.
    """

    model_type = "gemma3_text"
    _OLD_NAMES: ClassVar = (*RotaryConfig._OLD_NAMES, "rope_local_base_freq", "sliding_window_pattern")

    vocab_size: Count = 262_208
    max_position_embeddings: Count = 131_072
    final_logit_softcapping: Cap | None = None
    attn_logit_softcapping: Cap | None = None
    use_bidirectional_attention: bool | None = False

    norms_heads: ClassVar = True
    _pattern: ClassVar = 6

    def _join_rotary(self, given: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
        thetas = {
            "full_attention": old.get("rope_theta", 1_000_000.0),
            "sliding_attention": old.get("rope_local_base_freq", self.default_theta),
        }
        nested = given if given.keys() & thetas.keys() else {"full_attention": given}
        scaling = old.get("rope_scaling")
        found = {kind: nested.get(kind) or {} for kind in thetas}
        if isinstance(scaling, dict) and isinstance(found["full_attention"], dict):
            found["full_attention"] = {**scaling, **found["full_attention"]}
        settled = {kind: self._settle_rotary(found[kind], {"rope_theta": theta}) for kind, theta in thetas.items()}
        return {**nested, **settled}

    def _nested_rotary(self, parameters: Mapping[str, Any]) -> list[str]:
        return [kind for kind in ("full_attention", "sliding_attention") if kind in parameters]
