"""DistilBERT (Sanh et al. 2019): BERT's encoder with half the layers, without token types and without a pooler.

Modules have the names that published checkpoints use. *Places* stands for the leading axes of a tensor: `(tokens,)`
where padding is left out of the computation, `(batch, length)` where it is not; `maquette.modeling.packing` tells more.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from maquette import (
    ACT2FN,
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    PreTrainedModel,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)
from maquette.modeling.embeddings import resize_rows
from maquette.modeling.losses import compute_classification_loss, compute_span_loss, compute_token_loss
from maquette.modeling.packing import Layout, attention, lay_out
from maquette.modeling.tables import draw_sinusoids

from .configuration import DistilBertConfig

Opt = Tensor | None


class Embeddings(nn.Module):
    """Turns token ids, or vectors in their stead, and positions into states."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim, padding_idx=config.pad_token_id)
        count = config.max_position_embeddings
        self.position_embeddings = nn.Embedding(count, config.dim)
        if config.sinusoidal_pos_embds:
            self.position_embeddings = nn.Embedding.from_pretrained(
                torch.from_numpy(draw_sinusoids(count, config.dim))
            )  # no gradient
        self.LayerNorm = nn.LayerNorm(config.dim, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        words = tokens if tokens.is_floating_point() else self.word_embeddings(tokens)  # (places, dim)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(positions)))


class MultiHeadSelfAttention(nn.Module):
    """Lets tokens look at the tokens of their own row."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.heads, self.width = config.n_heads, config.dim // config.n_heads
        self.attention_dropout = config.attention_dropout
        self.pruned_heads: set[int] = set()
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (nn.Linear(config.dim, config.dim) for _ in range(4))

    def prune_heads(self, heads: list[int]) -> None:
        new, kept = find_pruneable_heads_and_indices(heads, self.heads, self.width, self.pruned_heads)
        for name in ("q_lin", "k_lin", "v_lin"):
            setattr(self, name, prune_linear_layer(getattr(self, name), kept))
        self.out_lin = prune_linear_layer(self.out_lin, kept, dim=1)
        self.heads -= len(new)
        self.pruned_heads |= new

    def forward(self, queries: Tensor, x: Tensor, layout: Layout, keys: Layout) -> Tensor:
        """Attend from `queries`, laid out as `layout`, to `x`, laid out as `keys`."""
        q = self.q_lin(queries).unflatten(-1, (self.heads, self.width))  # (places, heads, width)
        k = self.k_lin(x).unflatten(-1, (self.heads, self.width))
        v = self.v_lin(x).unflatten(-1, (self.heads, self.width))
        dropout = self.attention_dropout if self.training else 0.0
        return self.out_lin(attention(q, k, v, layout, keys=keys, dropout=dropout).flatten(-2))


class FFN(nn.Module):
    """Works on each token by itself."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)
        self.activation = ACT2FN[config.activation]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.lin2(self.activation(self.lin1(x))))


class TransformerBlock(nn.Module):
    """Attention, then the feed-forward network; each is added to its input and normed."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.attention = MultiHeadSelfAttention(config)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.ffn = FFN(config)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=1e-12)

    def forward(self, x: Tensor, layout: Layout, only_first: bool = False) -> Tensor:
        """Give the states of all tokens, or of each row's first only."""
        queries, own = (layout.take_firsts(x), layout.firsts()) if only_first else (x, layout)
        x = self.sa_layer_norm(self.attention(queries, x, own, layout) + queries)  # (places, dim)
        return self.output_layer_norm(self.ffn(x) + x)


class Transformer(nn.Module):
    """The blocks, one after the other."""

    _gradient_checkpointing_func: Any

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, layout: Layout, *, keep_states: bool, only_first: bool) -> tuple[Tensor, list[Tensor]]:
        """Give the last states, and the states before, between and after the blocks if these are to be kept."""
        states = [x]
        narrow = only_first and not keep_states and layout.weights is None
        recompute = self.gradient_checkpointing and self.training
        for block in self.layer:
            inputs = (x, layout, narrow and block is self.layer[-1])
            x = self._gradient_checkpointing_func(block, *inputs) if recompute else block(*inputs)
            states = [*states, x] if keep_states else []
        return layout.take_firsts(x) if only_first and not narrow else x, states


