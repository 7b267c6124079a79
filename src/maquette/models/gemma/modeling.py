"""Gemma 2 and the texts' half of Gemma 3 (Gemma Team 2024, 2025): decoders with norms around every layer.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette import (
    GatedFeedForward,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    PreTrainedModel,
    RMSNorm,
    RotaryEmbedding,
)
from maquette.modeling.decoders import (
    CausalLMHead,
    LaidOutDecoderOutput,
    choose_cache,
)
from maquette.modeling.layers.rotary import Rotation, rotate, row_lengths
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import Gemma2Config, Gemma3TextConfig

Opt = Tensor | None


class ScaledEmbedding(nn.Embedding):
    """Turns token ids into vectors, and makes these longer; the scale has the type of the weights."""

    embed_scale: Tensor

    def __init__(self, count: int, width: int, *, padding_idx: int | None) -> None:
        super().__init__(count, width, padding_idx=padding_idx)
        self.register_buffer("embed_scale", torch.tensor(width**0.5), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.embed_scale.to(self.weight.dtype)


class Gemma2Attention(nn.Module):
    """Lets tokens look at those before them in their own row; scores may be kept below a cap."""

    def __init__(self, config: Gemma2Config, number: int) -> None:
        super().__init__()
        self.width, self.dropout = config.head_dim, config.attention_dropout
        self.scale, self.softcap = config.query_pre_attn_scalar**-0.5, config.attn_logit_softcapping
        self.is_causal, self.window = config.is_causal, config.window_of(number)
        heads, shared, bias = config.num_attention_heads, config.num_key_value_heads, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, heads * self.width, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, shared * self.width, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, shared * self.width, bias=bias)
        self.o_proj = nn.Linear(heads * self.width, config.hidden_size, bias=bias)
        if config.norms_heads:
            self.q_norm = RMSNorm(self.width, eps=config.rms_norm_eps, plus_one=True)
            self.k_norm = RMSNorm(self.width, eps=config.rms_norm_eps, plus_one=True)
        self.norms_heads = config.norms_heads

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, self.width)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        if self.norms_heads:  # (places, heads, width)
            q, k = self.q_norm(q), self.k_norm(k)
        sight: dict[str, Any] = {"causal": True, "window": self.window}
        if not self.is_causal:
            sight = {} if self.window is None else {"bias": see_around(self.window // 2 + 1)}
        dropout = (self.dropout or 0.0) if self.training else 0.0
        options = {"scale": self.scale, "softcap": self.softcap, "dropout": dropout, **sight}
        attended = attention(rotate(q, rotation), rotate(k, rotation), v, layout, **options)
        return self.o_proj(attended.flatten(-2))


def see_around(reach: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the bias that hides keys which are `reach` tokens away or more, on either side."""

    def hide(ours: Tensor, theirs: Tensor) -> Tensor:
        far = (ours[:, :, None] - theirs[:, None]).abs() >= reach  # (rows, queries, keys)
        return torch.zeros(far.shape, device=far.device).masked_fill(far, -torch.inf)[:, None]

    return hide


