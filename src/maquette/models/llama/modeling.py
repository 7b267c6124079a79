"""Llama (Touvron et al. 2023) and its relatives: Mistral, Qwen2 and Qwen3, told apart by their configurations.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from maquette import (
    GatedFeedForward,
    GenericForQuestionAnswering,
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

from .configuration import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

Opt = Tensor | None


class LlamaAttention(nn.Module):
    """Lets each token look at those before it in its own row; heads of queries share heads of keys and values."""

    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.width, self.window, self.dropout = config.rotary_width, config.window_of(number), config.attention_dropout
        heads, shared, biases = config.num_attention_heads, config.num_key_value_heads, config.biases
        self.q_proj = nn.Linear(config.hidden_size, heads * self.width, bias=biases["qkv"])
        self.k_proj = nn.Linear(config.hidden_size, shared * self.width, bias=biases["qkv"])
        self.v_proj = nn.Linear(config.hidden_size, shared * self.width, bias=biases["qkv"])
        self.o_proj = nn.Linear(heads * self.width, config.hidden_size, bias=biases["output"])
        if config.norms_heads:
            self.q_norm = RMSNorm(self.width, eps=config.rms_norm_eps)
            self.k_norm = RMSNorm(self.width, eps=config.rms_norm_eps)
        self.norms_heads = config.norms_heads

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, self.width)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        if self.norms_heads:  # (places, heads, width)
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, rotation), rotate(k, rotation)
        dropout = (self.dropout or 0.0) if self.training else 0.0
        return self.o_proj(attention(q, k, v, layout, causal=True, window=self.window, dropout=dropout).flatten(-2))


class LlamaDecoderLayer(nn.Module):
    """Attention, then the feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, number)
        inner, bias = config.intermediate_size, config.biases["mlp"]
        self.mlp = GatedFeedForward(config.hidden_size, inner, activation=config.hidden_act, bias=bias)
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), layout, rotation)  # (places, hidden_size)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaPreTrainedModel(PreTrainedModel):
    """What all models of the family share. Heads take the arguments of the base model, and labels."""

    base_model: Any
    config_class: ClassVar[Any] = LlamaConfig
    _gradient_checkpointing_func: Any
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ("LlamaDecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"rotary_emb\.inv_freq$",)  # old checkpoints have these buffers

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def _make_base(self, config: Any) -> Any:
        """Make the model without a head, for a head."""
        return LlamaModel(config)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run it for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class LlamaModel(LlamaPreTrainedModel):
    """Turns texts into states, one vector per token, each of which knows the tokens before it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        padding = config.pad_token_id if 0 <= (config.pad_token_id or 0) < config.vocab_size else None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=padding)
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, number) for number in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding.of(config)
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
            inputs_embeds: `(batch, length, hidden_size)`, vectors instead of `input_ids`.
            use_cache: whether to give a cache; unless given, as in the configuration, and not while training.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, hidden_size)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, a mask or a cache that does not fit.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.hidden_size)
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

    def _rotate_places(self, x: Tensor, layout: Layout, position_ids: Opt) -> Rotation:
        positions = layout.positions(x.device) if position_ids is None else layout.gather(position_ids)
        lengths = row_lengths(layout, x.device) if self.rotary_emb.depends_on_length else None
        return self.rotary_emb(positions, lengths, dtype=x.dtype)

    def _run_layers(
        self, x: Tensor, layout: Layout, rotation: Rotation, *, keep_states: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, normed, and all states if these are to be kept."""
        states = [x] if keep_states else []
        recompute = self.gradient_checkpointing and self.training
        for layer in self.layers:
            inputs = (x, layout, rotation)
            x = self._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)
            if keep_states:
                states.append(x)
        x = self.norm(x)
        return x, [*states[:-1], x] if keep_states else []


class LlamaForCausalLM(CausalLMHead, LlamaPreTrainedModel):
    """Scores the vocabulary for every next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = self._make_base(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)


class LlamaForSequenceClassification(GenericForSequenceClassification, LlamaPreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class LlamaForTokenClassification(GenericForTokenClassification, LlamaPreTrainedModel):
    """Tells of every token which class it is of."""


class LlamaForQuestionAnswering(GenericForQuestionAnswering, LlamaPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    base_model_prefix = "transformer"  # as in the checkpoints


# Mistral --------------------------------------------------------------------------------------------------------------


class MistralPreTrainedModel(LlamaPreTrainedModel):
    """What all models of Mistral (Jiang et al. 2023) share. In it, tokens see the last ones only."""

    config_class = MistralConfig

    def _make_base(self, config: Any) -> Any:
        return MistralModel(config)


class MistralModel(MistralPreTrainedModel, LlamaModel):
    """Turns texts into states, as `LlamaModel` does."""


class MistralForCausalLM(MistralPreTrainedModel, LlamaForCausalLM):
    """Scores the vocabulary for every next token."""


class MistralForSequenceClassification(MistralPreTrainedModel, LlamaForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class MistralForTokenClassification(MistralPreTrainedModel, LlamaForTokenClassification):
    """Tells of every token which class it is of."""


class MistralForQuestionAnswering(MistralPreTrainedModel, LlamaForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""

    base_model_prefix = "model"


# Qwen2 ----------------------------------------------------------------------------------------------------------------


class Qwen2PreTrainedModel(LlamaPreTrainedModel):
    """What all models of Qwen2 (Yang et al. 2024) share. In it, queries, keys and values have biases."""

    config_class = Qwen2Config

    def _make_base(self, config: Any) -> Any:
        return Qwen2Model(config)


class Qwen2Model(Qwen2PreTrainedModel, LlamaModel):
    """Turns texts into states, as `LlamaModel` does."""


class Qwen2ForCausalLM(Qwen2PreTrainedModel, LlamaForCausalLM):
    """Scores the vocabulary for every next token."""


class Qwen2ForSequenceClassification(Qwen2PreTrainedModel, LlamaForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class Qwen2ForTokenClassification(Qwen2PreTrainedModel, LlamaForTokenClassification):
    """Tells of every token which class it is of."""


class Qwen2ForQuestionAnswering(Qwen2PreTrainedModel, LlamaForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""


# Qwen3 ----------------------------------------------------------------------------------------------------------------


class Qwen3PreTrainedModel(LlamaPreTrainedModel):
    """What all models of Qwen3 (Yang et al. 2025) share. In it, queries and keys are normed."""

    config_class = Qwen3Config

    def _make_base(self, config: Any) -> Any:
        return Qwen3Model(config)


class Qwen3Model(Qwen3PreTrainedModel, LlamaModel):
    """Turns texts into states, as `LlamaModel` does."""


class Qwen3ForCausalLM(Qwen3PreTrainedModel, LlamaForCausalLM):
    """Scores the vocabulary for every next token."""


class Qwen3ForSequenceClassification(Qwen3PreTrainedModel, LlamaForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class Qwen3ForTokenClassification(Qwen3PreTrainedModel, LlamaForTokenClassification):
    """Tells of every token which class it is of."""


class Qwen3ForQuestionAnswering(Qwen3PreTrainedModel, LlamaForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""