class DistilBertPreTrainedModel(PreTrainedModel):
    """What all DistilBERT models share. Heads take the arguments of `DistilBertModel`, and labels.

    Padding is not real: outputs there are zeros, labels there are ignored, and a head that reads one token reads each
    row's first real one.
    """

    base_model: Any
    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_unexpected = (r"embeddings\.position_ids$",)  # old checkpoints have this buffer

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding) and module.weight.requires_grad:
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        for number, heads in heads_to_prune.items():
            self.base_model.transformer.layer[number].attention.prune_heads(heads)

    def get_position_embeddings(self) -> nn.Embedding:
        """Give the layer that turns positions into vectors."""
        return self.base_model.embeddings.position_embeddings

    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Make inputs of another length possible; positions that both sizes have keep their vectors."""
        count = new_num_position_embeddings
        new = resize_rows(self, self.get_position_embeddings(), count)
        if self.config.sinusoidal_pos_embds:
            new.weight.copy_(torch.from_numpy(draw_sinusoids(count, self.config.dim)))
        self.base_model.embeddings.position_embeddings = new
        self.config.max_position_embeddings = self.base_model.config.max_position_embeddings = count

    def _encode(self, input_ids: Opt, attention_mask: Opt, options: dict[str, Any], **wanted: bool) -> Any:
        """Run the base model for a head."""
        return self.base_model(input_ids, attention_mask, **{**options, **wanted, "return_dict": True})


class DistilBertModel(DistilBertPreTrainedModel):
    """Turns texts into states, one vector per token."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        inputs_embeds: Opt = None,
        position_ids: Opt = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        only_first: bool = False,
        as_laid_out: bool = False,
    ) -> Any:
        """Compute states, `last_hidden_state` of shape `(batch, length, dim)`, and what is asked for besides.

        Args:
            input_ids: `(batch, length)`, entries of the vocabulary.
            attention_mask: `(batch, length)`, 0 at padding, anywhere in a row; unless given, all tokens are real.
            inputs_embeds: `(batch, length, dim)`, vectors instead of `input_ids`.
            position_ids: `(batch, length)` or `(1, length)`; unless given, places are counted from 0, padding too.
            output_attentions, output_hidden_states, return_dict: unless given, as in the configuration.
            only_first: give the state of each row's first real token only, `(batch, 1, dim)`.
            as_laid_out: give states as `(places, dim)` with their `layout`, for heads.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`, too long an input, a mask that does not fit.
        """
        keep_weights = self._chosen("output_attentions", output_attentions)
        keep_states = self._chosen("output_hidden_states", output_hidden_states)
        explicit = self.config.attn_implementation == "eager"
        most = self.config.max_position_embeddings
        inputs = self._choose_inputs(input_ids, inputs_embeds, most=most, width=self.config.dim)
        layout = lay_out(inputs, attention_mask, explicit=explicit, keep_weights=keep_weights)
        positions = layout.positions(inputs.device) if position_ids is None else layout.gather(position_ids)
        x = self.embeddings(layout.gather(inputs), positions)
        x, states = self.transformer(x, layout, keep_states=keep_states, only_first=only_first)
        own = layout.firsts() if only_first else layout
        output = BaseModelOutput(
            last_hidden_state=x if as_laid_out else own.scatter(x),
            hidden_states=tuple(layout.scatter(state) for state in states) or None,
            attentions=tuple(layout.weights) if layout.weights else None,
        )
        if as_laid_out:
            output["layout"] = own
        return output if self._chosen("return_dict", return_dict) else output.to_tuple()


