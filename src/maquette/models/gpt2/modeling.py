"""GPT-2 (Radford et al. 2019): a decoder with learned positions, which norms what goes into its layers.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

import math
from typing import Any

from torch import Tensor, nn

from maquette import ACT2FN, GenericForQuestionAnswering, GenericForSequenceClassification, PreTrainedModel
from maquette.modeling.compatibility.outputs import CausalLMOutputWithCrossAttentions
from maquette.modeling.cross_attention import Source, cross_attention, knows_source, look_at
from maquette.modeling.decoders import (
    CausalLMHead,
    TokenClassificationHead,
    check_positions,
    choose_cache,
)
from maquette.modeling.encoder_decoders import LaidOutCrossOutput
from maquette.modeling.layers.linear import Conv1D
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import GPT2Config

Opt = Tensor | None


class GPT2Attention(nn.Module):
    """Lets each token look at those before it in its own row."""

    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__()
        self.width, self.attn_pdrop = config.n_embd // config.n_head, config.attn_pdrop
        self.scale = find_scale(config, number)
        self.upcasts = config.reorder_and_upcast_attn
        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = self.c_attn(x).unflatten(-1, (3, -1, self.width)).unbind(-3)  # (places, heads, width)
        if self.upcasts:
            q, k, v = q.float(), k.float(), v.float()
        dropout = self.attn_pdrop if self.training else 0.0
        attended = attention(q, k, v, layout, causal=True, scale=self.scale, dropout=dropout)
        return self.resid_dropout(self.c_proj(attended.flatten(-2).to(x.dtype)))


class GPT2CrossAttention(nn.Module):
    """Lets each token look at another model's states."""

    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__()
        self.width, self.attn_pdrop = config.n_embd // config.n_head, config.attn_pdrop
        self.scale = find_scale(config, number)
        self.c_attn = Conv1D(2 * config.n_embd, config.n_embd)
        self.q_attn = Conv1D(config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values, `(places, heads, width)`."""
        k, v = self.c_attn(states).unflatten(-1, (2, -1, self.width)).unbind(-3)
        return k, v

    def forward(self, x: Tensor, source: Source) -> Tensor:
        q, dropout = self.q_attn(x).unflatten(-1, (-1, self.width)), self.attn_pdrop if self.training else 0.0
        attended = cross_attention(q, self.project, source, scale=self.scale, dropout=dropout)
        return self.resid_dropout(self.c_proj(attended.flatten(-2)))


def find_scale(config: GPT2Config, number: int) -> float:
    """Give what a layer multiplies attention's products by."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    return scale / (number + 1) if config.scale_attn_by_inverse_layer_idx else scale


class GPT2MLP(nn.Module):
    """Works on each token by itself."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Conv1D(inner, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, inner)
        self.act = ACT2FN[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class GPT2Block(nn.Module):
    """Attention, then the feed-forward network; each works on normed states and is added to what came in."""

    def __init__(self, config: GPT2Config, number: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, number)
        if config.add_cross_attention:
            self.ln_cross_attn = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
            self.crossattention = GPT2CrossAttention(config, number)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, x: Tensor, layout: Layout, source: Source | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), layout)  # (places, n_embd)
        if source is not None:
            x = x + self.crossattention(self.ln_cross_attn(x), source)
        return x + self.mlp(self.ln_2(x))


class GPT2PreTrainedModel(PreTrainedModel):
    """What all GPT-2 models share. Heads take the arguments of `GPT2Model`, and labels."""

    base_model: Any
    config_class = GPT2Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any
    _no_split_modules = ("GPT2Block",)
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"attn\.(masked_)?bias$",)  # old checkpoints have these buffers

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Conv1D | nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, Conv1D | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(
            module, GPT2Attention | GPT2CrossAttention | GPT2MLP
        ):  # their last layers add to the states (section 2.3)
            nn.init.normal_(
                module.c_proj.weight, std=self.config.initializer_range / math.sqrt(2 * self.config.n_layer)
            )

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any]) -> Any:
        """Run the base model for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, "as_laid_out": True, "return_dict": True})


