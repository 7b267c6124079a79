"""What a ModernBERT can be: its widths, its depth, how far its layers look, and how its positions turn."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from maquette import RotaryConfig

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
LayerType = Literal["full_attention", "sliding_attention"]
THETAS = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}


class ModernBertConfig(RotaryConfig):
    """Configures ModernBERT (Warner et al. 2024); the defaults are those of `ModernBERT-base`.

    Args:
        vocab_size: entries of the vocabulary.
        hidden_size: width of a token's state.
        intermediate_size: width inside a block's feed-forward network.
        num_hidden_layers: blocks.
        num_attention_heads: attention heads of each block; they share `hidden_size` equally.
        hidden_activation: of the gate of a feed-forward network, a name in `ACT2FN`.
        max_position_embeddings: the longest input that the model was made for.
        initializer_range: standard deviation of fresh weights.
        initializer_cutoff_factor: fresh weights are drawn again beyond this many standard deviations.
        norm_eps: what norms add to the variance.
        norm_bias, attention_bias, mlp_bias, decoder_bias, classifier_bias: whether these layers have biases.
        attention_dropout, embedding_dropout, mlp_dropout, classifier_dropout: shares to drop.
        layer_types: "full_attention" or "sliding_attention" for each block; unless given, the first of every three (or
            of `global_attn_every_n_layers`, as older files say) sees all tokens.
        rope_parameters: for "full_attention" and "sliding_attention" each, how positions become rotations. Older files
            have `global_rope_theta` and `local_rope_theta`.
        local_attention: tokens that a sliding block's token sees, half of them on either side.
        classifier_pooling: what rows are classified by: "cls", their first token, or "mean", all of them.
        classifier_activation: before classifiers and the vocabulary, a name in `ACT2FN`.
        sparse_prediction: with labels, score the vocabulary only where there is one.
        sparse_pred_ignore_index: the label that is none.
        deterministic_flash_attn: kept as it comes.
        attn_implementation: "sdpa" (the default: torch's fused attention, without padding where that pays) or "eager"
            (plain operations).
    """

    model_type = "modernbert"
    _OLD_NAMES: ClassVar = (
        *RotaryConfig._OLD_NAMES,
        "global_rope_theta",
        "local_rope_theta",
        "global_attn_every_n_layers",
    )

    vocab_size: Count = 50368
    hidden_size: Count = 768
    intermediate_size: Count = 1152
    num_hidden_layers: Count = 22
    num_attention_heads: Count = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: Count = 8192
    initializer_range: Annotated[float, Meta(ge=0)] = 0.02
    initializer_cutoff_factor: Annotated[float, Meta(gt=0)] = 2.0
    norm_eps: Annotated[float, Meta(ge=0)] = 1e-5
    norm_bias: bool = False
    pad_token_id: int | None = 50283
    eos_token_id: int | list[int] | None = 50282
    bos_token_id: int | None = 50281
    cls_token_id: int | None = 50281
    sep_token_id: int | None = 50282
    attention_bias: bool = False
    attention_dropout: Share = 0.0
    layer_types: list[LayerType] | None = None
    rope_parameters: dict[str, Any] | None = None
    local_attention: Annotated[int, Meta(ge=2)] = 128
    embedding_dropout: Share = 0.0
    mlp_bias: bool = False
    mlp_dropout: Share = 0.0
    decoder_bias: bool = True
    classifier_pooling: Literal["cls", "mean"] = "cls"
    classifier_dropout: Share = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    deterministic_flash_attn: bool = False
    sparse_prediction: bool = False
    sparse_pred_ignore_index: int = -100

    def __post_init__(self, **kwargs: Any) -> None:
        every = kwargs.get("global_attn_every_n_layers", 3)
        if self.layer_types is None and isinstance(every, int) and every > 0:
            kinds: tuple[LayerType, LayerType] = ("full_attention", "sliding_attention")
            self.layer_types = [kinds[number % every > 0] for number in range(self.num_hidden_layers)]
        super().__post_init__(**kwargs)

    @property
    def reach(self) -> int:
        """How far a sliding block's token sees to either side."""
        return self.local_attention // 2

    def _join_rotary(self, given: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
        nested = given if given.keys() & THETAS.keys() else dict.fromkeys(THETAS, given)
        scaling = old.get("rope_scaling")
        settled = {}
        for kind, (name, theta) in THETAS.items():
            found = nested.get(kind) or {}
            if isinstance(found, dict):
                found = {**(scaling if isinstance(scaling, dict) else {}), **found}
            settled[kind] = self._settle_rotary(found, {"rope_theta": old.get(name, theta)})
        return {**nested, **settled}

    def _nested_rotary(self, parameters: Mapping[str, Any]) -> list[str]:
        return [kind for kind in THETAS if kind in parameters]

    def validate(self) -> None:
        super().validate()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} cannot be shared equally by "
                f"num_attention_heads={self.num_attention_heads}."
            )
        kinds = self.layer_types or ()
        if len(kinds) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(kinds)} layers, and num_hidden_layers is {self.num_hidden_layers}. Change "
                "both, or leave layer_types out."
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} is no entry of a vocabulary of {self.vocab_size}.")
        if self.attn_implementation not in (None, "sdpa", "eager"):
            raise ValueError(f'attn_implementation must be "sdpa" or "eager", not {self.attn_implementation!r}.')
