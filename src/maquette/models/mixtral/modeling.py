"""Mixtral (Jiang et al. 2024) and Qwen3-MoE: decoders whose tokens go through a few of many feed-forward networks.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette import (
    GatedFeedForward,
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
    MixtureOfExperts,
    MoeCausalLMOutputWithPast,
    PreTrainedModel,
    RMSNorm,
    RotaryEmbedding,
)
from maquette.modeling.decoders import (
    CausalLMHead,
    LaidOutDecoderOutput,
    choose_cache,
)
from maquette.modeling.layers.experts import Experts, Router, compute_balance_loss
from maquette.modeling.layers.rotary import Rotation, rotate, row_lengths
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import MixtralConfig, Qwen3MoeConfig

Opt = Tensor | None


class MixtralAttention(nn.Module):
    """Lets each token look at those before it in its own row; heads of queries share heads of keys and values."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.width, self.window, self.dropout = config.rotary_width, config.window, config.attention_dropout
        heads, shared, bias = config.num_attention_heads, config.num_key_value_heads, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, heads * self.width, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, shared * self.width, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, shared * self.width, bias=bias)
        self.o_proj = nn.Linear(heads * self.width, config.hidden_size, bias=bias)
        if config.norms_heads:
            self.q_norm = RMSNorm(self.width, eps=config.rms_norm_eps)
            self.k_norm = RMSNorm(self.width, eps=config.rms_norm_eps)
        self.norms_heads = config.norms_heads

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, self.width)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        if self.norms_heads:  # (places, heads, width)
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, rotation), rotate(k, rotation)
        dropout = self.dropout if self.training else 0.0
        return self.o_proj(attention(q, k, v, layout, causal=True, window=self.window, dropout=dropout).flatten(-2))


class MixtralDecoderLayer(nn.Module):
    """Attention, then the experts, or one network; each works on normed states and is added to what came in."""

    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.self_attn = MixtralAttention(config)
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.jitter, self.name = config.router_jitter_noise, config.mixture
        setattr(self, self.name, make_network(config, has_experts=config.has_experts(number)))

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> tuple[Tensor, Tensor | None]:
        """Give states `(places, hidden_size)`, and the router's logits, `(…, experts)`, where there is one."""
        x = x + self.self_attn(self.input_layernorm(x), layout, rotation)
        network, normed = getattr(self, self.name), self.post_attention_layernorm(x)
        if not isinstance(network, MixtureOfExperts):
            return x + network(normed), None
        if self.training and self.jitter > 0:
            normed = normed * torch.empty_like(normed).uniform_(1 - self.jitter, 1 + self.jitter)
        routing = network.route(normed)
        return x + network(normed, routing), routing.logits.unflatten(0, x.shape[:-1])


def make_network(config: Any, *, has_experts: bool) -> nn.Module:
    """Make the feed-forward half of a layer."""
    if not has_experts:
        return GatedFeedForward(config.hidden_size, config.intermediate_size, activation=config.hidden_act)
    return MixtureOfExperts(
        config.hidden_size,
        config.expert_size,
        experts=config.num_experts,
        top_k=config.num_experts_per_tok,
        normalize=config.norm_topk_prob,
        activation=config.hidden_act,
        names=config.projections,
    )