class Gemma2DecoderLayer(nn.Module):
    """Attention, then the feed-forward network; each is normed before and after, and added to what came in."""

    def __init__(self, config: Gemma2Config, number: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Gemma2Attention(config, number)
        self.mlp = GatedFeedForward(width, config.intermediate_size, activation=config.hidden_activation)
        self.input_layernorm = RMSNorm(width, eps=eps, plus_one=True)
        self.post_attention_layernorm = RMSNorm(width, eps=eps, plus_one=True)
        self.pre_feedforward_layernorm = RMSNorm(width, eps=eps, plus_one=True)
        self.post_feedforward_layernorm = RMSNorm(width, eps=eps, plus_one=True)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), layout, rotation))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Gemma2PreTrainedModel(PreTrainedModel):
    """What all models of the family share. Heads take the arguments of the base model, and labels."""

    base_model: Any
    config_class: ClassVar[Any] = Gemma2Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("Gemma2DecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def _make_base(self, config: Any) -> Any:
        """Make the model without a head, for a head."""
        return Gemma2Model(config)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run it for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class Gemma2Model(Gemma2PreTrainedModel):
    """Turns texts into states, one vector per token, each of which knows the tokens before it."""

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__(config)
        padding = config.pad_token_id if 0 <= (config.pad_token_id or 0) < config.vocab_size else None
        self.embed_tokens = ScaledEmbedding(config.vocab_size, config.hidden_size, padding_idx=padding)
        self.layers = nn.ModuleList(Gemma2DecoderLayer(config, number) for number in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, plus_one=True)
        kinds = config.layer_types or ()
        self.kinds = kinds if config._nested_rotary(config.rope_parameters or {}) else ["rotation"] * len(kinds)
        self.rotary_emb = nn.ModuleDict({kind: RotaryEmbedding.of(config, kind) for kind in dict.fromkeys(self.kinds)})
        self.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        position_ids: Opt = None,
        past_key_values: Any = None,
        inputs_embeds: Opt = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, hidden_size)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real. With
                a cache, earlier places may come before.
            position_ids: `(batch, length)` or `(1, length)`; unless given, real tokens are counted, cached ones too.
            past_key_values: the cache of earlier tokens, which takes in these.
            inputs_embeds: `(batch, length, hidden_size)`, vectors instead of `input_ids`, which are not scaled.
            use_cache: whether to give a cache; unless given, as in the configuration, and not while training.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, hidden_size)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, a mask or a cache that does not fit.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.hidden_size)
        if not self.config.is_causal:
            if past_key_values is not None or use_cache:
                raise ValueError("use_bidirectional_attention=True: earlier tokens see later ones, so none are cached.")
            use_cache = False
        cache = choose_cache(self, inputs, past_key_values, use_cache)
        explicit = self.config.attn_implementation == "eager"
        layout = lay_out(
            inputs, attention_mask, cache=cache, count_padding=False, explicit=explicit, keep_weights=keep_weights
        )
        x = layout.gather(inputs)
        x = x if x.is_floating_point() else self.embed_tokens(x)  # (places, hidden_size)
        x, states = self._run_layers(x, layout, self._rotate_places(x, layout, position_ids), keep_states=keep_states)
        output = LaidOutDecoderOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            past_key_values=layout.cache,
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            layout=layout if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _rotate_places(self, x: Tensor, layout: Layout, position_ids: Opt) -> dict[str, Rotation]:
        """Give the rotations of each kind of layer."""
        positions = layout.positions(x.device) if position_ids is None else layout.gather(position_ids)
        lengths = row_lengths(layout, x.device) if any(r.depends_on_length for r in self.rotary_emb.values()) else None
        return {kind: rotary(positions, lengths, dtype=x.dtype) for kind, rotary in self.rotary_emb.items()}

    def _run_layers(
        self, x: Tensor, layout: Layout, rotations: dict[str, Rotation], *, keep_states: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, normed, and all states if these are to be kept."""
        states = [x] if keep_states else []
        recompute = self.gradient_checkpointing and self.training
        for layer, kind in zip(self.layers, self.kinds, strict=True):
            inputs = (x, layout, rotations[kind])
            x = self._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)
            if keep_states:
                states.append(x)
        x = self.norm(x)
        return x, [*states[:-1], x] if keep_states else []


class Gemma2ForCausalLM(CausalLMHead, Gemma2PreTrainedModel):
    """Scores the vocabulary for every next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__(config)
        self.model = self._make_base(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def _score_vocabulary(self, x: Tensor) -> Tensor:
        logits, cap = self.lm_head(x), self.config.final_logit_softcapping
        return logits if cap is None else (logits / cap).tanh() * cap


class Gemma2ForSequenceClassification(GenericForSequenceClassification, Gemma2PreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class Gemma2ForTokenClassification(GenericForTokenClassification, Gemma2PreTrainedModel):
    """Tells of every token which class it is of."""


# Gemma 3 --------------------------------------------------------------------------------------------------------------


class Gemma3PreTrainedModel(Gemma2PreTrainedModel):
    """What all text models of Gemma 3 share: queries and keys are normed, and layers turn positions in two ways."""

    config_class = Gemma3TextConfig

    def _make_base(self, config: Any) -> Any:
        return Gemma3TextModel(config)


class Gemma3TextModel(Gemma3PreTrainedModel, Gemma2Model):
    """Turns texts into states, as `Gemma2Model` does."""


class Gemma3ForCausalLM(Gemma3PreTrainedModel, Gemma2ForCausalLM):
    """Scores the vocabulary for every next token."""


class Gemma3TextForSequenceClassification(Gemma3PreTrainedModel, Gemma2ForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""
