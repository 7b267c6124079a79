"""BERT (Devlin et al. 2019): an encoder of texts with token types and a pooler, which reads on as a decoder, too.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from maquette import ACT2FN, PreTrainedModel, find_pruneable_heads_and_indices, prune_linear_layer
from maquette.modeling.compatibility.outputs import BaseModelOutputWithPoolingAndCrossAttentions
from maquette.modeling.cross_attention import Source, cross_attention, knows_source, look_at
from maquette.modeling.decoders import check_positions, choose_cache
from maquette.modeling.packing import Layout, attention, lay_out

from .configuration import BertConfig

Opt = Tensor | None


class LaidOutBertOutput(BaseModelOutputWithPoolingAndCrossAttentions):
    """What a base model gives its heads: states as `(places, hidden_size)`, in the layout that is given with them."""

    layout: Layout | None = None


class BertEmbeddings(nn.Module):
    """Turns token ids, or vectors in their stead, token types and positions into states."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, tokens: Tensor, types: Opt, positions: Tensor) -> Tensor:
        words = tokens if tokens.is_floating_point() else self.word_embeddings(tokens)  # (places, hidden_size)
        kinds = self.token_type_embeddings.weight[0] if types is None else self.token_type_embeddings(types)
        return self.dropout(self.LayerNorm(words + kinds + self.position_embeddings(positions)))


class BertSelfAttention(nn.Module):
    """Lets tokens look at the tokens of their own row, or at another model's."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.width, self.share = width // config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values, `(places, heads, width)`."""
        return self.key(x).unflatten(-1, (-1, self.width)), self.value(x).unflatten(-1, (-1, self.width))

    def forward(self, queries: Tensor, layout: Layout, x: Tensor, keys: Layout, causal: bool) -> Tensor:
        """Attend from `queries`, laid out as `layout`, to `x`, laid out as `keys`."""
        q, share = self.query(queries).unflatten(-1, (-1, self.width)), self.share if self.training else 0.0
        return attention(q, *self.project(x), layout, keys=keys, causal=causal, dropout=share).flatten(-2)

    def look(self, queries: Tensor, source: Source) -> Tensor:
        """Attend from `queries` to what a decoder looks at."""
        q, share = self.query(queries).unflatten(-1, (-1, self.width)), self.share if self.training else 0.0
        return cross_attention(q, self.project, source, dropout=share).flatten(-2)


class BertOutput(nn.Module):
    """Projects what a part of a block found, adds it to what went in, and norms the sum."""

    def __init__(self, config: BertConfig, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, found: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(found)) + x)


class BertAttention(nn.Module):
    """Attention and its projection."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config, config.hidden_size)
        self.heads, self.pruned_heads = config.num_attention_heads, set[int]()

    def prune_heads(self, heads: list[int]) -> None:
        new, kept = find_pruneable_heads_and_indices(heads, self.heads, self.self.width, self.pruned_heads)
        inner = self.self
        inner.query, inner.key, inner.value = (
            prune_linear_layer(layer, kept) for layer in (inner.query, inner.key, inner.value)
        )
        self.output.dense = prune_linear_layer(self.output.dense, kept, dim=1)
        self.heads, self.pruned_heads = self.heads - len(new), self.pruned_heads | new

    def forward(self, queries: Tensor, layout: Layout, x: Tensor, keys: Layout, causal: bool) -> Tensor:
        return self.output(self.self(queries, layout, x, keys, causal), queries)

    def look(self, x: Tensor, source: Source) -> Tensor:
        return self.output(self.self.look(x, source), x)


class BertIntermediate(nn.Module):
    """The first half of the feed-forward network, which works on each token by itself."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.intermediate_act_fn(self.dense(x))


class BertLayer(nn.Module):
    """Attention, in a decoder to another model's states too, then the feed-forward network."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        if config.add_cross_attention:
            self.crossattention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config.intermediate_size)
        self.causal = config.is_decoder

    def forward(self, x: Tensor, layout: Layout, source: Source | None = None, only_first: bool = False) -> Tensor:
        """Give the states of all tokens, or of each row's first only."""
        queries, own = (layout.take_firsts(x), layout.firsts()) if only_first else (x, layout)
        x = self.attention(queries, own, x, layout, self.causal)  # (places, hidden_size)
        if source is not None:
            x = self.crossattention.look(x, source)
        return self.output(self.intermediate(x), x)


class BertEncoder(nn.Module):
    """The blocks, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False

    def forward(
        self, x: Tensor, layout: Layout, source: Source | None, *, keep_states: bool, only_first: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and the states before, between and after the blocks if these are to be kept."""
        states = [x]
        narrow = only_first and not keep_states and layout.weights is None and not self.layer[0].causal
        recompute = self.gradient_checkpointing and self.training
        for block in self.layer:
            inputs = (x, layout, source, narrow and block is self.layer[-1])
            x = self._gradient_checkpointing_func(block, *inputs) if recompute else block(*inputs)
            states = [*states, x] if keep_states else []
        return layout.take_firsts(x) if only_first and not narrow else x, states