class GPT2Model(GPT2PreTrainedModel):
    """Turns texts into states, one vector per token, each of which knows the tokens before it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPT2Block(config, number) for number in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte

    def set_input_embeddings(self, value: Any) -> None:
        self.wte = value

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        token_type_ids: Opt = None,
        position_ids: Opt = None,
        past_key_values: Any = None,
        inputs_embeds: Opt = None,
        encoder_hidden_states: Opt = None,
        encoder_attention_mask: Opt = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, n_embd)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real. With
                a cache, earlier places may come before.
            token_type_ids: `(batch, length)`, entries of the vocabulary whose vectors are added.
            position_ids: `(batch, length)` or `(1, length)`; unless given, real tokens are counted, cached ones too.
            past_key_values: the cache of earlier tokens, which takes in these.
            inputs_embeds: `(batch, length, n_embd)`, vectors instead of `input_ids`.
            encoder_hidden_states: `(batch, other length, n_embd)`, what cross-attention looks at; not needed where the
                cache has read them.
            encoder_attention_mask: `(batch, other length)`, 0 where those are padding.
            use_cache: whether to give a cache; unless given, as in the configuration, and not while training.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            as_laid_out: give states as `(places, n_embd)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, more tokens than positions, a mask or a
                cache that does not fit, states to look at without cross-attention.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.n_embd)
        cache = choose_cache(self, inputs, past_key_values, use_cache)
        explicit = self.config.attn_implementation == "eager"
        layout = lay_out(
            inputs, attention_mask, cache=cache, count_padding=False, explicit=explicit, keep_weights=keep_weights
        )
        source = self._look_at(layout, encoder_hidden_states, encoder_attention_mask)
        x = self._embed(layout, inputs, position_ids, token_type_ids)  # (places, n_embd)
        x, states = self._run_blocks(x, layout, source, keep_states=keep_states)
        output = LaidOutCrossOutput(
            last_hidden_state=x if as_laid_out else layout.scatter(x),
            past_key_values=layout.cache,
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
            cross_attentions=tuple(source.weights) if source is not None and source.weights else None,
            layout=layout if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _look_at(self, layout: Layout, states: Opt, mask: Opt) -> Source | None:
        """Give what cross-attention looks at, if anything."""
        if states is not None and not self.config.add_cross_attention:
            raise ValueError(
                f"{type(self).__name__} got encoder_hidden_states and has no cross-attention: "
                "add_cross_attention=True gives it some."
            )
        if states is not None:
            keys = lay_out(states, mask, explicit=layout.explicit)
            return look_at(layout, keys.gather(states), keys)
        known = self.config.add_cross_attention and knows_source(layout.cache, layout.shape[0])
        return look_at(layout) if known else None

    def _embed(self, layout: Layout, inputs: Tensor, position_ids: Opt, token_type_ids: Opt) -> Tensor:
        if position_ids is None:
            check_positions(layout, self.config.n_positions)
            positions = layout.positions(inputs.device)
        else:
            positions = layout.gather(position_ids)
        tokens = layout.gather(inputs)
        x = (tokens if tokens.is_floating_point() else self.wte(tokens)) + self.wpe(positions)
        if token_type_ids is not None:
            x = x + self.wte(layout.gather(token_type_ids))
        return self.drop(x)

    def _run_blocks(
        self, x: Tensor, layout: Layout, source: Source | None, *, keep_states: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, normed, and all states if these are to be kept."""
        states = [x] if keep_states else []
        recompute = self.gradient_checkpointing and self.training
        for block in self.h:
            inputs = (x, layout, source)
            x = self._gradient_checkpointing_func(block, *inputs) if recompute else block(*inputs)
            if keep_states:
                states.append(x)
        x = self.ln_f(x)
        return x, [*states[:-1], x] if keep_states else []


class GPT2LMHeadModel(CausalLMHead, GPT2PreTrainedModel):
    """Scores the vocabulary for every next token."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def _make_causal_output(self, output: Any, options: dict[str, Any], loss: Any, logits: Tensor) -> Any:
        return self._make_output(CausalLMOutputWithCrossAttentions, output, options, loss, logits)


class GPT2ForSequenceClassification(GenericForSequenceClassification, GPT2PreTrainedModel):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    base_model_class = GPT2Model


class GPT2ForTokenClassification(TokenClassificationHead, GPT2PreTrainedModel):
    """Tells of every token which class it is of."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.dropout = nn.Dropout(config.get("classifier_dropout", config.get("hidden_dropout", 0.1)))
        self.classifier = nn.Linear(config.n_embd, config.num_labels)

    def _score_tokens(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(x))


class GPT2ForQuestionAnswering(GenericForQuestionAnswering, GPT2PreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    base_model_class = GPT2Model