class DistilBertForMaskedLM(DistilBertPreTrainedModel):
    """Scores the vocabulary at every place."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.vocab_transform = nn.Linear(config.dim, config.dim)
        self.vocab_layer_norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.vocab_projector = nn.Linear(config.dim, config.vocab_size)
        self.activation = ACT2FN[config.activation]

    def get_output_embeddings(self) -> nn.Linear:
        return self.vocab_projector

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, vocab_size)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._encode(input_ids, attention_mask, options, as_laid_out=True)
        x = self.activation(self.vocab_transform(output.last_hidden_state))
        logits = self.vocab_projector(self.vocab_layer_norm(x))  # (places, vocab_size)
        loss = None if labels is None else compute_token_loss(logits, output.layout.gather(labels, fill=-100))
        return self._make_output(MaskedLMOutput, output, options, loss, output.layout.scatter(logits))


class DistilBertForTokenClassification(DistilBertPreTrainedModel):
    """Tells of every token which class it is of."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.dim, config.num_labels)

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, length, num_labels)`; the loss of `labels`, `(batch, length)`, leaves out -100."""
        output = self._encode(input_ids, attention_mask, options, as_laid_out=True)
        logits = self.classifier(self.dropout(output.last_hidden_state))  # (places, num_labels)
        loss = None if labels is None else compute_token_loss(logits, output.layout.gather(labels, fill=-100))
        return self._make_output(TokenClassifierOutput, output, options, loss, output.layout.scatter(logits))


class DistilBertForQuestionAnswering(DistilBertPreTrainedModel):
    """Finds where in a text the answer begins and ends."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.qa_outputs = nn.Linear(config.dim, 2)
        self.dropout = nn.Dropout(config.qa_dropout)

    def forward(
        self,
        input_ids: Opt = None,
        attention_mask: Opt = None,
        *,
        start_positions: Opt = None,
        end_positions: Opt = None,
        **options: Any,
    ) -> Any:
        """Give two logits `(batch, length)`, the lowest number at padding; positions are `(batch,)`."""
        output = self._encode(input_ids, attention_mask, options, as_laid_out=True)
        logits = self.qa_outputs(self.dropout(output.last_hidden_state))  # (places, 2)
        start, end = output.layout.scatter(logits, fill=torch.finfo(logits.dtype).min).unbind(-1)
        loss = compute_span_loss((start, end), (start_positions, end_positions), output.layout.mask)
        return self._make_output(QuestionAnsweringModelOutput, output, options, loss, start, end)


class _ReadsFirst(DistilBertPreTrainedModel):
    """A head that reads each row's first token."""

    def __init__(self, config: DistilBertConfig, outputs: int) -> None:
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, outputs)
        self.dropout = nn.Dropout(config.seq_classif_dropout)

    def _score(self, first: Tensor) -> Tensor:
        return self.classifier(self.dropout(relu(self.pre_classifier(first))))  # (batch, outputs)


class DistilBertForSequenceClassification(_ReadsFirst):
    """Tells which class, or classes, a text is of, or the numbers that belong to it."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config, config.num_labels)

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, num_labels)`; `config.problem_type`, or else the labels, say what the loss is."""
        output = self._encode(input_ids, attention_mask, options, only_first=True)
        logits, kind = self._score(output.last_hidden_state[:, 0]), self.config.problem_type
        loss = None if labels is None else compute_classification_loss(logits, labels, problem_type=kind)
        return self._make_output(SequenceClassifierOutput, output, options, loss, logits)


class DistilBertForMultipleChoice(_ReadsFirst):
    """Tells which of several texts fits best; its inputs are `(batch, choices, length)`."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config, 1)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {"input_ids": torch.arange(24).view(2, 3, 4) % self.config.vocab_size}

    def forward(self, input_ids: Opt = None, attention_mask: Opt = None, *, labels: Opt = None, **options: Any) -> Any:
        """Give logits `(batch, choices)`; `labels` are `(batch,)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, **options}
        flat = {name: x.flatten(0, 1) if isinstance(x, Tensor) else x for name, x in given.items()}
        output = self._encode(flat.pop("input_ids"), flat.pop("attention_mask"), flat, only_first=True)
        shape = next(x.shape for x in given.values() if isinstance(x, Tensor))
        logits = self._score(output.last_hidden_state[:, 0]).view(shape[:2])
        loss = None if labels is None else compute_token_loss(logits, labels)
        return self._make_output(MultipleChoiceModelOutput, output, options, loss, logits)