class BertPooler(nn.Module):
    """Makes one vector of a row's first token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        return self.dense(first).tanh()


class BertPreTrainedModel(PreTrainedModel):
    """What all models of the family share. Heads take the arguments of `BertModel`, and labels.

    Padding is not real: outputs there are zeros, labels there are ignored, and a head that reads one token reads each
    row's first real one.
    """

    base_model: Any
    config_class: ClassVar[Any] = BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ("BertEmbeddings", "BertLayer")
    _skip_keys_device_placement = ("past_key_values",)
    _keys_to_ignore_on_load_unexpected = (r"embeddings\.(position_ids|token_type_ids)$",)  # buffers of old checkpoints

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        for number, heads in heads_to_prune.items():
            self.base_model.encoder.layer[number].attention.prune_heads(heads)

    def _add_base(self, *, pools: bool = False) -> None:
        """Add the base model, under the name that it has in checkpoints."""
        setattr(self, self.base_model_prefix, self._make_base(pools))

    def _make_base(self, pools: bool) -> Any:
        return BertModel(self.config, pools)

    def _run_base(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head: states as they are laid out, unless something else is wanted."""
        wanted = wanted or {"as_laid_out": True}
        return self.base_model(input_ids, attention_mask, **{**options, **wanted, "return_dict": True})


class BertModel(BertPreTrainedModel):
    """Turns texts into states, one vector per token, and into one vector per row."""

    embeddings_class: ClassVar[type[BertEmbeddings]] = BertEmbeddings

    def __init__(self, config: Any, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = self.embeddings_class(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        token_type_ids: Opt = None,
        position_ids: Opt = None,
        inputs_embeds: Opt = None,
        encoder_hidden_states: Opt = None,
        encoder_attention_mask: Opt = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, hidden_size)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            token_type_ids: `(batch, length)`, such as 0 in a first and 1 in a second text; unless given, 0.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too, and
                in a decoder real tokens, cached ones too.
            inputs_embeds: `(batch, length, hidden_size)`, vectors instead of `input_ids`.
            encoder_hidden_states: `(batch, other length, hidden_size)`, what a decoder's cross-attention looks at; not
                needed where the cache has read them.
            encoder_attention_mask: `(batch, other length)`, 0 where those are padding.
            past_key_values: of a decoder: the cache of earlier tokens, which takes in these.
            use_cache: of a decoder: whether to give a cache; unless given, as in the configuration.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of each row's first real token only, `(batch, 1, hidden_size)`.
            as_laid_out: give states as `(places, hidden_size)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, too long an input, a mask or a cache that
                does not fit, or what only a decoder takes.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        how = {"explicit": self.config.attn_implementation == "eager", "keep_weights": keep_weights}
        inputs = self._choose_inputs(input_ids, inputs_embeds, width=self.config.hidden_size)
        self._check_roles(past_key_values, encoder_hidden_states)
        is_decoder = self.config.is_decoder
        cache = choose_cache(self, inputs, past_key_values, use_cache) if is_decoder else None
        layout = lay_out(inputs, attention_mask, cache=cache, count_padding=not is_decoder, **how)
        source = None
        if encoder_hidden_states is not None:
            keys = lay_out(encoder_hidden_states, encoder_attention_mask, **how)
            source = look_at(layout, keys.gather(encoder_hidden_states), keys)
        elif self.config.add_cross_attention and knows_source(layout.cache, layout.shape[0]):
            source = look_at(layout)
        positions = self._count(layout, inputs) if position_ids is None else layout.gather(position_ids)
        types = None if token_type_ids is None else layout.gather(token_type_ids)
        x = self.embeddings(layout.gather(inputs), types, positions)
        x, states = self.encoder(x, layout, source, keep_states=keep_states, only_first=only_first)
        own = layout.firsts() if only_first else layout
        pooled = None
        if self.pooler is not None:
            pooled = self.pooler(own.scatter(x)[:, 0] if only_first else pick_first(x, layout))
        output = LaidOutBertOutput(
            last_hidden_state=x if as_laid_out else own.scatter(x),
            pooler_output=pooled,
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            past_key_values=layout.cache,
            attentions=tuple(layout.weights) if layout.weights else None,
            cross_attentions=tuple(source.weights) if source is not None and source.weights else None,
            layout=own if as_laid_out else None,
        )
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()

    def _check_roles(self, past_key_values: Any, encoder_hidden_states: Opt) -> None:
        name = type(self).__name__
        if past_key_values is not None and not self.config.is_decoder:
            raise ValueError(f"{name} got past_key_values, and sees later tokens: is_decoder=True makes it read on.")
        if encoder_hidden_states is not None and not self.config.add_cross_attention:
            raise ValueError(
                f"{name} got encoder_hidden_states, and has no cross-attention: is_decoder=True with "
                "add_cross_attention=True gives it some."
            )

    def _count(self, layout: Layout, inputs: Tensor) -> Tensor:
        """Give each token's row in the table of positions."""
        check_length(layout, self.config.max_position_embeddings)
        return layout.positions(inputs.device)


def check_length(layout: Layout, most: int) -> None:
    """Refuse rows with more places, or in a decoder with more tokens, than there are positions."""
    if not layout.counts_padding:
        check_positions(layout, most)
    elif layout.shape[1] > most:
        raise ValueError(f"{layout.shape[1]} tokens, {most} positions: truncate.")


def pick_first(x: Tensor, layout: Layout) -> Tensor:
    """Give the state of each row's first real token, `(batch, hidden_size)`; zeros where a row has none."""
    return layout.firsts().scatter(layout.take_firsts(x))[:, 0]