class MixtralPreTrainedModel(PreTrainedModel):
    """What all models of the family share. Heads take the arguments of the base model, and labels."""

    base_model: Any
    config_class: ClassVar[Any] = MixtralConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("MixtralDecoderLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"rotary_emb\.inv_freq$",)  # old checkpoints have these buffers

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding | Router):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, Experts):
            nn.init.normal_(module.gate_up_proj, std=std)
            nn.init.normal_(module.down_proj, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def _make_base(self, config: Any) -> Any:
        """Make the model without a head, for a head."""
        return MixtralModel(config)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run it for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class MixtralModel(MixtralPreTrainedModel):
    """Turns texts into states, one vector per token, each of which knows the tokens before it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        padding = config.pad_token_id if 0 <= (config.pad_token_id or 0) < config.vocab_size else None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=padding)
        self.layers = nn.ModuleList(MixtralDecoderLayer(config, number) for number in range(config.num_hidden_layers))
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
        output_router_logits: bool | None = None,
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
            output_router_logits: give each router's logits, `(batch * length, experts)`, zeros at padding.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, hidden_size)`, and logits as `(places, experts)`, with their `layout`.

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
        rotation = self._rotate_places(x, layout, position_ids)
        x, states, routes = self._run_layers(x, layout, rotation, keep_states=keep_states)
        if not self._chosen("output_router_logits", output_router_logits):
            routes = []
        output = LaidOutDecoderOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            past_key_values=layout.cache,
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            layout=layout if as_laid_out else None,
            router_logits=tuple(r if as_laid_out else layout.scatter(r).flatten(0, 1) for r in routes) or None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _rotate_places(self, x: Tensor, layout: Layout, position_ids: Opt) -> Rotation:
        positions = layout.positions(x.device) if position_ids is None else layout.gather(position_ids)
        lengths = row_lengths(layout, x.device) if self.rotary_emb.depends_on_length else None
        return self.rotary_emb(positions, lengths, dtype=x.dtype)

    def _run_layers(
        self, x: Tensor, layout: Layout, rotation: Rotation, *, keep_states: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Give the last states, normed, all states if these are to be kept, and the routers' logits."""
        states, routes = [x] if keep_states else [], []
        recompute = self.gradient_checkpointing and self.training
        for layer in self.layers:
            inputs = (x, layout, rotation)
            x, route = self._gradient_checkpointing_func(layer, *inputs) if recompute else layer(*inputs)
            routes += [] if route is None else [route]
            if keep_states:
                states.append(x)
        x = self.norm(x)
        return x, [*states[:-1], x] if keep_states else [], routes


class MixtralForCausalLM(CausalLMHead, MixtralPreTrainedModel):
    """Scores the vocabulary for every next token.

    With `output_router_logits=True` it gives `aux_loss`, which spreads tokens over experts, and adds it to the loss,
    times `config.router_aux_loss_coef`.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = self._make_base(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        routes, layout, spread = output.router_logits, output.layout, None
        if routes is not None:
            mask = None if layout.is_packed else layout.mask
            spread = compute_balance_loss(
                [route.flatten(0, -2) for route in routes], top_k=self.config.num_experts_per_tok, mask=mask
            )
            loss = None if loss is None else loss + self.config.router_aux_loss_coef * spread
            output["router_logits"] = tuple(layout.scatter(route).flatten(0, 1) for route in routes)
        return self._make_output(MoeCausalLMOutputWithPast, output, options, loss, spread, logits)


class MixtralForSequenceClassification(GenericForSequenceClassification, MixtralPreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class MixtralForTokenClassification(GenericForTokenClassification, MixtralPreTrainedModel):
    """Tells of every token which class it is of."""


class MixtralForQuestionAnswering(GenericForQuestionAnswering, MixtralPreTrainedModel):
    """Finds where in a text the answer begins and ends."""


# Qwen3-MoE ------------------------------------------------------------------------------------------------------------


class Qwen3MoePreTrainedModel(MixtralPreTrainedModel):
    """What all models of Qwen3-MoE share: queries and keys are normed, and layers without experts are possible."""

    config_class = Qwen3MoeConfig

    def _make_base(self, config: Any) -> Any:
        return Qwen3MoeModel(config)


class Qwen3MoeModel(Qwen3MoePreTrainedModel, MixtralModel):
    """Turns texts into states, as `MixtralModel` does."""


class Qwen3MoeForCausalLM(Qwen3MoePreTrainedModel, MixtralForCausalLM):
    """Scores the vocabulary for every next token."""


class Qwen3MoeForSequenceClassification(Qwen3MoePreTrainedModel, MixtralForSequenceClassification):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""


class Qwen3MoeForTokenClassification(Qwen3MoePreTrainedModel, MixtralForTokenClassification):
    """Tells of every token which class it is of."""


class Qwen3MoeForQuestionAnswering(Qwen3MoePreTrainedModel, MixtralForQuestionAnswering):
    """Finds where in a text the answer begins and ends."""

    base_model_prefix = "transformer"  # as in the checkpoints
